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
