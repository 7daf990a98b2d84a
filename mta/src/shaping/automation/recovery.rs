//! The way back after a suspension of a path: one message as the probe, then 1, 2, 4 … sessions, one step for each
//! round of successes. Pure. Floor 1.
//! Always: no step is left out; nothing but success opens more.

use std::time::Duration;

/// How many times as long as its rule says a suspension may become.
const MOST_TIMES: u32 = 8;
/// And how long by that.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Where a path is on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    step: Step,
    /// Successes of this round.
    done: usize,
    /// How many times in a row it went wrong.
    relapses: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// None, until a fleet has said who probes.
    Ask,
    /// One message.
    Probe,
    /// So many at once.
    Open(usize),
    /// All.
    Over,
}

impl Recovery {
    /// At its beginning, after a suspension that followed on so many relapses.
    pub fn new(relapses: u32) -> Self {
        Self { step: Step::Probe, done: 0, relapses }
    }

    /// The same in a fleet, which is asked first who probes.
    pub fn asking(relapses: u32) -> Self {
        Self { step: Step::Ask, ..Self::new(relapses) }
    }

    /// Whether the fleet is to be asked who probes.
    pub fn asks(&self) -> bool {
        self.step == Step::Ask
    }

    /// The fleet has said: this node probes, or another one has, and the path works.
    pub fn allow(&mut self, is_proven: bool) {
        if self.step == Step::Ask || is_proven && self.step == Step::Probe {
            (self.step, self.done) = (if is_proven { Step::Open(1) } else { Step::Probe }, 0);
        }
    }

    /// How many messages may be under way at once; `None` once it is over.
    pub fn cap(&self) -> Option<usize> {
        match self.step {
            Step::Ask => Some(0),
            Step::Probe => Some(1),
            Step::Open(sessions) => Some(sessions),
            Step::Over => None,
        }
    }

    /// The probe has not come back yet.
    pub fn is_probing(&self) -> bool {
        matches!(self.step, Step::Ask | Step::Probe)
    }

    /// A message was taken; `limit` is what the path may have without this.
    pub fn succeeded(&mut self, limit: usize) {
        self.done += 1;
        let next = match self.step {
            Step::Ask | Step::Probe => 1,
            Step::Open(sessions) if self.done >= sessions => sessions * 2,
            Step::Open(_) | Step::Over => return,
        };
        self.done = 0;
        self.step = if !self.is_probing() && next >= limit { Step::Over } else { Step::Open(next) };
    }

    /// How many relapses there are if it goes wrong now.
    pub fn relapsed(&self) -> u32 {
        self.relapses + 1
    }
}

/// How long a suspension is that lasts for `base` at first, after so many relapses.
pub fn longer(base: Duration, relapses: u32) -> Duration {
    let times = 1u32.checked_shl(relapses).unwrap_or(MOST_TIMES).min(MOST_TIMES);
    base.saturating_mul(times).min(LONGEST.max(base))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn success_opens_a_probe_then_one_two_four() {
        let (mut recovery, mut caps) = (Recovery::new(0), Vec::new());
        while let Some(cap) = recovery.cap() {
            caps.push((recovery.is_probing(), cap));
            recovery.succeeded(8);
        }
        let mut want = vec![(true, 1), (false, 1)];
        want.extend(vec![(false, 2); 2]);
        want.extend(vec![(false, 4); 4]);
        assert_eq!(caps, want);
    }

    #[test]
    fn in_a_fleet_nothing_goes_before_it_is_allowed() {
        let mut recovery = Recovery::asking(2);
        assert!(recovery.asks() && recovery.cap() == Some(0));
        recovery.allow(false);
        assert!(!recovery.asks() && recovery.is_probing() && recovery.cap() == Some(1));
        recovery.allow(true);
        assert!(!recovery.is_probing() && recovery.cap() == Some(1));
        recovery.succeeded(8);
        recovery.allow(true);
        assert_eq!((recovery.cap(), recovery.relapsed()), (Some(2), 3), "what is further on stays there");
    }

    #[test]
    fn a_relapse_doubles_up_to_eight_times_or_a_day() {
        let hours = |n: u64| Duration::from_secs(n * 3_600);
        let spans: Vec<_> = (0..6).map(|n| longer(hours(1), n)).collect();
        assert_eq!(spans, [hours(1), hours(2), hours(4), hours(8), hours(8), hours(8)]);
        assert_eq!(
            (longer(hours(10), 1), longer(hours(10), 2), longer(hours(72), 3)),
            (hours(20), hours(24), hours(72))
        );
    }

    proptest! {
        #[test]
        fn the_cap_only_grows_and_doubles_at_most(limits in prop::collection::vec(1usize..64, 1..300)) {
            let (mut recovery, mut before, mut since) = (Recovery::new(0), 1, 0usize);
            for limit in limits {
                let was_probing = recovery.is_probing();
                recovery.succeeded(limit);
                since += 1;
                match recovery.cap() {
                    Some(cap) => {
                        prop_assert!(cap == before || cap == before * 2, "{before} to {cap}");
                        if cap > before {
                            prop_assert!(since >= before, "a whole round of successes");
                            since = 0;
                        }
                        if was_probing { since = 0; }
                        before = cap;
                    }
                    None => {
                        prop_assert!(!was_probing);
                        // It is over when one more step would reach the limit, and stays so.
                        prop_assert!(before * 2 >= limit || recovery.cap().is_none());
                        recovery.succeeded(limit);
                        prop_assert_eq!(recovery.cap(), None);
                        break;
                    }
                }
            }
        }

        #[test]
        fn no_suspension_gets_shorter_by_a_relapse(base in 1u64..400_000, relapses in 0u32..80) {
            let base = Duration::from_secs(base);
            prop_assert!(longer(base, relapses) >= base);
            prop_assert!(longer(base, relapses + 1) >= longer(base, relapses));
            prop_assert!(longer(base, relapses) <= (base * 8).min(LONGEST.max(base)));
        }
    }
}
