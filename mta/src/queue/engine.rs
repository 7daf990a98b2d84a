//! The one owner of the scheduled and the ready queues: told words and the time, it gives out acts.
//! Pure. Floor 2.
//! Always: a live entry says where it is: at a timer, in a due list, in a ready queue, in a session, or
//! being reported; and a key of it is there. `check()` says so after each step of the property tests.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::limits::{Lease, Limits, Throttle};
use slotmap::SlotMap;

use super::budget::Paths;
use super::control::Controls;
use super::floors::Whose;
use super::meter::Meter;
use super::options::QueueOptions;
use super::ready::{Ready, SiteSlot};
use super::rules::QueueRules;
use super::scheduled::{Entry, Lead, Notes, Place, Scheduled, is_due_in};
use super::sweep::Sweep;
use super::words::{Act, Admit, Cause, EntryKey, HELD, NoSite, PartKey, Readmit, Resolution};
use crate::routing::health::{Health, rest_after};
use crate::routing::pool::{Pool, Rotation};

slotmap::new_key_type! {
    pub(super) struct QueueKey;
    pub(super) struct SiteKey;
    pub(super) struct ReadyKey;
}

/// Failures that may be being reported before no more are begun on our own account: a report is a task
/// and a message.
const MAX_REPORTING: usize = 512;
/// Before a timer looks again at an expired entry for whose report there was no room.
const REPORT_WAIT: Duration = Duration::from_secs(1);
/// The longest wait before DNS is asked again about a domain.
const MAX_DNS_WAIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Entry(EntryKey),
    Queue(QueueKey),
    Site(SiteKey),
    Ready(ReadyKey),
    Sweep,
    Work,
    Control,
}

/// A session as the engine sees it.
pub(super) struct Session {
    pub ready: ReadyKey,
    /// What it has in hand, and what was handed ahead, in order.
    pub holds: VecDeque<EntryKey>,
    /// When it began with what it has in hand.
    pub since: UnixMs,
    /// It was quick about the last.
    pub is_quick: bool,
    pub opened: UnixMs,
    /// The server has answered: what it has in hand was tried.
    pub is_connected: bool,
    /// By which way of its source.
    pub way: usize,
    /// Its places in limits that others share: free when the session is over.
    pub lease: Option<Lease>,
    /// It has a place that is kept for these: it carries only mail that is all of them.
    pub kept: Box<[Whose]>,
    /// What its ticket took of rates of which something is kept.
    pub paid: Vec<(Arc<str>, Throttle)>,
    /// It was told that there is no more work, so that its places become free.
    pub is_released: bool,
}

/// The queues.
pub struct Engine {
    /// Where nothing else is said of a queue.
    pub(super) options: QueueOptions,
    pub(super) rules: Arc<QueueRules>,
    pub(super) paths: Box<dyn Paths>,
    pub(super) meter: Meter,
    pub(super) lead_epoch: u64,
    pub(super) pools: HashMap<Arc<str>, (Pool, Rotation)>,
    pub(super) default_pool: Arc<str>,
    pub(super) health: Health,
    pub(super) entries: SlotMap<EntryKey, Entry>,
    pub(super) queues: SlotMap<QueueKey, Scheduled>,
    pub(super) names: HashMap<PartKey, QueueKey>,
    pub(super) sites: SlotMap<SiteKey, SiteSlot>,
    pub(super) site_names: HashMap<Arc<str>, SiteKey>,
    pub(super) ready: SlotMap<ReadyKey, Ready>,
    pub(super) sessions: HashMap<u64, Session>,
    timers: BinaryHeap<Reverse<(UnixMs, Timer)>>,
    pub(super) last_session: u64,
    pub(super) sweep: Sweep,
    pub(super) controls: Controls,
    random: u64,
    pub(super) reporting: usize,
    pub(super) draining: bool,
}

impl Engine {
    /// Empty queues. `paths` says what limits each path, and `meter` keeps it. `pools` must hold `default_pool`; a part whose pool is gone leaves from that.
    /// `seed` drives the spread of retries.
    pub fn new(
        options: QueueOptions,
        paths: impl Paths + 'static,
        meter: Meter,
        pools: Vec<Pool>,
        default_pool: Arc<str>,
        seed: u64,
    ) -> Self {
        Self {
            options,
            rules: Arc::default(),
            paths: Box::new(paths),
            meter,
            lead_epoch: 0,
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
            sweep: Sweep::default(),
            controls: Controls::default(),
            random: seed | 1,
            reporting: 0,
            draining: false,
        }
    }

    /// The limits that are kept.
    pub fn limits(&self) -> Limits {
        self.meter.limits()
    }

