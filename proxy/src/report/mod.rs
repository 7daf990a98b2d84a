//! What became of a session: its record and its bytes, floor 1, the sessions that can be asked for,
//! floor 2, counters and who is told, floor 3. Keeps no content.

pub mod live;
pub mod metrics;
pub mod record;
pub mod traffic;

use std::sync::Arc;
use std::time::Instant;

use egret_shared::fault::{Fault, Party};
use egret_shared::journal::Journal;
use tracing::{debug, info};

use self::live::Sessions;
use self::metrics::Metrics;
use self::record::Record;

/// Tells of sessions. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    /// Counters.
    pub metrics: Metrics,
    /// Sessions that can be asked for.
    pub sessions: Sessions,
    /// Where records go; `None` keeps none.
    pub journal: Option<Journal>,
}

impl Reporter {
    /// A session is over.
    pub fn ended(&self, record: Record, now: Instant) {
        if let Some(journal) = &self.journal {
            journal.write(&record);
        }
        match &record.reason {
            Some(reason) => {
                self.metrics.fault(*reason);
                let Record { id, client, source, destination, detail, .. } = &record;
                let party = reason.party();
                // Faults of destinations are everyday; those of others are for the operator.
                if party == Party::Remote {
                    debug!(%id, %client, ?source, ?destination, %reason, detail, "session failed");
                } else {
                    info!(%id, %client, ?source, ?destination, %reason, detail, "session failed");
                }
            }
            None => debug!(id = %record.id, client = %record.client, end = ?record.end, "session ended"),
        }
        self.sessions.ended(Arc::new(record), now);
    }

    /// A client was turned away before it had a session.
    pub fn turned_away(&self, fault: &Fault) {
        self.metrics.fault(fault.reason);
        info!(reason = %fault.reason, detail = fault.detail, "client turned away");
    }
}
