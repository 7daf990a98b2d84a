//! Has all nodes of a fleet know the orders of automation, and lets one of them probe a path. Floor 2.
//! Always: what this node could not tell is told later; without the others it goes on with what it knows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::{Clock, UnixMs};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

use super::store::{Doing, Probe, Store, Told};
use crate::queue::control::words::{By, Control, Scope};

/// Between two looks at what others have told.
const LOOK: Duration = Duration::from_secs(1);
/// An order that ends so soon is told to last longer, if it does, and is not told to be ended.
const LATE: Duration = Duration::from_secs(3);
/// This part of an order's time is not worth a word.
const SMALL_PART: u32 = 20;

/// A source and a site.
pub type Way = (Arc<str>, Arc<str>);

/// Who takes up what others have told.
pub trait Adopts: Send + Sync {
    /// Takes up an order, or ends it. Returns when it is in force.
    fn adopt(&self, told: Told) -> Doing<'_, Result<(), String>>;
    /// Paths that wait for the word who probes, and those whose probe was taken since.
    fn probes(&self) -> Doing<'_, [Vec<Way>; 2]>;
    /// This node probes, or another one has and it works.
    fn allow(&self, way: Way, is_proven: bool) -> Doing<'_, ()>;
}

/// Shares orders. Cheap to clone.
#[derive(Clone)]
pub struct Sharing(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    clock: Clock,
    /// The orders of automation that are in force here.
    own: Mutex<Vec<Control>>,
    changed: Notify,
}

/// What is known to be in the store, by common name: the order, and whether it was ended.
type Known = HashMap<String, Told>;

impl Sharing {
    /// Shares by `store`.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self(Arc::new(Inner { store, clock, own: Mutex::default(), changed: Notify::new() }))
    }

    /// These orders are in force here now.
    pub fn set(&self, controls: &[Control]) {
        let own = controls.iter().filter(|control| control.by == By::Automation).cloned().collect();
        *self.0.own.lock() = own;
        self.0.changed.notify_one();
    }

    /// Shares for ever; ends at once if there is nobody to share with.
    pub async fn run(self, adopts: Arc<dyn Adopts>) {
        let (mut known, mut version, mut is_away) = (Known::new(), 0, false);
        while self.0.store.is_shared() {
            let done = self.turn(&*adopts, &mut known, &mut version).await;
            match (&done, is_away) {
                (Err(why), false) => warn!(%why, "orders of automation are of this node alone for now"),
                (Ok(()), true) => info!("orders of automation are shared again"),
                _ => {}
            }
            is_away = done.is_err();
            // Changed or not: it is looked again.
            let _ = timeout(LOOK, self.0.changed.notified()).await;
        }
    }

    async fn turn(&self, adopts: &dyn Adopts, known: &mut Known, version: &mut u64) -> Result<(), String> {
        let shared = self.share(adopts, known, version).await;
        // Behind what was heard, so that no probe goes out on a path that another node has suspended again.
        self.probe(adopts).await;
        shared
    }

    async fn share(&self, adopts: &dyn Adopts, known: &mut Known, version: &mut u64) -> Result<(), String> {
        let heard = self.0.store.hear(*version).await?;
        let gone = gone(&self.0.own.lock(), known, self.0.clock.wall());
        let has_forgotten = heard.version < *version;
        *version = heard.version;
        if has_forgotten || heard.told.is_some() {
            let told = heard.told.unwrap_or_default();
            let told: Known = told.into_iter().map(|told| (told.control.common_name(), told)).collect();
            // What the store has forgotten is told anew; that it was ended here, too.
            known.retain(|name, _| told.contains_key(name) || gone.contains_key(name));
            for (name, told) in told {
                let is_over = gone.contains_key(&name) && !told.is_ended;
                if !is_over && known.get(&name) != Some(&told) {
                    // What could not be taken up is not known: it must not look as if it was ended here.
                    known.remove(&name);
                    match adopts.adopt(told.clone()).await {
                        Ok(()) => drop(known.insert(name, told)),
                        Err(why) => warn!(order = %name, %why, "an order of another node cannot be taken up"),
                    }
                }
            }
        }
        let now = self.0.clock.wall();
        let words = news(&self.0.own.lock(), known, now);
        if !words.is_empty() {
            self.0.store.tell(&words, now).await?;
            known.extend(words.into_iter().map(|told| (told.control.common_name(), told)));
        }
        known.retain(|_, told| told.control.expires > now);
        Ok(())
    }

    async fn probe(&self, adopts: &dyn Adopts) {
        let [asking, proven] = adopts.probes().await;
        for (source, site) in proven {
            self.0.store.prove(&path(&source, &site)).await;
        }
        for (source, site) in asking {
            match self.0.store.probe(&path(&source, &site)).await {
                Probe::Own => adopts.allow((source, site), false).await,
                Probe::Proven => adopts.allow((source, site), true).await,
                Probe::Other => {}
            }
        }
    }
}

/// The name of a path in a store: that of its scope.
pub fn path(source: &Arc<str>, site: &Arc<str>) -> String {
    Scope { source: Some(source.clone()), site: Some(site.clone()), ..Scope::default() }.to_string()
}

/// What the others do not know: orders that are new or last longer, and those that were ended.
fn news(own: &[Control], known: &Known, now: UnixMs) -> Vec<Told> {
    let is_new = |control: &&Control| {
        control.expires > now
            && known.get(&control.common_name()).is_none_or(|told| told.is_ended || is_worth_it(told, control, now))
    };
    let mut words: Vec<Told> =
        own.iter().filter(is_new).map(|control| Told { control: control.clone(), is_ended: false }).collect();
    words.extend(gone(own, known, now).into_values());
    words
}

/// Whether others need to hear that an order lasts longer. An order that each answer prolongs is not told each time, but
/// it is before theirs ends.
fn is_worth_it(told: &Told, own: &Control, now: UnixMs) -> bool {
    let (theirs, longest) = (told.control.expires, own.expires);
    let is_much = || theirs.plus(longest.since(now) / SMALL_PART) < longest;
    theirs < longest && (is_much() || theirs <= now.plus(LATE))
}

/// What others know to be in force and was ended here.
fn gone(own: &[Control], known: &Known, now: UnixMs) -> Known {
    let is_gone = |told: &Told| {
        // Close to its end it may have ended by itself, by a clock that is a little ahead.
        !told.is_ended && told.control.expires > now.plus(LATE) && !own.iter().any(|own| own.is_like(&told.control))
    };
    let gone = known.iter().filter(|(_, told)| is_gone(told));
    gone.map(|(name, told)| (name.clone(), Told { is_ended: true, ..told.clone() })).collect()
}

#[cfg(test)]
mod tests;
