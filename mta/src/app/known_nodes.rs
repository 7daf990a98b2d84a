//! How many nodes there are, kept for a start without Redis: each takes its part of the limits then. Floor 6.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use egret_shared::limits::{Health, Limits};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use crate::elsewhere::kept;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Fewer nodes than before count when it has lasted: those that are stopped one after the other will be started again.
const LASTS: Duration = Duration::from_secs(600);

/// The number that is kept.
pub(super) struct KnownNodes {
    directory: PathBuf,
    redis: String,
    kept: Option<u32>,
    fewer_since: Option<Instant>,
}

impl KnownNodes {
    /// What an earlier run has kept in the spool's directory, of this Redis.
    pub fn read(directory: PathBuf, redis: String) -> Self {
        let kept = kept::read_nodes(&directory, &redis);
        Self { directory, redis, kept, fewer_since: None }
    }

    /// Keeps how many nodes share the limits, as often as Redis says another number.
    pub async fn follow(mut self, limits: Limits, clock: Clock) {
        loop {
            sleep(LOOK).await;
            if limits.health() == Health::Ok {
                self.see(limits.nodes(), &clock).await;
            }
        }
    }

    async fn see(&mut self, nodes: u32, clock: &Clock) {
        if !self.is_news(nodes, clock.now()) {
            return;
        }
        let (directory, redis) = (self.directory.clone(), self.redis.clone());
        let done = spawn_blocking(move || kept::write_nodes(&directory, &redis, nodes)).await;
        if let Ok(Err(why)) = done {
            warn!(%why, nodes, "the number of nodes is not kept for a start without Redis");
        }
    }

    /// Whether that is to be kept instead of what is.
    fn is_news(&mut self, nodes: u32, now: Instant) -> bool {
        let is_fewer = self.kept.is_some_and(|kept| nodes < kept);
        let since = *self.fewer_since.get_or_insert(now);
        if !is_fewer {
            self.fewer_since = None;
        } else if now.saturating_duration_since(since) < LASTS {
            return false;
        }
        self.fewer_since = None;
        self.kept.replace(nodes) != Some(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_nodes_count_at_once_and_fewer_when_it_has_lasted() {
        let mut known = KnownNodes { directory: PathBuf::new(), redis: String::new(), kept: None, fewer_since: None };
        let start = Instant::now();
        let mut at = |seconds: u64, nodes: u32| known.is_news(nodes, start + Duration::from_secs(seconds));
        assert!(at(0, 1) && at(1, 4) && !at(2, 4));
        assert!(!at(10, 3) && !at(600, 1), "they are being restarted");
        assert!(!at(601, 4) && !at(700, 3) && !at(1_299, 3), "all were there again");
        assert!(at(1_300, 3) && !at(1_301, 3));
    }
}
