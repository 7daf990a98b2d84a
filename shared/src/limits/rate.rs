//! A rate as it is written in configuration: `"100/min"`, `"20/30min"`, `"5/s,max_burst=2"`.
//! Pure. Floor 0.
//! Always: `parse(print(x)) == x`; a burst is at least 1.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many in each period, and how many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many in a period; at least 1.
    pub count: u64,
    /// The period.
    pub period: Duration,
    /// How many may come at once; at least 1, `count` unless written.
    pub burst: u64,
}

/// Names of periods, the first of each kind being the one that is printed.
const PERIODS: &[(&str, u64)] = &[
    ("s", 1),
    ("sec", 1),
    ("second", 1),
    ("min", 60),
    ("m", 60),
    ("minute", 60),
    ("h", 3600),
    ("hr", 3600),
    ("hour", 3600),
    ("d", 86_400),
    ("day", 86_400),
];

/// The longest period, so that no arithmetic overflows: a year.
const LONGEST_SECONDS: u64 = 366 * 86_400;

/// By so much two messages may differ in how long they are on their way through a busy machine.
const JITTER: Duration = Duration::from_millis(10);

impl Rate {
    /// The time from one to the next at an even pace.
    pub fn interval(&self) -> Duration {
        let nanos = self.period.as_nanos() / u128::from(self.count.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What to let through so that a destination sees no more than the rate: messages are not equally long on their way,
    /// so the burst is less by what comes in 10 ms, a tenth of it at most. Slow rates stay as they are.
    #[must_use]
    pub fn as_seen(self) -> Self {
        let in_jitter = JITTER.as_nanos() / self.interval().as_nanos().max(1);
        let less = u64::try_from(in_jitter).unwrap_or(u64::MAX).min(self.burst / 10);
        Self { burst: self.burst - less, ..self }
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a rate like \"100/min\" or \"5/s,max_burst=2\"".to_owned();
        // A comma may also stand between thousands.
        let (rate, burst) = match text.rsplit_once(',') {
            Some((rate, burst)) if rate.contains('/') => {
                (rate, Some(burst.trim().strip_prefix("max_burst=").ok_or_else(wrong)?))
            }
            _ => (text, None),
        };
        let (count, period) = rate.split_once('/').ok_or_else(wrong)?;
        let number =
            |text: &str| text.trim().replace(['_', ','], "").parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(wrong);
        let period = period.trim();
        let unit_at = period.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (scale, unit) = period.split_at(unit_at);
        let scale = if scale.is_empty() { 1 } else { number(scale)? };
        let (_, seconds) = PERIODS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let seconds = seconds.checked_mul(scale).filter(|s| *s <= LONGEST_SECONDS).ok_or_else(wrong)?;
        let count = number(count)?;
        let burst = burst.map_or(Ok(count), number)?;
        Ok(Self { count, period: Duration::from_secs(seconds), burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        let fits = |(_, length): &&(&str, u64)| seconds >= *length && seconds.is_multiple_of(*length);
        let (name, length) = PERIODS.iter().filter(fits).max_by_key(|(_, length)| *length).unwrap_or(&PERIODS[0]);
        // Of the names of one length the first is printed.
        let name = PERIODS.iter().find(|(_, other)| other == length).map_or(*name, |(name, _)| name);
        match seconds / length {
            1 => write!(f, "{}/{name}", self.count)?,
            scale => write!(f, "{}/{scale}{name}", self.count)?,
        }
        if self.burst == self.count { Ok(()) } else { write!(f, ",max_burst={}", self.burst) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fast_rate_has_a_smaller_burst_than_it_may_be_seen_to_have() {
        let burst = |text: &str| text.parse::<Rate>().expect("a rate").as_seen().burst;
        assert_eq!(["500/s,max_burst=100", "500/s", "2000/s,max_burst=100"].map(burst), [95, 495, 90]);
        assert_eq!(["99/s", "500/s,max_burst=9", "100/min", "1/s"].map(burst), [99, 9, 100, 1]);
    }

    #[test]
    fn reads_what_people_write() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| (rate.count, rate.period.as_secs(), rate.burst));
        assert_eq!(rate("100/min"), Ok((100, 60, 100)));
        assert_eq!(rate("5/s, max_burst=2"), Ok((5, 1, 2)));
        assert_eq!(rate("1_000/hour"), Ok((1000, 3600, 1000)));
        assert_eq!(
            rate("1,000/hr,max_burst=1,000"),
            Err("write a rate like \"100/min\" or \"5/s,max_burst=2\"".to_owned())
        );
        assert_eq!(rate("1,000/hr"), Ok((1000, 3600, 1000)));
        assert_eq!(rate("20/30min,max_burst=2"), Ok((20, 1800, 2)));
        for wrong in [
            "",
            "5",
            "5/",
            "0/s",
            "5/fortnight",
            "-1/s",
            "5/s,burst=2",
            "5/s,max_burst=0",
            "5/0s",
            "5/30",
            "5/1000000000d",
        ] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn rates_survive_printing(count in 1u64..1_000_000, burst in 1u64..1_000_000, period in 0usize..4, scale in 1u64..90) {
            let period = Duration::from_secs([1, 60, 3600, 86_400][period] * scale);
            let rate = Rate { count, period, burst };
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
        }
    }
}
