//! What follows when a limit is reached, and when there is room again. Pure. Floor 2.
//! Always: a limit keeps back a path, a source's turn or a queue, never the schedule of a message; nothing is polled.

use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::Party;
use egret_shared::limits::Lease;

use super::budget::Budget;
use super::engine::{Engine, QueueKey, ReadyKey, Session, SiteKey, Timer};
use super::meter::{Kind, Reached, Waiter};
use super::ready::{LONG_WAIT, Limited, Ready};
use super::words::{Act, EntryKey};
use crate::dns::site::Site;
use crate::routing::source::Source;
use crate::routing::warmup::{Quota, day_of, quotas};
use crate::shaping::per_site::unshaped;

/// Before a ready queue that was looked up for nothing is forgotten.
const FORGET_WAIT: Duration = Duration::from_secs(1);

impl Engine {
    /// What the path from a source to a site may take.
    pub(super) fn budget_of(&self, source: &str, site: &Site) -> Budget {
        let limits = self.paths.limits(source, site);
        let providers = self.paths.providers(source, site);
        Budget { providers, ..Budget::new(source, &site.name, &limits, self.meter.is_shared(), &self.paths.floors()) }
    }

    /// What the choice of a path for one message takes.
    pub(super) fn take_choice(&mut self, key: ReadyKey, now: UnixMs) -> Result<(), Reached> {
        let (ready, quotas) = (&self.ready[key], self.quotas_of(key, now));
        self.meter.take(&ready.budget.choosing, now)?;
        for (at, quota) in quotas.iter().enumerate() {
            self.meter.take_quota(quota, now).inspect_err(|_| {
                quotas[..at].iter().for_each(|taken| self.meter.give_back_quota(taken, now));
                self.meter.give_back(&ready.budget.choosing, now);
            })?;
        }
        self.ready[key].unchosen = None;
        Ok(())
    }

    /// The quotas of today, if the source of a path is being warmed up.
    pub(super) fn quotas_of(&self, key: ReadyKey, now: UnixMs) -> Vec<Quota> {
        let Some(ready) = self.ready.get(key) else { return Vec::new() };
        let Some(site) = self.sites.get(ready.site) else { return Vec::new() };
        // A site counts once, whatever is said of some of its mail.
        quotas(&ready.source.warmup, unshaped(&site.site.name), &ready.budget.providers, day_of(now))
    }

    /// A path may not send now.
    pub(super) fn path_reached(&mut self, key: ReadyKey, reached: Reached, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(ready) = self.ready.get_mut(key) else { return };
        let (kind, name, until) = (reached.kind, reached.name.clone(), reached.until);
        ready.limited = Some(Limited::again(ready.limited.take(), reached, now));
        match until {
            Some(at) if at.since(now) > LONG_WAIT => self.hold_path(key, &name, at, now),
            until => {
                self.meter.wait(kind, &name, Waiter::Ready(key));
                match until.filter(|_| self.is_first(kind, &name, Waiter::Ready(key), now)) {
                    Some(at) => self.wake_ready_at(key, at),
                    None => self.wait_for_news(key, None, now),
                }
                if kind == Kind::Places && until.is_none() && self.is_first(kind, &name, Waiter::Ready(key), now) {
                    self.release_idle(&name, acts);
                }
            }
        }
    }

    /// What waits for a path goes to the other sources of the pool, and comes here no more before then.
    fn hold_path(&mut self, key: ReadyKey, name: &str, until: UnixMs, now: UnixMs) {
        let Some(ready) = self.ready.get_mut(key) else { return };
        ready.held_until = ready.held_until.max(until);
        (ready.party, ready.why) = (Some(Party::Limit), Some(format!("{name} is reached").into()));
        self.give_back(key, now);
        self.wake_ready_at(key, until);
    }

