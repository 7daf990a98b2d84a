//! Limits in parts, of a fleet: what is kept is there at once, whoever floods the rest, and all together is the limit.

use super::*;
use crate::limits::Parts;

/// The parts of a limit from which mail may take, with a floor or without.
fn parts<T: Clone>(own: &(Arc<str>, T), all: &(Arc<str>, T), has_floor: bool) -> [Parts<T>; 1] {
    [if has_floor { [own.clone(), all.clone()].into() } else { [all.clone()].into() }]
}

#[test]
fn a_kept_place_is_had_by_whichever_node_needs_it() {
    let (mut fleet, mut taken) = (Fleet::new(2), Vec::new());
    let limit = [count("l, kept", 1), count("l", 3)];
    let with = |has_floor: bool| parts(&limit[0], &limit[1], has_floor);
    let mut hold = |fleet: &mut Fleet, node: usize, has_floor: bool| {
        let now = fleet.now;
        if fleet.nodes[node].hold_first(&with(has_floor), now, &mut taken).is_ok() {
            return Some(taken[0].0.to_string());
        }
        fleet.settle_all();
        fleet.nodes[node].hold_first(&with(has_floor), now, &mut taken).ok().map(|()| taken[0].0.to_string())
    };
    let flood: Vec<_> = (0..5).filter_map(|_| hold(&mut fleet, 0, false)).collect();
    assert_eq!(flood, ["l", "l", "l"]);
    assert_eq!(hold(&mut fleet, 1, true).as_deref(), Some("l, kept"));
    assert_eq!((hold(&mut fleet, 1, true), hold(&mut fleet, 0, true), hold(&mut fleet, 0, false)), (None, None, None));
    // What is left for all is for who has a floor, too.
    fleet.nodes[0].release(&"l".into(), false);
    fleet.settle_all();
    let next: Vec<_> = [1, 0, 1].iter().filter_map(|node| hold(&mut fleet, *node, true)).collect();
    assert_eq!(next, ["l"]);
}

#[test]
fn a_kept_part_of_a_rate_is_not_flooded() {
    let (mut fleet, mut taken) = (Fleet::new(2), Vec::new());
    let rate = [throttle("l, kept", "1/s"), throttle("l", "9/s")];
    let mut sent = |fleet: &mut Fleet, node: usize, has_floor: bool| {
        let mut sent = 0;
        for _ in 0..60 {
            let (now, parts) = (fleet.now, parts(&rate[0], &rate[1], has_floor));
            sent += usize::from(fleet.nodes[node].take_first(&parts, now, &mut taken).is_ok());
            fleet.settle_all();
        }
        sent
    };
    assert_eq!([sent(&mut fleet, 0, false), sent(&mut fleet, 1, true)], [9, 1]);
    let [mut flood, mut own] = [0, 0];
    for _ in 0..100 {
        fleet.pass(100);
        flood += sent(&mut fleet, 0, false);
        own += sent(&mut fleet, 1, true);
        fleet.tick_all();
    }
    // Who has a floor has its turns at what is left, too.
    assert!(own >= 10 && (95..=100).contains(&(own + flood)), "{own} and {flood}");
}
