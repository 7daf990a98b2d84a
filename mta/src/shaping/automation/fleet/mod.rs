//! The store that a fleet shares, in Redis: counts, orders with a version, and who probes a path. Floor 3.
//! Always: while Redis is away this node counts for itself and probes itself, and no session waits for Redis more than
//! once; times in Redis are those of its server.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use egret_shared::clock::{Clock, UnixMs};
use egret_shared::redis::{Call, Redis, RedisFailure, Script, Value};
use parking_lot::Mutex;
use tracing::{info, warn};

use super::store::{Doing, Heard, Memory, Probe, Store, Told};
use crate::queue::control::words::{Control, ControlKind, Scope};

/// After so long without a word of its success another node may probe, too.
const PROBE_LIFE: Duration = Duration::from_secs(120);
/// How long a path is remembered to work: as long as it may be on its way back.
const PROVEN_LIFE: Duration = Duration::from_secs(86_400);
/// A clock that differs from the server's by less is taken for the same.
const SKEW: i64 = 1_500;
/// What stands in place of a node where a path is proven.
const PROVEN: &str = "proven";

/// The store of a fleet.
pub struct FleetStore {
    redis: Redis,
    scripts: Scripts,
    clock: Clock,
    node: String,
    /// What this node has counted.
    own: Memory,
    is_away: AtomicBool,
    /// That counts are refused was told.
    is_refused: AtomicBool,
    /// The version that was heard last.
    heard: AtomicU64,
    /// How much the server's clock is ahead, in milliseconds.
    skew: AtomicI64,
    counted: AtomicU64,
    /// Paths that work, which Redis does not know yet.
    proven: Mutex<BTreeSet<String>>,
}

struct Scripts {
    count: Script,
    hear: Script,
    tell: Script,
    probe: Script,
}

impl FleetStore {
    /// In this Redis, as `node`, which no other one is called.
    pub fn new(redis: Redis, node: String, clock: Clock) -> Self {
        let script = |text: &str| Script::new(&format!("{}{text}", include_str!("time.lua")));
        let scripts = Scripts {
            count: script(include_str!("count.lua")),
            hear: script(include_str!("hear.lua")),
            tell: script(include_str!("tell.lua")),
            probe: script(include_str!("probe.lua")),
        };
        Self {
            redis,
            scripts,
            clock,
            node,
            own: Memory::default(),
            is_away: AtomicBool::default(),
            is_refused: AtomicBool::default(),
            heard: AtomicU64::default(),
            skew: AtomicI64::default(),
            counted: AtomicU64::default(),
            proven: Mutex::default(),
        }
    }

    /// A key that lies in one slot of a cluster with all orders.
    fn key(&self, rest: &str) -> String {
        self.redis.key(&format!("{{automation}}:{rest}"))
    }

    fn orders(&self) -> Vec<String> {
        vec![self.key("orders"), self.key("version")]
    }

    fn probe_key(&self, path: &str) -> String {
        self.key(&format!("probe:{path}"))
    }

    async fn call(&self, script: &Script, keys: Vec<String>, args: Vec<String>) -> Result<Value, RedisFailure> {
        let answer = self.redis.scripts(&[Call { script, keys, args }]).await.pop();
        answer.unwrap_or(Ok(Value::Nil))
    }

    fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    async fn count_shared(&self, key: &str, window: Duration, most: u64) -> Option<u64> {
        if self.is_away() {
            return None;
        }
        // One key a rule and what it is about: in a cluster they are spread.
        let key = self.redis.key(&format!("automation:count:{key}"));
        let number = self.counted.fetch_add(1, Ordering::Relaxed);
        let args = vec![window.as_millis().to_string(), most.max(1).to_string(), format!("{} {number}", self.node)];
        match self.call(&self.scripts.count, vec![key], args).await {
            Ok(Value::Int(count)) => {
                if self.is_refused.swap(false, Ordering::Relaxed) {
                    info!("answers are counted by all nodes together again");
                }
                u64::try_from(count).ok()
            }
            Ok(other) => {
                self.refused(&format!("an answer that is no count: {other:?}"));
                None
            }
            Err(failure) if failure.is_refusal => {
                self.refused(&failure.to_string());
                None
            }
            Err(_) => {
                // Who hears tells it, and when it is back.
                self.is_away.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    fn refused(&self, why: &str) {
        if !self.is_refused.swap(true, Ordering::Relaxed) {
            warn!(%why, "answers are counted by this node alone");
        }
    }

    async fn hear_shared(&self, known: u64) -> Result<Heard, RedisFailure> {
        let before = self.clock.wall();
        let answer = self.call(&self.scripts.hear, self.orders(), vec![known.to_string()]).await?;
        let wrong = || RedisFailure::plain(self.redis.options(), "an answer that is no list of orders".to_owned());
        let Value::Array(parts) = answer else { return Err(wrong()) };
        let mut parts = parts.into_iter();
        let (Some(Value::Int(version)), Some(Value::Int(time))) = (parts.next(), parts.next()) else {
            return Err(wrong());
        };
        self.set_skew(before, time);
        let version = u64::try_from(version).map_err(|_| wrong())?;
        let told = match parts.next() {
            Some(Value::Array(orders)) => {
                let told: Option<Vec<Told>> = orders.into_iter().map(|order| self.read(order)).collect();
                Some(told.ok_or_else(wrong)?)
            }
            _ => None,
        };
        self.heard.store(version, Ordering::Relaxed);
        Ok(Heard { version, told })
    }

    /// Small differences are left alone, so that a time means the same each time that it is read.
    fn set_skew(&self, before: UnixMs, server: i64) {
        let own = before.plus(self.clock.wall().since(before) / 2);
        let found = server.saturating_sub_unsigned(own.0);
        if (found - self.skew.load(Ordering::Relaxed)).abs() > SKEW {
            self.skew.store(if found.abs() > SKEW { found } else { 0 }, Ordering::Relaxed);
        }
    }

    /// A time of this node, as the server has it.
    fn there(&self, at: UnixMs) -> u64 {
        at.0.saturating_add_signed(self.skew.load(Ordering::Relaxed))
    }

    fn here(&self, at: u64) -> UnixMs {
        UnixMs(at.saturating_add_signed(-self.skew.load(Ordering::Relaxed)))
    }

    fn read(&self, order: Value) -> Option<Told> {
        let Value::Array(parts) = order else { return None };
        let [Value::Int(expires), Value::Int(is_ended), Value::BulkString(text)] = &parts[..] else { return None };
        let control: Control = serde_json::from_slice(text).ok()?;
        // Of another node's clock nothing is taken but how long the order had lasted when it was told.
        let lasts = control.expires.since(control.created);
        let expires = self.here(u64::try_from(*expires).ok()?);
        let created = UnixMs(expires.0.saturating_sub(u64::try_from(lasts.as_millis()).ok()?));
        Some(Told { control: Control { created, expires, ..control }, is_ended: *is_ended == 1 })
    }

    async fn tell_shared(&self, told: &[Told]) -> Result<(), RedisFailure> {
        let (mut keys, mut args) = (self.orders(), vec![self.heard.load(Ordering::Relaxed).to_string()]);
        for one in told {
            let control = &one.control;
            let path = suspended_path(control).unwrap_or_default();
            if !one.is_ended {
                self.proven.lock().remove(&path);
            }
            keys.push(self.probe_key(&path));
            let text = serde_json::to_string(control)
                .map_err(|error| RedisFailure::plain(self.redis.options(), error.to_string()))?;
            let is_ended = u8::from(one.is_ended).to_string();
            args.extend([control.common_name(), self.there(control.expires).to_string(), is_ended, text]);
        }
        self.call(&self.scripts.tell, keys, args).await.map(drop)
    }

    async fn probe_as(&self, path: &str, who: &str, life: Duration) -> Result<Probe, RedisFailure> {
        let keys = vec![self.key("orders"), self.probe_key(path)];
        let args = vec![format!("{:?} {path}", ControlKind::Suspend), who.to_owned(), life.as_millis().to_string()];
        Ok(match self.call(&self.scripts.probe, keys, args).await? {
            Value::Int(1) => Probe::Own,
            Value::Int(2) => Probe::Proven,
            _ => Probe::Other,
        })
    }

    /// Tells which paths work; what cannot be told now is told later.
    async fn prove_all(&self) {
        let paths: Vec<String> = self.proven.lock().iter().cloned().collect();
        for path in paths {
            if self.is_away() || self.probe_as(&path, PROVEN, PROVEN_LIFE).await.is_err() {
                return;
            }
            self.proven.lock().remove(&path);
        }
    }
}

/// The name of the path that an order suspends, if it does that.
fn suspended_path(control: &Control) -> Option<String> {
    let Scope { source, site, .. } = &control.scope;
    (control.kind == ControlKind::Suspend).then(|| Some(super::share::path(source.as_ref()?, site.as_ref()?)))?
}

impl Store for FleetStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn count<'a>(&'a self, key: &'a str, window: Duration, most: u64, at: UnixMs) -> Doing<'a, u64> {
        Box::pin(async move {
            // Counted here, too: what this node has seen it knows without Redis.
            let own = self.own.count_now(key, window, most, at);
            let all = self.count_shared(key, window, most).await.unwrap_or(0);
            all.min(most).max(own)
        })
    }

    fn tell<'a>(&'a self, told: &'a [Told], _: UnixMs) -> Doing<'a, Result<(), String>> {
        Box::pin(async move { self.tell_shared(told).await.map_err(|failure| failure.to_string()) })
    }

    fn hear(&self, known: u64) -> Doing<'_, Result<Heard, String>> {
        Box::pin(async move {
            let heard = self.hear_shared(known).await;
            self.is_away.store(heard.is_err(), Ordering::Relaxed);
            self.prove_all().await;
            heard.map_err(|failure| failure.to_string())
        })
    }

    fn probe<'a>(&'a self, path: &'a str) -> Doing<'a, Probe> {
        Box::pin(async move {
            if self.is_away() {
                return Probe::Own;
            }
            self.probe_as(path, &self.node, PROBE_LIFE).await.unwrap_or(Probe::Own)
        })
    }

    fn prove<'a>(&'a self, path: &'a str) -> Doing<'a, ()> {
        Box::pin(async move {
            self.proven.lock().insert(path.to_owned());
            self.prove_all().await;
        })
    }
}
