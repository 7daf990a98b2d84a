//! SIGHUP and `POST /v1/reload`: the configuration is read anew. Queue settings, routes, pools, sources and proxies hold
//! at once, also for what is queued; options of paths, also those of shaping files, hold
//! for sessions that are opened from then on; label headers,
//! rules, signatures and their keys for what is taken from then on, users for logins; the event log is opened anew; what
//! else has changed is told, and wants a restart. What comes from elsewhere ([`super::follow`]) takes the same way.
//! Floor 6.
//! Always: a configuration with a mistake changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use egret_shared::config::Complaints;
use egret_shared::journal::Journal;
use egret_shared::registry::record::ProxyRecord;
use metrics::counter;
use tokio::signal::unix::Signal;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::fleet::Fleet;
use super::follow::prepare;
use super::live::Live;
use super::rollup;
use super::standing::Standing;
use crate::config::{Config, Texts};
use crate::elsewhere::{Elsewhere, kept};
use crate::intake::Signing;
use crate::queue::run::Queues;
use crate::routing::discover::{Discovered, Discovery};
use crate::routing::pool::Pool;
use crate::routing::warmup::Day;
use crate::users::Logins;

/// The sections whose keys hold at once.
const APPLIED: [&str; 18] = [
    "users_file",
    "queue.",
    "queues.",
    "dkim.",
    "routing.",
    "rule[",
    "route[",
    "outcome[",
    "automation[",
    "delivery.",
    "floor[",
    "shaping.",
    "pool.",
    "source.",
    "proxy.",
    "default_pool",
    "egress.",
    "discover.",
];
/// The keys of these sections that the DNS resolver has, and want a restart.
const RESOLVERS: [&str; 2] = ["delivery.smtp_port", "delivery.allow_special_destinations"];

/// The configuration that the program was started with.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The main file.
    pub file: PathBuf,
    /// What stood in it, and in what it names.
    pub texts: Texts,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reloaded {
    /// Keys that have other values since, which hold now.
    pub applied: Vec<String>,
    /// Keys that differ from those that the program was started with, and want a restart.
    pub wants_restart: Vec<String>,
    /// What an operator may not have meant, in sentences.
    pub warnings: Vec<String>,
}

/// The pools as they are configured; what is found at run time is added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defined {
    pools: Vec<Pool>,
    default_pool: Arc<str>,
    discovery: Discovery,
}

impl Defined {
    /// What is announced makes this of it; `first_day` says when an address was there first.
    pub(super) fn with(&self, announced: &[ProxyRecord], first_day: impl Fn(IpAddr) -> Option<Day>) -> Discovered {
        self.discovery.pools(&self.pools, announced, first_day)
    }

    pub(super) fn of(config: &Config) -> Self {
        let (pools, discovery) = (config.pools.clone(), config.discovery.clone());
        Self { pools, default_pool: config.default_pool.clone(), discovery }
    }
}

/// What a reload tells of what it has read.
pub(crate) struct Parts {
    pub queues: Queues,
    pub events: Journal,
    pub signing: Signing,
    pub logins: Logins,
    pub live: Live,
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
    elsewhere: Arc<ArcSwap<Elsewhere>>,
    defined: Arc<ArcSwap<Defined>>,
    /// Proxies that announce themselves.
    pub(crate) fleet: Fleet,
    /// What is wrong with what comes from elsewhere.
    pub(crate) standing: Standing,
    /// What is in force; one reload at a time.
    last: Arc<Mutex<Texts>>,
}

impl Reloader {
    pub(crate) fn new(origin: Origin, parts: Parts, elsewhere: Elsewhere, defined: Defined) -> Self {
        let Parts { queues, events, signing, logins, live } = parts;
        let last = Arc::new(Mutex::new(origin.texts.clone()));
        let (elsewhere, defined) = (ArcSwap::from_pointee(elsewhere).into(), ArcSwap::from_pointee(defined).into());
        let (origin, standing, fleet) = (Arc::new(origin), Standing::default(), Fleet::default());
        Self { origin, queues, events, signing, logins, live, elsewhere, defined, fleet, standing, last }
    }

