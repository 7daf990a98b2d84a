//! The simulated fleet, small: it keeps its limits through a day of faults, with the real scripts; and the store in
//! memory says what the scripts say.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::limits::Ask;
use egret_tests::bench::print_figures;
use egret_tests::bench::simulation::{Asked, Chance, Model, RealStore, Setup, Told, simulate};

fn redis() -> Option<RealStore> {
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("skipped: redis-server is not installed");
        return None;
    }
    Some(RealStore::start().expect("a Redis"))
}

#[test]
fn a_small_fleet_keeps_its_limits_through_a_day_of_faults() {
    let Some(mut store) = redis() else { return };
    let day = Duration::from_secs(600);
    let setup = Setup { nodes: 8, sources: 10, sites: 30, messages: 400_000.0, day, ..Setup::default() };
    let figures = simulate(&setup, &mut store).expect("Redis answers");
    print_figures(&figures);
    assert!(figures.are_met(), "see above");
}

/// Something that a node may ask, where there are so many places.
fn any_ask(chance: &mut Chance, turn: u64, places: u32) -> Ask {
    let name: Arc<str> = format!("name {}", chance.between(0, 3)).into();
    let shard = egret_shared::limits::words::shard(&name);
    match chance.between(0, 12) {
        0..3 => Ask::Live { shard, join: chance.part() < 0.7 },
        3 if chance.part() < 0.2 => Ask::Leave { shard },
        3..7 => Ask::Rate {
            name,
            interval: Duration::from_nanos(chance.between(1, 4) * 12_345_678),
            burst: chance.between(1, 20),
            tokens: i64::try_from(chance.between(0, 12)).expect("a few") - 3,
            used: (chance.part() < 0.1).then(|| chance.between(0, 25)),
        },
        7 => Ask::Quota {
            name,
            day: 20_000,
            most: if chance.part() < 0.1 { u64::MAX } else { 50 },
            units: i64::try_from(chance.between(0, 9)).expect("a few") - 3,
        },
        _ => {
            let keep = u32::try_from(chance.between(0, 4)).expect("a few");
            let want = u32::try_from(chance.between(0, 7)).expect("a few");
            // Some arrive late, and some nodes were told another limit.
            let turn = turn - chance.between(0, 20).saturating_sub(17);
            let limit = if chance.part() < 0.05 { places / 2 + turn as u32 % places } else { places };
            Ask::Count { name, turn, limit, keep, want }
        }
    }
}

#[test]
fn the_store_in_memory_says_what_the_scripts_say() {
    the_same_is_said(6, 6);
    // Fewer places than nodes, and more.
    the_same_is_said(40, 20);
    the_same_is_said(40, 90);
}

fn the_same_is_said(nodes: u64, places: u32) {
    let Some(mut real) = redis() else { return };
    let (mut model, mut chance, mut now) = (Model::default(), Chance::new(7), 0);
    for life in 0..nodes {
        let name = format!("node {}", 99 - life);
        real.begins(life as usize, &name).expect("Redis answers");
        model.begins(life as usize, &name).expect("it is in memory");
    }
    for turn in 1_000..21_000 {
        // Each asks about as often, however many they are.
        let longest = if turn % 500 == 0 { 20_000_000 } else { 1_200_000 / nodes };
        now += chance.between(0, longest);
        let life = chance.between(0, nodes) as usize;
        let asks = [any_ask(&mut chance, turn, places)];
        let said = |store: &mut dyn Asked| -> Told {
            let ticket = store.send(life, &asks, now).expect("it takes questions");
            let mut told = store.receive(ticket, &asks).expect("it answers");
            told.nudges.sort_unstable();
            told
        };
        assert_eq!(said(&mut model), said(&mut real), "{turn}: node {life} asks {asks:?}");
    }
}
