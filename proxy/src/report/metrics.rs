//! The proxy's metrics. Documented in `docs/reference/proxy-metrics.md`. Floor 3.
//! Handles are made once: no label is looked up by name for a session. Labels are bounded: as many
//! sources as the configuration allows have their own, the rest is "other".

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use egret_shared::fault::Reason;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::{Mutex, RwLock};

use super::record::{ClosedBy, Ended};
use super::traffic::{Count, Traffic};
use crate::limit::Scope;
use crate::source::{Held, State};

/// The handles. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Handles>);

struct Handles {
    connect_seconds: Histogram,
    first_byte_seconds: Histogram,
    session_seconds: Histogram,
    faults: Vec<Counter>,
    closes: [[Counter; 2]; 3],
    limits: [Counter; Scope::ALL.len()],
    auth_failures: Counter,
    states: [Gauge; State::ALL.len()],
    reloads: [Counter; 2],
    accept_errors: Mutex<HashMap<i32, Counter>>,
    sources: RwLock<HashMap<IpAddr, Arc<OfSource>>>,
    max_sources: usize,
    others: Arc<OfSource>,
}

/// The handles of one listener.
pub struct OfListener {
    accepted: Counter,
    probes: Counter,
    active: Gauge,
    tls_failures: Counter,
}

/// The handles of one source.
pub struct OfSource {
    name: String,
    connects: Counter,
    failures: Vec<OnceLock<Counter>>,
    sessions: Gauge,
    up: Counter,
    down: Counter,
}

impl Metrics {
    /// Made after the recorder is installed. `max_sources` have metrics of their own.
    pub fn new(max_sources: usize) -> Self {
        let fault = |reason: &Reason| {
            let (party, token) = (reason.party().as_str(), reason.token());
            counter!("egret_proxy_faults_total", "party" => party, "reason" => token)
        };
        let closes = [ClosedBy::Client, ClosedBy::Remote, ClosedBy::Proxy].map(|by| {
            ["fin", "rst"].map(|how| counter!("egret_proxy_closes_total", "by" => by.as_str(), "how" => how))
        });
        Self(Arc::new(Handles {
            connect_seconds: histogram!("egret_proxy_connect_seconds"),
            first_byte_seconds: histogram!("egret_proxy_first_byte_seconds"),
            session_seconds: histogram!("egret_proxy_session_seconds"),
            faults: Reason::ALL.iter().map(fault).collect(),
            closes,
            limits: Scope::ALL.map(|scope| counter!("egret_proxy_limit_denied_total", "limit" => scope.as_str())),
            auth_failures: counter!("egret_proxy_auth_failures_total"),
            states: State::ALL.map(|state| gauge!("egret_proxy_sources", "state" => state.as_str())),
            reloads: ["ok", "failed"].map(|result| counter!("egret_proxy_reloads_total", "result" => result)),
            accept_errors: Mutex::default(),
            sources: RwLock::default(),
            max_sources,
            others: Arc::new(OfSource::new("other".to_owned())),
        }))
    }

    /// The handles of a source.
    pub fn source(&self, ip: IpAddr) -> Arc<OfSource> {
        if let Some(handles) = self.0.sources.read().get(&ip) {
            return handles.clone();
        }
        let mut sources = self.0.sources.write();
        if sources.len() >= self.0.max_sources && !sources.contains_key(&ip) {
            return self.0.others.clone();
        }
        sources.entry(ip).or_insert_with(|| Arc::new(OfSource::new(ip.to_string()))).clone()
    }

    /// Shows the states of sources: the number in each, and each source's own as far as it has metrics.
    pub fn states(&self, held: &Held) {
        let mut counts = [0u32; State::ALL.len()];
        for (ip, state) in held.all() {
            counts[state as usize] += 1;
            let handles = self.source(ip);
            if !Arc::ptr_eq(&handles, &self.0.others) {
                let up = if held.is_up(ip) { 1.0 } else { 0.0 };
                gauge!("egret_proxy_source_up", "source" => handles.name.clone()).set(up);
            }
        }
        for (gauge, count) in self.0.states.iter().zip(counts) {
            gauge.set(count);
        }
    }

    /// A destination was connected.
    pub fn connected(&self, took: Duration) {
        self.0.connect_seconds.record(took);
    }

