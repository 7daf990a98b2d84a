//! What a question costs Redis, by its kind, and what a limit costs in memory, in Redis and in a node. Floor 3.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use egret_shared::limits::words::SHARDS;
use egret_shared::limits::{Answer, Ask, Count, Manner, Purse, Throttle};

use super::super::Figures;
use super::store::{Asked, Cost, Life, RealStore};

/// Questions of each kind.
const TIMES: u64 = 20_000;
/// Questions in one batch.
const BATCH: u64 = 500;
/// Limits whose memory is measured.
const NAMES: usize = 100_000;

/// Measures it with a Redis of its own.
///
/// # Errors
/// Redis does not start or answer, or the system does not tell how much memory is in use.
pub fn costs() -> anyhow::Result<Figures> {
    let mut figures = Figures::new("what questions and limits cost".to_owned());
    let mut store = RealStore::start()?;
    for life in 0..200 {
        store.begins(life, &format!("node-{life:03}.example-{life}"))?;
        let joins: Vec<Ask> = (0..SHARDS).map(|shard| Ask::Live { shard, join: true }).collect();
        ask(&mut store, life, &joins)?;
    }
    let live = |turn: u64| (turn_of(turn, 200), Ask::Live { shard: (turn % u64::from(SHARDS)) as u8, join: false });
    cost_of("that a node lives", live, &mut store, &mut figures)?;
    cost_of("for times of a rate", |turn| (turn_of(turn, 200), rate(&path(turn), 10)), &mut store, &mut figures)?;
    for nodes in [1, 10, 50, 200] {
        let name = format!("connection_limit provider-{nodes}.example");
        let what = format!("for places, {nodes} nodes hold or want some");
        // Each holds one and wants two, and there is no more: all of them wait.
        let limit = nodes as u32;
        let one = |turn: u64| (turn_of(turn, nodes), count(&name, turn + 1, limit, 1, 2));
        cost_of(&what, one, &mut store, &mut figures)?;
    }
    for (nodes, places) in [(4, 2), (200, 20), (200, 300)] {
        let name = format!("connection_limit provider-{nodes}-{places}.example");
        let what = format!("for places, {nodes} nodes hand {places} on in every second one");
        cost_of(&what, |turn| hand_on(&name, turn, nodes, places), &mut store, &mut figures)?;
    }
    memory_of_redis(&mut store, &mut figures)?;
    memory_of_node(&mut figures)?;
    Ok(figures)
}

/// All want one more than they keep, which are more than there are. Each asks twice: it hears what it was given, and gives
/// that on to who waits longest.
fn hand_on(name: &str, turn: u64, nodes: u64, places: u32) -> (Life, Ask) {
    let each = places.div_ceil(nodes as u32);
    (turn_of(turn / 2, nodes), count(name, turn + 1, places, each - 1, each))
}

fn turn_of(turn: u64, nodes: u64) -> Life {
    (turn % nodes) as Life
}

fn path(turn: u64) -> String {
    format!("source-{:03}->mx.site-{:04}.example@smtp", turn % 500, turn % 1_000)
}

fn rate(name: &str, tokens: i64) -> Ask {
    let name = format!("max_message_rate {name}").into();
    Ask::Rate { name, interval: Duration::from_millis(1), burst: 1_000, tokens, used: None }
}

fn count(name: &str, turn: u64, limit: u32, keep: u32, want: u32) -> Ask {
    Ask::Count { name: name.into(), turn, limit, keep, want }
}

/// At the beginning.
fn ask(store: &mut RealStore, life: Life, asks: &[Ask]) -> anyhow::Result<Vec<Answer>> {
    let ticket = store.send(life, asks, 1)?;
    Ok(store.receive(ticket, asks)?.answers)
}

fn known(store: &mut RealStore) -> anyhow::Result<Cost> {
    store.cost()?.context("Redis tells its costs")
}

fn cost_of(
    what: &str,
    mut one: impl FnMut(u64) -> (Life, Ask),
    store: &mut RealStore,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let before = known(store)?;
    for batch in 0..TIMES / BATCH {
        let mut tickets = Vec::new();
        for turn in batch * BATCH..(batch + 1) * BATCH {
            let (life, ask) = one(turn);
            // One each microsecond: nobody's life ends meanwhile.
            tickets.push((store.send(life, std::slice::from_ref(&ask), turn)?, ask));
        }
        for (ticket, ask) in tickets {
            let told = store.receive(ticket, std::slice::from_ref(&ask))?;
            anyhow::ensure!(told.answers != [Answer::Unknown], "a node that lives is not known");
        }
    }
    let after = known(store)?;
    figures.tell(format!("a question {what}: CPU of Redis, µs"), (after.cpu - before.cpu) * 1e6 / TIMES as f64);
    figures.tell(format!("a question {what}: bytes"), (after.bytes - before.bytes) as f64 / TIMES as f64);
    Ok(())
}

fn memory_of_redis(store: &mut RealStore, figures: &mut Figures) -> anyhow::Result<()> {
    type One = fn(&str) -> Ask;
    let kinds: [(&str, One); 2] = [
        ("a rate", |name| rate(name, 1)),
        ("places, one node", |name| count(&format!("connection_limit {name}"), 1, 5, 0, 1)),
    ];
    for (kind, one) in kinds {
        store.flush()?;
        let joins: Vec<Ask> = (0..SHARDS).map(|shard| Ask::Live { shard, join: true }).collect();
        ask(store, 0, &joins)?;
        let before = known(store)?;
        for at in (0..NAMES).step_by(1_000) {
            let asks: Vec<Ask> = (at..at + 1_000).map(|at| one(&format!("source-{at:06}->mx.example@smtp"))).collect();
            ask(store, 0, &asks)?;
        }
        let after = known(store)?;
        let bytes = after.memory.saturating_sub(before.memory) as f64 / (after.keys - before.keys).max(1) as f64;
        figures.tell(format!("{kind}: bytes in Redis"), bytes);
    }
    Ok(())
}

/// Memory that is in use by this process.
fn resident() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = text.split(' ').nth(1).context("resident pages")?.parse()?;
    Ok(pages * 4096.0)
}

fn memory_of_node(figures: &mut Figures) -> anyhow::Result<()> {
    let now = Instant::now() + Duration::from_secs(1_000_000);
    let names: Vec<Arc<str>> = (0..NAMES).map(|at| format!("source-{at:06}->mx.example@smtp").into()).collect();
    let (pace, places): (Throttle, Count) = ("10/s".parse().map_err(anyhow::Error::msg)?, 5.into());
    let before = resident()?;
    let mut rates = Purse::shared(Manner::default());
    for name in &names {
        drop(rates.take(&[(name.clone(), pace)], now));
    }
    let between = resident()?;
    let mut counts = Purse::shared(Manner::default());
    for name in &names {
        drop(counts.hold(&[(name.clone(), places)], now));
    }
    let after = resident()?;
    figures.tell("a rate: bytes in a node", (between - before) / NAMES as f64);
    figures.tell("places: bytes in a node", (after - between) / NAMES as f64);
    let start = Instant::now();
    rates.tick(now);
    counts.tick(now);
    let each = start.elapsed().as_secs_f64() * 1e9 / (2 * NAMES) as f64;
    figures.tell("a beat of a node: ns for each limit that it knows", each);
    Ok(())
}
