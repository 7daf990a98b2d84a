//! What Redis keeps of all nodes of a count together, beside what it keeps of each: it is what a look at each would find.

use std::collections::HashMap;

use egret_shared::limits::store::{Store, answer};
use egret_shared::limits::words::shard;
use egret_shared::limits::{Answer, Ask};
use egret_shared::redis::{Redis, RedisOptions, Value, cmd};
use proptest::prelude::*;

use super::server::Server;

const NAME: &str = "places";
const SECOND: u64 = 1_000_000;
const WALL: u64 = 1_700_000_000 * SECOND;

/// Nodes whose time is made up.
struct Fleet {
    redis: Redis,
    stores: Vec<Store>,
    now: u64,
    turn: u64,
    /// Until when each lives.
    till: HashMap<String, u64>,
}

fn name(node: usize) -> String {
    // Some have names of more than one word, and none stands where its number does.
    format!("{} node{}", 9 - node, "\n".repeat(node % 2))
}

impl Fleet {
    fn new(options: RedisOptions, nodes: usize) -> Self {
        let redis = Redis::new(options);
        let stores = (0..nodes).map(|node| Store::new(&redis, &name(node), false)).collect();
        Self { redis, stores, now: WALL, turn: 0, till: HashMap::new() }
    }

    async fn say(&self, words: &[&str]) -> Value {
        self.redis.command(cmd(words[0]).arg(&words[1..])).await.expect("Redis answers")
    }

    async fn ask(&mut self, node: usize, ask: Ask) -> Answer {
        let call = self.stores[node].call(&ask, self.now);
        let value = self.redis.scripts(&[call]).await.pop().expect("one answer").expect("Redis answers");
        answer(&ask, &value).expect("it is an answer")
    }

    async fn live(&mut self, node: usize) {
        self.ask(node, Ask::Live { shard: shard(NAME), join: true }).await;
        self.till.insert(name(node), self.now + 15 * SECOND);
    }

    async fn count(&mut self, node: usize, limit: u32, keep: u32, want: u32) -> Answer {
        self.turn += 1;
        self.ask(node, Ask::Count { name: NAME.into(), turn: self.turn, limit, keep, want }).await
    }

    async fn fields(&self, command: &str, key: &str, rest: &[&str]) -> Vec<String> {
        let key = format!("egret:{{{:02}}}:{key}", shard(NAME));
        redis::from_redis_value(self.say(&[&[command, &key], rest].concat()).await).expect("texts")
    }

    /// Looks at each node, and compares.
    async fn check(&self) {
        let fields: Vec<String> = match self.fields("HGETALL", &format!("p:{NAME}"), &[]).await {
            fields if fields.is_empty() => return,
            fields => fields,
        };
        let numbers = |text: &str| text.split(' ').map(|n| n.parse().expect("a number")).collect::<Vec<u64>>();
        let (mut found, mut line, mut most) = ([0; 3], Vec::new(), 0);
        let mut together = Vec::new();
        for pair in fields.chunks_exact(2) {
            let (node, its) = (&pair[0], numbers(&pair[1]));
            if node.is_empty() {
                together = its;
                continue;
            }
            assert!(self.till.get(node).is_some_and(|till| *till > self.now), "{node} is gone, and not forgotten");
            let (granted, waits) = (its[0], its[1] > its[0]);
            found[0] += granted;
            found[1] += u64::from(granted > 0 || waits);
            found[2] += u64::from(waits);
            most = most.max(granted);
            if waits {
                line.push(format!("{granted:010} {:016} {node}", its[2]));
            }
        }
        line.sort();
        assert_eq!(together[..3], found, "sum, contenders, waiting: {fields:?}");
        assert!(together[3] >= most, "{fields:?}");
        assert_eq!(self.fields("ZRANGE", &format!("w:{NAME}"), &["0", "-1"]).await, line, "{fields:?}");
    }
}

/// What a node does, after some time.
#[derive(Clone, Debug)]
enum Step {
    Live,
    Leave,
    Count { late: bool, limit: u32, keep: u32, want: u32 },
}

fn step() -> impl Strategy<Value = (usize, u64, Step)> {
    let count = (prop::bool::weighted(0.1), prop_oneof![8 => Just(7u32), 1 => 0..20u32], 0..4u32, 0..6u32)
        .prop_map(|(late, limit, keep, want)| Step::Count { late, limit, keep, want });
    let what = prop_oneof![3 => Just(Step::Live), 1 => Just(Step::Leave), 16 => count];
    (0..6usize, prop_oneof![20 => 0..SECOND, 1 => 0..20 * SECOND], what)
}

