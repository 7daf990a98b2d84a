//! SIGHUP and `POST /v1/reload`: the configuration is read anew and swapped whole, or not at all.
//! Floor 6.
//! Always: sessions go on as they began; a configuration with a mistake changes nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use egret_shared::journal::Journal;
use egret_shared::redis::RedisOptions;
use tokio::sync::{Mutex, Notify};
use tracing::{error, info, warn};

use crate::announce::Announced;
use crate::config::{self, Config};
use crate::policy::Current;
use crate::report::metrics::{self, Metrics};
use crate::source::watch;

/// What a restart alone can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    workers: usize,
    listeners: Vec<SocketAddr>,
    max_sessions: usize,
    admin: Option<SocketAddr>,
    session_log: Option<PathBuf>,
    log: String,
    announced: Option<Announced>,
    redis: Option<RedisOptions>,
}

impl Fixed {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            workers: config.workers,
            listeners: config.served.listeners.iter().map(|listener| listener.address).collect(),
            max_sessions: config.max_sessions,
            admin: config.admin,
            session_log: config.session_log.path.clone(),
            log: config.log_level.clone(),
            announced: config.announced.clone(),
            redis: config.redis.clone(),
        }
    }

    /// The keys that differ.
    fn changed(&self, new: &Self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        let mut compare = |is_changed, key| {
            if is_changed {
                keys.push(key);
            }
        };
        compare(self.workers != new.workers, "workers");
        compare(self.listeners != new.listeners, "listener.address");
        compare(self.max_sessions != new.max_sessions, "limits.max_sessions");
        compare(self.admin != new.admin, "admin.address");
        compare(self.session_log != new.session_log, "session_log.path");
        compare(self.log != new.log, "log.level");
        compare(self.announced != new.announced, "announce");
        compare(self.redis != new.redis, "redis");
        keys
    }
}

/// Reloads. Cheap to clone.
#[derive(Clone)]
pub struct Reloader {
    pub(super) file: PathBuf,
    pub(super) fixed: Arc<Fixed>,
    pub(super) policy: Current,
    pub(super) metrics: Metrics,
    pub(super) journal: Option<Journal>,
    pub(super) look: Arc<Notify>,
    /// One reload at a time.
    pub(super) turn: Arc<Mutex<()>>,
}

impl Reloader {
    /// Reads the file anew and swaps what a reload can change. Returns the keys that want a restart.
    ///
    /// # Errors
    /// Every complaint about the file; then nothing has changed.
    pub async fn reload(&self) -> Result<Vec<&'static str>, String> {
        let _turn = self.turn.lock().await;
        if let Some(journal) = &self.journal {
            journal.reopen();
        }
        let config = match config::read(&self.file) {
            Ok(config) => config,
            Err(complaints) => {
                self.metrics.reloaded(false);
                error!(file = %self.file.display(), %complaints, "not reloaded: the configuration has mistakes");
                return Err(complaints.to_string());
            }
        };
        let restart = self.fixed.changed(&Fixed::of(&config));
        let held = self.policy.load().sources.held().clone();
        let policy = config.served.into_policy(held);
        show_certificates(&policy);
        // Addresses of the host are looked up before they are asked for.
        watch::look_once(&policy.sources).await;
        self.policy.store(Arc::new(policy));
        self.look.notify_one();
        self.metrics.reloaded(true);
        info!(file = %self.file.display(), "reloaded; sessions go on as they began");
        if !restart.is_empty() {
            warn!(keys = restart.join(", "), "these keys have changed and want a restart");
        }
        Ok(restart)
    }
}

/// Shows when certificates end.
pub(super) fn show_certificates(policy: &crate::policy::Policy) {
    for listener in &policy.listeners {
        if let Some(tls) = &listener.tls {
            metrics::certificate(listener.address, tls.expires_unix_s);
        }
    }
}
