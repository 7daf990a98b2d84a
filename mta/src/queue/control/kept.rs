//! What is told of limits of which parts are kept. Pure. Floor 2.
//! Always: who has no room is told the limit by its own name, and what of it is kept for whom.

use std::sync::Arc;

use egret_shared::clock::UnixMs;

use crate::queue::engine::{Engine, QueueKey, ReadyKey};
use crate::queue::meter::Reached;
use crate::queue::parted::{Group, Parted};
use crate::queue::ready::{Limited, Ready};
use crate::queue::words::EntryKey;
use crate::routing::source::Source;

/// A limit that mail waits for on a path.
pub(super) struct Wait {
    pub limited: Limited,
    /// What is to be said of what it keeps.
    pub words: String,
    /// The path's source.
    pub source: Arc<Source>,
}

impl Engine {
    /// The name of the site that a path leads to.
    pub(super) fn site_name(&self, key: ReadyKey) -> &str {
        self.sites.get(self.ready[key].site).map_or("", |slot| &*slot.site.name)
    }

    /// The limits that mail waits for on a path, of a queue if one is given.
    pub(super) fn waits_for(&self, ready: &Ready, queue: Option<QueueKey>, now: UnixMs) -> Vec<Wait> {
        let source = &ready.source;
        let Some(parted) = &ready.budget.parted else {
            let wait =
                |limited: &Limited| Wait { limited: limited.clone(), words: String::new(), source: source.clone() };
            return ready.limited.iter().map(wait).collect();
        };
        let own = queue.map(|queue| self.group_of(parted, queue));
        let groups = parted.groups().iter().enumerate();
        let groups = groups.filter(|(at, group)| group.waits(now) && own.is_none_or(|own| own == *at));
        let told = |(_, group): (usize, &Group)| {
            let limited = group.limited.clone()?;
            let words = words(parted, group, &limited.by.name);
            Some(Wait { limited, words, source: source.clone() })
        };
        groups.filter_map(told).collect()
    }

    /// The limits that those parts of a queue wait for that are ready; none if some of them wait for nothing but turns.
    pub(super) fn ready_waits_for(&self, key: QueueKey, now: UnixMs) -> Vec<Wait> {
        let is_of_queue = |entry: EntryKey| self.entries.get(entry).is_some_and(|entry| entry.queue == key);
        let mut waits = Vec::new();
        for ready in self.ready.values().filter(|ready| ready.waiting.iter().any(is_of_queue)) {
            let own = self.waits_for(ready, Some(key), now);
            if own.is_empty() {
                return own;
            }
            waits.extend(own);
        }
        waits
    }

    /// The limit for which mail of a queue does not even wait on a path, and what is to be said of what it keeps.
    pub(super) fn kept_away(&self, ready: &Ready, queue: QueueKey, now: UnixMs) -> Option<(Reached, String)> {
        let parted = ready.budget.parted.as_ref()?;
        let group = parted.at(self.group_of(parted, queue));
        let by = group.limited.as_ref().filter(|_| group.held_until > now)?.by.clone();
        let words = words(parted, group, &by.name);
        Some((by, words))
    }

    fn group_of(&self, parted: &Parted, queue: QueueKey) -> usize {
        let queue = &self.queues[queue];
        parted.group_of(queue.priority(), &queue.tenant)
    }
}

/// What is to be said of what a limit keeps.
fn words(parted: &Parted, group: &Group, limit: &str) -> String {
    let is_of = |(name, more): (&str, usize)| name == limit && more > 1;
    let places = group.places.iter().filter_map(|parts| Some((&*parts.last()?.0, parts.len())));
    let messages = group.messages.iter().filter_map(|parts| Some((&*parts.last()?.0, parts.len())));
    if places.chain(messages).any(is_of) {
        let whose: Vec<_> = group.whose.iter().map(ToString::to_string).collect();
        return format!(" (what is kept for {} included)", whose.join(" and "));
    }
    parted.words(limit).map(|words| format!("; {words}")).unwrap_or_default()
}
