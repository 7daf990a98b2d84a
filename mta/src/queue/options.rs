//! How long messages wait and how long they may. Plain data with the back-off rule.
//! Pure. Floor 1.

use std::time::Duration;

/// The options of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// The wait after the first attempt that counts; each further one doubles it.
    pub retry_interval: Duration,
    /// The longest wait.
    pub max_retry_interval: Duration,
    /// After this a message expires, wherever it waits. What its sender had held waits from the end of that.
    pub max_age: Duration,
    /// Messages in one ready queue; more wait in their scheduled queues.
    pub max_ready: usize,
    /// After which times the sender is told that a message is late.
    pub delay_notice: DelayNotice,
}

/// After which waits a sender is told that its message is late: some, each longer than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DelayNotice([Option<Duration>; DelayNotice::MOST]);

impl DelayNotice {
    /// How many waits there may be.
    pub const MOST: usize = 4;

    /// After these waits; none is never. Those beyond [`Self::MOST`] count for nothing.
    pub fn after(waits: &[Duration]) -> Self {
        let mut waits = waits.to_vec();
        waits.sort_unstable();
        Self(std::array::from_fn(|at| waits.get(at).copied()))
    }

    /// How many times a sender should have been told, whose message has waited for so long.
    pub fn due_after(&self, waited: Duration) -> u8 {
        self.0.iter().flatten().filter(|wait| **wait <= waited).count() as u8
    }
}

impl QueueOptions {
    /// The longest wait after the `attempts`-th attempt, with its spread.
    pub fn longest_retry(&self, attempts: u16) -> Duration {
        let wait = self.wait_after(attempts);
        wait + wait / 20 + Duration::from_millis(1)
    }

    fn wait_after(&self, attempts: u16) -> Duration {
        let doublings = u32::from(attempts.saturating_sub(1)).min(31);
        self.retry_interval.saturating_mul(1 << doublings).min(self.max_retry_interval)
    }

    /// The wait after the `attempts`-th attempt, with a spread of ±5 % chosen by `random` so that a
    /// herd that failed together does not come back together.
    pub fn retry_after(&self, attempts: u16, random: u64) -> Duration {
        let wait_ms = u64::try_from(self.wait_after(attempts).as_millis()).unwrap_or(u64::MAX / 2);
        let spread_ms = wait_ms / 10;
        Duration::from_millis(wait_ms - spread_ms / 2 + random % (spread_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_double_up_to_the_longest_within_five_percent(attempts in 1u16..200, random: u64) {
            let secs = Duration::from_secs;
            let options = QueueOptions { retry_interval: secs(60), max_retry_interval: secs(3_600), max_age: secs(9), max_ready: 1, delay_notice: DelayNotice::default() };
            let ideal = secs(60 * (1u64 << u32::from(attempts - 1).min(10))).min(secs(3_600));
            let wait = options.retry_after(attempts, random);
            prop_assert!(wait >= ideal * 95 / 100 && wait <= ideal * 105 / 100, "{wait:?} for {ideal:?}");
            prop_assert!(wait <= options.longest_retry(attempts));
        }
    }
}
