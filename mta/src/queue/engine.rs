//! The one owner of the scheduled and the ready queues: told words and the time, it gives out acts.
//! Pure. Floor 2.
//! Always: a live entry is in exactly one place: a timer, a due list, a ready queue, a session, or
//! being reported. `check()` says so after each step of the property tests.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use slotmap::SlotMap;

use super::options::QueueOptions;
use super::ready::{May, Ready, SiteSlot};
use super::scheduled::{Entry, Lead, Scheduled};
use super::words::{Act, Admit, EntryKey, NoSite, PartKey, Resolution};
use crate::routing::health::{Health, rest_after};
use crate::routing::pool::{Pool, Rotation};

slotmap::new_key_type! {
    pub(super) struct QueueKey;
    pub(super) struct SiteKey;
    pub(super) struct ReadyKey;
}

/// How often waiting entries are looked through for expiry.
const SWEEP: Duration = Duration::from_secs(10);
/// Scheduled queues of a site that are asked in one turn when none of their pools has room.
const MAX_STUCK: usize = 16;
/// The longest wait before DNS is asked again about a domain.
const MAX_DNS_WAIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Entry(EntryKey),
    Queue(QueueKey),
    Site(SiteKey),
    Ready(ReadyKey),
    Sweep,
}

/// A session as the engine sees it.
#[derive(Debug)]
pub(super) struct Session {
    pub ready: ReadyKey,
    pub holds: Option<EntryKey>,
    pub opened: UnixMs,
}

/// The queues.
pub struct Engine {
    pub(super) options: QueueOptions,
    pub(super) connection_limit: usize,
    pools: HashMap<Arc<str>, (Pool, Rotation)>,
    default_pool: Arc<str>,
    pub(super) health: Health,
    pub(super) entries: SlotMap<EntryKey, Entry>,
    pub(super) queues: SlotMap<QueueKey, Scheduled>,
    names: HashMap<PartKey, QueueKey>,
    pub(super) sites: SlotMap<SiteKey, SiteSlot>,
    site_names: HashMap<Arc<str>, SiteKey>,
    pub(super) ready: SlotMap<ReadyKey, Ready>,
    pub(super) sessions: HashMap<u64, Session>,
    timers: BinaryHeap<Reverse<(UnixMs, Timer)>>,
    last_session: u64,
    random: u64,
    pub(super) reporting: usize,
    pub(super) draining: bool,
}

impl Engine {
    /// Empty queues. `pools` must hold `default_pool`; a part whose pool is gone leaves from that.
    /// `seed` drives the spread of retries.
    pub fn new(
        options: QueueOptions,
        connection_limit: u32,
        pools: Vec<Pool>,
        default_pool: Arc<str>,
        seed: u64,
    ) -> Self {
        Self {
            options,
            connection_limit: connection_limit as usize,
            pools: pools.into_iter().map(|pool| (pool.name.clone(), (pool, Rotation::default()))).collect(),
            default_pool,
            health: Health::default(),
            entries: SlotMap::with_key(),
            queues: SlotMap::with_key(),
            names: HashMap::new(),
            sites: SlotMap::with_key(),
            site_names: HashMap::new(),
            ready: SlotMap::with_key(),
            sessions: HashMap::new(),
            timers: BinaryHeap::from([Reverse((UnixMs(0), Timer::Sweep))]),
            last_session: 0,
            random: seed | 1,
            reporting: 0,
            draining: false,
        }
    }

    /// Parts in the queues, wherever they are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Scheduled queues, ready queues, open sessions, sources and proxies at rest: for gauges.
    pub fn sizes(&self) -> [usize; 4] {
        [self.queues.len(), self.ready.len(), self.sessions.len(), self.health.resting()]
    }

    /// When [`Engine::tick`] must be called at the latest.
    pub fn next_wake(&self) -> Option<UnixMs> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Stops opening and feeding sessions: those that run finish what they hold.
    pub fn drain(&mut self, acts: &mut Vec<Act>) {
        self.draining = true;
        for ready in self.ready.values_mut() {
            acts.extend(ready.idle.drain(..).map(|session| Act::Release { session }));
        }
    }

