//! Tests of the purse: many nodes, a store in memory, answers that are lost, questions that arrive twice, nodes that
//! die. The reference is naive: it looks at what was taken and held in all, and at nothing else.

mod back;
mod chaos;
mod parts;
mod shares;
mod store;
mod woken;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::words::{Ask, Manner, UsedQuota, When};
use super::super::{Count, Throttle};
use super::{Mode, Purse};
use store::FakeStore;

/// A fleet in which time stands still until it is moved.
pub(super) struct Fleet {
    pub(super) store: FakeStore,
    pub(super) nodes: Vec<Purse>,
    pub(super) now: Instant,
    pub(super) asked: usize,
}

impl Fleet {
    pub(super) fn new(nodes: usize) -> Self {
        let now = Instant::now() + Duration::from_secs(1_000_000);
        let nodes = (0..nodes).map(|_| Purse::shared(Manner::default())).collect();
        Self { store: FakeStore::new(now), nodes, now, asked: 0 }
    }

    /// All questions of a node are answered.
    pub(super) fn settle(&mut self, node: usize) {
        for _ in 0..10 {
            let asks = self.nodes[node].asks(self.now);
            if asks.is_empty() {
                return;
            }
            for ask in asks {
                self.asked += 1;
                let answer = self.store.ask(&node.to_string(), &ask, self.now);
                self.nodes[node].answered(&ask, &answer, self.now);
            }
        }
        panic!("a node asks on and on");
    }

