//! Nobody looks again by itself: who was refused waits for its time, or until it is woken. Whatever happens to the store
//! meanwhile, none waits for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::super::words::{Answer, Ask, When};
use super::super::super::{Count, Throttle};
use super::super::Mode;
use super::{Fleet, count, throttle};

const NODES: usize = 3;
/// One step of the time.
const STEP_MS: u64 = 20;
/// So long a place is held.
const HELD: Duration = Duration::from_millis(100);
/// After the last that happens, everybody must have been served anew within this.
const CALM_MS: u64 = 60_000;

/// What it does, and until when.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Until(Instant),
    Woken(Arc<str>),
    Holds(Instant),
}

struct Work {
    rates: Vec<(Arc<str>, Throttle)>,
    places: Vec<(Arc<str>, Count)>,
    state: State,
    served: Instant,
}

/// What happens to the store, and how long after the one before.
#[derive(Clone, Debug)]
enum Event {
    Flush(u64),
    /// Away for so long, and empty when it is back.
    Away(u64, u64, bool),
    /// One node hears no answer.
    Lost(u64, usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0u64..3_000).prop_map(Event::Flush),
        (0u64..3_000, 20u64..8_000, any::<bool>()).prop_map(|(after, span, empty)| Event::Away(after, span, empty)),
        (0u64..3_000, 0..NODES).prop_map(|(after, node)| Event::Lost(after, node)),
    ];
    prop::collection::vec(event, 1..6)
}

struct World {
    fleet: Fleet,
    works: Vec<(usize, Work)>,
    out: [Vec<(Ask, Answer)>; NODES],
    steps: u64,
}

impl World {
    fn new() -> Self {
        let fleet = Fleet::new(NODES);
        let work = |node: usize, at: usize| {
            let (path, own) = (throttle(&format!("p{node}{at}"), "50/s"), count(&format!("p{node}{at}"), 1));
            let (rates, places) = (vec![path, throttle("all", "10/s,max_burst=3")], vec![own, count("sessions", 4)]);
            (node, Work { rates, places, state: State::Until(fleet.now), served: fleet.now })
        };
        let works = (0..NODES).flat_map(|node| (0..3).map(move |at| (node, at))).map(|(n, at)| work(n, at)).collect();
        Self { fleet, works, out: std::array::from_fn(|_| Vec::new()), steps: 0 }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis / STEP_MS {
            self.fleet.pass(STEP_MS);
            self.steps += 1;
            for node in 0..NODES {
                self.exchange(node);
                self.wake(node);
            }
            for (node, name) in std::mem::take(&mut self.fleet.store.wakes) {
                let now = self.fleet.now;
                self.fleet.nodes[node.parse::<usize>().expect("a number")].nudge(&name, now);
            }
        }
    }

    /// One batch is out at a time, and its answers are heard a step later.
    fn exchange(&mut self, node: usize) {
        let (now, purse) = (self.fleet.now, &mut self.fleet.nodes[node]);
        for (ask, answer) in std::mem::take(&mut self.out[node]) {
            purse.answered(&ask, &answer, now);
        }
        if (self.steps + node as u64 * 7).is_multiple_of(1_000 / STEP_MS) {
            purse.tick(now);
        }
        for ask in purse.asks(now) {
            let answer = self.fleet.store.ask(&node.to_string(), &ask, now);
            self.out[node].push((ask, answer));
        }
    }

    fn wake(&mut self, node: usize) {
        let names = self.fleet.nodes[node].woken();
        let now = self.fleet.now;
        // Who was served longest ago is the first.
        self.works.sort_by_key(|(_, work)| work.served);
        for (_, work) in self.works.iter_mut().filter(|(of, _)| *of == node) {
            let purse = &mut self.fleet.nodes[node];
            match &work.state {
                State::Holds(until) if *until <= now => {
                    work.places.iter().for_each(|(name, _)| purse.release(name, false));
                }
                State::Until(at) if *at <= now => {}
                State::Woken(name) if names.contains(name) => {}
                _ => continue,
            }
            let taken = purse
                .take(&work.rates, now)
                .and_then(|()| purse.hold(&work.places, now).inspect_err(|_| purse.give_back(&work.rates, now)));
            work.state = match taken {
                Ok(()) => {
                    work.served = now;
                    State::Holds(now + HELD)
                }
                Err(refusal) => match refusal.when {
                    When::At(at) => State::Until(at),
                    When::Woken => State::Woken(refusal.name),
                },
            };
        }
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Flush(after) => {
                self.run(after);
                self.fleet.store.flush();
            }
            Event::Lost(after, node) => {
                self.run(after);
                self.lose(node);
            }
            Event::Away(after, span, is_empty) => {
                self.run(after);
                for node in 0..NODES {
                    self.lose(node);
                    let now = self.fleet.now;
                    self.fleet.nodes[node].away(now);
                }
                self.run(span);
                if is_empty {
                    self.fleet.store.flush();
                }
                for node in 0..NODES {
                    let now = self.fleet.now;
                    self.fleet.nodes[node].back(now);
                    self.run(200);
                }
            }
        }
    }

    fn lose(&mut self, node: usize) {
        let now = self.fleet.now;
        for (ask, _) in std::mem::take(&mut self.out[node]) {
            self.fleet.nodes[node].lost(&ask, now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn who_was_refused_is_woken_whatever_happens_to_the_store(events in events()) {
        let mut world = World::new();
        world.run(2_000);
        for event in &events {
            world.happens(event);
        }
        let calm = world.fleet.now;
        world.run(CALM_MS);
        prop_assert!(world.fleet.nodes.iter().all(|purse| purse.mode() == Mode::Shared));
        for (node, work) in &world.works {
            prop_assert!(work.served > calm, "node {node}: {:?} waits for ever: {:?}", work.rates[0].0, work.state);
        }
    }
}
