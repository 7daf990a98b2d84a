//! Whose turn it is at a limit that many wait for. Pure. Floor 2.
//! Always: who waits longest is the first, and nobody takes of a rate before it; who has had one goes behind the others.

use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::limits::Throttle;

use super::engine::{Engine, Timer};
use super::meter::{Kind, Reached, Waiter};
use super::ready::Ready;
use super::words::Act;

impl Engine {
    /// Something changed for who waits for these limits: the first of each line comes first.
    pub fn limits_changed(&mut self, names: &[Arc<str>], now: UnixMs, acts: &mut Vec<Act>) {
        for name in names {
            for kind in [Kind::Places, Kind::Rate] {
                while let Some(waiter) = self.meter.first(kind, name) {
                    self.try_again(kind, name, waiter, now, acts);
                    if self.meter.first(kind, name) == Some(waiter) {
                        break;
                    }
                }
            }
            if self.is_in_surplus(name) {
                self.release_idle(name, acts);
            }
        }
    }

    /// Lets the first of a line try again. It stays there only if it is refused for the same limit once more.
    fn try_again(&mut self, kind: Kind, name: &Arc<str>, waiter: Waiter, now: UnixMs, acts: &mut Vec<Act>) {
        self.meter.tries();
        match waiter {
            Waiter::Ready(key) => self.serve_again(key, now, acts),
            Waiter::Site(key) => self.wake_site(key, now, acts),
            Waiter::Queue(key) => self.look_at_queue(key, now, acts),
        }
        self.leave_unless_refused(kind, name, waiter, now);
    }

    /// Who tried and was not refused for the limit waits for it no more.
    pub(super) fn leave_unless_refused(&mut self, kind: Kind, name: &Arc<str>, waiter: Waiter, now: UnixMs) {
        if !self.meter.is_refused(kind, name, waiter) {
            self.leave_line(kind, name, waiter, now);
        }
    }

    /// Whether a waiter is the first of a line, or there is none.
    pub(super) fn is_first(&mut self, kind: Kind, name: &str, waiter: Waiter, now: UnixMs) -> bool {
        while let Some(first) = self.meter.first(kind, name).filter(|first| *first != waiter) {
            if self.is_waiting(kind, name, first, now) {
                return false;
            }
            self.meter.leave(kind, name, first);
        }
        true
    }

    /// Whether who is in a line still waits there: it may have gone on by another way, or have other reasons by now.
    fn is_waiting(&self, kind: Kind, name: &str, waiter: Waiter, now: UnixMs) -> bool {
        let is_by = |reached: &Reached| reached.is_of(kind, name);
        let waits = |ready: &Ready| match &ready.budget.parted {
            Some(parted) => parted.waits_for(kind, name, now),
            None => ready.limited.as_ref().is_some_and(|limited| is_by(&limited.by)),
        };
        match waiter {
            Waiter::Ready(key) => self.ready.get(key).is_some_and(|ready| {
                let may = ready.held_until <= now && self.health.rests_until(&ready.source, now).is_none();
                may && !ready.waiting.is_empty() && waits(ready)
            }),
            Waiter::Queue(key) => {
                self.queues.get(key).is_some_and(|q| q.waiting > 0 && q.limited.as_ref().is_some_and(is_by))
            }
            Waiter::Site(key) => self.sites.contains_key(key),
        }
    }

    /// The rates of which somebody takes in its turn.
    pub(super) fn rates_of(&self, waiter: Waiter) -> &[(Arc<str>, Throttle)] {
        match waiter {
            Waiter::Ready(key) => self.ready.get(key).map_or(&[], |ready| &ready.budget.messages),
            Waiter::Queue(key) => self.queues.get(key).map_or(&[], |queue| &queue.rates),
            Waiter::Site(_) => &[],
        }
    }

    /// Lets somebody take of its rates by `take` if nobody waits longer for one of them; then it is the next one's turn.
    ///
    /// # Errors
    /// What was reached; or it is another's turn, and news of it will come.
    pub(super) fn in_turn<T>(
        &mut self,
        waiter: Waiter,
        now: UnixMs,
        take: impl FnOnce(&Self) -> Result<T, Reached>,
    ) -> Result<T, Reached> {
        let lines =
            |(name, _): &(Arc<str>, Throttle)| self.meter.first(Kind::Rate, name).is_some().then(|| name.clone());
        let lines: Vec<Arc<str>> = self.rates_of(waiter).iter().filter_map(lines).collect();
        if let Some(name) = lines.iter().find(|name| !self.is_first(Kind::Rate, name, waiter, now)) {
            return Err(Reached { kind: Kind::Rate, name: name.clone(), until: None });
        }
        let taken = take(self)?;
        for name in &lines {
            self.leave_line(Kind::Rate, name, waiter, now);
        }
        Ok(taken)
    }

    /// A waiter leaves a line, and the next one looks whether it can go.
    pub(super) fn leave_line(&mut self, kind: Kind, name: &str, waiter: Waiter, now: UnixMs) {
        if self.meter.leave(kind, name, waiter)
            && let Some(next) = self.meter.first(kind, name)
        {
            let timer = match next {
                Waiter::Ready(key) => Timer::Ready(key),
                Waiter::Site(key) => Timer::Site(key),
                Waiter::Queue(key) => Timer::Queue(key),
            };
            self.set_timer(now, timer);
        }
    }
}
