//! Expiry of what waits in due lists and ready queues, looked through in steps: timers watch the others.
//! Pure. Floor 2.
//! Always: a step looks at a bounded number of entries, however many wait; what waited in a list when a
//! round began has been looked at when it ends.

use std::time::Duration;

use egret_shared::clock::UnixMs;

use super::engine::{Engine, QueueKey, ReadyKey, Timer};
use super::scheduled::is_due_in;
use super::words::{Act, EntryKey};

/// How often a round begins.
const ROUND: Duration = Duration::from_secs(10);
/// Entries that one step looks at.
const STEP_ENTRIES: usize = 10_000;
/// Between two steps of a round: other work has its turn.
const STEP_WAIT: Duration = Duration::from_millis(1);
/// Before the next step when so many failures are being reported that no more may be begun.
const THROTTLED_WAIT: Duration = Duration::from_millis(100);

/// A list to be looked through.
#[derive(Clone, Copy, Debug)]
enum List {
    /// What of a due list, counted from its head, has not been looked at.
    Due(QueueKey, usize),
    Ready(ReadyKey),
}

/// Where a round stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    lists: Vec<List>,
    began: UnixMs,
}

impl Sweep {
    /// An entry was put at the head of a due list, before what the round still has to look at.
    pub fn pushed_front(&mut self, queue: QueueKey) {
        if let Some(List::Due(current, left)) = self.lists.last_mut()
            && *current == queue
        {
            *left = left.saturating_add(1);
        }
    }
}

impl Engine {
    /// Takes one step of a round, or begins the next one.
    pub(super) fn sweep(&mut self, now: UnixMs, acts: &mut Vec<Act>) {
        if self.sweep.lists.is_empty() {
            self.begin_round(now);
        }
        let mut left = STEP_ENTRIES;
        while left > 0 {
            if self.is_reporting_enough() {
                self.set_timer(now.plus(THROTTLED_WAIT), Timer::Sweep);
                return;
            }
            match self.sweep.lists.pop() {
                None => {
                    let next = self.sweep.began.plus(ROUND).max(now.plus(STEP_WAIT));
                    self.set_timer(next, Timer::Sweep);
                    return;
                }
                Some(List::Ready(ready)) => left = left.saturating_sub(self.sweep_ready(ready, now, acts)),
                Some(List::Due(queue, from)) => {
                    left = left.saturating_sub(self.sweep_due(queue, from, left, now, acts));
                }
            }
        }
        self.set_timer(now.plus(STEP_WAIT), Timer::Sweep);
    }

    fn is_old(&self, key: EntryKey, now: UnixMs) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.received.plus(self.options_of(entry.queue).max_age) <= now)
    }

    fn is_old_or_late(&self, key: EntryKey, now: UnixMs) -> bool {
        self.is_old(key, now) || self.is_late(key, now)
    }

    fn expire_or_tell(&mut self, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) {
        if self.is_old(key, now) {
            self.expire(key, acts);
        } else {
            self.tell_late(key, now, acts);
        }
    }

    fn begin_round(&mut self, now: UnixMs) {
        let due = self.queues.iter().filter(|(_, queue)| queue.waiting > 0);
        self.sweep.lists = due.map(|(key, _)| List::Due(key, usize::MAX)).collect();
        let ready = self.ready.iter().filter(|(_, ready)| !ready.waiting.is_empty());
        self.sweep.lists.extend(ready.map(|(key, _)| List::Ready(key)));
        self.sweep.began = now;
        let unused: Vec<_> = self.ready.iter().filter(|(_, r)| r.is_unused(now)).map(|(key, _)| key).collect();
        for key in unused {
            self.forget_ready_if_unused(key, now);
        }
    }

    /// A ready queue is bounded: it is looked through at once. Returns how many were looked at.
    fn sweep_ready(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) -> usize {
        // Taken out so that the engine can be asked about what is in it.
        let Some(mut waiting) = self.ready.get_mut(key).map(|ready| std::mem::take(&mut ready.waiting)) else {
            return 1;
        };
        let looked = waiting.len();
        let old = waiting.take_out(|entry| self.entries.get(entry).is_none() || self.is_old_or_late(entry, now));
        self.ready[key].waiting = waiting;
        for entry in old {
            self.expire_or_tell(entry, now, acts);
        }
        looked + 1
    }

    /// Looks at no more than `most` entries of a due list, from the last that was not looked at towards
    /// its head: what is taken from the head meanwhile hides none. Returns how many were looked at.
    fn sweep_due(&mut self, queue: QueueKey, from: usize, most: usize, now: UnixMs, acts: &mut Vec<Act>) -> usize {
        let Some(scheduled) = self.queues.get(queue) else { return 1 };
        let from = from.min(scheduled.due.len());
        let until = from.saturating_sub(most);
        let is_old = |e: &EntryKey| is_due_in(&self.entries, *e, queue) && self.is_old_or_late(*e, now);
        let room = self.room_for_reports();
        let mut old = Vec::new();
        let mut at = from;
        while at > until && old.len() < room {
            at -= 1;
            old.extend(scheduled.due.get(at).filter(|e| is_old(e)));
        }
        for entry in old {
            self.expire_or_tell(entry, now, acts);
        }
        self.trim(queue);
        if at > 0 {
            self.sweep.lists.push(List::Due(queue, at));
        }
        from - at + 1
    }
}