    /// Nobody knows when there will be room for a path, or for a group of its mail, where parts of limits are kept.
    pub(super) fn wait_for_news(&mut self, key: ReadyKey, group: Option<usize>, now: UnixMs) {
        let Some(limited) = self.limited_of(key, group) else { return };
        if limited.look_at > now {
            let at = limited.look_at;
            return self.wake_ready_at(key, at);
        }
        let (kind, name, until) = (limited.by.kind, limited.by.name.clone(), now.plus(LONG_WAIT));
        limited.look_at = until;
        if !self.can_go_without(key, &name, group, now) {
            return self.wake_ready_at(key, until);
        }
        if let Some(limited) = self.limited_of(key, group) {
            // What comes after the rest may wait as long again.
            limited.look_at = until.plus(LONG_WAIT);
        }
        match group {
            Some(group) => self.hold_group(key, group, until, now),
            None => {
                self.leave_line(kind, &name, Waiter::Ready(key), now);
                self.meter.withdraw(&name);
                self.hold_path(key, &name, until, now);
            }
        }
    }

    fn limited_of(&mut self, key: ReadyKey, group: Option<usize>) -> Option<&mut Limited> {
        let ready = self.ready.get_mut(key)?;
        match group {
            Some(group) => ready.budget.parted.as_mut()?.at_mut(group).limited.as_mut(),
            None => ready.limited.as_mut(),
        }
    }

    /// Whether mail that waits on a path which has no session for it can go by another source of its pool, without a limit that
    /// has no room, and waits there for nothing that it does not wait for here. Otherwise mail would gather on the one
    /// path that has no room, while others have.
    fn can_go_without(&mut self, key: ReadyKey, name: &str, group: Option<usize>, now: UnixMs) -> bool {
        let Some(ready) = self.ready.get(key) else { return false };
        let (site, own) = (ready.site, ready.source.name.clone());
        let Some(queue) = self.waits_first(ready, group).filter(|queue| !self.has_session_for(key, *queue)) else {
            return false;
        };
        let Some(usable) = self.usable(site, queue, now) else { return false };
        let (Some(pool), Some(slot), Some(ready)) = (self.pool_of(queue), self.sites.get(site), self.ready.get(key))
        else {
            return false;
        };
        let waits_for = |other: &Ready| other.limited.as_ref().map(|limited| limited.by.name.clone());
        let has_room = |source: &Source| match slot.ready.get(&source.name).and_then(|key| self.ready.get(*key)) {
            Some(other) => !other.budget.takes(name) && waits_for(other).is_none_or(|name| ready.budget.takes(&name)),
            None => !self.paths.limits(&source.name, &slot.site).is_named(name),
        };
        let mut others = pool.members.iter().zip(usable).filter(|((source, _), usable)| *usable && source.name != own);
        others.any(|((source, _), _)| has_room(source))
    }

    /// The queue of one that waits on a path, and is of that group.
    fn waits_first(&self, ready: &Ready, group: Option<usize>) -> Option<QueueKey> {
        let parted = ready.budget.parted.as_ref().zip(group);
        let is_of_group = |queue: &QueueKey| match (parted, self.queues.get(*queue)) {
            (Some((parted, group)), Some(queue)) => parted.group_of(queue.priority(), &queue.tenant) == group,
            _ => true,
        };
        ready.waiting.iter().filter_map(|entry| Some(self.entries.get(entry)?.queue)).find(is_of_group)
    }

    /// A source may not be chosen now for a site.
    pub(super) fn choice_reached(&mut self, site: SiteKey, ready: ReadyKey, reached: &Reached, now: UnixMs) {
        match reached.until {
            Some(at) => self.wake_site_at(site, Some(at)),
            None => self.meter.wait(reached.kind, &reached.name, Waiter::Site(site)),
        }
        self.wake_ready_at(ready, reached.until.unwrap_or(now.plus(FORGET_WAIT)));
        if let Some(ready) = self.ready.get_mut(ready) {
            ready.unchosen = Some(reached.clone());
        }
    }