    /// All questions of all nodes, and those that follow from wake-ups.
    pub(super) fn settle_all(&mut self) {
        for _ in 0..20 {
            for node in 0..self.nodes.len() {
                self.settle(node);
            }
            let wakes = std::mem::take(&mut self.store.wakes);
            if wakes.is_empty() {
                return;
            }
            for (node, name) in wakes {
                self.nodes[node.parse::<usize>().expect("a number")].nudge(&name, self.now);
            }
        }
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    pub(super) fn tick_all(&mut self) {
        for node in 0..self.nodes.len() {
            let now = self.now;
            self.nodes[node].tick(now);
        }
        self.settle_all();
    }

    fn take(&mut self, node: usize, throttle: &(Arc<str>, Throttle)) -> bool {
        self.nodes[node].take(std::slice::from_ref(throttle), self.now).is_ok()
    }

    /// Takes as many as there are now, over the store.
    fn drain(&mut self, node: usize, throttle: &(Arc<str>, Throttle)) -> usize {
        let mut taken = 0;
        loop {
            match self.nodes[node].take(std::slice::from_ref(throttle), self.now) {
                Ok(()) => taken += 1,
                Err(refusal) if refusal.when == When::Woken => self.settle(node),
                Err(_) => return taken,
            }
            self.settle(node);
        }
    }

    fn hold(&mut self, node: usize, count: &(Arc<str>, Count)) -> bool {
        self.nodes[node].hold(std::slice::from_ref(count), self.now).is_ok()
    }
}

pub(super) fn throttle(name: &str, rate: &str) -> (Arc<str>, Throttle) {
    (name.into(), rate.parse().expect("a rate"))
}

pub(super) fn count(name: &str, count: u32) -> (Arc<str>, Count) {
    (name.into(), count.into())
}

#[test]
fn nodes_share_one_rate() {
    let mut fleet = Fleet::new(3);
    let rate = throttle("gmail", "10/min");
    let taken: usize = (0..3).map(|node| fleet.drain(node, &rate)).sum();
    assert_eq!(taken, 10);
    // Each has reserved a time of its own, one after the other.
    let when = |fleet: &mut Fleet, node: usize| match fleet.nodes[node].take(std::slice::from_ref(&rate), fleet.now) {
        Err(refusal) => refusal.when,
        Ok(()) => panic!("there was none left"),
    };
    let times: Vec<_> = (0..3).map(|node| when(&mut fleet, node)).collect();
    let after = |secs| When::At(fleet.now + Duration::from_secs(secs));
    assert_eq!(times, [after(6), after(12), after(18)]);
    fleet.pass(6_000);
    assert!(!fleet.take(1, &rate), "it is not its turn");
    assert!(fleet.take(0, &rate));
    assert!(!fleet.take(0, &rate));
}

#[test]
fn what_nobody_uses_goes_back() {
    let mut fleet = Fleet::new(2);
    let rate = throttle("r", "100/min");
    assert!(!fleet.take(0, &rate));
    fleet.settle(0);
    for _ in 0..3 {
        fleet.pass(1_100);
        fleet.tick_all();
    }
    assert_eq!(fleet.drain(1, &rate), 100, "node 0 had one and gave it back");
}

#[test]
fn a_changed_rate_keeps_its_budget() {
    let mut fleet = Fleet::new(2);
    for _ in 0..9 {
        let rate = throttle("r", "10/min");
        while !fleet.take(0, &rate) {
            fleet.settle(0);
        }
    }
    fleet.settle(0);
    let faster = throttle("r", "20/min");
    assert!(fleet.drain(1, &faster) <= 11, "nine of twenty were used");
    let slower = throttle("r", "4/h");
    assert_eq!(fleet.drain(1, &slower), 0, "all was used");
}

#[test]
fn the_store_is_asked_seldom() {
    let mut fleet = Fleet::new(4);
    let rate = throttle("r", "1000/s");
    let mut taken = 0;
    let mut asked_before = 0;
    for step in 0..4_000 {
        if step == 1_000 {
            (taken, asked_before) = (0, fleet.asked);
        }
        fleet.pass(1);
        let node = step % 4;
        // Each waits for its own times; the store answers a millisecond later.
        taken += usize::from(fleet.take(node, &rate));
        fleet.settle(node);
        if step % 1_000 == 999 {
            fleet.tick_all();
        }
    }
    let asked = fleet.asked - asked_before;
    assert!(taken > 2_900, "{taken} of 3000 went");
    assert!(asked * 10 < taken, "{asked} questions for {taken}");
}

#[test]
fn places_are_served_in_the_order_of_asking() {
    let mut fleet = Fleet::new(4);
    let two = count("path", 2);
    for node in [0, 0, 3, 1, 2] {
        fleet.hold(node, &two);
        fleet.settle_all();
        fleet.hold(node, &two);
        fleet.nodes[node].woken();
        fleet.pass(10);
    }
    let mut served = Vec::new();
    for _ in 0..3 {
        let holder = (0..4).find(|node| fleet.nodes[*node].counts.accounts["path"].held > 0).expect("a holder");
        fleet.nodes[holder].release(&two.0, false);
        fleet.settle_all();
        let woken: Vec<_> = (0..4).filter(|node| !fleet.nodes[*node].woken().is_empty()).collect();
        assert_eq!(woken.len(), 1, "one place, one node: {woken:?}");
        assert!(fleet.hold(woken[0], &two));
        served.extend(woken);
        fleet.pass(10);
        fleet.settle_all();
    }
    assert_eq!(served, [3, 1, 2]);
}

#[test]
fn who_has_more_than_its_part_yields_when_others_wait() {
    let mut fleet = Fleet::new(2);
    let four = count("path", 4);
    for _ in 0..40 {
        fleet.hold(0, &four);
        fleet.settle_all();
    }
    assert!(!fleet.nodes[0].yields("path"), "it is alone");
    assert!(!fleet.hold(1, &four));
    fleet.settle_all();
    assert!(fleet.nodes[0].yields("path") && !fleet.nodes[1].yields("path"));
    for _ in 0..2 {
        fleet.nodes[0].release(&four.0, false);
        fleet.settle_all();
        assert!(fleet.hold(1, &four), "a place that was given up is there at once");
        fleet.hold(1, &four);
        fleet.settle_all();
    }
    assert!(!fleet.nodes[0].yields("path"), "two of four is its part");
}

#[test]
fn a_dead_nodes_places_are_free_in_fifteen_seconds() {
    let mut fleet = Fleet::new(2);
    let one = count("path", 1);
    fleet.hold(0, &one);
    fleet.settle_all();
    assert!(fleet.hold(0, &one));
    fleet.nodes[0] = Purse::shared(Manner::default());
    assert!(!fleet.hold(1, &one));
    let mut seconds = 0;
    while !fleet.hold(1, &one) {
        seconds += 1;
        assert!(seconds <= 16, "still held");
        fleet.pass(1_000);
        fleet.nodes[1].tick(fleet.now);
        fleet.settle(1);
    }
    assert!(seconds >= 14, "it might have lived: {seconds}");
}

#[test]
fn a_flushed_store_learns_what_is_held_and_used() {
    let mut fleet = Fleet::new(2);
    let (two, rate) = (count("path", 2), throttle("r", "10/h"));
    for node in 0..2 {
        fleet.hold(node, &two);
        fleet.settle_all();
        assert!(fleet.hold(node, &two));
    }
    assert_eq!(fleet.drain(0, &rate) + fleet.drain(1, &rate), 10);
    fleet.tick_all();
    fleet.store.flush();
    fleet.pass(1_000);
    fleet.tick_all();
    fleet.tick_all();
    assert!(!fleet.hold(0, &two));
    fleet.settle_all();
    assert!(!fleet.hold(0, &two), "both places are taken");
    assert_eq!(fleet.drain(0, &rate) + fleet.drain(1, &rate), 0, "all was used");
}

#[test]
fn who_comes_to_a_flushed_shard_long_after_takes_nothing_by_its_share() {
    let mut fleet = Fleet::new(2);
    let one = count("path", 1);
    fleet.hold(0, &one);
    fleet.settle_all();
    assert!(fleet.hold(0, &one));
    fleet.nodes[0].release(&one.0, false);
    fleet.settle_all();
    // Node 0 has nothing there for so long that it leaves the shard.
    for _ in 0..150 {
        fleet.pass(1_000);
        fleet.tick_all();
    }
    fleet.store.flush();
    fleet.hold(1, &one);
    fleet.settle_all();
    fleet.tick_all();
    assert!(!fleet.hold(1, &one), "others might hold it and not have told it");
    for _ in 0..5 {
        fleet.pass(1_000);
        fleet.tick_all();
    }
    fleet.hold(1, &one);
    fleet.settle_all();
    assert!(fleet.hold(1, &one));
    fleet.hold(0, &one);
    fleet.settle_all();
    assert!(!fleet.hold(0, &one), "the only place is held by the other");
}

#[test]
fn without_the_store_each_goes_on_with_its_share_and_then_tells() {
    let mut fleet = Fleet::new(4);
    let (eight, rate) = (count("path", 8), throttle("r", "60/min,max_burst=4"));
    for node in 0..4 {
        fleet.hold(node, &eight);
        fleet.settle_all();
        assert!(fleet.hold(node, &eight));
        fleet.pass(1_000);
        fleet.tick_all();
    }
    fleet.tick_all();
    for node in &mut fleet.nodes {
        node.away(fleet.now);
        assert_eq!(node.mode(), Mode::Away { nodes: 4 });
    }
    // Two of eight places each, of which one is held; one message in four seconds.
    let mut taken = 0;
    for second in 0..40 {
        for node in 0..4 {
            taken += usize::from(fleet.take(node, &rate));
            assert_eq!(fleet.hold(node, &eight), second == 1, "its share is two, and who has more gives it up first");
        }
        fleet.pass(1_000);
    }
    assert!((36..=44).contains(&taken), "{taken} in 40 s at one a second");
    // Back: nobody gets a place, for all are held, and no new burst comes.
    for node in 0..4 {
        let now = fleet.now;
        fleet.nodes[node].back(now);
        fleet.settle(node);
        assert!(!fleet.hold(node, &eight), "the others' places are not known yet");
    }
    for _ in 0..6 {
        fleet.pass(1_000);
        fleet.tick_all();
        assert!((0..4).all(|node| !fleet.hold(node, &eight)), "all are held");
    }
    let burst: usize = (0..4).map(|node| fleet.drain(node, &rate)).sum();
    assert!(burst <= 4, "{burst} at once");
}

#[test]
fn many_nodes_with_shares_do_not_send_at_the_same_moment() {
    let mut fleet = Fleet::new(40);
    for (at, node) in fleet.nodes.iter_mut().enumerate() {
        let manner = Manner { nodes: 40, ..Manner::default() }.of_node(&format!("mail{at}.example.com"));
        *node = Purse::shared(manner);
        node.away(fleet.now);
    }
    let (rate, mut taken) = (throttle("r", "10/s,max_burst=2"), Vec::new());
    for _ in 0..400 {
        let before = taken.len();
        for node in 0..40 {
            taken.extend(fleet.take(node, &rate).then_some(fleet.now));
        }
        assert!(taken.len() - before <= 8, "a share is one in four seconds");
        fleet.pass(50);
    }
    assert!((160..=240).contains(&taken.len()), "{} in 20 s at 10 a second", taken.len());
    let second = taken
        .iter()
        .map(|first| taken.iter().filter(|at| **at >= *first && **at < *first + Duration::from_secs(1)).count());
    let most = second.max().unwrap_or(0);
    assert!(most <= 24, "{most} in a second");
}

#[test]
fn a_quota_is_shared_and_its_rest_goes_back() {
    let mut fleet = Fleet::new(2);
    let name: Arc<str> = "ramp".into();
    let take = |fleet: &mut Fleet, node: usize, most: usize| {
        let mut taken = 0;
        while taken < most {
            match fleet.nodes[node].take_quota(&name, 7, 500, fleet.now) {
                Ok(()) => taken += 1,
                Err(refusal) if refusal.when == When::Woken => {}
                Err(_) => break,
            }
            fleet.settle(node);
        }
        taken
    };
    assert_eq!(take(&mut fleet, 0, 100), 100);
    for _ in 0..3 {
        fleet.pass(1_500);
        fleet.tick_all();
    }
    assert_eq!(take(&mut fleet, 1, 1_000), 400);
    assert_eq!(take(&mut fleet, 0, 1), 0);
    let now = fleet.now;
    for node in &mut fleet.nodes {
        node.away(now);
        assert!(node.take_quota(&name, 7, 500, now).is_err(), "there is no share of what is used up");
        assert!(node.take_quota(&name, 7, 1_000, now).is_ok(), "500 of a quota that was raised");
    }
}

#[test]
fn what_an_earlier_run_used_of_a_quota_is_used_whoever_decides() {
    let name: Arc<str> = "ramp".into();
    let now = Instant::now();
    let mut before = Purse::alone();
    (0..4).for_each(|_| before.take_quota(&name, 7, 5, now).expect("of five"));
    assert!(before.quotas_used(8).is_empty(), "of an earlier day");
    let used = before.quotas_used(7);
    let mut alone = Purse::alone();
    for quota in &used {
        alone.remember_quota(quota, now);
    }
    assert!(alone.take_quota(&name, 7, 5, now).is_ok() && alone.take_quota(&name, 7, 5, now).is_err());
    assert!(alone.take_quota(&name, 8, 5, now).is_ok(), "of another day");
    let mut away = Purse::shared(Manner::default());
    for quota in &used {
        away.remember_quota(quota, now);
    }
    away.away(now);
    assert!(away.take_quota(&name, 7, 5, now).is_ok() && away.take_quota(&name, 7, 5, now).is_err());
    // A store that has lost its memory learns it from the next run.
    let mut fleet = Fleet::new(2);
    let now = fleet.now;
    fleet.nodes[0].remember_quota(&UsedQuota { name: name.clone(), day: 7, used: 4 }, now);
    fleet.tick_all();
    fleet.settle_all();
    let taken = |fleet: &mut Fleet, node: usize| {
        let mut taken = 0;
        for _ in 0..20 {
            let now = fleet.now;
            taken += usize::from(fleet.nodes[node].take_quota(&name, 7, 5, now).is_ok());
            fleet.settle_all();
        }
        taken
    };
    assert_eq!(taken(&mut fleet, 0), 5, "this store does not know of it");
    fleet.store.flush();
    fleet.pass(1_000);
    fleet.tick_all();
    fleet.tick_all();
    assert_eq!(taken(&mut fleet, 1), 0, "nine of five were used, and it was told");
}

#[test]
fn times_of_two_slow_rates_come_together() {
    let mut fleet = Fleet::new(2);
    let both = [throttle("a", "1/min"), throttle("b", "1/min")];
    let mut taken = 0;
    for second in 0..1_200 {
        for node in 0..2 {
            taken += usize::from(fleet.nodes[node].take(&both, fleet.now).is_ok());
            fleet.settle(node);
        }
        fleet.pass(1_000);
        if second % 2 == 0 {
            fleet.tick_all();
        }
    }
    assert!(taken >= 10, "{taken} in 20 minutes");
}

#[test]
fn what_is_asked_names_its_shard() {
    let mut fleet = Fleet::new(1);
    let now = fleet.now;
    assert!(!fleet.hold(0, &count("x", 1)));
    let asks = fleet.nodes[0].asks(now);
    assert_eq!(asks, [Ask::Live { shard: super::super::words::shard("x"), join: true }], "join first");
    assert!(fleet.nodes[0].asks(now).is_empty(), "nothing twice");
}
