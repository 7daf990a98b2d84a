//! The way forward: from a due list over the site to a ready queue, and from there into a session.
//! Pure. Floor 2.
//! Always: a higher priority goes first, and tenants have their turns within one, at the site and in the ready queue; what a ready queue has no room
//! for goes back to the head of its due list, its schedule unchanged.

use std::collections::VecDeque;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::limits::Lease;

use super::ahead::MOST_HELD;
use super::engine::{Engine, QueueKey, ReadyKey, Session, SiteKey, Timer};
use super::meter::{Kind, Reached, Waiter};
use super::ready::{May, Ready, SiteSlot};
use super::scheduled::{Lead, Place, is_due_in};
use super::words::{Act, EntryKey};
use crate::dns::site::Site;
use crate::message::{Priority, Ticket};
use crate::routing::source::{Source, Way};

/// Scheduled queues of a site and priority that are asked in one turn when none of their pools has room.
const MAX_STUCK: usize = 16;

impl Engine {
    /// Moves a queue's due entries on, or asks where they lead.
    pub(super) fn advance(&mut self, queue: QueueKey, now: UnixMs, acts: &mut Vec<Act>) {
        if self.is_blocked(queue) {
            return;
        }
        let Some(scheduled) = self.queues.get_mut(queue) else { return };
        match &scheduled.lead {
            Lead::Known(site, until) if *until > now => {
                let (site, tenant, priority) = (site.clone(), scheduled.tenant.clone(), scheduled.priority());
                let wants = !std::mem::replace(&mut scheduled.wants_room, true);
                let slot = self.site_slot(site);
                if wants {
                    self.sites[slot].wanting.push(priority, &tenant, queue);
                }
                self.turn(slot, now, acts);
            }
            Lead::Asked => {}
            Lead::Failed(until, _) if *until > now => {}
            _ => {
                scheduled.lead = Lead::Asked;
                acts.push(Act::Resolve(scheduled.key.clone()));
            }
        }
    }

    fn site_slot(&mut self, site: Arc<Site>) -> SiteKey {
        let epoch = self.lead_epoch;
        if let Some(&key) = self.site_names.get(&site.name) {
            let slot = &mut self.sites[key];
            (slot.site, slot.epoch) = (site, epoch);
            return key;
        }
        let name = site.name.clone();
        let slot = self.sites.insert(SiteSlot::new(site, epoch));
        self.site_names.insert(name, slot);
        slot
    }

    /// Fills the ready queues of a site from the queues that want room, and serves them, until
    /// nothing moves.
    pub(super) fn turn(&mut self, site: SiteKey, now: UnixMs, acts: &mut Vec<Act>) {
        while !self.draining {
            let filled = self.fill(site, now);
            if filled.is_empty() {
                break;
            }
            for ready in filled {
                self.serve(ready, now, acts);
            }
        }
    }

    /// One entry from each wanting queue in turn, as far as there is room. Returns what got some.
    fn fill(&mut self, site: SiteKey, now: UnixMs) -> Vec<ReadyKey> {
        let mut filled = Vec::new();
        let mut stuck = [const { Vec::new() }; 3];
        loop {
            let is_open = |priority: Priority| stuck[priority.place()].len() < MAX_STUCK;
            let Some(queue) = self.sites.get_mut(site).and_then(|s| s.wanting.pop_of(is_open)) else { break };
            let Some(entry) = self.take_due(queue, site) else { continue };
            if !self.may_leave(queue, entry, now) {
                continue;
            }
            match self.choose(site, queue, now) {
                Some(ready) => {
                    self.make_ready(ready, entry, now);
                    filled.push(ready);
                }
                None => {
                    self.meter.give_back(&self.queues[queue].rates, now);
                    self.return_due(entry);
                    stuck[self.queues[queue].priority().place()].push(queue);
                    continue;
                }
            }
            self.want_room(site, queue);
        }
        for queue in stuck.into_iter().flatten() {
            self.want_room(site, queue);
        }
        filled.sort_unstable();
        filled.dedup();
        filled
    }

    /// Puts a queue behind the others of its class and tenant that want room.
    fn want_room(&mut self, site: SiteKey, queue: QueueKey) {
        let (scheduled, slot) = (&self.queues[queue], &mut self.sites[site]);
        slot.wanting.push(scheduled.priority(), &scheduled.tenant, queue);
    }

