//! A path on which parts of limits are kept for tenants and priorities: whose turn it is among those for whom there is
//! room. Pure. Floor 2.
//! Always: who finds no room is passed over and holds up nobody else; a session with a place that is kept for somebody
//! carries nobody else's mail.

use std::borrow::Cow;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::limits::{Closed, Parts, Throttle};

use super::classes::Turn;
use super::engine::{Engine, QueueKey, ReadyKey, Session, Timer};
use super::floors::Whose;
use super::meter::{Kind, Reached, Refused, Waiter};
use super::ready::{LONG_WAIT, Limited, May, Ready};
use super::words::{Act, EntryKey};
use crate::message::Priority;

/// Why mail is passed over whose turn it is.
enum Passed {
    /// No session may be opened before then.
    Later(UnixMs),
    /// There are as many sessions as may be.
    Full,
    /// A limit has no room.
    Refused(Refused),
    /// What is kept for it has no place, and it is too early for one of those that are left for all.
    OwnPlaces(Closed),
}

impl Session {
    /// Whether it holds a place of a limit.
    pub fn has_place_of(&self, name: &str) -> bool {
        self.lease.iter().any(|lease| lease.names().any(|held| **held == *name))
    }

    /// Whether it may carry such mail.
    fn fits(&self, priority: Priority, tenant: &str) -> bool {
        self.kept.iter().all(|whose| whose.fits(priority, tenant))
    }

    /// Whether something waits on its path that it may carry.
    pub fn has_work(&self, ready: &Ready) -> bool {
        if self.kept.is_empty() {
            return !ready.waiting.is_empty();
        }
        ready.waiting.turn_of(|priority, tenant| self.fits(priority, tenant)).is_some()
    }
}

impl Engine {
    /// As [`Engine::serve`], where parts of limits are kept.
    pub(super) fn serve_parts(&mut self, key: ReadyKey, cap: Option<usize>, now: UnixMs, acts: &mut Vec<Act>) {
        let mut is_full = false;
        if let Some(parted) = self.ready.get_mut(key).and_then(|ready| ready.budget.parted.as_mut()) {
            parted.begin();
        }
        while !self.draining {
            let Some(ready) = self.ready.get(key) else { return };
            if cap.is_some_and(|cap| ready.sessions - ready.idle.len() >= cap) {
                break;
            }
            let Some((turn, group)) = ready.turn() else { break };
            if let Err(passed) = self.serve_turn(key, &turn, group, cap, now, acts) {
                is_full |= matches!(passed, Passed::Full);
                self.pass_over(key, group, &passed, now, acts);
            }
        }
        self.leave_what_nothing_waits_for(key, now);
        let Some(ready) = self.ready.get_mut(key) else { return };
        let limited = ready.budget.parted.as_ref().and_then(|parted| parted.limited(now).cloned());
        ready.limited = limited.or(ready.limited.take().filter(|_| !ready.waiting.is_empty()));
        if is_full && let Some(idle) = ready.idle.pop() {
            // It can carry nothing of what waits, and is in the way of a session that could.
            self.dismiss(idle, acts);
        }
    }

    /// Gives the first of those whose turn it is to an idle session that may carry it, or opens one.
    fn serve_turn(
        &mut self,
        key: ReadyKey,
        turn: &Turn,
        group: usize,
        cap: Option<usize>,
        now: UnixMs,
        acts: &mut Vec<Act>,
    ) -> Result<(), Passed> {
        let Some(at) = self.idle_for(key, turn) else { return self.open_part(key, turn, group, cap, now, acts) };
        let session = self.ready[key].idle[at];
        let refused = |closed| Passed::Refused(Refused::Messages(closed));
        let not_first = self.not_first(key, group, now).map_err(refused)?;
        let ready = &mut self.ready[key];
        let (Some(parted), Some(record)) = (ready.budget.parted.as_ref(), self.sessions.get_mut(&session)) else {
            return Err(Passed::Full);
        };
        let messages = of_turn(&parted.at(group).messages, &not_first);
        self.meter.take_part(&messages, now, &mut record.paid).map_err(refused)?;
        ready.idle.remove(at);
        self.had_its_turn(key, session, now);
        if let Some(ticket) = self.take_turn(key, session, turn, group, now) {
            acts.push(Act::Hand { session, ticket });
        }
        Ok(())
    }

