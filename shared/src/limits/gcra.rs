//! The generic cell rate algorithm: a rate with a burst, in one number.
//! Pure. Floor 0.
//! Always: in no window of time do more come through than the rate allows in it, plus one burst; what
//! is turned away costs nothing.

use std::time::{Duration, Instant};

use super::Rate;

/// The state of one throttle: the time at which it would be quite empty again.
#[derive(Clone, Copy, Debug)]
pub struct Gcra(Instant);

impl Gcra {
    /// A throttle that nothing has come through.
    pub fn new(now: Instant) -> Self {
        Self(now)
    }

    /// Lets one through at `now`.
    ///
    /// # Errors
    /// How long to wait until one could come through.
    pub fn take(&mut self, rate: &Rate, now: Instant) -> Result<(), Duration> {
        let interval = rate.interval();
        let next = self.0.max(now) + interval;
        // All of a burst may come at once: its last one is (burst - 1) intervals early.
        let early = next.saturating_duration_since(now);
        let room = interval.saturating_mul(u32::try_from(rate.burst).unwrap_or(u32::MAX));
        if early > room {
            return Err(early.saturating_sub(room));
        }
        self.0 = next;
        Ok(())
    }

    /// A throttle through which a whole burst has just come.
    pub fn spent(rate: &Rate, now: Instant) -> Self {
        Self(now + rate.interval().saturating_mul(u32::try_from(rate.burst).unwrap_or(u32::MAX)))
    }

    /// Forgets so many that came through: they were not used.
    pub fn give_back(&mut self, rate: &Rate, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0 = self.0.checked_sub(rate.interval().saturating_mul(count)).unwrap_or(self.0);
    }

    /// Counts one that came through by another's leave.
    pub fn count(&mut self, rate: &Rate, now: Instant) {
        self.0 = self.0.max(now) + rate.interval();
    }

    /// Counts so many, but only what is left of a burst.
    pub fn count_within(&mut self, rate: &Rate, count: u32, now: Instant) {
        let next = self.0.max(now) + rate.interval().saturating_mul(count);
        self.0 = self.0.max(next.min(Self::spent(rate, now).0));
    }

    /// A whole burst has come through, at least.
    pub fn at_least_spent(&mut self, rate: &Rate, now: Instant) {
        self.0 = self.0.max(Self::spent(rate, now).0);
    }

    /// A throttle that has let `count` through, of which the first may come at `next`.
    pub fn of_next(rate: &Rate, next: Instant, count: u64) -> Self {
        let count = u32::try_from(count.saturating_add(rate.burst).saturating_sub(1)).unwrap_or(u32::MAX);
        Self(next + rate.interval().saturating_mul(count))
    }

    /// How many that came through still matter.
    pub fn backlog(&self, rate: &Rate, now: Instant) -> u64 {
        let early = self.0.saturating_duration_since(now).as_nanos();
        u64::try_from(early.div_ceil(rate.interval().as_nanos().max(1))).unwrap_or(u64::MAX)
    }

    /// The rate is another from now on: what was used of the old budget is used of the new one, up to a burst.
    pub fn convert(&mut self, old: &Rate, new: &Rate, now: Instant) {
        let used = self.backlog(old, now).min(new.burst);
        self.0 = now + new.interval().saturating_mul(u32::try_from(used).unwrap_or(u32::MAX));
    }

    /// True if nothing that came through matters any more.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_comes_at_once_and_then_one_an_interval() {
        let (rate, start) = ("10/s,max_burst=3".parse::<Rate>().expect("a rate"), Instant::now());
        let mut gcra = Gcra::new(start);
        for _ in 0..3 {
            assert_eq!(gcra.take(&rate, start), Ok(()));
        }
        assert_eq!(gcra.take(&rate, start), Err(Duration::from_millis(100)));
        assert_eq!(gcra.take(&rate, start + Duration::from_millis(100)), Ok(()));
        assert!(gcra.take(&rate, start + Duration::from_millis(150)).is_err());
    }

    #[test]
    fn a_changed_rate_keeps_what_was_used() {
        let rate = |text: &str| text.parse::<Rate>().expect("a rate");
        let (slow, fast, now) = (rate("10/min"), rate("20/s"), Instant::now());
        let mut gcra = Gcra::new(now);
        for _ in 0..9 {
            assert_eq!(gcra.take(&slow, now), Ok(()));
        }
        gcra.convert(&slow, &fast, now);
        assert_eq!(gcra.backlog(&fast, now), 9);
        gcra.convert(&fast, &slow, now);
        assert_eq!(gcra.take(&slow, now), Ok(()), "one was left");
        assert!(gcra.take(&slow, now).is_err());
        gcra.give_back(&slow, 1);
        assert_eq!(gcra.take(&slow, now), Ok(()));
        assert_eq!(Gcra::spent(&slow, now).take(&slow, now), Err(Duration::from_secs(6)));
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_its_rate_and_one_burst(
            steps in prop::collection::vec(0u64..400, 1..300),
            count in 1u64..20,
            burst in 1u64..8,
        ) {
            let rate = Rate { count, period: Duration::from_secs(1), burst };
            let start = Instant::now();
            let (mut gcra, mut now, mut taken) = (Gcra::new(start), start, Vec::new());
            for step in steps {
                now += Duration::from_millis(step);
                if gcra.take(&rate, now).is_ok() {
                    taken.push(now);
                }
            }
            for (at, first) in taken.iter().enumerate() {
                for (end, last) in taken.iter().enumerate().skip(at) {
                    let window = last.duration_since(*first).as_secs_f64();
                    let most = burst as f64 + window * count as f64 + 1e-6;
                    prop_assert!((end - at + 1) as f64 <= most, "{} in {window} s", end - at + 1);
                }
            }
        }
    }
}