    /// After [`Engine::drain`]: nothing is in flight or being reported.
    pub fn is_drained(&self) -> bool {
        self.draining && self.sessions.is_empty() && self.reporting == 0
    }

    /// Queues a part that is on stable storage.
    pub fn admit(&mut self, admit: Admit, now: UnixMs, acts: &mut Vec<Act>) {
        let key = (admit.queue, admit.pool);
        let queue = match self.names.get(&key) {
            Some(queue) => *queue,
            None => {
                let queue = self.queues.insert(Scheduled::new(key.clone()));
                self.names.insert(key, queue);
                queue
            }
        };
        self.queues[queue].held += 1;
        let Admit { id, part, recipients, received, attempts, .. } = admit;
        let due = admit.due.unwrap_or(now);
        let settled = admit.settled.into();
        let entry = self.entries.insert(Entry { id, received, due, queue, settled, part, recipients, attempts });
        self.schedule(entry, now, acts);
    }

    /// Tells where the domain of a queue leads.
    pub fn resolved(&mut self, key: &PartKey, resolution: Resolution, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(&queue) = self.names.get(key) else { return };
        let scheduled = &mut self.queues[queue];
        match resolution {
            Ok((site, good_for)) => {
                scheduled.dns_failures = 0;
                let until = now.plus(good_for);
                scheduled.lead = Lead::Known(site, until);
                self.set_timer(until, Timer::Queue(queue));
                self.advance(queue, now, acts);
            }
            Err(NoSite::Temporary(_)) => {
                scheduled.dns_failures += 1;
                let until = now.plus(rest_after(scheduled.dns_failures + 3).min(MAX_DNS_WAIT));
                scheduled.lead = Lead::Failed(until);
                self.set_timer(until, Timer::Queue(queue));
            }
            Err(NoSite::Permanent(response)) => {
                scheduled.lead = Lead::Unknown;
                let due: Vec<EntryKey> = scheduled.due.drain(..).collect();
                for entry in due {
                    self.fail(entry, super::Cause::Unroutable, &response, acts);
                }
            }
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: UnixMs, acts: &mut Vec<Act>) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Entry(entry) => self.schedule(entry, now, acts),
                Timer::Queue(queue) => self.look_at_queue(queue, now, acts),
                Timer::Site(site) => self.wake_site(site, now, acts),
                Timer::Ready(ready) => self.wake_ready(ready, now, acts),
                Timer::Sweep => self.sweep(now, acts),
            }
        }
    }

    /// Puts an entry that no list holds where it belongs: a timer, its queue's due list, or the end.
    pub(super) fn schedule(&mut self, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(entry) = self.entries.get(key) else { return };
        let (due, expiry, queue) = (entry.due, entry.received.plus(self.options.max_age), entry.queue);
        if expiry <= now {
            self.expire(key, acts);
        } else if due > now {
            self.set_timer(due.min(expiry), Timer::Entry(key));
        } else {
            self.queues[queue].due.push_back(key);
            self.advance(queue, now, acts);
        }
    }

    /// Moves a queue's due entries on, or asks where they lead.
    pub(super) fn advance(&mut self, queue: QueueKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(scheduled) = self.queues.get_mut(queue) else { return };
        match &scheduled.lead {
            Lead::Known(site, until) if *until > now => {
                let site = site.clone();
                let wants = !std::mem::replace(&mut scheduled.wants_room, true);
                let slot = self.site_slot(site);
                if wants {
                    self.sites[slot].wanting.push_back(queue);
                }
                self.turn(slot, now, acts);
            }
            Lead::Asked => {}
            Lead::Failed(until) if *until > now => {}
            _ => {
                scheduled.lead = Lead::Asked;
                acts.push(Act::Resolve(scheduled.key.clone()));
            }
        }
    }

    fn site_slot(&mut self, site: Arc<crate::dns::site::Site>) -> SiteKey {
        if let Some(&slot) = self.site_names.get(&site.name) {
            self.sites[slot].site = site;
            return slot;
        }
        let name = site.name.clone();
        let slot = self.sites.insert(SiteSlot::new(site));
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
        let mut stuck = 0;
        while let Some(queue) = self.sites.get_mut(site).and_then(|s| s.wanting.pop_front()) {
            let Some(entry) = self.pop_due(queue) else {
                self.queues[queue].wants_room = false;
                continue;
            };
            let pool = self.queues[queue].key.1.clone();
            match self.choose(site, &pool, now) {
                Some(ready) => {
                    let slot = &mut self.ready[ready];
                    if slot.waiting.is_empty() {
                        slot.progress = now;
                    }
                    slot.waiting.push_back(entry);
                    filled.push(ready);
                    self.sites[site].wanting.push_back(queue);
                }
                None => {
                    self.queues[queue].due.push_front(entry);
                    self.sites[site].wanting.push_back(queue);
                    stuck += 1;
                }
            }
            if stuck >= MAX_STUCK.min(self.sites[site].wanting.len()) && stuck > 0 {
                break;
            }
        }
        filled.sort_unstable();
        filled.dedup();
        filled
    }

    fn pop_due(&mut self, queue: QueueKey) -> Option<EntryKey> {
        let (queues, entries) = (&mut self.queues, &self.entries);
        let due = &mut queues.get_mut(queue)?.due;
        loop {
            let entry = due.pop_front()?;
            if entries.contains_key(entry) {
                return Some(entry);
            }
        }
    }

    /// The ready queue of the source whose turn it is, if any source of the pool can take work.
    fn choose(&mut self, site: SiteKey, pool: &Arc<str>, now: UnixMs) -> Option<ReadyKey> {
        let Self { pools, sites, ready, health, options, .. } = self;
        let name = if pools.contains_key(pool) { pool } else { &self.default_pool };
        let (pool, rotation) = pools.get_mut(name)?;
        let slot = sites.get_mut(site)?;
        let mut wake: Option<UnixMs> = None;
        let mut later = |at: UnixMs| wake = Some(wake.map_or(at, |w| w.min(at)));
        let usable: Vec<bool> = (pool.members.iter())
            .map(|(source, _)| {
                let queue = slot.ready.get(&source.name).and_then(|key| ready.get(*key));
                let held = queue.map_or(UnixMs(0), |q| q.held_until);
                let rest = health.rests_until(source, now).unwrap_or(UnixMs(0)).max(held);
                if rest > now && slot.fits(source) {
                    later(rest);
                }
                rest <= now && slot.fits(source) && queue.is_none_or(|q| q.waiting.len() < options.max_ready)
            })
            .collect();
        let Some(picked) = rotation.pick(pool, |i| usable[i]) else {
            self.wake_site_at(site, wake);
            return None;
        };
        let source = &pool.members[picked].0;
        let key =
            slot.ready.entry(source.name.clone()).or_insert_with(|| ready.insert(Ready::new(source.clone(), site)));
        Some(*key)
    }

    /// Gives waiting entries to idle sessions, and opens sessions for the rest.
    pub(super) fn serve(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) {
        while !self.draining {
            let Some(ready) = self.ready.get_mut(key) else { return };
            while ready.waiting.front().is_some_and(|entry| !self.entries.contains_key(*entry)) {
                ready.waiting.pop_front();
            }
            if ready.waiting.is_empty() {
                return;
            }
            if let Some(session) = ready.idle.pop() {
                self.hand(key, session, now, acts);
                continue;
            }
            let rest = self.health.rests_until(&ready.source, now);
            match rest.map_or_else(|| ready.may_open(self.connection_limit, now), May::Later) {
                May::Open => self.open(key, now, acts),
                May::Later(at) => {
                    if !std::mem::replace(&mut ready.timer, true) {
                        self.set_timer(at, Timer::Ready(key));
                    }
                    return;
                }
                May::Wait => return,
            }
        }
    }

    fn hand(&mut self, key: ReadyKey, session: u64, now: UnixMs, acts: &mut Vec<Act>) {
        if let Some(ticket) = self.take(key, session, now) {
            acts.push(Act::Hand { session, ticket });
        }
    }

    fn open(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) {
        self.last_session += 1;
        let session = self.last_session;
        self.sessions.insert(session, Session { ready: key, holds: None, opened: now });
        self.ready[key].sessions += 1;
        let Some(first) = self.take(key, session, now) else { return };
        let ready = &self.ready[key];
        self.health.opening(&ready.source, now);
        let (source, site) = (ready.source.clone(), self.sites[ready.site].site.clone());
        acts.push(Act::Open { session, source, site, first });
    }

    /// Moves the first waiting entry, which the caller has seen to be alive, into `session`.
    fn take(&mut self, key: ReadyKey, session: u64, now: UnixMs) -> Option<crate::message::Ticket> {
        let ready = self.ready.get_mut(key)?;
        ready.progress = now;
        let entry = ready.waiting.pop_front()?;
        self.sessions.get_mut(&session)?.holds = Some(entry);
        let part = self.entries.get(entry)?;
        Some(part.ticket(self.queues[part.queue].key.0.clone()))
    }

    /// Looks at a queue whose site may have grown old, and forgets it if nothing is in it.
    fn look_at_queue(&mut self, queue: QueueKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(scheduled) = self.queues.get(queue) else { return };
        if scheduled.held > 0 {
            if !scheduled.due.is_empty() {
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

    fn wake_site(&mut self, site: SiteKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(slot) = self.sites.get_mut(site) else { return };
        slot.wake = None;
        self.turn(site, now, acts);
        self.forget_site_if_unused(site);
    }

    fn wake_ready(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(ready) = self.ready.get_mut(key) else { return };
        ready.timer = false;
        self.serve(key, now, acts);
        self.forget_ready_if_unused(key, now);
    }

    /// Forgets a ready queue that nothing uses, and its site likewise.
    pub(super) fn forget_ready_if_unused(&mut self, key: ReadyKey, now: UnixMs) {
        let Some(ready) = self.ready.get(key).filter(|r| r.is_unused(now)) else { return };
        let (site, source) = (ready.site, ready.source.name.clone());
        self.ready.remove(key);
        if let Some(slot) = self.sites.get_mut(site) {
            slot.ready.remove(&source);
        }
        self.forget_site_if_unused(site);
    }

    fn forget_site_if_unused(&mut self, site: SiteKey) {
        let unused = |s: &SiteSlot| s.ready.is_empty() && s.wanting.is_empty() && s.wake.is_none();
        if let Some(slot) = self.sites.get(site).filter(|s| unused(s)) {
            self.site_names.remove(&slot.site.name);
            self.sites.remove(site);
        }
    }

    /// Expires what has waited too long in due lists and ready queues: timers watch the others.
    fn sweep(&mut self, now: UnixMs, acts: &mut Vec<Act>) {
        self.set_timer(now.plus(SWEEP), Timer::Sweep);
        let max_age = self.options.max_age;
        let entries = &self.entries;
        let old = |e: &EntryKey| entries.get(*e).is_some_and(|entry| entry.received.plus(max_age) <= now);
        let mut expired: Vec<EntryKey> = Vec::new();
        let mut thin = |list: &mut VecDeque<EntryKey>| {
            expired.extend(list.iter().filter(|e| old(e)));
            list.retain(|e| entries.contains_key(*e) && !old(e));
        };
        self.queues.values_mut().for_each(|queue| thin(&mut queue.due));
        self.ready.values_mut().for_each(|ready| thin(&mut ready.waiting));
        for entry in expired {
            self.expire(entry, acts);
        }
    }

    fn wake_site_at(&mut self, site: SiteKey, at: Option<UnixMs>) {
        let (Some(at), Some(slot)) = (at, self.sites.get_mut(site)) else { return };
        if slot.wake.is_none_or(|set| at < set) {
            slot.wake = Some(at);
            self.set_timer(at, Timer::Site(site));
        }
    }

    #[cfg(test)]
    pub(super) fn timers(&self) -> impl Iterator<Item = Timer> + '_ {
        self.timers.iter().map(|Reverse((_, timer))| *timer)
    }

    pub(super) fn set_timer(&mut self, at: UnixMs, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
    }

    /// The next number of a xorshift generator: enough to spread retries.
    pub(super) fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
