//! Work on many entries, in slices between which mail moves on. Pure. Floor 2.
//! Always: a job knows its entries from its start; nothing that it is to bounce or to move goes out
//! meanwhile, and what is in a session is looked at again until it is back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use serde::Serialize;
use slotmap::SecondaryMap;

use super::words::{ControlId, Move, Refused, Scope};
use crate::message::Response;
use crate::queue::engine::{Engine, QueueKey, Timer};
use crate::queue::scheduled::{Lead, Place};
use crate::queue::words::{Act, Cause, EntryKey, HELD};

/// Entries that are worked on in one turn.
const SLICE: usize = 2_000;
/// Between two slices.
const SLICE_WAIT: Duration = Duration::from_millis(1);
/// Before the next slice when so many reports are under way that no more may be begun.
const THROTTLED_WAIT: Duration = Duration::from_millis(20);
/// Before what is in a session is looked at again.
const BUSY_WAIT: Duration = Duration::from_millis(250);
/// Jobs that may run at a time.
const MAX_RUNNING: usize = 64;
/// Jobs that have ended and are still shown.
const MAX_ENDED: usize = 100;

/// What a job does to an entry.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Bounce { response: Arc<Response>, silent: bool },
    Rebind(Move),
    Requeue,
}

/// An order that works on entries.
#[derive(Debug)]
pub(super) struct Job {
    pub id: ControlId,
    pub scope: Scope,
    work: Arc<Work>,
    pending: VecDeque<EntryKey>,
    /// In a session or being reported when their turn came.
    later: Vec<EntryKey>,
    matched: usize,
    done: usize,
    skipped: usize,
    began: UnixMs,
    /// It takes also what comes, until then.
    until: Option<UnixMs>,
    pub ended: Option<UnixMs>,
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobView {
    /// Its id.
    pub id: ControlId,
    /// `bounce`, `rebind` or `requeue`.
    pub kind: &'static str,
    /// What it is about.
    pub scope: Scope,
    /// Parts that it has found.
    pub matched: usize,
    /// Parts that it has worked on.
    pub done: usize,
    /// Parts that were gone, or needed nothing, when their turn came.
    pub skipped: usize,
    /// Whether parts are left.
    pub running: bool,
    /// When it began.
    pub began: UnixMs,
    /// It takes also what comes, until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMs>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<UnixMs>,
}

/// Work on the engine's own account that is too long for one turn.
#[derive(Debug)]
pub(super) enum Chore {
    /// Queues that may go on.
    Wake(VecDeque<QueueKey>),
    /// Entries whose timers were set by other options: the ages at which they expired, by queue, and they.
    Retime(HashMap<QueueKey, Duration>, VecDeque<EntryKey>),
}

enum Outcome {
    Done,
    Skipped,
    Later,
}

impl Job {
    /// Whether what it covers may not go out.
    pub fn is_blocking(&self) -> bool {
        self.ended.is_none() && !matches!(*self.work, Work::Requeue)
    }

    fn has_work(&self) -> bool {
        !self.pending.is_empty() || !self.later.is_empty()
    }

    fn view(&self) -> JobView {
        let kind = match *self.work {
            Work::Bounce { .. } => "bounce",
            Work::Rebind(_) => "rebind",
            Work::Requeue => "requeue",
        };
        let Self { id, matched, done, skipped, began, until, ended, .. } = *self;
        let (scope, running) = (self.scope.clone(), self.ended.is_none() && self.has_work());
        JobView { id, kind, scope, matched, done, skipped, running, began, until, ended }
    }
}

impl Engine {
    /// Jobs that run or ended of late, the newest first.
    pub fn jobs(&self) -> Vec<JobView> {
        self.controls.jobs.iter().rev().map(Job::view).collect()
    }

    pub(super) fn room_for_job(&self) -> Result<(), Refused> {
        let running = self.controls.jobs.iter().filter(|job| job.ended.is_none()).count();
        if running < MAX_RUNNING { Ok(()) } else { Err(Refused::TooMany(format!("{MAX_RUNNING} running jobs"))) }
    }

    /// Begins a job on all that a scope covers now.
    pub(super) fn begin(&mut self, id: ControlId, work: Work, scope: &Scope, until: Option<UnixMs>, now: UnixMs) {
        let mut fitting: SecondaryMap<QueueKey, ()> = SecondaryMap::new();
        for (key, queue) in self.queues.iter().filter(|(_, queue)| queue.held > 0) {
            if scope.fits_name(&queue.key.0) && scope.fits_site(queue.lead.site_name()) {
                fitting.insert(key, ());
            }
        }
        let entries = self.entries.iter().filter(|(_, entry)| fitting.contains_key(entry.queue));
        let pending: VecDeque<EntryKey> = entries.map(|(key, _)| key).collect();
        let (scope, work, matched) = (scope.clone(), Arc::new(work), pending.len());
        let job = Job {
            id,
            scope,
            work,
            pending,
            later: Vec::new(),
            matched,
            done: 0,
            skipped: 0,
            began: now,
            until,
            ended: None,
        };
        let blocked = job.is_blocking().then(|| job.scope.clone());
        self.controls.jobs.push(job);
        if let Some(scope) = blocked {
            self.withdraw(&scope);
        }
        self.arm(UnixMs(0));
    }