    /// An idle session that may carry the mail whose turn it is: one with a place that is kept for it before others.
    fn idle_for(&self, key: ReadyKey, turn: &Turn) -> Option<usize> {
        let fit = |(at, number): (usize, &u64)| {
            let session = self.sessions.get(number)?;
            session.fits(turn.priority, &turn.tenant).then_some((session.kept.len(), at))
        };
        let found = self.ready[key].idle.iter().enumerate().filter_map(fit).max();
        found.map(|(_, at)| at)
    }

    fn open_part(
        &mut self,
        key: ReadyKey,
        turn: &Turn,
        group: usize,
        cap: Option<usize>,
        now: UnixMs,
        acts: &mut Vec<Act>,
    ) -> Result<(), Passed> {
        let ready = &self.ready[key];
        if let Some(rest) = self.health.rests_until(&ready.source, now) {
            return Err(Passed::Later(rest));
        }
        // Idle ones may not carry it.
        let patience = match ready.may_open_beside(ready.sessions - ready.idle.len(), cap, now) {
            May::Open => None,
            May::Later(at) if ready.held_until <= now => Some(at),
            May::Later(at) => return Err(Passed::Later(at)),
            May::Wait => return Err(Passed::Full),
        };
        if let Some(at) = patience {
            self.wake_ready_at(key, at);
        }
        let not_first = self.not_first(key, group, now).map_err(|at| Passed::Refused(Refused::Messages(at)))?;
        let budget = &self.ready[key].budget;
        let Some(parted) = &budget.parted else { return Err(Passed::Full) };
        let own = parted.at(group);
        let places = match (patience, &own.own_places) {
            (None, _) => &own.places,
            // What is kept for it is there to be used at once.
            (Some(_), Some(places)) => places,
            (Some(at), None) => return Err(Passed::Later(at)),
        };
        let mut paid = Vec::new();
        let messages = of_turn(&own.messages, &not_first);
        let lease =
            self.meter.admit_part(&budget.opening, places, &messages, now, &mut paid).map_err(|refused| {
                match (patience, refused) {
                    (Some(_), Refused::Places(closed)) => Passed::OwnPlaces(closed),
                    (_, refused) => Passed::Refused(refused),
                }
            })?;
        let kept: Box<[Whose]> = lease.names().filter_map(|name| parted.whose(name).cloned()).collect();
        let session = self.new_session(key, Some(lease), now);
        if let Some(record) = self.sessions.get_mut(&session) {
            (record.kept, record.paid) = (kept, paid);
        }
        self.had_its_turn(key, session, now);
        if let Some(first) = self.take_turn(key, session, turn, group, now) {
            self.dial(key, session, first, now, acts);
        }
        Ok(())
    }

    /// The limits, by their places, where others are before this path for what is left for all: it may take there only what is
    /// kept for the group.
    ///
    /// # Errors
    /// One of which nothing is kept for it: it waits.
    fn not_first(&mut self, key: ReadyKey, group: usize, now: UnixMs) -> Result<Vec<usize>, Closed> {
        let Some(parted) = self.ready.get(key).and_then(|ready| ready.budget.parted.as_ref()) else {
            return Ok(Vec::new());
        };
        let line = |(limit, parts): (usize, &Parts<Throttle>)| {
            let left = &parts.last()?.0;
            self.meter.first(Kind::Rate, left).map(|_| (limit, left.clone(), parts.len() > 1))
        };
        let lines: Vec<_> = parted.at(group).messages.iter().enumerate().filter_map(line).collect();
        let mut others = Vec::new();
        for (limit, left, has_own) in lines {
            if self.is_first(Kind::Rate, &left, Waiter::Ready(key), now) {
                continue;
            }
            if !has_own {
                return Err(Closed { limit, at: None });
            }
            others.push(limit);
        }
        Ok(others)
    }

