//! The one clock: everything that asks the time is handed one, so that tests can move it.
//! Floor 0. The only file that may read the system's clocks.
//! Always: `now()` never goes back, whatever happens to the wall clock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// A point of wall-clock time: milliseconds since the Unix epoch, as it is stored and reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// This time and `span` more (saturating).
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The span from `earlier` to this time; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Tells the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    System,
    Moved(Arc<Mutex<(Instant, UnixMs)>>),
}

impl Clock {
    /// The system's clocks.
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock for tests: it stands still until it is moved.
    pub fn moved(wall: UnixMs) -> Self {
        Self(Kind::Moved(Arc::new(Mutex::new((Instant::now(), wall)))))
    }

    /// Monotonic time, for deadlines and measured spans.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Kind::System => Instant::now(),
            Kind::Moved(at) => at.lock().0,
        }
    }

    /// Wall-clock time, for what is stored or told to people.
    pub fn wall(&self) -> UnixMs {
        match &self.0 {
            Kind::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Kind::Moved(at) => at.lock().1,
        }
    }

    /// Moves a test clock forward; does nothing to the system's.
    pub fn advance(&self, span: Duration) {
        if let Kind::Moved(at) = &self.0 {
            let mut at = at.lock();
            at.0 += span;
            at.1 = at.1.plus(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_clock_stands_still_until_it_is_moved() {
        let clock = Clock::moved(UnixMs(1_000));
        let (then, wall) = (clock.now(), clock.wall());
        assert_eq!((clock.now(), clock.wall()), (then, wall));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now() - then, Duration::from_secs(2));
        assert_eq!(clock.wall().since(wall), Duration::from_secs(2));
    }
}
