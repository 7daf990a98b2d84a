//! The registry in Redis: a key for each record, which expires by itself, and a set of their names. Floor 4.
//! Always: a record lives no longer than a few seconds after its owner's last word; all keys share a slot of a cluster.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::record::{Record, is_name};
use crate::redis::{Redis, Value, cmd};

/// Between two words of an owner.
const BEAT: Duration = Duration::from_millis(750);
/// How long a record lives without one.
const LIFE_MS: u64 = 3_500;
/// How old the figures that change all the time may grow.
const FIGURES: Duration = Duration::from_secs(2);
/// Records that are read.
const MAX_RECORDS: usize = 10_000;

/// The registry. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Redis);

/// What a look has found: records, and what is wrong with others.
pub type Found<R> = (Vec<R>, Vec<String>);

impl Registry {
    /// In this Redis.
    pub fn new(redis: Redis) -> Self {
        Self(redis)
    }

    fn names_key<R: Record>(&self) -> String {
        self.0.key(&format!("{{registry}}:{}s", R::KIND))
    }

    fn key<R: Record>(&self, name: &str) -> String {
        self.0.key(&format!("{{registry}}:{}:{name}", R::KIND))
    }

    /// Everybody who is there now.
    ///
    /// # Errors
    /// That Redis cannot be asked.
    pub async fn all<R: Record>(&self) -> Result<Found<R>, String> {
        let names = self.0.command(cmd("SMEMBERS").arg(self.names_key::<R>())).await.map_err(|e| e.to_string())?;
        let names: BTreeSet<String> = items(names).into_iter().filter_map(text).filter(|name| is_name(name)).collect();
        let names: Vec<String> = names.into_iter().take(MAX_RECORDS).collect();
        if names.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let keys: Vec<String> = names.iter().map(|name| self.key::<R>(name)).collect();
        let values = self.0.command(cmd("MGET").arg(keys)).await.map_err(|e| e.to_string())?;
        let (mut found, mut gone, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in names.iter().zip(items(values)) {
            match text(value).map(|text| R::read(name, &text)) {
                Some(Ok(record)) => found.push(record),
                Some(Err(why)) => wrong.push(why),
                None => gone.push(name.clone()),
            }
        }
        if !gone.is_empty() {
            // Whoever lives says his name again with his next word.
            let _ = self.0.command(cmd("SREM").arg(self.names_key::<R>()).arg(gone)).await;
        }
        Ok((found, wrong))
    }

    async fn put<R: Record>(&self, record: &R) -> Result<(), String> {
        let text = serde_json::to_string(record).map_err(|error| error.to_string())?;
        let mut set = cmd("SET");
        set.arg(self.key::<R>(record.name())).arg(text).arg("PX").arg(LIFE_MS);
        let mut name = cmd("SADD");
        name.arg(self.names_key::<R>()).arg(record.name());
        self.0.pipeline(&[set, name]).await.into_iter().try_for_each(|done| done.map(drop).map_err(|e| e.to_string()))
    }

    /// Says that a record still holds; false if it is not there any more.
    async fn beat<R: Record>(&self, name: &str) -> Result<bool, String> {
        let mut live = cmd("PEXPIRE");
        live.arg(self.key::<R>(name)).arg(LIFE_MS);
        let mut add = cmd("SADD");
        add.arg(self.names_key::<R>()).arg(name);
        let mut done = self.0.pipeline(&[live, add]).await.into_iter();
        let is_there = done.next().unwrap_or(Ok(Value::Int(0))).map_err(|e| e.to_string())?;
        done.try_for_each(|done| done.map(drop).map_err(|e| e.to_string()))?;
        Ok(is_there == Value::Int(1))
    }

    async fn remove<R: Record>(&self, name: &str) {
        // Who cannot be reached forgets by himself.
        let _ = self.0.command(cmd("DEL").arg(self.key::<R>(name))).await;
    }

    /// Announces what `say` says: at once when it changes (`changed` wakes it to look), and again and again so that it
    /// stays; until `stop`, and then no more.
    pub async fn announce<R: Record>(&self, mut say: impl FnMut() -> R, changed: &Notify, stop: CancellationToken) {
        let mut told: Option<(R, R, Instant)> = None;
        let mut is_away = false;
        loop {
            let record = say();
            let done = match &told {
                Some((settled, whole, at)) if *settled == record.settled() => {
                    let has_new_figures = *whole != record && at.elapsed() >= FIGURES;
                    if has_new_figures { Ok(false) } else { self.beat::<R>(record.name()).await }
                }
                _ => Ok(false),
            };
            let done = match done {
                Ok(true) => Ok(()),
                Ok(false) => {
                    let put = self.put(&record).await;
                    told = put.is_ok().then(|| (record.settled(), record.clone(), Instant::now()));
                    put
                }
                Err(why) => Err(why),
            };
            match (&done, is_away) {
                (Err(why), false) => {
                    warn!(%why, "the registry does not hear of this program; others go on with what they know");
                }
                (Ok(()), true) => info!("the registry hears of this program again"),
                _ => {}
            }
            is_away = done.is_err();
            tokio::select! {
                () = stop.cancelled() => {
                    self.remove::<R>(record.name()).await;
                    return;
                }
                () = changed.notified() => {}
                () = sleep(BEAT) => {}
            }
        }
    }
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => Vec::new(),
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
