//! What this node has used of today's warm-ups, kept in the spool's directory: a restart does not begin the day anew, also
//! where there is no Redis, or one that has lost its memory. Floor 6.

use std::path::PathBuf;
use std::time::Duration;

use egret_shared::clock::Clock;
use egret_shared::limits::{Limits, UsedQuota};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use crate::elsewhere::kept;
use crate::routing::warmup::day_of;

/// How often it is looked at. What was sent since may be sent again after a crash.
const LOOK: Duration = Duration::from_millis(500);

/// What is kept. Cheap to clone.
#[derive(Clone)]
pub(super) struct UsedQuotas {
    directory: PathBuf,
    limits: Limits,
    clock: Clock,
    kept: Vec<UsedQuota>,
}

impl UsedQuotas {
    /// Tells the limits what an earlier run has used.
    pub fn remember(directory: PathBuf, limits: Limits, clock: Clock) -> Self {
        let today = day_of(clock.wall());
        let kept: Vec<_> = kept::read_quotas(&directory).into_iter().filter(|quota| quota.day >= today).collect();
        limits.remember_quotas(&kept, clock.now());
        Self { directory, limits, clock, kept }
    }

    /// Keeps it, as often as it has changed.
    pub async fn follow(mut self) {
        loop {
            sleep(LOOK).await;
            self.keep().await;
        }
    }

    /// Keeps what is used now.
    pub async fn keep(&mut self) {
        let mut used = self.limits.quotas_used(day_of(self.clock.wall()));
        used.sort_unstable_by(|a, b| (a.day, &a.name).cmp(&(b.day, &b.name)));
        if used == self.kept {
            return;
        }
        let (directory, written) = (self.directory.clone(), used.clone());
        let done = spawn_blocking(move || kept::write_quotas(&directory, &written)).await;
        match done {
            Ok(Ok(())) => self.kept = used,
            Ok(Err(why)) => warn!(%why, "what was used of warm-ups is not kept for the next start"),
            Err(_) => {}
        }
    }
}