    /// What the proxies that announce themselves make of the pools.
    pub(crate) fn discovered(&self) -> Discovered {
        self.fleet.discovered(&self.defined.load())
    }

    /// Other proxies have announced themselves: their addresses come into the pools that look for them. Returns which
    /// addresses more than one of them holds; nothing if the program is ending.
    pub(super) async fn announced(&self) -> Option<BTreeMap<IpAddr, Vec<String>>> {
        // A reload does it, too; one at a time.
        let _turn = self.last.lock().await;
        let (found, default_pool) = (self.discovered(), self.defined.load().default_pool.clone());
        let sources = found.pools.iter().map(|pool| pool.members.len()).sum::<usize>();
        let pools = found.pools;
        self.queues.ask(move |engine, now, acts| drop(engine.set_pools(pools, default_pool, now, acts))).await.ok()?;
        info!(sources, unused = ?found.unused, "proxies have announced other things; the pools follow");
        Some(found.twice)
    }

    /// The pools as they are configured; another value after each reload.
    pub(super) fn defined(&self) -> Arc<Defined> {
        self.defined.load_full()
    }

    /// Where configuration comes from besides the main file, by what is in force.
    pub(super) fn elsewhere(&self) -> Arc<Elsewhere> {
        self.elsewhere.load_full()
    }