    /// The first due entry of a queue that wanted room at `site`; without one it wants no more.
    fn take_due(&mut self, queue: QueueKey, site: SiteKey) -> Option<EntryKey> {
        let name = self.sites.get(site)?.site.name.clone();
        let scheduled = self.queues.get_mut(queue)?;
        if matches!(&scheduled.lead, Lead::Known(other, _) if other.name != name) {
            // Its domain leads elsewhere now.
            scheduled.wants_room = false;
            self.set_timer(UnixMs(0), Timer::Queue(queue));
            return None;
        }
        if self.is_blocked(queue) {
            self.queues[queue].wants_room = false;
            return None;
        }
        let (scheduled, entries) = (self.queues.get_mut(queue)?, &self.entries);
        while let Some(entry) = scheduled.due.pop_front() {
            if is_due_in(entries, entry, queue) {
                return Some(entry);
            }
        }
        scheduled.wants_room = false;
        None
    }

    /// Puts a due entry into a ready queue that [`Engine::choose`] has chosen for it.
    fn make_ready(&mut self, key: ReadyKey, entry: EntryKey, now: UnixMs) {
        let most = self.most_ready(key, now);
        let Some(queue) = self.entries.get(entry).map(|e| e.queue) else { return };
        self.put(entry, Place::Ready);
        let ready = &mut self.ready[key];
        let most = ready.most_waiting(most);
        if ready.waiting.is_empty() {
            ready.progress = now;
        }
        let (priority, tenant) = (self.queues[queue].priority(), &self.queues[queue].tenant);
        let displaced = ready.waiting.make_room(priority, tenant, most);
        ready.waiting.push(priority, tenant, entry);
        if let Some(displaced) = displaced {
            self.return_due(displaced);
        }
    }

    /// Puts an entry back at the head of its due list.
    pub(super) fn return_due(&mut self, entry: EntryKey) {
        let Some(queue) = self.entries.get(entry).map(|e| e.queue) else { return };
        self.put(entry, Place::Due);
        self.sweep.pushed_front(queue);
        let scheduled = &mut self.queues[queue];
        scheduled.due.push_front(entry);
        if scheduled.wants_room {
            return;
        }
        let slot = match &scheduled.lead {
            Lead::Known(site, _) => self.site_names.get(&site.name),
            _ => None,
        };
        match slot.and_then(|slot| self.sites.get_mut(*slot)) {
            Some(slot) => {
                scheduled.wants_room = true;
                slot.wanting.push(scheduled.priority(), &scheduled.tenant, queue);
            }
            None => self.set_timer(UnixMs(0), Timer::Queue(queue)),
        }
    }

    /// The ready queue of the source whose turn it is, if any source of the queue's pool can take work.
    fn choose(&mut self, site: SiteKey, queue: QueueKey, now: UnixMs) -> Option<ReadyKey> {
        self.blocks(queue)?;
        let mut usable = self.usable(site, queue, now)?;
        let pool = self.pool_of(queue)?.name.clone();
        loop {
            let (members, rotation) = self.pools.get_mut(&pool)?;
            let picked = rotation.pick(members, |i| usable[i])?;
            let source = members.members[picked].0.clone();
            let key = self.ready_of(&source, site)?;
            let Err(reached) = self.take_choice(key, now) else { return Some(key) };
            let (members, rotation) = self.pools.get_mut(&pool)?;
            rotation.unpick(members, picked, |i| usable[i]);
            usable[picked] = false;
            self.choice_reached(site, key, &reached, now);
        }
    }

    /// Which members of a queue's pool can take work for a site; if none can, the site is looked at again when one may.
    pub(super) fn usable(&mut self, site: SiteKey, queue: QueueKey, now: UnixMs) -> Option<Vec<bool>> {
        let (pool, slot, queue) = (self.pool_of(queue)?, self.sites.get(site)?, self.queues.get(queue)?);
        let mut wake: Option<UnixMs> = None;
        let mut later = |at: UnixMs| wake = Some(wake.map_or(at, |w| w.min(at)));
        let usable: Vec<bool> = (pool.members.iter())
            .map(|(source, _)| {
                let found = slot.ready.get(&source.name).and_then(|key| self.ready.get(*key));
                let held = found.map_or(UnixMs(0), |r| r.held_for(queue.priority(), &queue.tenant));
                let rest = self.health.rests_until(source, now).unwrap_or(UnixMs(0)).max(held);
                if rest > now && slot.fits(source) {
                    later(rest);
                }
                let has_room = |r: &Ready| {
                    let most = self.controls.most_ready(&source.name, &slot.site.name, self.options.max_ready, now);
                    let most = r.most_waiting(most);
                    r.waiting.has_room(queue.priority(), &queue.tenant, most)
                };
                rest <= now
                    && slot.fits(source)
                    && queue.blocks.path(&source.name, &slot.site.name).is_none()
                    && found.is_none_or(has_room)
            })
            .collect();
        if !usable.contains(&true) {
            self.wake_site_at(site, wake);
            return None;
        }
        Some(usable)
    }

