//! What the rest of a program knows of limits: one handle, cheap to clone, that decides at once.
//! Floor 2. Touches no store: who asks it is told that there are questions.
//! Always: a lease that is dropped frees its places at once; nothing here waits, but for [`Limits::woken`] and
//! [`Limits::obtain`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::purse::Purse;
use super::words::{Refusal, UsedQuota, When};
use super::{Count, Throttle};
use crate::clock::{Clock, UnixMs};

/// Names of limits that may wait to be taken by [`Limits::woken`].
const MAX_WOKEN: usize = 65_536;

/// How the limits stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are kept as they should be.
    Ok,
    /// The store is away: each node goes on with its share.
    Degraded {
        /// Since when.
        since: UnixMs,
        /// Why.
        why: String,
        /// Among how many nodes the limits are shared.
        nodes: u32,
    },
}

pub(super) struct Inner {
    pub(super) purse: Mutex<Purse>,
    /// There are questions for the store.
    pub(super) asks: Notify,
    woken: Notify,
    /// Each who waits in [`Limits::obtain`] looks again.
    changed: Notify,
    pub(super) health: Mutex<Health>,
}

/// The limits. Cheap to clone.
#[derive(Clone)]
pub struct Limits(pub(super) Arc<Inner>);

/// A connection or session that a limit does not allow now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The limit.
    pub name: Arc<str>,
    /// How long to wait, if that is known.
    pub retry_after: Option<Duration>,
}

impl Limits {
    /// Kept in memory, by this node for itself.
    pub fn memory() -> Self {
        Self::of(Purse::alone())
    }

    pub(super) fn of(purse: Purse) -> Self {
        Self(Arc::new(Inner {
            purse: Mutex::new(purse),
            asks: Notify::new(),
            woken: Notify::new(),
            changed: Notify::new(),
            health: Mutex::new(Health::Ok),
        }))
    }