async fn play(fleet: &mut Fleet, steps: Vec<(usize, u64, Step)>) {
    fleet.say(&["FLUSHALL"]).await;
    fleet.till.clear();
    for (node, after, step) in steps {
        fleet.now += after;
        let lives = |fleet: &Fleet| fleet.till.get(&name(node)).is_some_and(|till| *till > fleet.now);
        match step {
            Step::Live => fleet.live(node).await,
            Step::Leave => {
                fleet.ask(node, Ask::Leave { shard: shard(NAME) }).await;
                fleet.till.remove(&name(node));
            }
            Step::Count { late, limit, keep, want } => {
                if !lives(fleet) {
                    assert_eq!(fleet.count(node, limit, keep, want).await, Answer::Unknown);
                    fleet.live(node).await;
                }
                fleet.turn -= if late { fleet.turn.min(9) } else { 0 };
                fleet.count(node, limit, keep, want).await;
                fleet.turn += if late { 9 } else { 0 };
                fleet.check().await;
            }
        }
    }
}

#[test]
fn what_is_kept_of_all_together_is_what_a_look_at_each_finds() {
    if !Server::is_installed() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(async { Server::start(&[]) });
    let options = server.options();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..150))| {
        // The server's own client lives as long as a case.
        runtime.block_on(async { play(&mut Fleet::new(options.clone(), 6), steps).await });
    });
}

#[tokio::test]
async fn whoever_leaves_frees_its_places_with_the_next_question_and_whoever_dies_when_its_time_is_over() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let mut fleet = Fleet::new(server.options(), 4);
    for node in 0..4 {
        fleet.live(node).await;
        fleet.now += SECOND;
    }
    // Three of three places are held.
    for node in 0..3 {
        assert_eq!(fleet.count(node, 3, 0, 1).await, Answer::Count { granted: 1, fair: None });
    }
    assert_eq!(fleet.count(3, 3, 0, 3).await, Answer::Count { granted: 0, fair: None });
    fleet.ask(1, Ask::Leave { shard: shard(NAME) }).await;
    assert_eq!(fleet.count(3, 3, 0, 3).await, Answer::Count { granted: 1, fair: None });
    // The first said four seconds ago that it lives, the third two; nobody takes them off the list meanwhile.
    fleet.now = WALL + 15 * SECOND - 1;
    assert_eq!(fleet.count(3, 3, 1, 3).await, Answer::Count { granted: 1, fair: None });
    fleet.now += 1;
    assert_eq!(fleet.count(3, 3, 1, 3).await, Answer::Count { granted: 2, fair: None });
    fleet.now = WALL + 17 * SECOND;
    assert_eq!(fleet.count(3, 3, 2, 3).await, Answer::Count { granted: 3, fair: None });
    fleet.check().await;
}

#[tokio::test]
async fn what_redis_lost_of_a_count_is_there_again_with_the_next_question_but_one() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let mut fleet = Fleet::new(server.options(), 3);
    for node in 0..3 {
        fleet.live(node).await;
        fleet.count(node, 1, 0, 1).await;
        fleet.now += 1;
    }
    let key = |rest: &str| format!("egret:{{{:02}}}:{rest}", shard(NAME));
    // As an eviction does it: the line alone. Nobody is given the place that is free until it is known who waits.
    fleet.say(&["DEL", &key("w:places")]).await;
    fleet.count(0, 1, 0, 0).await;
    assert_eq!(fleet.count(1, 1, 0, 1).await, Answer::Count { granted: 1, fair: Some(1) });
    fleet.check().await;
    fleet.say(&["DEL", &key("p:places")]).await;
    assert_eq!(fleet.count(1, 1, 1, 1).await, Answer::Count { granted: 1, fair: None });
    assert_eq!(fleet.count(2, 1, 0, 1).await, Answer::Count { granted: 0, fair: None });
    fleet.check().await;
    // All of it expires.
    fleet.ask(0, Ask::Leave { shard: shard(NAME) }).await;
    for rest in ["p:places", "w:places", "left", "live"] {
        let left = fleet.say(&["PTTL", &key(rest)]).await;
        assert!(matches!(left, Value::Int(1..=86_400_000)), "{rest}: {left:?}");
    }
}
