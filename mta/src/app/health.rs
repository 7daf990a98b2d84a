//! What `/livez`, `/readyz` and the service manager ask. Floor 6.

use std::net::SocketAddr;
use std::sync::Arc;

use egret_shared::http::{self, Probe, Probes};
use egret_shared::limits::Limits;
use egret_shared::net::accept::Heart;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::limits;
use super::standing::Standing;
use crate::memory::Pressure;
use crate::spool::Spool;
use egret_shared::journal::Journal;

/// Everything that health depends on.
#[derive(Clone)]
pub(super) struct Health {
    pub hearts: Vec<(SocketAddr, Heart)>,
    pub spool: Spool,
    pub events: Journal,
    pub memory: Pressure,
    pub stop: CancellationToken,
    pub driver: AbortHandle,
    pub standing: Standing,
    pub limits: Limits,
}

impl Health {
    /// The admin server's routes.
    pub fn router(self, metrics: PrometheusHandle) -> axum::Router {
        let live = self.clone();
        let live: Probes = Arc::new(move || live.live());
        let ready: Probes = Arc::new(move || self.ready());
        http::router(metrics, live, ready)
    }

    /// Whether the service manager shall be told so.
    pub fn is_alive(&self) -> bool {
        self.live().iter().all(|probe| probe.state.is_ok())
    }

    /// Whether the process is worth keeping. While it stops, closed listeners are right.
    fn live(&self) -> Vec<Probe> {
        let stopping = self.stop.is_cancelled();
        let mut probes: Vec<_> = self.listeners(|heart| if stopping { Ok(()) } else { heart.alive() });
        let queues = if self.driver.is_finished() && !stopping { Err("they have ended".to_owned()) } else { Ok(()) };
        probes.push(Probe { name: "queues".to_owned(), state: queues });
        probes
    }

    /// Whether it shall get mail.
    fn ready(&self) -> Vec<Probe> {
        let mut probes = self.listeners(Heart::ready);
        let taking = if self.stop.is_cancelled() { Err("the program is stopping".to_owned()) } else { Ok(()) };
        probes.push(Probe { name: "reception".to_owned(), state: taking });
        probes.push(Probe { name: "spool".to_owned(), state: self.spool.health() });
        probes.push(Probe { name: "memory".to_owned(), state: self.memory.health() });
        probes.push(Probe { name: "event log".to_owned(), state: self.events.health() });
        // The last good version is in force, so that mail goes on: told, and no failure.
        let told = self.standing.mistakes().into_iter().map(|(from, mistake)| {
            let why = mistake.why.replace('\n', "; ");
            Probe { name: format!("egress: the last good version is in use; {}: {why}", from.as_str()), state: Ok(()) }
        });
        probes.extend(told);
        // Each node's share is kept to, so that mail goes on.
        probes.extend(limits::degraded(&self.limits).map(|name| Probe { name, state: Ok(()) }));
        probes
    }

    fn listeners(&self, state: impl Fn(&Heart) -> Result<(), String>) -> Vec<Probe> {
        let probe =
            |(address, heart): &(SocketAddr, Heart)| Probe { name: format!("listener {address}"), state: state(heart) };
        self.hearts.iter().map(probe).collect()
    }
}
