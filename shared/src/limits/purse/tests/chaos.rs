//! Many nodes in disorder: what is lost, late, twice or dead never leads to more than the limits allow.

use std::time::Instant;

use proptest::prelude::*;

use super::super::super::words::{Answer, Ask, Manner};
use super::super::Purse;
use super::{Fleet, count, throttle};

const NODES: usize = 4;
const LIMIT: u32 = 5;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Take(usize),
    Hold(usize),
    Release(usize),
    /// Questions go out, and an answer may be lost.
    Settle(usize, u8),
    /// A question that was sent before arrives again.
    Again(usize),
    Die(usize),
    Tick(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (1u64..200).prop_map(Step::Pass),
        1 => (1_000u64..9_000).prop_map(Step::Pass),
        40 => (0..NODES).prop_map(Step::Take),
        30 => (0..NODES).prop_map(Step::Hold),
        20 => (0..NODES).prop_map(Step::Release),
        80 => (0..NODES, any::<u8>()).prop_map(|(node, luck)| Step::Settle(node, luck)),
        4 => (0..NODES).prop_map(Step::Again),
        1 => (0..NODES).prop_map(Step::Die),
        20 => (0..NODES).prop_map(Step::Tick),
    ];
    prop::collection::vec(step, 1..1_500)
}

struct Chaos {
    fleet: Fleet,
    held: [u32; NODES],
    /// A node that starts anew has another name.
    names: [String; NODES],
    born: usize,
    sent: Vec<(String, Ask)>,
    /// Questions that are out, and the answers that are on their way.
    out: [Vec<(Ask, Option<Answer>)>; NODES],
    taken: Vec<Instant>,
}

impl Chaos {
    fn step(&mut self, step: &Step) {
        let rate = throttle("rate", "20/s,max_burst=8");
        let places = count("places", LIMIT);
        let now = self.fleet.now;
        match *step {
            Step::Pass(millis) => self.fleet.pass(millis),
            Step::Take(node) => {
                if self.fleet.nodes[node].take(std::slice::from_ref(&rate), now).is_ok() {
                    self.taken.push(now);
                }
            }
            Step::Hold(node) => {
                self.held[node] += u32::from(self.fleet.nodes[node].hold(std::slice::from_ref(&places), now).is_ok());
            }
            Step::Release(node) if self.held[node] > 0 => {
                self.held[node] -= 1;
                self.fleet.nodes[node].release(&places.0, false);
            }
            Step::Release(_) => {}
            Step::Settle(node, luck) => self.settle(node, luck),
            Step::Again(at) => {
                if let Some((node, ask)) = self.sent.get(self.sent.len().saturating_sub(at * 3 + 1)).cloned()
                    && matches!(ask, Ask::Count { .. })
                {
                    self.fleet.store.ask(&node, &ask, now);
                }
            }
            Step::Die(node) => {
                self.fleet.nodes[node] = Purse::shared(Manner::default());
                self.held[node] = 0;
                self.out[node].clear();
                self.born += 1;
                self.names[node] = format!("{node}-{}", self.born);
            }
            Step::Tick(node) => self.fleet.nodes[node].tick(now),
        }
    }

    /// Sends what there is to ask, or, if something is out, hears the answers. As with the driver, one batch of a
    /// node is out at a time, and much may happen meanwhile.
    fn settle(&mut self, node: usize, luck: u8) {
        let now = self.fleet.now;
        let out = std::mem::take(&mut self.out[node]);
        if out.is_empty() {
            for ask in self.fleet.nodes[node].asks(now) {
                let name = self.names[node].clone();
                // Some arrive only when their answer is already waited for.
                let answer = (luck & 8 == 0).then(|| self.fleet.store.ask(&name, &ask, now));
                self.sent.push((name, ask.clone()));
                self.out[node].push((ask, answer));
            }
        }
        for (ask, answer) in out {
            let name = self.names[node].clone();
            match luck % 8 {
                0 => self.fleet.nodes[node].lost(&ask, now),
                _ => {
                    let answer = answer.unwrap_or_else(|| self.fleet.store.ask(&name, &ask, now));
                    self.fleet.nodes[node].answered(&ask, &answer, now);
                }
            }
        }
        for (woken, name) in std::mem::take(&mut self.fleet.store.wakes) {
            if let Some(node) = self.names.iter().position(|name| *name == woken) {
                self.fleet.nodes[node].nudge(&name, now);
            }
        }
    }