    /// A session is over that had a connection: how long it was, when its first byte came, who ended
    /// it and how.
    pub fn closed(&self, took: Duration, first_byte: Option<Duration>, by: ClosedBy, end: Ended) {
        self.0.session_seconds.record(took);
        if let Some(first_byte) = first_byte {
            self.0.first_byte_seconds.record(first_byte);
        }
        let how = usize::from(!matches!(end, Ended::Closed | Ended::Refused));
        self.0.closes[by as usize][how].increment(1);
    }

    /// Something failed.
    pub fn fault(&self, reason: Reason) {
        if let Some(at) = Reason::ALL.iter().position(|known| *known == reason) {
            self.0.faults[at].increment(1);
        }
        if reason == Reason::AuthFailed {
            self.0.auth_failures.increment(1);
        }
    }

    /// A limit was reached.
    pub fn limited(&self, scope: Scope) {
        self.0.limits[scope as usize].increment(1);
    }

    /// An accept failed.
    pub fn accept_failed(&self, errno: i32) {
        let mut errors = self.0.accept_errors.lock();
        let named = || counter!("egret_proxy_accept_errors_total", "errno" => errno.to_string());
        errors.entry(errno).or_insert_with(named).increment(1);
    }

    /// A reload is done.
    pub fn reloaded(&self, is_good: bool) {
        self.0.reloads[usize::from(!is_good)].increment(1);
    }
}

impl OfListener {
    /// The handles of the listener at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let listener = address.to_string();
        Self {
            accepted: counter!("egret_proxy_accepted_total", "listener" => listener.clone()),
            probes: counter!("egret_proxy_probes_total", "listener" => listener.clone()),
            active: gauge!("egret_proxy_sessions_active", "listener" => listener.clone()),
            tls_failures: counter!("egret_proxy_tls_failures_total", "listener" => listener),
        }
    }

    /// Counts a session for as long as what is returned lives.
    pub fn session(&self) -> Active {
        self.accepted.increment(1);
        Active::new(&self.active)
    }

    /// A client wanted nothing.
    pub fn probe(&self) {
        self.probes.increment(1);
    }

    /// A TLS handshake failed.
    pub fn tls_failed(&self) {
        self.tls_failures.increment(1);
    }
}

impl OfSource {
    fn new(name: String) -> Self {
        let source = || name.clone();
        Self {
            connects: counter!("egret_proxy_connects_total", "source" => source(), "result" => "ok"),
            failures: Reason::ALL.iter().map(|_| OnceLock::new()).collect(),
            sessions: gauge!("egret_proxy_source_sessions", "source" => source()),
            up: counter!("egret_proxy_bytes_total", "source" => source(), "direction" => "up"),
            down: counter!("egret_proxy_bytes_total", "source" => source(), "direction" => "down"),
            name,
        }
    }

    /// A dial succeeded; the connection counts for as long as what is returned lives.
    pub fn connected(&self) -> Active {
        self.connects.increment(1);
        Active::new(&self.sessions)
    }

    /// A dial failed.
    pub fn failed(&self, reason: Reason) {
        let Some(at) = Reason::ALL.iter().position(|known| *known == reason) else { return };
        let named =
            || counter!("egret_proxy_connects_total", "source" => self.name.clone(), "result" => reason.token());
        self.failures[at].get_or_init(named).increment(1);
    }

    /// Counters for a session's bytes.
    pub fn traffic(&self) -> Traffic {
        Traffic { up: Count::new(self.up.clone()), down: Count::new(self.down.clone()) }
    }
}

/// Something that is counted while it lives.
pub struct Active(Gauge);

impl Active {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Shows what the process has of descriptors and ports: `used` and `limit` of descriptors, the size of
/// the range of local ports.
pub fn process(used: usize, limit: u64, port_range: u32) {
    gauge!("egret_proxy_fds_used").set(used as f64);
    gauge!("egret_proxy_fds_limit").set(limit as f64);
    gauge!("egret_proxy_port_range").set(port_range);
}

/// Shows whether the program drains.
pub fn draining(is_draining: bool) {
    gauge!("egret_proxy_draining").set(if is_draining { 1.0 } else { 0.0 });
}

/// Shows when a listener's certificate ends, in seconds since the Unix epoch.
pub fn certificate(address: SocketAddr, expires_unix_s: i64) {
    let name = "egret_proxy_certificate_expiry_timestamp_seconds";
    gauge!(name, "listener" => address.to_string()).set(expires_unix_s as f64);
}
