//! The fleet: this node announces itself, and follows the proxies that do; their addresses become sources of the pools
//! that look for them. Floor 6.
//! Always: while Redis is away the last known proxies stay in use; an address that two proxies hold is told once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::Clock;
use egret_shared::limits::Limits;
use egret_shared::redis::{Redis, RedisOptions};
use egret_shared::registry::book::Book;
use egret_shared::registry::first_days::FirstDays;
use egret_shared::registry::record::{NodeRecord, ProxyRecord};
use egret_shared::registry::store::Registry;
use egret_shared::sockets::ledger::Announced;
use metrics::gauge;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::known_nodes::KnownNodes;
use super::limits::degraded;
use super::reload::{Defined, Reloader};
use super::sessions;
use super::standing::From;
use super::warming::{Looked, Warming};
use crate::delivery::Claims;
use crate::elsewhere::kept;
use crate::queue::run::Queues;
use crate::routing::discover::Discovered;

/// Between two looks into the registry.
const LOOK: Duration = Duration::from_millis(250);
/// How often other nodes are looked for: for people only.
const LOOKS_PER_NODES: u32 = 8;
/// How long the queues may take to say how much they hold.
const ANSWER: Duration = Duration::from_secs(1);

/// What is known of the fleet. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Fleet(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    proxies: Book<ProxyRecord>,
    /// How often they have changed.
    changes: u64,
    nodes: Book<NodeRecord>,
    /// On which days addresses that are warmed up were there first.
    first_days: FirstDays,
    /// Records of proxies that are not as they should be, and such of nodes.
    wrong: [Vec<String>; 2],
}

/// The fleet as it is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Shown {
    pub nodes: Vec<NodeRecord>,
    pub proxies: Vec<ProxyRecord>,
    pub wrong: Vec<String>,
}

impl Fleet {
    /// Proxies that announce themselves.
    pub fn proxies(&self) -> Vec<ProxyRecord> {
        self.0.lock().proxies.known().cloned().collect()
    }

    /// What they make of the pools that are defined.
    pub fn discovered(&self, defined: &Defined) -> Discovered {
        defined.with(&self.proxies(), |address| self.first_days(|days| days.first(address)))
    }

    /// How often the proxies have changed.
    pub(super) fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// Takes those of before for known.
    fn remember(&self, proxies: Vec<ProxyRecord>) {
        let mut known = self.0.lock();
        known.proxies.remember(proxies);
        known.changes += 1;
    }

    /// What the registry says of proxies. Returns whether anything has changed but what changes all the time.
    fn learn(&self, found: Vec<ProxyRecord>, wrong: Vec<String>, clock: &Clock) -> bool {
        let mut known = self.0.lock();
        known.wrong[0] = wrong;
        let has_changed = known.proxies.learn(found, clock.now());
        known.changes += u64::from(has_changed);
        gauge!("egret_mta_fleet_proxies").set(known.proxies.known().count() as f64);
        has_changed
    }

    /// Does something with the first days of addresses.
    pub(super) fn first_days<T>(&self, act: impl FnOnce(&mut FirstDays) -> T) -> T {
        act(&mut self.0.lock().first_days)
    }

    /// Which of them announces which endpoint.
    pub fn endpoints(&self) -> Announced {
        let (known, mut announced) = (self.0.lock(), Announced::new());
        for proxy in known.proxies.known() {
            let name: Arc<str> = proxy.name.as_str().into();
            for endpoint in &proxy.endpoints {
                announced.entry(endpoint.address).or_default().push(name.clone());
            }
        }
        announced
    }

    /// All that is known.
    pub fn shown(&self) -> Shown {
        let known = self.0.lock();
        let (nodes, proxies) = (known.nodes.known().cloned().collect(), known.proxies.known().cloned().collect());
        Shown { nodes, proxies, wrong: known.wrong.concat() }
    }
}

/// What takes part in the fleet.
pub(super) struct Member {
    pub name: Arc<str>,
    pub fleet: Fleet,
    pub reloader: Reloader,
    pub queues: Queues,
    pub clock: Clock,
    pub drain: CancellationToken,
    pub limits: Limits,
    /// Where the proxies that are known are kept over a restart.
    pub kept: PathBuf,
    pub claims: Claims,
    /// What this run is called where limits and claims are kept.
    pub node: String,
}

impl Member {
    /// Announces this node, until `silence`, and follows the others until the tasks are aborted.
    pub fn start(self, redis: RedisOptions, silence: CancellationToken) -> (JoinHandle<()>, JoinSet<()>) {
        let redis_place = redis.place();
        let kept = Kept { directory: self.kept.clone(), redis: redis_place.clone() };
        let (registry, mut tasks) = (Registry::new(Redis::new(redis.clone())), JoinSet::new());
        tasks.spawn(sessions::compare(self.claims.clone(), self.fleet.clone(), redis, self.node.clone()));
        let (figures, changed) = (Arc::new(Mutex::new([0u64; 2])), Arc::new(Notify::new()));
        let announcing = announce(registry.clone(), self.record(figures.clone()), changed.clone(), silence);
        let announcing = tokio::spawn(announcing);
        tasks.spawn(count(self.queues.clone(), figures));
        let drain = self.drain.clone();
        tasks.spawn(async move {
            drain.cancelled().await;
            changed.notify_one();
        });
        let warming = Warming {
            fleet: self.fleet.clone(),
            reloader: self.reloader.clone(),
            clock: self.clock.clone(),
            directory: self.kept.clone(),
            agreement: registry.agreement(),
            seen: Looked::default(),
        };
        let known_nodes = KnownNodes::read(self.kept, redis_place);
        tasks.spawn(known_nodes.follow(self.limits, self.clock.clone()));
        tasks.spawn(follow(registry, self.fleet, self.reloader, self.clock, kept, warming));
        (announcing, tasks)
    }