    fn new() -> Self {
        Self {
            fleet: Fleet::new(NODES),
            held: [0; NODES],
            names: std::array::from_fn(|node| node.to_string()),
            born: 0,
            sent: Vec::new(),
            out: std::array::from_fn(|_| Vec::new()),
            taken: Vec::new(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_disorder_grants_too_much(steps in steps()) {
        let mut chaos = Chaos::new();
        // A node that was not heard of for 15 s has lost its places, and goes on to hold them until it is told so:
        // then, and only then, more can be held.
        let mut forgotten = false;
        for step in &steps {
            chaos.step(step);
            forgotten |= (0..NODES).any(|node| {
                chaos.held[node] > 0 && !chaos.fleet.store.lives(&chaos.names[node], "places", chaos.fleet.now)
            });
            let held: u32 = chaos.held.iter().sum();
            prop_assert!(forgotten || held <= LIMIT, "{held} of {LIMIT} are held");
        }
        // Of the rate, nodes have at most a quarter in hand, at least one each, and one that went back late.
        let slack = 20.0 / 4.0 + NODES as f64;
        for (at, first) in chaos.taken.iter().enumerate() {
            for (end, last) in chaos.taken.iter().enumerate().skip(at) {
                let window = last.duration_since(*first).as_secs_f64();
                let most = 8.0 + window * 20.0 + slack;
                prop_assert!((end - at + 1) as f64 <= most, "{} in {window} s", end - at + 1);
            }
        }
    }

    #[test]
    fn busy_nodes_keep_the_windows_of_a_rate(
        steps in prop::collection::vec((0..NODES, 0u64..60, 0usize..30, any::<u8>()), 1..200),
    ) {
        let (mut fleet, mut taken) = (Fleet::new(NODES), Vec::new());
        let rate = throttle("rate", "200/s,max_burst=40");
        // All know how many they are.
        fleet.tick_all();
        fleet.pass(1_000);
        fleet.tick_all();
        for (node, millis, times, luck) in steps {
            fleet.pass(millis);
            let now = fleet.now;
            for _ in 0..times {
                if fleet.nodes[node].take(std::slice::from_ref(&rate), now).is_ok() {
                    taken.push(now);
                }
                fleet.settle(node);
            }
            if luck % 16 == 0 && taken.last() == Some(&now) {
                taken.pop();
                fleet.nodes[node].give_back(std::slice::from_ref(&rate), now);
            }
            if luck % 4 == 1 {
                fleet.pass(luck.into());
                fleet.nodes[node].tick(fleet.now);
                fleet.settle(node);
            }
        }
        let slack = 200.0 / 4.0 + NODES as f64;
        for (at, first) in taken.iter().enumerate() {
            let within = taken[at..].iter().enumerate().find(|(more, last)| {
                (*more + 1) as f64 > 40.0 + last.duration_since(*first).as_secs_f64() * 200.0 + slack
            });
            prop_assert!(within.is_none(), "{within:?}");
        }
    }

    #[test]
    fn whatever_happened_who_waits_is_served(steps in steps()) {
        let mut chaos = Chaos::new();
        for step in &steps {
            chaos.step(step);
        }
        // Then all is calm: each node wants a place, and whoever has one gives it up a second later.
        let places = count("places", 1);
        let mut served = [0u32; NODES];
        for step in 0..1_200 {
            chaos.fleet.pass(100);
            for (node, served) in served.iter_mut().enumerate() {
                while step % 10 == 0 && chaos.held[node] > 0 {
                    chaos.step(&Step::Release(node));
                }
                if step % 10 == 0 {
                    chaos.step(&Step::Tick(node));
                }
                for _ in 0..4 {
                    chaos.settle(node, 7);
                }
                if chaos.fleet.nodes[node].hold(std::slice::from_ref(&places), chaos.fleet.now).is_ok() {
                    chaos.held[node] += 1;
                    *served += u32::from(step > 200);
                }
                chaos.settle(node, 7);
            }
        }
        prop_assert!(served.iter().all(|times| *times >= 8), "{served:?}");
    }
}