    /// A new entry may be one that a bounce which lasts is about.
    pub(in crate::queue) fn catch(&mut self, entry: EntryKey, queue: QueueKey) {
        let Self { controls, queues, .. } = self;
        let lasting = controls.jobs.iter_mut().filter(|job| job.until.is_some() && job.ended.is_none());
        let Some(queue) = queues.get(queue) else { return };
        if let Some(job) = lasting.into_iter().find(|job| job.scope.fits_name(&queue.key.0)) {
            job.pending.push_back(entry);
            job.matched += 1;
            self.arm(UnixMs(0));
        }
    }

    /// A bounce takes what comes for longer.
    pub(super) fn last_longer(&mut self, id: ControlId, until: UnixMs) {
        if let Some(job) = self.controls.jobs.iter_mut().find(|job| job.id == id && job.until.is_some()) {
            job.until = Some(until);
        }
    }

    /// A bounce takes no more of what comes.
    pub(super) fn last_no_longer(&mut self, id: ControlId, now: UnixMs) {
        if let Some(at) = self.controls.jobs.iter().position(|job| job.id == id) {
            self.controls.jobs[at].until = None;
            self.end_if_done(at, now);
        }
    }

    pub(in crate::queue) fn wake_queues(&mut self, queues: VecDeque<QueueKey>) {
        self.add_chore(Chore::Wake(queues));
    }

    pub(super) fn add_chore(&mut self, chore: Chore) {
        self.controls.chores.push_back(chore);
        self.arm(UnixMs(0));
    }

    fn arm(&mut self, at: UnixMs) {
        if !std::mem::replace(&mut self.controls.is_armed, true) {
            self.set_timer(at, Timer::Work);
        }
    }

    /// One slice of all work that is left.
    pub(in crate::queue) fn work(&mut self, now: UnixMs, acts: &mut Vec<Act>) {
        // What arms it meanwhile is part of this slice.
        self.controls.is_armed = true;
        let running = self.controls.jobs.iter().filter(|job| job.has_work()).count();
        let slice = (SLICE / running.max(1)).max(1);
        let mut next = self.do_chores(now, acts);
        for at in 0..self.controls.jobs.len() {
            let wait = self.work_on(at, slice, now, acts);
            next = [next, wait].into_iter().flatten().min();
            self.end_if_done(at, now);
        }
        self.forget_ended();
        if !self.controls.chores.is_empty() {
            next = Some(SLICE_WAIT);
        }
        self.controls.is_armed = false;
        if let Some(wait) = next {
            self.arm(now.plus(wait));
        }
    }

    /// One slice of one job. Returns when the next may be done, if any is left.
    fn work_on(&mut self, at: usize, slice: usize, now: UnixMs, acts: &mut Vec<Act>) -> Option<Duration> {
        let work = self.controls.jobs[at].work.clone();
        for _ in 0..slice {
            if matches!(*work, Work::Bounce { .. }) && self.is_reporting_enough() {
                return self.controls.jobs[at].has_work().then_some(THROTTLED_WAIT);
            }
            let job = &mut self.controls.jobs[at];
            let Some(key) = job.pending.pop_front() else {
                job.pending = std::mem::take(&mut job.later).into();
                return job.has_work().then_some(BUSY_WAIT);
            };
            let outcome = self.work_on_entry(at, &work, key, now, acts);
            let job = &mut self.controls.jobs[at];
            match outcome {
                Outcome::Done => job.done += 1,
                Outcome::Skipped => job.skipped += 1,
                Outcome::Later => job.later.push(key),
            }
        }
        self.controls.jobs[at].has_work().then_some(SLICE_WAIT)
    }

    fn work_on_entry(&mut self, at: usize, work: &Work, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) -> Outcome {
        let Some(entry) = self.entries.get(key) else { return Outcome::Skipped };
        let (place, queue, due) = (entry.place, entry.queue, entry.due);
        let (scope, scheduled) = (&self.controls.jobs[at].scope, &self.queues[queue]);
        if !scope.fits_name(&scheduled.key.0) || !scope.fits_site(scheduled.lead.site_name()) {
            return Outcome::Skipped;
        }
        if let Work::Requeue = work {
            if place != Place::Timer || due <= now {
                return Outcome::Skipped;
            }
            self.be_due(key, now, acts);
            return Outcome::Done;
        }
        match (place, work) {
            (Place::Session | Place::Reporting | Place::Ready, _) => return Outcome::Later,
            (_, Work::Bounce { response, silent }) => {
                let cause = if *silent { Cause::Dropped } else { Cause::Bounced };
                self.fail(key, cause, response, acts);
                self.trim(queue);
            }
            (_, Work::Rebind(to)) => return self.move_entry(key, to, now, acts),
            (_, Work::Requeue) => {}
        }
        Outcome::Done
    }