    /// The ready queue of a path.
    fn ready_of(&mut self, source: &Arc<Source>, site: SiteKey) -> Option<ReadyKey> {
        let slot = self.sites.get(site)?;
        if let Some(key) = slot.ready.get(&source.name) {
            return Some(*key);
        }
        let budget = self.budget_of(&source.name, &slot.site);
        let key = self.ready.insert(Ready::new(source.clone(), site, budget));
        self.sites.get_mut(site)?.ready.insert(source.name.clone(), key);
        Some(key)
    }

    /// Gives waiting entries to idle sessions, opens sessions for the rest, and hands ahead what is left.
    pub(super) fn serve(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) {
        self.serve_at_once(key, now, acts);
        self.hand_ahead(key, now, acts);
    }

    fn serve_at_once(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) {
        let cap = self.cap(key, now);
        if self.ready.get(key).is_some_and(|ready| ready.budget.parted.is_some()) {
            return self.serve_parts(key, cap, now, acts);
        }
        while !self.draining {
            let Some(ready) = self.ready.get(key).filter(|ready| !ready.waiting.is_empty()) else { return };
            let busy = ready.sessions - ready.idle.len();
            if cap.is_some_and(|cap| busy >= cap) {
                return;
            }
            let may = match self.health.rests_until(&ready.source, now) {
                _ if !ready.idle.is_empty() => May::Open,
                Some(rest) => May::Later(rest),
                None => ready.may_open(cap, now),
            };
            match may {
                May::Open => {
                    let is_idle = !ready.idle.is_empty();
                    let done = if is_idle { self.hand(key, now, acts) } else { self.open(key, now, acts) };
                    if let Err(reached) = done {
                        return self.path_reached(key, reached, now, acts);
                    }
                }
                May::Later(at) => return self.wake_ready_at(key, at),
                May::Wait => return,
            }
        }
    }

    pub(super) fn wake_ready_at(&mut self, key: ReadyKey, at: UnixMs) {
        let Some(ready) = self.ready.get_mut(key) else { return };
        if ready.timer.is_none_or(|set| at < set) {
            ready.timer = Some(at);
            self.set_timer(at, Timer::Ready(key));
        }
    }

    fn hand(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) -> Result<(), Reached> {
        let waiter = Waiter::Ready(key);
        self.in_turn(waiter, now, |engine| engine.meter.take(engine.rates_of(waiter), now))?;
        let Some(session) = self.ready[key].idle.pop() else { return Ok(()) };
        if let Some(ticket) = self.take(key, session, now) {
            acts.push(Act::Hand { session, ticket });
        }
        self.may_take_more(key, session);
        Ok(())
    }

    fn open(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) -> Result<(), Reached> {
        let admit = |engine: &Self| engine.meter.admit(&engine.ready[key].budget, now);
        let lease = self.in_turn(Waiter::Ready(key), now, admit)?;
        for name in lease.iter().flat_map(Lease::names) {
            self.leave_line(Kind::Places, name, Waiter::Ready(key), now);
        }
        let session = self.new_session(key, lease, now);
        if let Some(first) = self.take(key, session, now) {
            self.dial(key, session, first, now, acts);
        }
        Ok(())
    }

    /// A session that holds nothing yet.
    pub(super) fn new_session(&mut self, key: ReadyKey, lease: Option<Lease>, now: UnixMs) -> u64 {
        self.last_session += 1;
        let session = self.last_session;
        let way = self.health.way(&self.ready[key].source, now).unwrap_or(0);
        let (holds, since, is_quick) = (VecDeque::with_capacity(MOST_HELD), now, false);
        let (kept, paid, is_released) = (Box::default(), Vec::new(), false);
        let (opened, is_connected) = (now, false);
        let record =
            Session { ready: key, holds, since, is_quick, opened, is_connected, way, lease, kept, paid, is_released };
        self.sessions.insert(session, record);
        self.ready[key].sessions += 1;
        session
    }

    /// Has a session opened for its first ticket.
    pub(super) fn dial(&mut self, key: ReadyKey, session: u64, first: Ticket, now: UnixMs, acts: &mut Vec<Act>) {
        let (ready, way) = (&self.ready[key], self.sessions.get(&session).map_or(0, |session| session.way));
        self.health.opening(&ready.source, way, now);
        let (source, site) = (ready.source.clone(), self.sites[ready.site].site.clone());
        let way = source.ways.get(way).cloned().unwrap_or(Way::Direct);
        acts.push(Act::Open { session, source, way, site, first });
    }

