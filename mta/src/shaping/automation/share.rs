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
use crate::queue::control::words::{By, Control};

/// Between two looks at what others have told.
const LOOK: Duration = Duration::from_secs(1);

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
        self.probe(adopts).await;
        let heard = self.0.store.hear(*version).await?;
        if heard.version < *version {
            // The store has forgotten: everything is told anew.
            known.clear();
        }
        *version = heard.version;
        for told in heard.told.into_iter().flatten() {
            let name = told.control.common_name();
            if known.get(&name) != Some(&told) {
                // What could not be taken up is not known: it must not look as if it was ended here.
                known.remove(&name);
                match adopts.adopt(told.clone()).await {
                    Ok(()) => drop(known.insert(name, told)),
                    Err(why) => warn!(order = %name, %why, "an order of another node cannot be taken up"),
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

/// The name of a path in a store.
pub fn path(source: &str, site: &str) -> String {
    format!("{source} {site}")
}

/// What the others do not know: orders that are new or last longer, and those that were ended.
fn news(own: &[Control], known: &Known, now: UnixMs) -> Vec<Told> {
    let is_new = |control: &&Control| {
        control.expires > now
            && known
                .get(&control.common_name())
                .is_none_or(|told| told.is_ended || told.control.expires < control.expires)
    };
    let mut words: Vec<Told> =
        own.iter().filter(is_new).map(|control| Told { control: control.clone(), is_ended: false }).collect();
    let is_gone = |told: &&Told| {
        !told.is_ended && told.control.expires > now && !own.iter().any(|control| control.is_like(&told.control))
    };
    words.extend(known.values().filter(is_gone).map(|told| Told { is_ended: true, ..told.clone() }));
    words
}

#[cfg(test)]
mod tests;