    /// Parts in the queues, wherever they are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Scheduled queues, ready queues, open sessions, sources and proxies at rest, orders that last,
    /// jobs that run: for gauges.
    pub fn sizes(&self) -> [usize; 6] {
        let [controls, jobs] = self.controls.counts();
        [self.queues.len(), self.ready.len(), self.sessions.len(), self.health.resting(), controls, jobs]
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
            ready.quick.clear();
        }
    }

    /// After [`Engine::drain`]: nothing is in flight or being reported.
    pub fn is_drained(&self) -> bool {
        self.draining && self.sessions.is_empty() && self.reporting == 0
    }

    /// Queues a part that is on stable storage.
    pub fn admit(&mut self, admit: Admit, now: UnixMs, acts: &mut Vec<Act>) {
        self.queue(Readmit { part: admit, is_moved: false, told: 0 }, now, acts);
    }

    /// Queues a part again that an earlier run of the program has queued.
    pub fn readmit(&mut self, readmit: Readmit, now: UnixMs, acts: &mut Vec<Act>) {
        self.queue(readmit, now, acts);
    }

    fn queue(&mut self, readmit: Readmit, now: UnixMs, acts: &mut Vec<Act>) {
        let Readmit { part, is_moved, told } = readmit;
        let notes = Notes::new(is_moved, part.hears_of_delay, told);
        let Admit { id, part, queue, pool, priority, recipients, received, attempts, due, settled, .. } = part;
        let queue = self.queue_of((queue, pool, priority));
        self.queues[queue].held += 1;
        // What waits for a retry was scheduled by the options of then; those of now hold.
        let is_retry = attempts > 0 && due != Some(HELD);
        let longest = if is_retry { now.plus(self.options_of(queue).longest_retry(attempts)) } else { HELD };
        let (due, settled, place) = (due.unwrap_or(now).min(longest), settled.into(), Place::Timer);
        let entry = Entry { id, received, due, queue, settled, part, recipients, attempts, place, notes };
        let entry = self.entries.insert(entry);
        self.catch(entry, queue);
        self.schedule(entry, now, acts);
    }

    /// The queue of that name, pool and priority.
    pub(super) fn queue_of(&mut self, key: PartKey) -> QueueKey {
        if let Some(queue) = self.names.get(&key) {
            return *queue;
        }
        let mut queue = Scheduled::new(key.clone());
        queue.follow(&self.rules, &self.options);
        let queue = self.queues.insert(queue);
        self.names.insert(key, queue);
        queue
    }

    /// The options of a queue.
    pub(super) fn options_of(&self, queue: QueueKey) -> &QueueOptions {
        self.queues.get(queue).and_then(|queue| queue.own.as_deref()).unwrap_or(&self.options)
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
            Err(NoSite::Temporary(response)) => {
                scheduled.dns_failures += 1;
                let until = now.plus(rest_after(scheduled.dns_failures + 3).min(MAX_DNS_WAIT));
                scheduled.lead = Lead::Failed(until, response.to_string().into());
                self.set_timer(until, Timer::Queue(queue));
            }
            Err(NoSite::Permanent(response)) => {
                scheduled.lead = Lead::Unknown;
                let due = std::mem::take(&mut scheduled.due);
                for entry in due {
                    if is_due_in(&self.entries, entry, queue) {
                        self.fail(entry, Cause::Unroutable, &response, acts);
                    }
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
                Timer::Entry(entry) => self.wake_entry(entry, now, acts),
                Timer::Queue(queue) => self.wake_queue(queue, now, acts),
                Timer::Site(site) => self.wake_site(site, now, acts),
                Timer::Ready(ready) => self.wake_ready(ready, now, acts),
                Timer::Sweep => self.sweep(now, acts),
                Timer::Work => self.work(now, acts),
                Timer::Control => self.expire_controls(now, acts),
            }
        }
    }

    /// A timer that was set for an entry which is elsewhere now means nothing.
    fn wake_entry(&mut self, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) {
        if self.entries.get(key).is_some_and(|entry| entry.place == Place::Timer) {
            self.schedule(key, now, acts);
        }
    }

    /// Puts an entry that no list holds where it belongs: a timer, its queue's due list, or the end.
    pub(super) fn schedule(&mut self, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(entry) = self.entries.get(key) else { return };
        let (due, queue) = (entry.due, entry.queue);
        let expiry = entry.received.plus(self.options_of(queue).max_age);
        if expiry <= now && self.is_reporting_enough() {
            self.wait_until(key, now.plus(REPORT_WAIT));
        } else if expiry <= now {
            self.expire(key, acts);
        } else if due > now {
            self.wait_until(key, due.min(expiry));
        } else {
            self.put(key, Place::Due);
            self.queues[queue].due.push_back(key);
            self.advance(queue, now, acts);
        }
    }

    fn wait_until(&mut self, key: EntryKey, at: UnixMs) {
        self.put(key, Place::Timer);
        self.set_timer(at, Timer::Entry(key));
    }

    /// Says where an entry is now; its key must be there, too.
    pub(super) fn put(&mut self, key: EntryKey, place: Place) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let before = std::mem::replace(&mut entry.place, place);
        let Some(queue) = self.queues.get_mut(entry.queue) else { return };
        queue.waiting = queue.waiting + usize::from(place == Place::Due) - usize::from(before == Place::Due);
    }

    /// Thins out a due list of which little still counts.
    pub(super) fn trim(&mut self, queue: QueueKey) {
        if let Some(scheduled) = self.queues.get_mut(queue) {
            scheduled.trim(queue, &self.entries);
        }
    }

    /// How many more failures may be reported now on our own account.
    pub(super) fn room_for_reports(&self) -> usize {
        MAX_REPORTING.saturating_sub(self.reporting)
    }

    pub(super) fn is_reporting_enough(&self) -> bool {
        self.room_for_reports() == 0
    }

    pub(super) fn wake_site_at(&mut self, site: SiteKey, at: Option<UnixMs>) {
        let (Some(at), Some(slot)) = (at, self.sites.get_mut(site)) else { return };
        if slot.wake.is_none_or(|set| at < set) {
            slot.wake = Some(at);
            self.set_timer(at, Timer::Site(site));
        }
    }

    #[cfg(test)]
    pub(super) fn each_timer(&self) -> impl Iterator<Item = Timer> + '_ {
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
