//! How much was used of late.
//! Pure. Floor 1.

use std::time::{Duration, Instant};

/// What counts as of late.
const WINDOW: Duration = Duration::from_millis(200);

/// Counts uses by windows of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    since: Instant,
    now: u64,
    before: u64,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, now: 0, before: 0 }
    }

    /// One was used.
    pub(super) fn used(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            self.before = if passed < WINDOW * 2 { self.now } else { 0 };
            (self.since, self.now) = (now, 0);
        }
        self.now += 1;
    }

    /// How many were used in this window or the one before, whichever are more.
    pub(super) fn recent(&self, now: Instant) -> u64 {
        match now.saturating_duration_since(self.since) {
            passed if passed < WINDOW => self.now.max(self.before),
            passed if passed < WINDOW * 2 => self.now,
            _ => 0,
        }
    }
}
