//! SIGHUP and `POST /v1/reload`: the configuration is read anew. Queue settings and routes hold at once, also for what
//! is queued; options of paths, also those of shaping files, hold for sessions that are opened from then on; label
//! headers, rules, signatures and their keys for what is taken from then on, users for logins; the event log is opened
//! anew; what else has changed is told, and wants a restart.
//! Floor 6.
//! Always: a configuration with a mistake changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use egret_shared::config::changed_keys;
use egret_shared::journal::Journal;
use metrics::counter;
use tokio::signal::unix::Signal;
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use super::live::Live;
use super::rollup;
use crate::config;
use crate::intake::Signing;
use crate::queue::run::Queues;
use crate::users::Logins;

/// The sections whose keys hold at once.
const APPLIED: [&str; 9] =
    ["users_file", "queue.", "dkim.", "routing.", "rule[", "route[", "outcome[", "delivery.", "shaping."];
/// The keys of these sections that the DNS resolver has, and want a restart.
const RESOLVERS: [&str; 2] = ["delivery.smtp_port", "delivery.allow_special_destinations"];

/// The configuration file that the program was started with.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// What stood in it.
    pub text: String,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reloaded {
    /// Keys that have other values since, which hold now.
    pub applied: Vec<String>,
    /// Keys that differ from those that the program was started with, and want a restart.
    pub wants_restart: Vec<String>,
}

/// Reloads. Cheap to clone.
#[derive(Clone)]
pub struct Reloader {
    origin: Arc<Origin>,
    queues: Queues,
    events: Journal,
    signing: Signing,
    logins: Logins,
    live: Live,
    /// The text that was read last; one reload at a time.
    last: Arc<Mutex<String>>,
}

impl Reloader {
    pub(crate) fn new(
        origin: Origin,
        queues: Queues,
        events: Journal,
        signing: Signing,
        logins: Logins,
        live: Live,
    ) -> Self {
        let last = Arc::new(Mutex::new(origin.text.clone()));
        Self { origin: Arc::new(origin), queues, events, signing, logins, live, last }
    }

    /// Reads the file anew.
    ///
    /// # Errors
    /// Every complaint about the file; then nothing has changed.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let mut last = self.last.lock().await;
        self.events.reopen();
        let done = self.apply(&mut last).await;
        let result = if done.is_ok() { "ok" } else { "failed" };
        counter!("egret_mta_reloads_total", "result" => result).increment(1);
        match &done {
            Ok(Reloaded { applied, wants_restart }) => {
                info!(file = %self.origin.file.display(), applied = applied.join(", "), "reloaded");
                if !wants_restart.is_empty() {
                    warn!(keys = wants_restart.join(", "), "these keys have changed and want a restart");
                }
            }
            Err(why) => error!(file = %self.origin.file.display(), %why, "not reloaded"),
        }
        done
    }

    async fn apply(&self, last: &mut String) -> Result<Reloaded, String> {
        let (config, text) = config::read_with_text(&self.origin.file).map_err(|complaints| complaints.to_string())?;
        let next = self.live.next(&config)?;
        let (options, leads, live) = (config.queue, next.leads, self.live.clone());
        let shapes = next.shapes;
        rollup::tell(&config.shaping.notes);
        let told = self.queues.ask(move |engine, now, _| {
            // Questions that the engine asks from here on are answered by the new routes.
            live.replace(next);
            engine.set_options(options);
            engine.paths_changed();
            if leads {
                engine.lead_anew(now);
            }
        });
        told.await.map_err(|stopped| stopped.to_string())?;
        self.signing.replace(config.signers);
        self.logins.replace(config.users);
        let mut applied: Vec<_> = changed_keys(last, &text).into_iter().filter(|key| is_applied(key)).collect();
        if shapes && !applied.iter().any(|key| key.starts_with("shaping.")) {
            applied.push("shaping.files (what stands in them)".to_owned());
        }
        let wants_restart = changed_keys(&self.origin.text, &text).into_iter().filter(|key| !is_applied(key)).collect();
        *last = text;
        Ok(Reloaded { applied, wants_restart })
    }

    /// Reloads at each SIGHUP.
    pub(crate) async fn on_hangup(self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            // What is wrong was logged.
            let _ = self.reload().await;
        }
    }
}

/// Whether a key holds at once.
fn is_applied(key: &str) -> bool {
    let of = |sections: &[&str]| sections.iter().any(|section| key.starts_with(section));
    of(&APPLIED) && !of(&RESOLVERS)
}
