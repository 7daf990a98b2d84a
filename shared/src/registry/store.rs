//! The registry in Redis: for each record its text, and a short word that expires by itself if its owner does not say it
//! again; and a set of the names. Floor 4.
//! Always: a record is there for less than two seconds after its owner's last word; a text is read once, whoever looks how
//! often; all keys share a slot of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::head::{Head, Owners, Rival};
use super::record::{Record, is_name};
use crate::redis::{Cmd, Redis, Value, cmd};

/// Between two words of an owner.
const BEAT: Duration = Duration::from_millis(400);
/// How long a record is there without one.
const LIFE_MS: u64 = 1_600;
/// How long its text is kept without one.
const KEPT_MS: u64 = 60_000;
/// Records that are read.
const MAX_RECORDS: usize = 10_000;
/// Texts that are asked for at once.
const TEXTS: usize = 64;
/// It is told again so often that two have one name.
const REMIND: Duration = Duration::from_secs(60);

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

    pub(super) fn redis(&self) -> &Redis {
        &self.0
    }

    fn names_key<R: Record>(&self) -> String {
        self.0.key(&format!("{{registry}}:{}s", R::KIND))
    }

    fn text_key<R: Record>(&self, name: &str) -> String {
        self.0.key(&format!("{{registry}}:{}:{name}", R::KIND))
    }

    fn head_key<R: Record>(&self, name: &str) -> String {
        self.0.key(&format!("{{registry}}:{}-head:{name}", R::KIND))
    }

    /// Follows records of one kind.
    pub fn watch<R: Record>(&self) -> Watch<R> {
        Watch { registry: self.clone(), seen: BTreeMap::new() }
    }

    async fn command(&self, command: &Cmd) -> Result<Value, String> {
        self.0.command(command).await.map_err(|failure| failure.to_string())
    }

    /// Says the short word, with the text if that is not known. Returns who spoke last, and whether the text is there.
    async fn say<R: Record>(
        &self,
        name: &str,
        head: &Head,
        text: Option<&str>,
    ) -> Result<(Option<Head>, bool), String> {
        let (head_key, text_key) = (self.head_key::<R>(name), self.text_key::<R>(name));
        let mut before = cmd("GET");
        before.arg(&head_key);
        let mut keep = cmd(if text.is_some() { "SET" } else { "PEXPIRE" });
        match text {
            Some(text) => keep.arg(&text_key).arg(text).arg("PX").arg(KEPT_MS),
            None => keep.arg(&text_key).arg(KEPT_MS),
        };
        let mut says = cmd("SET");
        says.arg(&head_key).arg(head.write()).arg("PX").arg(LIFE_MS);
        let mut named = cmd("SADD");
        named.arg(self.names_key::<R>()).arg(name);
        let done: Result<Vec<Value>, _> = self.0.pipeline(&[before, keep, says, named]).await.into_iter().collect();
        let mut done = done.map_err(|failure| failure.to_string())?.into_iter();
        let before = done.next().and_then(as_text).and_then(|text| Head::read(&text));
        Ok((before, done.next() != Some(Value::Int(0))))
    }

    async fn remove<R: Record>(&self, name: &str) {
        // Who cannot be reached forgets by himself.
        let _ = self.command(cmd("DEL").arg(self.head_key::<R>(name)).arg(self.text_key::<R>(name))).await;
    }

    /// Announces what `say` says: at once when it changes (`changed` wakes it to look), and again and again so that it
    /// stays; until `stop`, and then no more.
    pub async fn announce<R: Record>(&self, mut say: impl FnMut() -> R, changed: &Notify, stop: CancellationToken) {
        let mut announcer = Announcer::<R>::new();
        let mut is_away = false;
        loop {
            let record = say();
            let done = announcer.tell(self, &record).await;
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

/// What one owner has told of its record.
struct Announcer<R> {
    head: Head,
    /// What the text says, if it is there.
    told: Option<R>,
    rival: Rival,
    reminded: Option<Instant>,
}

impl<R: Record> Announcer<R> {
    fn new() -> Self {
        let mut run = [0; 8];
        // Without randomness two runs are told apart by nothing: better than not to be announced.
        let _ = aws_lc_rs::rand::fill(&mut run);
        let owner = format!("{:016x}", u64::from_be_bytes(run));
        let head = Head { owner, version: 0, figures: super::record::Figures::default() };
        Self { head, told: None, rival: Rival::default(), reminded: None }
    }

    async fn tell(&mut self, registry: &Registry, record: &R) -> Result<(), String> {
        let settled = record.settled();
        self.head.figures = record.figures();
        let is_told = self.told.as_ref() == Some(&settled);
        let mut done =
            if is_told { registry.say::<R>(record.name(), &self.head, None).await } else { Ok((None, false)) };
        if let Ok((_, false)) = done {
            let text = serde_json::to_string(&settled).map_err(|error| error.to_string())?;
            self.head.version += 1;
            done = registry.say::<R>(record.name(), &self.head, Some(&text)).await;
            self.told = done.is_ok().then_some(settled);
        }
        let (before, _) = done?;
        if let Some(before) = before {
            self.heard(record.name(), &before);
        }
        Ok(())
    }

    /// Somebody has said the word before; it should be this owner, or one that ends.
    fn heard(&mut self, name: &str, before: &Head) {
        let is_twice = self.rival.heard(before.owner != self.head.owner);
        let is_due = self.reminded.is_none_or(|at| at.elapsed() >= REMIND);
        if is_twice && is_due {
            self.reminded = Some(Instant::now());
            let kind = R::KIND;
            error!(kind, name, "another {kind} announces itself by this name; each needs a name of its own");
        }
    }
}

/// Follows records of one kind.
pub struct Watch<R> {
    registry: Registry,
    seen: BTreeMap<String, Seen<R>>,
}

/// What is known of one name.
struct Seen<R> {
    head: Head,
    record: Result<R, String>,
    owners: Owners,
    twice: Option<Instant>,
}

impl<R: Record> Watch<R> {
    /// Everybody who is there now.
    ///
    /// # Errors
    /// That Redis cannot be asked; then nothing is forgotten.
    pub async fn look(&mut self) -> Result<Found<R>, String> {
        let heads = self.heads().await?;
        let is_new = |(name, head): &(&String, &Head)| {
            self.seen.get(*name).is_none_or(|seen| (&seen.head.owner, seen.head.version) != (&head.owner, head.version))
        };
        let new: Vec<&String> = heads.iter().filter(is_new).map(|(name, _)| name).collect();
        let mut texts = self.texts(&new).await?;
        self.seen.retain(|name, _| heads.contains_key(name));
        for (name, head) in heads {
            let text = texts.remove(&name);
            self.learn(name, head, text);
        }
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for (name, seen) in &self.seen {
            if seen.twice.is_some_and(|at| at.elapsed() < REMIND) {
                wrong.push(format!("two announce themselves as {} {name:?}; each needs a name of its own", R::KIND));
            }
            match &seen.record {
                Ok(record) => found.push(record.clone().with(seen.head.figures)),
                Err(why) => wrong.push(why.clone()),
            }
        }
        Ok((found, wrong))
    }

    /// The short words of all who live.
    async fn heads(&self) -> Result<BTreeMap<String, Head>, String> {
        let registry = &self.registry;
        let names = registry.command(cmd("SMEMBERS").arg(registry.names_key::<R>())).await?;
        let names: BTreeSet<String> = items(names).into_iter().filter_map(as_text).filter(|n| is_name(n)).collect();
        let names: Vec<String> = names.into_iter().take(MAX_RECORDS).collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys: Vec<String> = names.iter().map(|name| registry.head_key::<R>(name)).collect();
        let values = items(registry.command(cmd("MGET").arg(keys)).await?);
        let (mut heads, mut gone) = (BTreeMap::new(), Vec::new());
        for (name, value) in names.into_iter().zip(values) {
            match as_text(value).map(|text| Head::read(&text)) {
                Some(Some(head)) => drop(heads.insert(name, head)),
                Some(None) => {}
                None => gone.push(name),
            }
        }
        if !gone.is_empty() {
            // Whoever lives says his name again with his next word.
            let _ = registry.command(cmd("SREM").arg(registry.names_key::<R>()).arg(gone)).await;
        }
        Ok(heads)
    }

    async fn texts(&self, names: &[&String]) -> Result<BTreeMap<String, String>, String> {
        let mut texts = BTreeMap::new();
        for names in names.chunks(TEXTS) {
            let keys: Vec<String> = names.iter().map(|name| self.registry.text_key::<R>(name)).collect();
            let values = items(self.registry.command(cmd("MGET").arg(keys)).await?);
            let found = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).clone(), as_text(value)?)));
            texts.extend(found);
        }
        Ok(texts)
    }

    /// A word, and the text if that was asked for and is there.
    fn learn(&mut self, name: String, head: Head, text: Option<String>) {
        let record = text.map(|text| R::read(&name, &text));
        match (self.seen.get_mut(&name), record) {
            (Some(seen), record) => {
                if seen.owners.speaks(&head.owner) {
                    seen.twice = Some(Instant::now());
                }
                if let Some(record) = record {
                    (seen.head, seen.record) = (head, record);
                } else if (&seen.head.owner, seen.head.version) == (&head.owner, head.version) {
                    seen.head = head;
                }
            }
            (None, Some(record)) => {
                let mut owners = Owners::default();
                owners.speaks(&head.owner);
                drop(self.seen.insert(name, Seen { head, record, owners, twice: None }));
            }
            // It went between two questions.
            (None, None) => {}
        }
    }
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => Vec::new(),
    }
}

fn as_text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
