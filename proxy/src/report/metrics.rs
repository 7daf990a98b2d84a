//! The proxy's metrics. Documented in `docs/reference/proxy-metrics.md`. Floor 1.
//! Handles are made once: no label is looked up for a session.

use std::sync::Arc;
use std::time::Duration;

use egret_shared::fault::Reason;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The handles. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Handles>);

struct Handles {
    sessions: Counter,
    active: Gauge,
    probes: Counter,
    connects: Counter,
    connect_seconds: Histogram,
    up: Counter,
    down: Counter,
    faults: Vec<(Reason, Counter)>,
    accept_errors: Counter,
}

impl Metrics {
    /// Made after the recorder is installed. `held` is the number of held addresses.
    pub fn new(held: u128) -> Self {
        gauge!("egret_proxy_sources").set(held as f64);
        let fault = |reason: &Reason| {
            let (party, token) = (reason.party().as_str(), reason.token());
            (*reason, counter!("egret_proxy_faults_total", "party" => party, "reason" => token))
        };
        let bytes = |direction| counter!("egret_proxy_bytes_total", "direction" => direction);
        Self(Arc::new(Handles {
            sessions: counter!("egret_proxy_sessions_total"),
            active: gauge!("egret_proxy_sessions_active"),
            probes: counter!("egret_proxy_probes_total"),
            connects: counter!("egret_proxy_connects_total"),
            connect_seconds: histogram!("egret_proxy_connect_seconds"),
            up: bytes("up"),
            down: bytes("down"),
            faults: Reason::ALL.iter().map(fault).collect(),
            accept_errors: counter!("egret_proxy_accept_errors_total"),
        }))
    }

    /// Counts a session for as long as what is returned lives.
    pub fn session(&self) -> Active {
        self.0.sessions.increment(1);
        self.0.active.increment(1);
        Active(self.0.clone())
    }

    /// A client wanted nothing.
    pub fn probe(&self) {
        self.0.probes.increment(1);
    }

    /// A destination was connected.
    pub fn connected(&self, took: Duration) {
        self.0.connects.increment(1);
        self.0.connect_seconds.record(took);
    }

    /// Bytes that went over.
    pub fn bytes(&self, up: u64, down: u64) {
        self.0.up.increment(up);
        self.0.down.increment(down);
    }

    /// Something failed.
    pub fn fault(&self, reason: Reason) {
        if let Some((_, counter)) = self.0.faults.iter().find(|(known, _)| *known == reason) {
            counter.increment(1);
        }
    }

    /// An accept failed.
    pub fn accept_failed(&self) {
        self.0.accept_errors.increment(1);
    }
}

/// A session that is counted.
pub struct Active(Arc<Handles>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.decrement(1);
    }
}