    /// Moves the waiting entry whose turn it is into `session`.
    pub(super) fn take(&mut self, key: ReadyKey, session: u64, now: UnixMs) -> Option<Ticket> {
        let entry = self.ready.get_mut(key)?.waiting.pop()?;
        self.give(key, session, entry, now)
    }

    /// Moves an entry that waited into `session`.
    pub(super) fn give(&mut self, key: ReadyKey, session: u64, entry: EntryKey, now: UnixMs) -> Option<Ticket> {
        let ready = self.ready.get_mut(key)?;
        (ready.progress, ready.limited) = (now, None);
        let session = self.sessions.get_mut(&session)?;
        session.since = if session.holds.is_empty() { now } else { session.since };
        session.holds.push_back(entry);
        self.put(entry, Place::Session);
        let part = self.entries.get(entry)?;
        Some(part.ticket(self.queues[part.queue].key.0.clone()))
    }

    /// The time of a queue has come.
    pub(super) fn wake_queue(&mut self, queue: QueueKey, now: UnixMs, acts: &mut Vec<Act>) {
        let limited = self.queues.get(queue).and_then(|queue| queue.limited.as_ref());
        let name = limited.map(|limited| limited.name.clone());
        self.meter.tries();
        self.look_at_queue(queue, now, acts);
        if let Some(name) = name {
            self.leave_unless_refused(Kind::Rate, &name, Waiter::Queue(queue), now);
        }
    }

    /// Looks at a queue whose site may have grown old, and forgets it if nothing is in it.
    pub(super) fn look_at_queue(&mut self, queue: QueueKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(scheduled) = self.queues.get(queue) else { return };
        if scheduled.held > 0 {
            if scheduled.waiting > 0 {
                self.advance(queue, now, acts);
            }
            return;
        }
        let fresh = matches!(scheduled.lead, Lead::Known(_, until) if until > now);
        if !fresh && !scheduled.wants_room && !matches!(scheduled.lead, Lead::Asked) {
            self.names.remove(&scheduled.key);
            self.queues.remove(queue);
        }
    }

    pub(super) fn wake_site(&mut self, site: SiteKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(slot) = self.sites.get_mut(site) else { return };
        slot.wake = None;
        self.turn(site, now, acts);
        self.forget_site_if_unused(site);
    }

    /// The time of a ready queue has come.
    pub(super) fn wake_ready(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) {
        let limited = self.ready.get(key).and_then(|ready| ready.limited.as_ref());
        let limited = limited.map(|limited| (limited.by.kind, limited.by.name.clone()));
        self.meter.tries();
        self.serve_again(key, now, acts);
        if let Some((kind, name)) = limited {
            self.leave_unless_refused(kind, &name, Waiter::Ready(key), now);
        }
    }

    /// Serves a ready queue, and what waits to come into it.
    pub(super) fn serve_again(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(ready) = self.ready.get_mut(key) else { return };
        ready.timer = ready.timer.filter(|set| *set > now);
        let (site, waited) = (ready.site, ready.limited.is_some());
        self.serve(key, now, acts);
        if waited {
            // While the path waited for a limit, little was let into its ready queue.
            self.turn(site, now, acts);
        }
        self.forget_ready_if_unused(key, now);
    }

    /// Forgets a ready queue that nothing uses, and its site likewise.
    pub(super) fn forget_ready_if_unused(&mut self, key: ReadyKey, now: UnixMs) {
        let Some(ready) = self.ready.get(key).filter(|r| r.is_unused(now)) else { return };
        let (site, source, is_retired) = (ready.site, ready.source.name.clone(), ready.retired);
        self.ready.remove(key);
        match self.sites.get_mut(site) {
            Some(slot) if is_retired => slot.retired -= 1,
            Some(slot) => drop(slot.ready.remove(&source)),
            None => {}
        }
        self.forget_site_if_unused(site);
    }

    fn forget_site_if_unused(&mut self, site: SiteKey) {
        let unused = |s: &SiteSlot| s.ready.is_empty() && s.retired == 0 && s.wanting.is_empty() && s.wake.is_none();
        if let Some(slot) = self.sites.get(site).filter(|s| unused(s)) {
            self.site_names.remove(&slot.site.name);
            self.sites.remove(site);
        }
    }
}