    /// Does something with the purse, and tells who should know of what came of it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Purse) -> T) -> T {
        let mut purse = self.0.purse.lock();
        let done = act(&mut purse);
        let (asks, woken) = (purse.has_asks(), purse.woken_count());
        if woken > MAX_WOKEN {
            // Nobody takes them: this program waits in `obtain` only.
            purse.woken();
        }
        drop(purse);
        if asks {
            self.0.asks.notify_one();
        }
        if woken > 0 {
            self.0.woken.notify_one();
        }
        done
    }

    /// Takes one from each throttle, all or none. `name`s are global: every node that uses a name shares its budget.
    ///
    /// # Errors
    /// The limit that lets nothing through for the longest time, and when to ask again.
    pub fn take(&self, throttles: &[(Arc<str>, Throttle)], now: Instant) -> Result<(), Refusal> {
        if throttles.is_empty() { Ok(()) } else { self.with(|purse| purse.take(throttles, now)) }
    }

    /// Gives back one that was taken and not used.
    pub fn give_back(&self, throttles: &[(Arc<str>, Throttle)], now: Instant) {
        if !throttles.is_empty() {
            self.with(|purse| purse.give_back(throttles, now));
        }
    }

    /// Takes a place in each count, all or none; dropping the lease frees them at once.
    ///
    /// # Errors
    /// The limit that has no place. Its name is told by [`Limits::woken`] when there is one.
    pub fn hold(&self, counts: &[(Arc<str>, Count)], now: Instant) -> Result<Lease, Refusal> {
        if counts.is_empty() {
            return Ok(Lease { limits: None, places: Box::default() });
        }
        self.with(|purse| purse.hold(counts, now))?;
        Ok(self.lease(counts))
    }

    /// Nobody here waits for a place of that name any more: it is others' turn.
    pub fn wait_no_more(&self, name: &Arc<str>) {
        self.with(|purse| purse.wait_no_more(name));
    }

    /// Whether this node should give up a place of that name because others wait longer (fair turns).
    pub fn yields(&self, name: &str) -> bool {
        self.0.purse.lock().yields(name)
    }

    /// Takes one of at most `most` on the day `day` (UTC, days since 1970-01-01) of `name`, a quota of warm-up.
    ///
    /// # Errors
    /// The quota is used up, and may have room again when others give back what they did not use; or the store must
    /// be asked first.
    pub fn take_quota(&self, name: &Arc<str>, day: u32, most: u64, now: Instant) -> Result<(), Refusal> {
        self.with(|purse| purse.take_quota(name, day, most, now))
    }

    /// Gives back one of a quota that was taken and not used.
    pub fn give_back_quota(&self, name: &Arc<str>, day: u32, now: Instant) {
        self.with(|purse| purse.give_back_quota(name, day, now));
    }

    /// What this node has used of quotas, of the day `since` and later ones: to be kept for its next run.
    pub fn quotas_used(&self, since: u32) -> Vec<UsedQuota> {
        self.0.purse.lock().quotas_used(since)
    }

    /// An earlier run of this node has used that much of quotas. To be said before they are taken from.
    pub fn remember_quotas(&self, quotas: &[UsedQuota], now: Instant) {
        self.with(|purse| quotas.iter().for_each(|quota| purse.remember_quota(quota, now)));
    }

    /// Waits until something changed for somebody who was refused with [`When::Woken`]; the names of the limits.
    /// For one who waits: the engine of the queues.
    pub async fn woken(&self) -> Vec<Arc<str>> {
        loop {
            let names = self.0.purse.lock().woken();
            if !names.is_empty() {
                return names;
            }
            self.0.woken.notified().await;
        }
    }

    /// Whether the limits are kept as they should be.
    pub fn health(&self) -> Health {
        self.0.health.lock().clone()
    }

    /// Takes a place in each count and one from each throttle, all or none. It waits for the store's answer, until
    /// `deadline` at most, and not for room: one who finds none is told.
    ///
    /// # Errors
    /// The limit that has no room.
    pub async fn obtain(
        &self,
        counts: &[(Arc<str>, Count)],
        throttles: &[(Arc<str>, Throttle)],
        clock: &Clock,
        deadline: Instant,
    ) -> Result<Lease, Denied> {
        let denied = |name, retry_after| Denied { name, retry_after };
        loop {
            let changed = self.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let now = clock.now();
            let (refusal, is_settled) = match self.attempt(counts, throttles, now) {
                Ok(lease) => return Ok(lease),
                Err(refused) => refused,
            };
            if let When::At(at) = refusal.when {
                return Err(denied(refusal.name, Some(at.saturating_duration_since(now))));
            }
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() || is_settled || tokio::time::timeout(left, changed).await.is_err() {
                self.with(|purse| counts.iter().for_each(|(name, _)| purse.wait_no_more(name)));
                return Err(denied(refusal.name, None));
            }
        }
    }

    /// Tries once. Who is refused learns whether the store has said all that it has to say: in the same moment, since
    /// an answer that comes a moment later may be room.
    fn attempt(
        &self,
        counts: &[(Arc<str>, Count)],
        throttles: &[(Arc<str>, Throttle)],
        now: Instant,
    ) -> Result<Lease, (Refusal, bool)> {
        let settled = |purse: &Purse, refusal: Refusal| {
            let is_settled = purse.is_settled(&refusal.name);
            (refusal, is_settled)
        };
        // Places come last: one that is given up at once, for want of a rate, goes to another node.
        self.with(|purse| {
            purse.take(throttles, now).map_err(|refusal| settled(purse, refusal))?;
            purse.hold(counts, now).map_err(|refusal| {
                purse.give_back(throttles, now);
                settled(purse, refusal)
            })
        })?;
        Ok(self.lease(counts))
    }

    pub(super) fn lease(&self, counts: &[(Arc<str>, Count)]) -> Lease {
        let places = counts.iter().map(|(name, count)| (name.clone(), count.local)).collect();
        Lease { limits: Some(self.clone()), places }
    }

    /// Answers were heard, or there is nothing to ask: who waits for one looks again.
    pub(super) fn heard(&self) {
        self.0.changed.notify_waiters();
    }

    /// How many nodes there are, as far as is known.
    pub fn nodes(&self) -> u32 {
        self.0.purse.lock().nodes()
    }
}