    /// A session's ticket has taken of rates: where it was of what is left for all, others have their turn.
    fn had_its_turn(&mut self, key: ReadyKey, session: u64, now: UnixMs) {
        let Some(session) = self.sessions.get(&session) else { return };
        let lines = |(name, _): &(Arc<str>, Throttle)| self.meter.first(Kind::Rate, name).map(|_| name.clone());
        let lines: Vec<Arc<str>> = session.paid.iter().filter_map(lines).collect();
        for name in lines {
            self.leave_line(Kind::Rate, &name, Waiter::Ready(key), now);
        }
    }

    /// A path is first in a line only while something of it waits there: others would wait for nothing.
    fn leave_what_nothing_waits_for(&mut self, key: ReadyKey, now: UnixMs) {
        let Some(parted) = self.ready.get(key).and_then(|ready| ready.budget.parted.as_ref()) else { return };
        let is_first = |name: &&Arc<str>| self.meter.first(Kind::Rate, name) == Some(Waiter::Ready(key));
        let idle = |name: &&Arc<str>| is_first(name) && !parted.waits_for(Kind::Rate, name, now);
        let left: Vec<Arc<str>> = parted.left_of_rates().filter(idle).cloned().collect();
        for name in left {
            self.leave_line(Kind::Rate, &name, Waiter::Ready(key), now);
        }
    }

    fn take_turn(
        &mut self,
        key: ReadyKey,
        session: u64,
        turn: &Turn,
        group: usize,
        now: UnixMs,
    ) -> Option<crate::message::Ticket> {
        let ready = self.ready.get_mut(key)?;
        ready.budget.parted.as_mut()?.at_mut(group).limited = None;
        let entry = ready.waiting.pop_turn(turn)?;
        self.give(key, session, entry, now)
    }

    /// Others have their turns; these come again when there may be room.
    fn pass_over(&mut self, key: ReadyKey, group: usize, passed: &Passed, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(parted) = self.ready.get_mut(key).and_then(|ready| ready.budget.parted.as_mut()) else { return };
        let own = parted.at_mut(group);
        own.is_passed = true;
        let has_floor = !own.whose.is_empty();
        let before = own.limited.take();
        let in_time = |closed: &Closed| closed.at.map(|at| self.meter.time(at, now));
        let (kind, until) = match passed {
            Passed::Later(at) => return self.wake_ready_at(key, *at),
            Passed::Full => return,
            Passed::OwnPlaces(closed) | Passed::Refused(Refused::Places(closed)) => (Kind::Places, in_time(closed)),
            Passed::Refused(Refused::Messages(closed)) => (Kind::Rate, in_time(closed)),
            Passed::Refused(Refused::Opening(reached)) => (Kind::Rate, reached.until),
        };
        for at in 0.. {
            let Some(name) = self.part_name(key, group, passed, at) else { break };
            // Who waits for what is kept for it may not be the first in the line of those that wait for what is left.
            if until.is_none() {
                self.meter.wait(kind, &name, Waiter::Ready(key));
                if kind == Kind::Places && (has_floor || self.is_first(kind, &name, Waiter::Ready(key), now)) {
                    self.release_idle(&name, acts);
                }
            }
            // The last one is what is left for all, and has the limit's own name.
            if let Some(parted) = self.ready.get_mut(key).and_then(|ready| ready.budget.parted.as_mut()) {
                parted.at_mut(group).limited = Some(Limited::again(before.clone(), Reached { kind, name, until }, now));
            }
        }
        match until {
            Some(at) if at.since(now) > LONG_WAIT => self.hold_group(key, group, at, now),
            Some(at) if self.may_be_next(key, group, passed, now) => self.wake_ready_at(key, at),
            _ => self.wait_for_news(key, Some(group), now),
        }
    }

