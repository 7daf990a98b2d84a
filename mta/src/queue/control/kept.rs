//! What is told of limits of which parts are kept. Pure. Floor 2.
//! Always: who has no room is told the limit by its own name, and what of it is kept for whom.

use egret_shared::clock::UnixMs;

use crate::queue::engine::{Engine, QueueKey};
use crate::queue::meter::Reached;
use crate::queue::parted::{Group, Parted};
use crate::queue::ready::{Limited, Ready};

impl Engine {
    /// The limits that mail waits for on a path, of a queue if one is given, and what is to be said of what they keep.
    pub(super) fn waits_for(&self, ready: &Ready, queue: Option<QueueKey>, now: UnixMs) -> Vec<(Limited, String)> {
        let Some(parted) = &ready.budget.parted else {
            return ready.limited.iter().map(|limited| (limited.clone(), String::new())).collect();
        };
        let own = queue.map(|queue| self.group_of(parted, queue));
        let groups = parted.groups().iter().enumerate();
        let groups = groups.filter(|(at, group)| group.waits(now) && own.is_none_or(|own| own == *at));
        let told = |(_, group): (usize, &Group)| {
            let limited = group.limited.clone()?;
            let words = words(parted, group, &limited.by.name);
            Some((limited, words))
        };
        groups.filter_map(told).collect()
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