/// Places that are held. Dropping it frees them at once.
pub struct Lease {
    limits: Option<Limits>,
    places: Box<[(Arc<str>, bool)]>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.places).finish()
    }
}

impl Lease {
    /// The names of the limits in which it holds a place.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.places.iter().map(|(name, _)| name)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(limits) = &self.limits {
            limits.with(|purse| self.places.iter().for_each(|(name, local)| purse.release(name, *local)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str, count: &str) -> (Arc<str>, Count) {
        (name.into(), count.parse().expect("a count"))
    }

    fn throttle(name: &str, rate: &str) -> (Arc<str>, Throttle) {
        (name.into(), rate.parse().expect("a rate"))
    }

    #[test]
    fn a_rate_in_memory_says_when_and_what_is_refused_costs_nothing() {
        let (limits, now) = (Limits::memory(), Instant::now());
        let (fast, slow) = (throttle("fast", "10/s,max_burst=2"), throttle("slow", "1/min"));
        assert_eq!(limits.take(&[fast.clone(), slow.clone()], now), Ok(()));
        let refused = limits.take(&[fast.clone(), slow.clone()], now).expect_err("one a minute");
        assert_eq!(refused, Refusal { name: "slow".into(), when: When::At(now + Duration::from_secs(60)) });
        assert_eq!(limits.take(std::slice::from_ref(&fast), now), Ok(()), "the refused one took nothing of it");
        assert!(limits.take(std::slice::from_ref(&fast), now).is_err());
        limits.give_back(std::slice::from_ref(&fast), now);
        assert_eq!(limits.take(&[fast], now), Ok(()));
    }

    #[tokio::test]
    async fn a_place_that_is_dropped_wakes_who_was_refused() {
        let (limits, now) = (Limits::memory(), Instant::now());
        let counts = [count("path", "local:1"), count("all", "5")];
        let lease = limits.hold(&counts, now).expect("room");
        let refused = limits.hold(&counts, now).expect_err("one at once");
        assert_eq!(refused, Refusal { name: "path".into(), when: When::Woken });
        let four: Vec<_> = (0..4).map(|_| limits.hold(&counts[1..], now)).collect();
        assert!(four.iter().all(Result::is_ok), "the refused one took no place");
        drop(lease);
        assert_eq!(limits.woken().await, [Arc::<str>::from("path")]);
        assert!(limits.hold(&counts, now).is_ok());
    }

    #[test]
    fn a_quota_in_memory_is_for_its_day() {
        let (limits, now) = (Limits::memory(), Instant::now());
        let name: Arc<str> = "ramp".into();
        let taken = (0..10).filter(|_| limits.take_quota(&name, 20_000, 7, now).is_ok()).count();
        assert_eq!(taken, 7);
        assert!(limits.take_quota(&name, 20_001, 7, now).is_ok());
        assert!(limits.take_quota(&name, 20_000, 8, now).is_ok(), "the plan was changed");
        assert!(limits.take_quota(&name, 20_000, 8, now).is_err());
        limits.give_back_quota(&name, 20_000, now);
        assert!(limits.take_quota(&name, 20_000, 8, now).is_ok(), "one was not used");
    }

    #[tokio::test]
    async fn to_obtain_is_to_have_or_to_be_told() {
        let (limits, clock) = (Limits::memory(), Clock::system());
        let (counts, rates) = ([count("c", "1")], [throttle("r", "2/h,max_burst=2")]);
        let deadline = clock.now() + Duration::from_secs(60);
        let lease = limits.obtain(&counts, &rates, &clock, deadline).await.expect("room");
        let denied = limits.obtain(&counts, &rates, &clock, deadline).await.expect_err("no place");
        assert_eq!(denied, Denied { name: "c".into(), retry_after: None });
        drop(lease);
        drop(limits.obtain(&counts, &rates, &clock, deadline).await.expect("room again"));
        let denied = limits.obtain(&counts, &rates, &clock, deadline).await.expect_err("two an hour");
        assert_eq!(&*denied.name, "r");
        assert!(denied.retry_after > Some(Duration::from_secs(1700)));
        assert!(limits.hold(&counts, clock.now()).is_ok(), "its place was given back");
    }
}
