//! Other pools, sources and proxies while mail waits. Pure. Floor 2.
//! Always: nothing waits for a session from a source that its pool does not have, nor from one that has changed since;
//! schedules stay as they are, and what a session carries is finished by the way that it was opened by.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use egret_shared::clock::UnixMs;

use super::engine::{Engine, QueueKey, ReadyKey, Timer};
use super::ready::Ready;
use super::words::{Act, EntryKey};
use crate::routing::pool::{Pool, Rotation};
use crate::routing::source::Source;

impl Engine {
    /// Other pools, among them `default_pool`. Rotations go on where sources stay, and so do rests of sources and
    /// proxies that are what they were. Returns how many parts wait for a pool that is no more: they leave from the
    /// default one.
    pub fn set_pools(
        &mut self,
        pools: Vec<Pool>,
        default_pool: Arc<str>,
        now: UnixMs,
        acts: &mut Vec<Act>,
    ) -> BTreeMap<Arc<str>, usize> {
        let before = std::mem::take(&mut self.pools);
        self.default_pool = default_pool;
        for pool in pools {
            let rotation = before.get(&pool.name).map_or_else(Rotation::default, |(old, at)| at.carried(old, &pool));
            self.pools.insert(pool.name.clone(), (pool, rotation));
        }
        let sources = sources_of(&self.pools);
        self.health.follow(sources_of(&before).into_values(), sources.values().copied());
        let sources: HashMap<_, _> = sources.into_iter().map(|(name, source)| (name.clone(), source.clone())).collect();
        for key in self.ready.keys().collect::<Vec<_>>() {
            self.follow(key, &sources, now, acts);
        }
        for key in self.sites.keys().collect::<Vec<_>>() {
            self.set_timer(UnixMs(0), Timer::Site(key));
        }
        self.orphans()
    }

    /// Brings a ready queue to what its source is now.
    fn follow(&mut self, key: ReadyKey, sources: &HashMap<Arc<str>, Arc<Source>>, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(ready) = self.ready.get_mut(key).filter(|ready| !ready.retired) else { return };
        match sources.get(&ready.source.name) {
            Some(source) if *source == ready.source => {
                ready.source = source.clone();
                self.put_back_strangers(key, now);
                self.set_timer(UnixMs(0), Timer::Ready(key));
            }
            other => self.retire(key, other.cloned(), now, acts),
        }
    }

    /// What waits in a ready queue goes back where its pool does not have the source any more.
    fn put_back_strangers(&mut self, key: ReadyKey, now: UnixMs) {
        let Some(mut waiting) = self.ready.get_mut(key).map(|ready| std::mem::take(&mut ready.waiting)) else { return };
        let source = self.ready[key].source.name.clone();
        let leaves = |entry: EntryKey| self.entries.get(entry).is_some_and(|e| self.leaves_by(e.queue, &source));
        let strangers = waiting.take_out(|entry| !leaves(entry));
        self.ready[key].waiting = waiting;
        for entry in strangers.into_iter().rev() {
            self.untake(key, entry, now);
            self.return_due(entry);
        }
    }

    /// The source of a ready queue is gone, or is another: its sessions finish what they hold, and no more goes there.
    /// What is known of the path stays with the new one, if the destination sees the same address.
    fn retire(&mut self, key: ReadyKey, successor: Option<Arc<Source>>, now: UnixMs, acts: &mut Vec<Act>) {
        self.give_back(key, now);
        let Some(ready) = self.ready.get_mut(key) else { return };
        ready.retired = true;
        acts.extend(ready.idle.drain(..).map(|session| Act::Release { session }));
        ready.quick.clear();
        let (site, name) = (ready.site, ready.source.name.clone());
        let Some(slot) = self.sites.get(site) else { return };
        let budget = self.budget_of(&name, &slot.site);
        let ready = &self.ready[key];
        let new = |source: Arc<Source>| (source.address == ready.source.address, Ready::new(source, site, budget));
        let successor = successor.map(new);
        let successor = successor.map(|(is_same, new)| if is_same { new.heir_of(ready) } else { new });
        self.set_timer(UnixMs(0), Timer::Ready(key));
        let Some(slot) = self.sites.get_mut(site) else { return };
        slot.retired += 1;
        slot.ready.remove(&name);
        if let Some(new) = successor {
            let until = new.held_until;
            let heir = self.ready.insert(new);
            slot.ready.insert(name, heir);
            self.set_timer(until, Timer::Ready(heir));
        }
    }

    /// The pool that a queue's mail leaves from: its own, or the default one if that is no more.
    pub(super) fn pool_of(&self, queue: QueueKey) -> Option<&Pool> {
        let named = &self.queues.get(queue)?.key.1;
        let (pool, _) = self.pools.get(named).or_else(|| self.pools.get(&self.default_pool))?;
        Some(pool)
    }

    /// Whether a queue's mail may leave by that source.
    pub(super) fn leaves_by(&self, queue: QueueKey, source: &str) -> bool {
        self.pool_of(queue).is_some_and(|pool| pool.members.iter().any(|(member, _)| *member.name == *source))
    }

    /// How many parts are in queues of pools that are no more.
    fn orphans(&self) -> BTreeMap<Arc<str>, usize> {
        let mut orphans = BTreeMap::new();
        for queue in self.queues.values().filter(|q| q.held > 0 && !self.pools.contains_key(&q.key.1)) {
            *orphans.entry(queue.key.1.clone()).or_default() += queue.held;
        }
        orphans
    }
}

/// Every source of some pools, once.
fn sources_of(pools: &HashMap<Arc<str>, (Pool, Rotation)>) -> HashMap<&Arc<str>, &Arc<Source>> {
    pools.values().flat_map(|(pool, _)| &pool.members).map(|(source, _)| (&source.name, source)).collect()
}
