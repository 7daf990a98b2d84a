//! A store that was away, lost all that it knew, or both: no second burst follows.

use proptest::prelude::*;

use super::super::Mode;
use super::{Fleet, throttle};

const NODES: usize = 4;
const RATE: f64 = 500.0;
const BURST: f64 = 100.0;
/// One step of the time.
const STEP_MS: u64 = 2;

/// All nodes send as much as they may. How much of the burst is used, seen from outside.
struct Watched {
    fleet: Fleet,
    level: f64,
    most: f64,
    sent: usize,
    at_ms: u64,
}

impl Watched {
    fn run(&mut self, millis: u64, offsets: [u64; NODES]) {
        let rate = throttle("r", "500/s,max_burst=100");
        for _ in 0..millis / STEP_MS {
            self.fleet.pass(STEP_MS);
            self.at_ms += STEP_MS;
            self.level = (self.level - STEP_MS as f64 / 1000.0 * RATE).max(0.0);
            for (node, offset) in offsets.iter().enumerate() {
                let now = self.fleet.now;
                if (self.at_ms + offset * 7) % 1_000 < STEP_MS {
                    self.fleet.nodes[node].tick(now);
                }
                while self.fleet.take(node, &rate) {
                    self.level += 1.0;
                    self.sent += 1;
                    self.most = self.most.max(self.level);
                }
                if self.fleet.nodes[node].mode() == Mode::Shared {
                    self.fleet.settle(node);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_burst_comes_back_with_the_store(
        offsets in prop::array::uniform4(0u64..1_000),
        is_away in any::<bool>(),
        is_empty in any::<bool>(),
        spread in 0u64..=2,
    ) {
        let fleet = Fleet::new(NODES);
        let mut watched = Watched { fleet, level: 0.0, most: 0.0, sent: 0, at_ms: 0 };
        watched.run(4_000, offsets);
        if is_away {
            for node in &mut watched.fleet.nodes {
                node.away(watched.fleet.now);
            }
            watched.run(3_000, offsets);
        }
        if is_empty {
            watched.fleet.store.flush();
        }
        // What was at hand before is another matter.
        (watched.most, watched.level) = (0.0, watched.level.min(BURST));
        let mut order: Vec<usize> = (0..NODES).collect();
        order.sort_by_key(|node| offsets[*node]);
        let mut waited = 0;
        for node in order {
            // They look for the store within two seconds.
            watched.run((offsets[node] - waited) * spread, offsets);
            waited = offsets[node];
            let now = watched.fleet.now;
            watched.fleet.nodes[node].back(now);
        }
        watched.sent = 0;
        watched.run(5_000, offsets);
        // If the store is not told its own last word, a whole second burst comes. Nodes that ask again at different times
        // have what they have at hand besides the shares of the others.
        let slack = if spread > 0 { RATE / 4.0 } else { BURST / 4.0 };
        prop_assert!(watched.most <= BURST + slack, "{} of {BURST}", watched.most);
        prop_assert!(watched.sent as f64 >= 0.95 * 5.0 * RATE, "{} in 5 s", watched.sent);
    }
}
