//! Places while the store is away, has lost what it knew, or both: there are never more than the limit, and each node has
//! its share.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Mode, Purse};
use super::{Fleet, count, throttle};
use crate::limits::words::{Manner, When};

const NODES: usize = 4;
const LIMIT: u32 = 10;
const STEP_MS: u64 = 10;

/// Nodes that always want more places, and end a session in so many steps if another should have its place.
struct Watched {
    fleet: Fleet,
    held: [u32; NODES],
    /// How long a session still takes to end.
    ending: [u64; NODES],
    at_ms: u64,
    most: u32,
}

impl Watched {
    /// `wanted` is how many sessions a node would have.
    fn run(&mut self, millis: u64, offsets: [u64; NODES], wanted: [u32; NODES]) {
        let places = count("places", LIMIT);
        for _ in 0..millis / STEP_MS {
            self.fleet.pass(STEP_MS);
            self.at_ms += STEP_MS;
            for (node, offset) in offsets.iter().enumerate() {
                let now = self.fleet.now;
                if (self.at_ms + offset) % 1_000 < STEP_MS {
                    self.fleet.nodes[node].tick(now);
                }
                self.end_some(node, *offset);
                while self.held[node] < wanted[node] && self.fleet.hold(node, &places) {
                    self.held[node] += 1;
                }
                if self.fleet.nodes[node].mode() == Mode::Shared {
                    self.fleet.settle(node);
                }
                self.most = self.most.max(self.held.iter().sum());
            }
            for (node, name) in std::mem::take(&mut self.fleet.store.wakes) {
                self.fleet.nodes[node.parse::<usize>().expect("a number")].nudge(&name, self.fleet.now);
            }
        }
    }

    /// A session that should end does, a moment later; others end now and then by themselves.
    fn end_some(&mut self, node: usize, offset: u64) {
        let ends = self.fleet.nodes[node].yields("places") || (self.at_ms + offset) % 170 < STEP_MS;
        if self.ending[node] == 0 && self.held[node] > 0 && ends {
            self.ending[node] = 4;
        } else if self.ending[node] > 0 {
            self.ending[node] -= 1;
            if self.ending[node] == 0 {
                self.held[node] -= 1;
                self.fleet.nodes[node].release(&"places".into(), false);
            }
        }
    }

    /// The nodes in the order of their offsets, and how long after the one before each comes if all do within a span.
    fn one_by_one(offsets: [u64; NODES], span: u64) -> Vec<(usize, u64)> {
        let mut order: Vec<usize> = (0..NODES).collect();
        order.sort_by_key(|node| offsets[*node]);
        let mut last = 0;
        let mut after = |node: usize| offsets[node] - std::mem::replace(&mut last, offsets[node]);
        order.into_iter().map(|node| (node, after(node) * span / 1_000)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn places_are_never_more_than_the_limit(
        offsets in prop::array::uniform4(0u64..1_000),
        first in prop::array::uniform4(0u32..=LIMIT),
        (is_away, is_empty) in prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))],
    ) {
        let all = [LIMIT; NODES];
        let mut fleet = Fleet::new(NODES);
        for (node, place) in fleet.nodes.iter_mut().zip([0.0, 0.25, 0.5, 0.75]) {
            *node = Purse::shared(Manner { place, ..Manner::default() });
        }
        let mut watched = Watched { fleet, held: [0; NODES], ending: [0; NODES], at_ms: 0, most: 0 };
        // Some have nothing to send, so that others have more than their part.
        watched.run(3_000, offsets, first);
        if is_away {
            // They notice within 300 ms.
            for (node, after) in Watched::one_by_one(offsets, 300) {
                watched.run(after, offsets, all);
                let now = watched.fleet.now;
                watched.fleet.nodes[node].away(now);
            }
            watched.run(2_000, offsets, all);
            prop_assert!(watched.held.iter().all(|held| (1..=2).contains(held)), "not shares: {:?}", watched.held);
        }
        if is_empty {
            watched.fleet.store.flush();
        }
        if is_away {
            // They look for the store within two seconds.
            for (node, after) in Watched::one_by_one(offsets, 2_000) {
                watched.run(after, offsets, all);
                let now = watched.fleet.now;
                watched.fleet.nodes[node].back(now);
            }
        }
        watched.run(8_000, offsets, all);
        prop_assert!(watched.most <= LIMIT, "{} of {LIMIT}", watched.most);
        let held: u32 = watched.held.iter().sum();
        prop_assert!(held >= LIMIT - NODES as u32, "{:?}", watched.held);
    }
}

