//! The spool's metrics. Documented in `docs/reference/spool.md`. Floor 1.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::StoreError;
use super::index::Index;

pub(super) struct Metrics {
    commits: Counter,
    stored: Counter,
    marks: Counter,
    bytes: Counter,
    sync: Histogram,
    full: Counter,
    io: Counter,
    messages: Gauge,
    live_bytes: Gauge,
    disk_bytes: Gauge,
    segments: Gauge,
    recovering: Gauge,
}

impl Metrics {
    pub fn new() -> Self {
        let refused = |reason| counter!("egret_mta_spool_refused_total", "reason" => reason);
        Self {
            commits: counter!("egret_mta_spool_commits_total"),
            stored: counter!("egret_mta_spool_stored_total"),
            marks: counter!("egret_mta_spool_marks_total"),
            bytes: counter!("egret_mta_spool_written_bytes_total"),
            sync: histogram!("egret_mta_spool_sync_seconds"),
            full: refused("full"),
            io: refused("io"),
            messages: gauge!("egret_mta_spool_messages"),
            live_bytes: gauge!("egret_mta_spool_live_bytes"),
            disk_bytes: gauge!("egret_mta_spool_disk_bytes"),
            segments: gauge!("egret_mta_spool_segments"),
            recovering: gauge!("egret_mta_spool_recovering"),
        }
    }

    pub fn synced(&self, bytes: u64, took: Duration) {
        self.commits.increment(1);
        self.bytes.increment(bytes);
        self.sync.record(took);
    }

    pub fn committed(&self, stored: usize, marks: usize) {
        self.stored.increment(stored as u64);
        self.marks.increment(marks as u64);
    }

    pub fn refused(&self, why: &StoreError, count: usize) {
        let counter = match why {
            StoreError::Full { .. } => &self.full,
            StoreError::Io(_) | StoreError::Busy | StoreError::Closed => &self.io,
        };
        counter.increment(count as u64);
    }

    pub fn show(&self, index: &Index) {
        self.messages.set(index.len() as f64);
        self.live_bytes.set(index.live_bytes() as f64);
        self.disk_bytes.set(index.total_bytes() as f64);
        self.segments.set(index.segments().len() as f64);
        self.recovering.set(f64::from(u8::from(index.is_recovering())));
    }
}

/// A message did not even reach the committer. Rare, so the handle is not kept.
pub(super) fn busy() {
    counter!("egret_mta_spool_refused_total", "reason" => "busy").increment(1);
}
