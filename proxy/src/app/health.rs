//! What health depends on, and what the process has of descriptors and ports. Floor 6.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::http::{self, Probe, Probes};
use egret_shared::journal::Journal;
use egret_shared::net::accept::Heart;
use metrics_exporter_prometheus::PrometheusHandle;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::limits::Kept;
use crate::report::metrics;
use crate::source::{Held, State};

/// How often the process is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Descriptors kept for what is no session: listeners, admin clients, logs, and clients that are told
/// that there is no room.
const RESERVE: u64 = 256;

/// What health depends on.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) hearts: Vec<(SocketAddr, Heart)>,
    pub(super) stop: CancellationToken,
    pub(super) journal: Option<Journal>,
    pub(super) held: Held,
    pub(super) limits: Kept,
}

impl Health {
    pub(super) fn router(self, metrics: PrometheusHandle) -> axum::Router {
        let live = self.clone();
        let live: Probes = Arc::new(move || live.live());
        let ready: Probes = Arc::new(move || self.ready());
        http::router(metrics, live, ready)
    }

    /// While the program stops, closed listeners are right.
    pub(super) fn live(&self) -> Vec<Probe> {
        let stopping = self.stop.is_cancelled();
        self.listeners(|heart| if stopping { Ok(()) } else { heart.alive() })
    }

    fn ready(&self) -> Vec<Probe> {
        let mut probes = self.listeners(Heart::ready);
        let serving = if self.stop.is_cancelled() { Err("the program is stopping".to_owned()) } else { Ok(()) };
        probes.push(Probe { name: "sessions".to_owned(), state: serving });
        probes.push(Probe { name: "sources".to_owned(), state: self.sources() });
        // The share of this proxy is kept to, so that it can be given work: told, and no failure.
        probes.extend(self.limits.degraded().map(|name| Probe { name, state: Ok(()) }));
        if let Some(journal) = &self.journal {
            probes.push(Probe { name: "session log".to_owned(), state: journal.health() });
        }
        probes
    }

    /// One usable source is enough to be given work: clients choose, and are told.
    fn sources(&self) -> Result<(), String> {
        let all = self.held.all();
        if all.is_empty() || all.values().any(|state| *state == State::Held) {
            return Ok(());
        }
        Err(format!("none of {} can be used", all.len()))
    }

    fn listeners(&self, state: impl Fn(&Heart) -> Result<(), String>) -> Vec<Probe> {
        let probe =
            |(address, heart): &(SocketAddr, Heart)| Probe { name: format!("listener {address}"), state: state(heart) };
        self.hearts.iter().map(probe).collect()
    }
}

/// Raises the limit of descriptors as far as the system lets it, and returns how many sessions fit.
pub(super) fn room_for(wanted: usize) -> usize {
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(_) => soft,
        },
        Ok((soft, _)) => soft,
        Err(_) => return wanted,
    };
    let fits = usize::try_from(limit.saturating_sub(RESERVE.min(limit / 4)) / 2).unwrap_or(usize::MAX);
    if fits < wanted {
        warn!(
            descriptors = limit,
            max_sessions = wanted,
            sessions = fits,
            "limits.max_sessions is lowered: a session takes two descriptors; raise LimitNOFILE (systemd) or ulimit -n"
        );
    }
    fits.min(wanted).max(1)
}

/// Shows what the process has, again and again.
pub(super) async fn watch_process() {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let _ = tokio::task::spawn_blocking(show_process).await;
    }
}

fn show_process() {
    let used = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    metrics::process(used, limit, port_range().map_or(0, |(first, last)| u32::from(last - first) + 1));
}

/// The range of local ports that the kernel dials from (ip(7), `ip_local_port_range`).
pub fn port_range() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_whitespace().map(str::parse);
    match (ends.next()?, ends.next()?) {
        (Ok(first), Ok(last)) if first <= last => Some((first, last)),
        _ => None,
    }
}
