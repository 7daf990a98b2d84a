//! Asks the limits for the engine, in its time, and knows who waits for which of them. Floor 2.
//! Always: what was refused is tried again when its time has come or the limits say that something changed, never by
//! looking again and again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::UnixMs;
use egret_shared::limits::{Closed, Count, Lease, Limits, Parts, Refusal, Throttle, When};

use super::budget::Budget;
use super::engine::{QueueKey, ReadyKey, SiteKey};
use crate::routing::warmup::Quota;

/// Rounds a time up to the engine's clock.
const ALMOST_A_MILLISECOND: Duration = Duration::from_nanos(999_999);

/// Who waits for a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Waiter {
    /// A ready queue.
    Ready(ReadyKey),
    /// A site, one of whose sources may not be chosen now.
    Site(SiteKey),
    /// A scheduled queue.
    Queue(QueueKey),
}

/// What a limit limits: places and rates may bear one name, and are waited for one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sessions at once.
    Places,
    /// How often something may be, in a second or in a day.
    Rate,
}

/// A limit that was reached.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// What it limits.
    pub kind: Kind,
    /// The limit.
    pub name: Arc<str>,
    /// When it may be tried again; `None` is when the limits say so.
    pub until: Option<UnixMs>,
}

impl Reached {
    /// Whether it is this limit.
    pub(super) fn is_of(&self, kind: Kind, name: &str) -> bool {
        self.kind == kind && *self.name == *name
    }
}

/// What a session for mail of which something is kept does not get.
#[derive(Clone, Debug)]
pub(super) enum Refused {
    /// It may not be opened yet.
    Opening(Reached),
    /// A limit of sessions has no place, neither of its own nor of those that are left.
    Places(Closed),
    /// A rate of messages is used up likewise.
    Messages(Closed),
}

/// The limits in the engine's time.
pub struct Meter {
    limits: Limits,
    is_shared: bool,
    /// One point of time on both clocks.
    wall: UnixMs,
    started: Instant,
    /// By what is limited: who waits for places, and who for rates.
    waiting: [HashMap<Arc<str>, Line>; 2],
    /// The number of the try that is under way.
    tries: u64,
}

/// Who waits for one limit, in the order in which they came.
#[derive(Debug, Default)]
struct Line {
    order: VecDeque<Waiter>,
    /// All of them, and in which try each was refused last.
    all: HashMap<Waiter, u64>,
}

impl Meter {
    /// Asks `limits`, which other nodes use, too, if `is_shared`; `wall` and `started` are the same time on two clocks.
    pub fn new(limits: Limits, is_shared: bool, wall: UnixMs, started: Instant) -> Self {
        Self { limits, is_shared, wall, started, waiting: Default::default(), tries: 0 }
    }

    /// Whether other nodes use the limits, too.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The limits that are asked.
    pub(super) fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn instant(&self, now: UnixMs) -> Instant {
        self.started + now.since(self.wall)
    }

    /// The engine's clock counts milliseconds: one that has begun is waited for. What was refused now is never to be tried
    /// again now: time stands still for the engine until it has done all that is due.
    pub(super) fn time(&self, at: Instant, now: UnixMs) -> UnixMs {
        let whole = self.wall.plus(at.saturating_duration_since(self.started) + ALMOST_A_MILLISECOND);
        whole.max(now.plus(Duration::from_millis(1)))
    }

    fn reached(&self, kind: Kind, refusal: Refusal, now: UnixMs) -> Reached {
        let until = match refusal.when {
            When::At(at) => Some(self.time(at, now)),
            When::Woken => None,
        };
        Reached { kind, name: refusal.name, until }
    }

    /// Takes one of each, or none.
    pub(super) fn take(&self, throttles: &[(Arc<str>, Throttle)], now: UnixMs) -> Result<(), Reached> {
        if throttles.is_empty() {
            return Ok(());
        }
        self.limits.take(throttles, self.instant(now)).map_err(|refusal| self.reached(Kind::Rate, refusal, now))
    }

    /// Gives back what was taken for nothing.
    pub(super) fn give_back(&self, throttles: &[(Arc<str>, Throttle)], now: UnixMs) {
        if !throttles.is_empty() {
            self.limits.give_back(throttles, self.instant(now));
        }
    }

    /// Takes one of a quota.
    pub(super) fn take_quota(&self, quota: &Quota, now: UnixMs) -> Result<(), Reached> {
        let Quota { name, day, most } = quota;
        let taken = self.limits.take_quota(name, *day, *most, self.instant(now));
        taken.map_err(|refusal| self.reached(Kind::Rate, refusal, now))
    }

    /// Gives back one of a quota.
    pub(super) fn give_back_quota(&self, quota: &Quota, now: UnixMs) {
        self.limits.give_back_quota(&quota.name, quota.day, self.instant(now));
    }

    /// Takes a place of each, or none.
    pub(super) fn hold(&self, places: &[(Arc<str>, Count)], now: UnixMs) -> Result<Option<Lease>, Reached> {
        if places.is_empty() {
            return Ok(None);
        }
        let held = self.limits.hold(places, self.instant(now));
        held.map(Some).map_err(|refusal| self.reached(Kind::Places, refusal, now))
    }