    /// Reads the main file anew, and what it names.
    ///
    /// # Errors
    /// Every complaint about it; then nothing has changed.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let mut last = self.last.lock().await;
        self.events.reopen();
        let done = match self.read().await {
            Ok((config, texts)) => self.apply(&mut last, config, texts).await,
            Err(why) => Err(why),
        };
        tell(&self.origin.file.display().to_string(), &done);
        done
    }

    async fn read(&self) -> Result<(Config, Texts), String> {
        let file = self.origin.file.clone();
        let texts = run(move || Texts::read(&file)).await?;
        // A URL of which nothing is known yet is asked at once.
        let is_new = texts.served().is_some_and(|(served, _)| texts.document(&served.url).is_none());
        let texts = if is_new { prepare(&self.origin.file, true).await?.0 } else { texts };
        run(move || texts.parse().map(|config| (config, texts))).await
    }

    /// Reads anew what is beside the main file, which counts as it was read last.
    ///
    /// # Errors
    /// As [`Self::reload`].
    pub(super) async fn reload_directory(&self, directory: &str) -> Result<(), String> {
        let mut last = self.last.lock().await;
        let main = last.main.clone();
        let read = run(move || {
            let texts = Texts::beside(main)?;
            texts.parse().map(|config| (config, texts))
        });
        let done = match read.await {
            Ok((_, texts)) if texts == *last => return Ok(()),
            Ok((config, texts)) => self.apply(&mut last, config, texts).await,
            Err(why) => Err(why),
        };
        tell(directory, &done);
        done.map(drop)
    }

    /// Takes another document of the URL, and keeps it if it is good. Says whether anything has changed.
    ///
    /// # Errors
    /// As [`Self::reload`], or that it cannot be kept.
    pub(super) async fn take_document(&self, url: &str, toml: String) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if last.document(url) == Some(&kept::with_heading(url, &toml)) {
            return Ok(());
        }
        let (main, name, directory) = (last.main.clone(), url.to_owned(), self.spool(&last));
        let read = run(move || {
            let texts = Texts::beside(main)?.with_document(&name, &toml);
            let config = texts.parse()?;
            // A start without the server goes on with what is in force.
            Ok((config, texts, directory.map_or(Ok(()), |directory| kept::write(&directory, &name, &toml))))
        });
        let done = match read.await {
            Ok((_, _, Err(why))) => Err(format!("the document cannot be kept: {why}")),
            Ok((config, texts, Ok(()))) => self.apply(&mut last, config, texts).await,
            Err(why) => Err(why),
        };
        tell(url, &done);
        done.map(drop)
    }

    /// Where documents are kept: in the spool that this program was started with.
    fn spool(&self, last: &Texts) -> Option<PathBuf> {
        self.origin.texts.served().or_else(|| last.served()).map(|(_, directory)| directory)
    }

    async fn apply(&self, last: &mut Texts, config: Config, texts: Texts) -> Result<Reloaded, String> {
        let next = self.live.next(&config)?;
        let (options, leads, live) = (config.queue, next.leads, self.live.clone());
        let (defined, default_pool) = (Defined::of(&config), config.default_pool.clone());
        let pools = self.fleet.discovered(&defined).pools;
        let (queues, told_of) = (next.queues.clone(), [("shaping", next.shapes), ("queues", next.tells_queues)]);
        rollup::tell(config.notes());
        let told = self.queues.ask(move |engine, now, acts| {
            // Questions that the engine asks from here on are answered by the new routes.
            live.replace(next);
            engine.set_queues(options, queues);
            engine.paths_changed();
            let orphans = engine.set_pools(pools, default_pool, now, acts);
            if leads {
                engine.lead_anew(now);
            }
            orphans
        });
        let orphans = told.await.map_err(|stopped| stopped.to_string())?;
        self.signing.replace(config.signers);
        self.logins.replace(config.users);
        self.elsewhere.store(Arc::new(config.elsewhere));
        self.defined.store(Arc::new(defined));
        self.standing.directory_is_good();
        let mut applied: Vec<_> = last.changed(&texts).into_iter().filter(|key| is_applied(key)).collect();
        for (section, _) in told_of.iter().filter(|(_, differs)| *differs) {
            if !applied.iter().any(|key| key.starts_with(&format!("{section}."))) {
                applied.push(format!("{section}.files (what stands in them)"));
            }
        }
        let differs = self.origin.texts.changed(&texts);
        let wants_restart = differs.into_iter().filter(|key| !is_applied(key)).collect();
        *last = texts;
        let orphan = |(pool, parts)| {
            let to = &config.default_pool;
            format!(
                "the pool {pool} is gone, and {parts} parts that waited for it leave from {to}; move them with `queue rebind --to-pool` if that is wrong"
            )
        };
        Ok(Reloaded { applied, wants_restart, warnings: orphans.into_iter().map(orphan).collect() })
    }

    /// Reloads at each SIGHUP.
    pub(crate) async fn on_hangup(self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            // What is wrong was logged.
            let _ = self.reload().await;
        }
    }
}

/// Reads and understands a configuration, which may take long where it is large.
async fn run<T: Send + 'static>(read: impl FnOnce() -> Result<T, Complaints> + Send + 'static) -> Result<T, String> {
    match spawn_blocking(read).await {
        Ok(read) => read.map_err(|complaints| complaints.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Logs and counts what a reload did.
fn tell(what: &str, done: &Result<Reloaded, String>) {
    let result = if done.is_ok() { "ok" } else { "failed" };
    counter!("egret_mta_reloads_total", "result" => result).increment(1);
    match done {
        Ok(Reloaded { applied, wants_restart, warnings }) => {
            info!(file = what, applied = applied.join(", "), "reloaded");
            if !wants_restart.is_empty() {
                warn!(keys = wants_restart.join(", "), "these keys have changed and want a restart");
            }
            for warning in warnings {
                warn!("{warning}");
            }
        }
        Err(why) => error!(file = what, %why, "not reloaded"),
    }
}

/// Whether a key holds at once.
fn is_applied(key: &str) -> bool {
    let of = |sections: &[&str]| sections.iter().any(|section| key.starts_with(section));
    of(&APPLIED) && !of(&RESOLVERS)
}