    fn record(&self, figures: Arc<Mutex<[u64; 2]>>) -> impl FnMut() -> NodeRecord + Send + 'static {
        let (name, started) = (self.name.to_string(), self.clock.wall().0);
        let (drain, standing, limits) = (self.drain.clone(), self.reloader.standing.clone(), self.limits.clone());
        move || {
            let [queued, sessions] = *figures.lock();
            let mistakes = standing.mistakes().into_iter();
            let mistakes = mistakes.map(|(from, mistake)| format!("{}: {}", from.as_str(), mistake.why));
            NodeRecord {
                name: name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started,
                queued,
                sessions,
                degraded: mistakes.chain(degraded(&limits)).collect(),
                draining: drain.is_cancelled(),
            }
        }
    }
}

async fn announce(
    registry: Registry,
    record: impl FnMut() -> NodeRecord,
    changed: Arc<Notify>,
    silence: CancellationToken,
) {
    registry.announce(record, &changed, silence).await;
}

/// Keeps the figures of this node.
async fn count(queues: Queues, figures: Arc<Mutex<[u64; 2]>>) {
    loop {
        let asked = queues.ask(|engine, _, _| [engine.len() as u64, engine.sizes()[2] as u64]);
        match timeout(ANSWER, asked).await {
            Ok(Ok(now)) => *figures.lock() = now,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        sleep(ANSWER).await;
    }
}

/// Where the proxies that are known are kept: a node that starts while Redis is away knows them by that.
struct Kept {
    directory: PathBuf,
    redis: String,
}

impl Kept {
    /// Takes those of before for known.
    async fn remember(&self, fleet: &Fleet, reloader: &Reloader, warming: &mut Warming) {
        warming.remember();
        let proxies = kept::read_proxies(&self.directory, &self.redis);
        if !proxies.is_empty() {
            fleet.remember(proxies);
            warming.look(true).await;
            reloader.announced().await;
        }
    }

    async fn keep(&self, proxies: Vec<ProxyRecord>) {
        let (directory, redis) = (self.directory.clone(), self.redis.clone());
        let done = spawn_blocking(move || kept::write_proxies(&directory, &redis, &proxies)).await;
        if let Ok(Err(why)) = done {
            warn!(%why, "the proxies that are known are not kept for a start without Redis");
        }
    }
}

/// Follows the registry.
async fn follow(registry: Registry, fleet: Fleet, reloader: Reloader, clock: Clock, kept: Kept, mut warming: Warming) {
    kept.remember(&fleet, &reloader, &mut warming).await;
    let (mut told, mut looks) = (Told::default(), 0u32);
    let (mut proxies, mut nodes) = (registry.watch::<ProxyRecord>(), registry.watch::<NodeRecord>());
    loop {
        let looked = proxies.look().await;
        let is_there = looked.is_ok();
        let has_changed = match looked {
            Ok((found, wrong)) => {
                if reloader.standing.good(From::Registry) {
                    info!("the registry answers again");
                }
                told.wrong(0, &wrong);
                fleet.learn(found, wrong, &clock)
            }
            Err(why) => {
                fleet.0.lock().proxies.away();
                if reloader.standing.wrong(From::Registry, &why, clock.wall()) && !told.is_away {
                    warn!(%why, "the registry does not answer; proxies that were known stay in use");
                }
                told.is_away = true;
                false
            }
        };
        // First the days, so that no address is used before its day is known.
        let has_new_days = warming.look(is_there).await;
        if (has_changed || has_new_days)
            && let Some(twice) = reloader.announced().await
        {
            told.twice(twice);
            if has_changed {
                kept.keep(fleet.proxies()).await;
            }
        }
        if looks.is_multiple_of(LOOKS_PER_NODES) {
            match nodes.look().await {
                Ok((found, wrong)) => {
                    told.is_away = false;
                    told.wrong(1, &wrong);
                    let mut known = fleet.0.lock();
                    known.wrong[1] = wrong;
                    let _ = known.nodes.learn(found, clock.now());
                }
                Err(_) => fleet.0.lock().nodes.away(),
            }
        }
        looks = looks.wrapping_add(1);
        sleep(LOOK).await;
    }
}

/// What was told already.
#[derive(Default)]
struct Told {
    twice: BTreeMap<IpAddr, Vec<String>>,
    wrong: [Vec<String>; 2],
    is_away: bool,
}

impl Told {
    fn twice(&mut self, twice: BTreeMap<IpAddr, Vec<String>>) {
        gauge!("egret_mta_fleet_addresses_announced_twice").set(twice.len() as f64);
        for (address, proxies) in twice.iter().filter(|(address, proxies)| self.twice.get(*address) != Some(*proxies)) {
            warn!(
                %address, proxies = proxies.join(", "),
                "more than one proxy announces this address; the first is used, the others if it fails: is it really at both?"
            );
        }
        self.twice = twice;
    }

    /// Of proxies (0) or nodes (1).
    fn wrong(&mut self, of: usize, wrong: &[String]) {
        if self.wrong[of] != wrong {
            for why in wrong {
                warn!(%why, "a record of the registry is not as it should be");
            }
            self.wrong[of] = wrong.to_vec();
        }
    }
}