    /// What a new session with its first message takes: all of it, or nothing. Places come last: one that is given up at
    /// once, for want of a rate, would go to another node, and with it this node's turn.
    pub(super) fn admit(&self, budget: &Budget, now: UnixMs) -> Result<Option<Lease>, Reached> {
        self.take(&budget.opening, now)?;
        self.take(&budget.messages, now).inspect_err(|_| self.give_back(&budget.opening, now))?;
        self.hold(&budget.places, now).inspect_err(|_| {
            self.give_back(&budget.messages, now);
            self.give_back(&budget.opening, now);
        })
    }

    /// Takes one of a part of each, or none; `paid` is what was taken.
    pub(super) fn take_part(
        &self,
        messages: &[Parts<Throttle>],
        now: UnixMs,
        paid: &mut Vec<(Arc<str>, Throttle)>,
    ) -> Result<(), Closed> {
        self.limits.take_first(messages, self.instant(now), paid)
    }

    /// As [`Meter::admit`], out of parts.
    pub(super) fn admit_part(
        &self,
        opening: &[(Arc<str>, Throttle)],
        places: &[Parts<Count>],
        messages: &[Parts<Throttle>],
        now: UnixMs,
        paid: &mut Vec<(Arc<str>, Throttle)>,
    ) -> Result<Lease, Refused> {
        self.take(opening, now).map_err(Refused::Opening)?;
        let taken = self.take_part(messages, now, paid);
        taken.map_err(Refused::Messages).inspect_err(|_| self.give_back(opening, now))?;
        self.limits.hold_first(places, self.instant(now)).map_err(Refused::Places).inspect_err(|_| {
            self.give_back(paid, now);
            paid.clear();
            self.give_back(opening, now);
        })
    }

    /// Whether this node should give up a place of that name, because others wait for it.
    pub(super) fn yields(&self, name: &str) -> bool {
        self.is_shared && self.limits.yields(name)
    }

    /// Lets `waiter` wait for a limit, behind those that wait already.
    pub(super) fn wait(&mut self, kind: Kind, name: &Arc<str>, waiter: Waiter) {
        let line = self.waiting[kind as usize].entry(name.clone()).or_default();
        if line.all.insert(waiter, self.tries).is_none() {
            line.order.push_back(waiter);
        }
    }

    /// Somebody tries again now.
    pub(super) fn tries(&mut self) {
        self.tries += 1;
    }

    /// Whether the one that tries was refused for this limit.
    pub(super) fn is_refused(&self, kind: Kind, name: &str, waiter: Waiter) -> bool {
        self.waiting[kind as usize].get(name).and_then(|line| line.all.get(&waiter)) == Some(&self.tries)
    }

    /// `waiter` waits for a limit no more: it has had its turn, or has gone elsewhere. Whether it was in the line.
    pub(super) fn leave(&mut self, kind: Kind, name: &str, waiter: Waiter) -> bool {
        let waiting = &mut self.waiting[kind as usize];
        let Some(line) = waiting.get_mut(name) else { return false };
        let was_there = line.all.remove(&waiter).is_some();
        if line.order.front() == Some(&waiter) {
            line.order.pop_front();
        } else if was_there {
            line.order.retain(|other| *other != waiter);
        }
        if line.order.is_empty() {
            waiting.remove(name);
        }
        was_there
    }

    /// Tells the fleet that this node waits for a limit no more, if nobody here does.
    pub(super) fn withdraw(&self, name: &Arc<str>) {
        if !self.waiting.iter().any(|lines| lines.contains_key(name)) {
            self.limits.wait_no_more(name);
        }
    }

    /// Who waits for places, the longest first. Some may have had it meanwhile by another way.
    pub(super) fn line_for_places(&self, name: &str) -> impl Iterator<Item = Waiter> {
        self.waiting[Kind::Places as usize].get(name).into_iter().flat_map(|line| line.order.iter().copied())
    }

    /// Who waits longest for a limit.
    pub(super) fn first(&self, kind: Kind, name: &str) -> Option<Waiter> {
        self.waiting[kind as usize].get(name).and_then(|line| line.order.front().copied())
    }
}

#[cfg(test)]
mod tests {
    use egret_shared::limits::Rate;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// One that may be tried again at the time of the refusal would be tried for ever: the engine would stand still.
        #[test]
        fn what_is_refused_now_is_tried_again_later_and_not_too_early(
            nanos in prop_oneof![1u64..1_000, 1u64..5_000_000], begun in 0u64..10_000,
        ) {
            let rate = Rate { count: 1, period: Duration::from_nanos(nanos), burst: 1 };
            let rate = Throttle { rate, local: false };
            let (wall, now) = (UnixMs(1_000_000), UnixMs(1_000_000 + begun));
            let meter = Meter::new(Limits::memory(), false, wall, Instant::now());
            let throttles = [(Arc::<str>::from("rate"), rate)];
            prop_assert!(meter.take(&throttles, now).is_ok());
            let reached = meter.take(&throttles, now).expect_err("one at once");
            let until = reached.until.expect("a time");
            prop_assert!(until > now, "{until:?} {now:?}");
            prop_assert!(meter.take(&throttles, until).is_ok(), "it was not waited for in vain");
        }
    }
}
