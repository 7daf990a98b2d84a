//! Bytes of a session, counted while they go over. Floor 1.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;

/// One direction.
pub struct Count {
    own: AtomicU64,
    /// The counter of all sessions of the source.
    all: Counter,
}

/// Both directions.
pub struct Traffic {
    /// From the client to the destination.
    pub up: Count,
    /// From the destination to the client.
    pub down: Count,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { up: Count::new(Counter::noop()), down: Count::new(Counter::noop()) }
    }
}

impl Count {
    /// Starts at nothing; what is added here is added to `all` too.
    pub fn new(all: Counter) -> Self {
        Self { own: AtomicU64::new(0), all }
    }

    /// Bytes of this session so far.
    pub fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }

    /// So many more went over.
    pub fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.increment(bytes as u64);
    }
}