    /// Whether the rates of a queue let an entry leave it. If not, the entry is at its head again.
    pub(super) fn may_leave(&mut self, key: QueueKey, entry: EntryKey, now: UnixMs) -> bool {
        if !self.queues.contains_key(key) {
            return false;
        }
        let waiter = Waiter::Queue(key);
        let taken = self.in_turn(waiter, now, |engine| engine.meter.take(engine.rates_of(waiter), now));
        let queue = &mut self.queues[key];
        let Err(reached) = taken else {
            queue.limited = None;
            return true;
        };
        self.sweep.pushed_front(key);
        queue.due.push_front(entry);
        queue.wants_room = false;
        queue.limited = Some(reached.clone());
        self.meter.wait(Kind::Rate, &reached.name, waiter);
        let at = reached.until.filter(|_| self.is_first(Kind::Rate, &reached.name, waiter, now));
        let at = at.unwrap_or(now.plus(LONG_WAIT));
        let queue = &mut self.queues[key];
        if queue.look_at <= now || at < queue.look_at {
            queue.look_at = at;
            self.set_timer(at, Timer::Queue(key));
        }
        false
    }

    /// What an entry took on its way into a ready queue that it leaves without a try.
    pub(super) fn untake(&self, ready: ReadyKey, entry: EntryKey, now: UnixMs) {
        self.give_back_quotas(ready, now);
        if let Some(ready) = self.ready.get(ready) {
            self.meter.give_back(&ready.budget.choosing, now);
        }
        if let Some(queue) = self.entries.get(entry).and_then(|entry| self.queues.get(entry.queue)) {
            self.meter.give_back(&queue.rates, now);
        }
    }

    /// One that was chosen for a path did not reach the site: it is none of those that a warm-up counts.
    pub(super) fn give_back_quotas(&self, ready: ReadyKey, now: UnixMs) {
        for quota in self.quotas_of(ready, now) {
            self.meter.give_back_quota(&quota, now);
        }
    }

    /// Whether one session more should end for a place of that name which others wait for. They end one by one: each
    /// changes what is fair.
    pub(super) fn is_in_surplus(&self, name: &str) -> bool {
        self.meter.yields(name)
            && !self.sessions.values().any(|session| session.is_released && session.has_place_of(name))
    }

    /// Whether a session should end, so that others have its place.
    pub(super) fn should_yield(&self, session: u64) -> bool {
        let Some(session) = self.sessions.get(&session) else { return false };
        let is_done = || self.ready.get(session.ready).is_some_and(|ready| !session.has_work(ready));
        if self.meter.is_shared() && !session.kept.is_empty() && is_done() {
            // Who else of the fleet needs what is kept is not known here before it waits.
            return true;
        }
        let mut names = session.lease.iter().flat_map(Lease::names);
        names.any(|name| self.is_in_surplus(name) || self.yields_to_first(session, name))
    }

    /// Whether a session should leave its place to the first path of this node that waits for one of that name: it has
    /// nothing to do, or the other has fewer sessions.
    fn yields_to_first(&self, session: &Session, name: &str) -> bool {
        let Some(ready) = self.ready.get(session.ready) else { return false };
        let other = |waiter: Waiter| match waiter {
            Waiter::Ready(key) if key != session.ready => self.ready.get(key).filter(|other| !other.waiting.is_empty()),
            _ => None,
        };
        let first = self.meter.line_for_places(name).find_map(other);
        first.is_some_and(|first| !session.has_work(ready) || first.sessions + 1 < ready.sessions)
    }

    /// Tells a session that has a place of that name and nothing to do that there is no more work.
    pub(super) fn release_idle(&mut self, name: &str, acts: &mut Vec<Act>) {
        let Self { ready, sessions, .. } = self;
        let has_place = |number: &u64| sessions.get(number).is_some_and(|session| session.has_place_of(name));
        let takes = |ready: &&mut Ready| !ready.idle.is_empty() && ready.budget.takes_place_of(name);
        let of_path = |ready: &mut Ready| {
            let at = ready.idle.iter().rposition(has_place)?;
            Some(ready.idle.remove(at))
        };
        let Some(number) = ready.values_mut().filter(takes).find_map(of_path) else { return };
        self.dismiss(number, acts);
    }

    /// Tells a session that there is no more work.
    pub(super) fn dismiss(&mut self, number: u64, acts: &mut Vec<Act>) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.is_released = true;
            if let Some(ready) = self.ready.get_mut(session.ready) {
                ready.quick.retain(|quick| *quick != number);
            }
            acts.push(Act::Release { session: number });
        }
    }
}
