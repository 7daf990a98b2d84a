//! Limits that are divided into parts: of each limit one part is taken, the first that has room.
//! Pure. Floor 1.
//! Always: what is taken is taken whole or not at all; of a limit without room all parts are waited for.

use std::sync::Arc;
use std::time::Instant;

use super::super::words::{Closed, When};
use super::super::{Count, Throttle};
use super::{Mode, Purse};

/// The parts of a limit from which somebody may take, in the order in which they are tried.
pub type Parts<T> = Box<[(Arc<str>, T)]>;

impl Purse {
    /// Takes one from a part of each throttle, all or none. `taken` holds afterwards what was taken.
    ///
    /// # Errors
    /// The one that lets nothing through for the longest time; then nothing was taken.
    pub fn take_first(
        &mut self,
        limits: &[Parts<Throttle>],
        now: Instant,
        taken: &mut Vec<(Arc<str>, Throttle)>,
    ) -> Result<(), Closed> {
        taken.clear();
        let mut closed = None;
        for (limit, parts) in limits.iter().enumerate() {
            match self.first_rate(parts, now) {
                Ok(part) => taken.push(part),
                Err(at) => closed = Some(longer(closed, Closed { limit, at })),
            }
        }
        if let Some(closed) = closed {
            let when = closed.at.map_or(When::Woken, When::At);
            for (name, throttle) in taken.drain(..) {
                self.rate(&name, &throttle, now).1.keep(when, now);
            }
            return Err(closed);
        }
        for (name, throttle) in taken.iter() {
            self.spend(name, throttle, now);
        }
        Ok(())
    }

    /// The first part that lets one through, or when one may. Parts before it are asked of the store: they come first.
    fn first_rate(
        &mut self,
        parts: &[(Arc<str>, Throttle)],
        now: Instant,
    ) -> Result<(Arc<str>, Throttle), Option<Instant>> {
        let (mut earliest, mut is_known): (Option<Instant>, bool) = (None, true);
        for (name, throttle) in parts {
            let (mode, account) = self.rate(name, throttle, now);
            let Err(when) = account.may(mode, now) else { return Ok((name.clone(), *throttle)) };
            account.wanted |= when == When::Woken;
            account.starved = true;
            if mode == Mode::Shared {
                self.rate_is_due(name, now);
            }
            match when {
                When::At(at) => earliest = Some(earliest.map_or(at, |earliest| earliest.min(at))),
                When::Woken => is_known = false,
            }
        }
        Err(earliest.filter(|_| is_known))
    }

    /// Takes a place in a part of each count, all or none. `taken` holds afterwards what was taken, which is to be given
    /// back by [`Purse::release`].
    ///
    /// # Errors
    /// One that has no place; then nothing was taken, and each of its parts is woken when there is one.
    pub fn hold_first(
        &mut self,
        limits: &[Parts<Count>],
        now: Instant,
        taken: &mut Vec<(Arc<str>, Count)>,
    ) -> Result<(), Closed> {
        taken.clear();
        let mut closed = None;
        for (limit, parts) in limits.iter().enumerate() {
            match self.first_count(parts, now) {
                Ok(part) => taken.push(part),
                Err(at) => closed = Some(longer(closed, Closed { limit, at })),
            }
        }
        if let Some(closed) = closed {
            taken.clear();
            return Err(closed);
        }
        for (name, count) in taken.iter() {
            self.occupy(name, *count, now);
        }
        Ok(())
    }

    /// The first part that has a place, or when one may have. If none has, each is asked of the store.
    fn first_count(&mut self, parts: &[(Arc<str>, Count)], now: Instant) -> Result<(Arc<str>, Count), Option<Instant>> {
        let (mut at, still) = (None, self.still(now));
        for (name, count) in parts {
            let (mode, account) = self.count(name, *count, now);
            match account.may(mode, still, now) {
                Ok(()) => return Ok((name.clone(), *count)),
                Err(When::At(until)) => at = Some(until),
                Err(When::Woken) => {}
            }
        }
        for (name, count) in parts {
            self.count(name, *count, now).1.waiting = true;
            if !count.local {
                self.count_is_due(name, now);
            }
        }
        Err(at)
    }
}

/// Of two limits the one that is closed for longer.
fn longer(one: Option<Closed>, other: Closed) -> Closed {
    match one {
        Some(one) if other.at.is_some() && (one.at.is_none() || one.at >= other.at) => one,
        _ => other,
    }
}
