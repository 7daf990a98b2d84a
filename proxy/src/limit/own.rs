//! The limits that this proxy keeps for itself, in its memory. Floor 2.
//! Always: nobody waits; what is denied takes nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use egret_shared::address::Network;
use egret_shared::limits::{Gcra, Rate};
use parking_lot::Mutex;

use super::{Caps, Denied, Keeper, Scope, What, Wish};

/// Entries above which idle ones are looked for.
pub(super) const SWEEP_ABOVE: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Total,
    Client(IpAddr),
    User(String),
    Source(IpAddr),
    Pair(IpAddr, Network),
}

impl Key {
    fn new(scope: Scope, caps: &Caps, wish: &Wish<'_>) -> Option<Self> {
        Some(match scope {
            Scope::Total => Self::Total,
            Scope::Client => Self::Client(wish.client),
            Scope::User => Self::User(wish.user?.to_owned()),
            Scope::Source => Self::Source(wish.source),
            Scope::SourceDestination => Self::Pair(wish.source, caps.widths.network(wish.destination)),
        })
    }
}

struct Slot {
    taken: u32,
    pace: Gcra,
}

#[derive(Default)]
struct Book {
    slots: HashMap<Key, Slot>,
    sweep_at: usize,
}

/// What is taken. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct OwnLimits(Arc<Mutex<Book>>);

/// What this proxy keeps of a limit for itself.
struct Own {
    scope: Scope,
    connections: Option<u32>,
    rate: Option<Rate>,
    key: Key,
}

impl OwnLimits {
    /// Takes a connection within what of `caps` is this proxy's own: all of it, or, if it `is_shared`, what is
    /// marked as local.
    pub(super) fn take(&self, caps: &Caps, wish: &Wish<'_>, now: Instant, is_shared: bool) -> Result<OwnLease, Denied> {
        let own = |(scope, limit): (Scope, &super::Limit)| {
            let is_own = |is_local| is_local || !is_shared;
            let connections = limit.connections.filter(|count| is_own(count.local)).map(|count| count.count);
            let rate = limit.rate.filter(|throttle| is_own(throttle.local)).map(|throttle| throttle.rate);
            let is_any = connections.is_some() || rate.is_some();
            let key = is_any.then(|| Key::new(scope, caps, wish)).flatten()?;
            Some(Own { scope, connections, rate, key })
        };
        let asked: Vec<_> = Scope::ALL.into_iter().zip(&caps.limits).filter_map(own).collect();
        if asked.is_empty() {
            return Ok(OwnLease { book: None, taken: Vec::new() });
        }
        let mut book = self.0.lock();
        for Own { scope, connections, rate, key } in &asked {
            let (scope, keeper) = (*scope, Keeper::Own);
            let Some(slot) = book.slots.get(key) else {
                if *connections == Some(0) {
                    return Err(Denied { scope, what: What::Connections, keeper, retry_after: None });
                }
                continue;
            };
            if connections.is_some_and(|most| slot.taken >= most) {
                return Err(Denied { scope, what: What::Connections, keeper, retry_after: None });
            }
            if let Some(wait) = rate.and_then(|rate| slot.pace.clone().take(&rate, now).err()) {
                return Err(Denied { scope, what: What::Rate, keeper, retry_after: Some(wait) });
            }
        }
        book.sweep(now);
        let mut taken = Vec::with_capacity(asked.len());
        for Own { rate, key, .. } in asked {
            let slot = book.slots.entry(key.clone()).or_insert_with(|| Slot { taken: 0, pace: Gcra::new(now) });
            slot.taken += 1;
            if let Some(rate) = rate {
                // It was asked above, under the same lock.
                let _ = slot.pace.take(&rate, now);
            }
            taken.push((key, rate));
        }
        Ok(OwnLease { book: Some(self.0.clone()), taken })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().slots.len()
    }
}

impl Book {
    /// Forgets what is idle, whenever there is twice as much as was left the last time.
    fn sweep(&mut self, now: Instant) {
        if self.slots.len() < self.sweep_at.max(SWEEP_ABOVE) {
            return;
        }
        self.slots.retain(|_, slot| slot.taken > 0 || !slot.pace.is_idle(now));
        self.sweep_at = self.slots.len() * 2;
    }
}

/// A connection that was taken; dropping it gives it back.
pub(super) struct OwnLease {
    book: Option<Arc<Mutex<Book>>>,
    taken: Vec<(Key, Option<Rate>)>,
}

impl OwnLease {
    /// There was no connection: what was taken of rates is given back, too.
    pub(super) fn unused(self) {
        let Some(book) = &self.book else { return };
        let mut book = book.lock();
        for (key, rate) in &self.taken {
            if let (Some(slot), Some(rate)) = (book.slots.get_mut(key), rate) {
                slot.pace.give_back(rate, 1);
            }
        }
    }
}

impl Drop for OwnLease {
    fn drop(&mut self) {
        let Some(book) = &self.book else { return };
        let mut book = book.lock();
        for (key, _) in &self.taken {
            if let Some(slot) = book.slots.get_mut(key) {
                slot.taken = slot.taken.saturating_sub(1);
            }
        }
    }
}