    /// Whether what was passed over for a limit with a time has it then: it is the next for what is left for all, or something
    /// is kept for it, for which it waits behind nobody.
    fn may_be_next(&mut self, key: ReadyKey, group: usize, passed: &Passed, now: UnixMs) -> bool {
        let Passed::Refused(Refused::Messages(closed)) = passed else { return true };
        let parted = self.ready.get(key).and_then(|ready| ready.budget.parted.as_ref());
        let Some(parts) = parted.and_then(|parted| parted.at(group).messages.get(closed.limit)) else { return true };
        let (Some((left, _)), has_own) = (parts.last().cloned(), parts.len() > 1) else { return true };
        self.meter.wait(Kind::Rate, &left, Waiter::Ready(key));
        has_own || self.is_first(Kind::Rate, &left, Waiter::Ready(key), now)
    }

    /// The parts of the limit that has no room, one by one.
    fn part_name(&self, key: ReadyKey, group: usize, passed: &Passed, at: usize) -> Option<Arc<str>> {
        let own = self.ready.get(key)?.budget.parted.as_ref()?.at(group);
        match passed {
            Passed::Later(_) | Passed::Full => None,
            Passed::OwnPlaces(closed) => Some(own.own_places.as_ref()?.get(closed.limit)?.get(at)?.0.clone()),
            Passed::Refused(Refused::Places(closed)) => Some(own.places.get(closed.limit)?.get(at)?.0.clone()),
            Passed::Refused(Refused::Messages(closed)) => Some(own.messages.get(closed.limit)?.get(at)?.0.clone()),
            Passed::Refused(Refused::Opening(reached)) => (at == 0).then(|| reached.name.clone()),
        }
    }

    /// What must wait for long goes to other sources of the pool, and comes here no more before then.
    pub(super) fn hold_group(&mut self, key: ReadyKey, group: usize, until: UnixMs, now: UnixMs) {
        let Some(ready) = self.ready.get_mut(key) else { return };
        let Some(parted) = ready.budget.parted.as_mut() else { return };
        parted.at_mut(group).held_until = until;
        let (site, mut waiting) = (ready.site, std::mem::take(&mut ready.waiting));
        let (entries, queues) = (&self.entries, &self.queues);
        let is_of_group = |entry: EntryKey| {
            let queue = entries.get(entry).and_then(|entry| queues.get(entry.queue));
            queue.is_some_and(|queue| parted.group_of(queue.priority(), &queue.tenant) == group)
        };
        let out = waiting.take_out(is_of_group);
        ready.waiting = waiting;
        for entry in out.into_iter().rev() {
            self.untake(key, entry, now);
            self.return_due(entry);
        }
        self.set_timer(UnixMs(0), Timer::Site(site));
        self.wake_ready_at(key, until);
    }

    /// Whether a path has a session that may carry mail of a queue.
    pub(super) fn has_session_for(&self, key: ReadyKey, queue: QueueKey) -> bool {
        let (Some(ready), Some(queue)) = (self.ready.get(key), self.queues.get(queue)) else { return false };
        let may = |session: &Session| session.ready == key && session.fits(queue.priority(), &queue.tenant);
        ready.sessions > 0 && (ready.budget.parted.is_none() || self.sessions.values().any(may))
    }

    /// What a session's ticket took of rates is given back: it was not sent.
    pub(super) fn give_back_paid(&self, key: ReadyKey, session: &Session, now: UnixMs) {
        let Some(ready) = self.ready.get(key) else { return };
        let paid = if ready.budget.parted.is_some() { &session.paid[..] } else { &ready.budget.messages[..] };
        self.meter.give_back(paid, now);
    }
}

/// What mail may take in its turn: of limits where it is not the first, only what is kept for it.
fn of_turn<'a>(messages: &'a [Parts<Throttle>], not_first: &[usize]) -> Cow<'a, [Parts<Throttle>]> {
    if not_first.is_empty() {
        return Cow::Borrowed(messages);
    }
    let part = |(at, parts): (usize, &Parts<Throttle>)| match not_first.contains(&at) {
        true => parts[..parts.len().saturating_sub(1)].into(),
        false => parts.clone(),
    };
    Cow::Owned(messages.iter().enumerate().map(part).collect())
}