    /// Makes a part due now, and stores that.
    fn be_due(&mut self, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.due = now;
        }
        self.mark_later(key, acts);
        self.schedule(key, now, acts);
    }

    /// Moves a part that waits at a timer or in a due list.
    fn move_entry(&mut self, key: EntryKey, to: &Move, now: UnixMs, acts: &mut Vec<Act>) -> Outcome {
        let Some(entry) = self.entries.get(key) else { return Outcome::Skipped };
        let (from, (name, pool, priority)) = (entry.queue, &self.queues[entry.queue].key);
        let wanted = (to.name(name), to.pool.clone().unwrap_or_else(|| pool.clone()), *priority);
        let target = self.queue_of(wanted);
        let is_early = to.requeue && entry_is_early(self, key, now);
        if target == from && !is_early {
            return Outcome::Skipped;
        }
        // From here until it is scheduled, no list holds it.
        self.put(key, Place::Timer);
        self.queues[target].held += 1;
        if let Some(entry) = self.entries.get_mut(key) {
            if target != from {
                entry.notes.set_moved();
            }
            entry.queue = target;
            entry.due = if is_early { now } else { entry.due };
        }
        self.leave(from);
        self.trim(from);
        self.mark_later(key, acts);
        self.schedule(key, now, acts);
        Outcome::Done
    }

    fn end_if_done(&mut self, at: usize, now: UnixMs) {
        let job = &mut self.controls.jobs[at];
        if job.ended.is_some() || job.until.is_some() || job.has_work() {
            return;
        }
        let is_blocking = job.is_blocking();
        job.ended = Some(now);
        let scope = job.scope.clone();
        if is_blocking {
            self.release(&scope);
        }
    }

    /// Only the last that ended are shown.
    fn forget_ended(&mut self) {
        let jobs = &mut self.controls.jobs;
        let mut surplus = jobs.iter().filter(|job| job.ended.is_some()).count().saturating_sub(MAX_ENDED);
        jobs.retain(|job| {
            let goes = job.ended.is_some() && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }

    fn do_chores(&mut self, now: UnixMs, acts: &mut Vec<Act>) -> Option<Duration> {
        let mut left = SLICE;
        while left > 0
            && let Some(mut chore) = self.controls.chores.pop_front()
        {
            let is_over = match &mut chore {
                Chore::Wake(queues) => {
                    let slice: Vec<QueueKey> = queues.drain(..left.min(queues.len())).collect();
                    left -= slice.len();
                    for queue in slice {
                        self.look_at_queue(queue, now, acts);
                    }
                    queues.is_empty()
                }
                Chore::Retime(ages, entries) => {
                    let slice: Vec<EntryKey> = entries.drain(..left.min(entries.len())).collect();
                    left -= slice.len();
                    for entry in slice {
                        self.retime(entry, ages, now, acts);
                    }
                    entries.is_empty()
                }
            };
            if !is_over {
                self.controls.chores.push_front(chore);
            }
        }
        (!self.controls.chores.is_empty()).then_some(SLICE_WAIT)
    }

    /// Brings a part's schedule under the options that hold now. A timer that is too early finds out by
    /// itself.
    fn retime(&mut self, key: EntryKey, ages: &HashMap<QueueKey, Duration>, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(queue) = self.entries.get(key).map(|entry| entry.queue) else { return };
        let options = *self.options_of(queue);
        // One that came into the queue since was scheduled by its options of now.
        let old_age = ages.get(&queue).copied().unwrap_or(options.max_age);
        let Some(entry) = self.entries.get_mut(key) else { return };
        let before = entry.due.min(entry.received.plus(old_age));
        if entry.attempts > 0 && entry.due != HELD && matches!(entry.place, Place::Timer) {
            entry.due = entry.due.min(now.plus(options.longest_retry(entry.attempts)));
        }
        let after = entry.due.min(entry.received.plus(options.max_age));
        if entry.place == Place::Timer && after < before {
            self.schedule(key, now, acts);
        }
    }
}

fn entry_is_early(engine: &Engine, key: EntryKey, now: UnixMs) -> bool {
    engine.entries.get(key).is_some_and(|entry| entry.due > now)
}

impl Lead {
    /// The name of the site, where it is known.
    pub(in crate::queue) fn site_name(&self) -> Option<&str> {
        match self {
            Lead::Known(site, _) => Some(&site.name),
            _ => None,
        }
    }
}