#[test]
fn where_places_are_fewer_than_nodes_all_have_their_turns() {
    const MANY: usize = 40;
    const STEPS: usize = 2_000;
    let mut fleet = Fleet::new(MANY);
    // They learn how many they are and where each of them stands.
    for _ in 0..4 {
        fleet.pass(1_000);
        fleet.tick_all();
    }
    for node in &mut fleet.nodes {
        node.away(fleet.now);
    }
    let (five, name) = (count("places", 5), "places".into());
    let (mut held, mut turns, mut sum, mut most) = ([false; MANY], [0; MANY], 0, 0);
    for _ in 0..STEPS {
        for node in 0..MANY {
            if held[node] && fleet.nodes[node].yields("places") {
                fleet.nodes[node].release(&name, false);
                held[node] = false;
            }
            match fleet.nodes[node].hold(std::slice::from_ref(&five), fleet.now) {
                Ok(()) => {
                    assert!(!held[node], "a share is one");
                    (held[node], turns[node]) = (true, turns[node] + 1);
                }
                Err(refusal) => assert!(refusal.when != When::Woken, "nobody would wake it for its next turn"),
            }
        }
        let now = held.iter().filter(|held| **held).count();
        (sum, most) = (sum + now, most.max(now));
        fleet.pass(200);
    }
    let mean = sum as f64 / STEPS as f64;
    assert!((4.3..=5.0).contains(&mean) && most <= 5, "{mean} of 5, {most} at most");
    // One turn of eight.
    assert!(turns.iter().all(|turns| (4..=6).contains(turns)), "{turns:?}");
}

#[test]
fn a_turn_ends_also_for_who_has_a_place_and_asks_for_no_more() {
    let mut fleet = Fleet::new(1);
    let (one, fast) = (count("one", 1), throttle("fast", "50/s"));
    fleet.nodes[0] = Purse::shared(Manner { nodes: 3, place: 0.0, ..Manner::default() });
    fleet.nodes[0].away(fleet.now);
    fleet.pass(2_000);
    assert!(fleet.hold(0, &one) && !fleet.nodes[0].yields("one"), "it has the first turn");
    fleet.pass(9_000);
    assert!(!fleet.nodes[0].yields("one"), "nothing tells it the time");
    assert!(fleet.take(0, &fast) && fleet.nodes[0].yields("one"), "it sends, and its turn is over");
}

#[test]
fn nobody_waits_long_for_a_share_since_the_store_may_be_back() {
    let mut fleet = Fleet::new(40);
    let (slow, one) = (throttle("slow", "1/h"), count("one", 1));
    fleet.nodes[0] = Purse::shared(Manner { nodes: 40, place: 0.5, ..Manner::default() });
    fleet.nodes[0].away(fleet.now);
    fleet.pass(1_000);
    while fleet.take(0, &slow) {}
    for refused in [fleet.nodes[0].take(&[slow], fleet.now), fleet.nodes[0].hold(&[one], fleet.now)] {
        let when = refused.expect_err("its share is next to nothing").when;
        let When::At(at) = when else { panic!("it must look again by itself: {when:?}") };
        assert!(at <= fleet.now + Duration::from_secs(10), "{:?}", at - fleet.now);
    }
}
