//! What sessions report: results become a mark, a new due time or a failure. The one backward edge.
//! Pure. Floor 2.
//! Always: only a result that counts raises the attempt count; a fault of a source, a proxy or a
//! limit changes the state of a path and puts its entries back, never their schedule.

use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Party, Reason};

use super::engine::{Engine, QueueKey, ReadyKey, Session, Timer};
use super::scheduled::{LastAnswer, Place};
use super::words::{Act, Cause, EntryKey, HELD};
use crate::message::{EnhancedCode, FromSession, Mark, Moved, PartResult, RecipientResult, Response, Verdict};
use crate::routing::health::rest_after;

/// The wait after a try that does not count (the spool could not be read, for example).
const UNCOUNTED_WAIT: Duration = Duration::from_secs(10);

/// What is kept of the last answer to a queue, in characters.
const LAST_CHARS: usize = 200;

impl Engine {
    /// Takes a session's report.
    pub fn session(&mut self, word: FromSession, now: UnixMs, acts: &mut Vec<Act>) {
        match word {
            FromSession::Connected { session } => self.connected(session, now, acts),
            FromSession::Settled { session, result } => self.settled(session, &result, now, acts),
            FromSession::Ended { session, fault, .. } => self.ended(session, fault.as_ref(), now, acts),
        }
    }

    /// The report about this part is on stable storage: its mark can be stored.
    pub fn reported(&mut self, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) {
        self.reporting = self.reporting.saturating_sub(1);
        self.finish(key, now, acts);
    }

    fn connected(&mut self, session: u64, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(open) = self.sessions.get_mut(&session) else { return };
        open.is_connected = true;
        let (way, key) = (open.way, open.ready);
        let Some(ready) = self.ready.get_mut(key) else { return };
        ready.failures = 0;
        ready.why = None;
        ready.held_until = UnixMs(0);
        let (source, site) = (ready.source.clone(), ready.site);
        if self.health.worked(&source, way) {
            let wanting: Vec<_> = self.sites.iter().filter(|(_, s)| !s.wanting.is_empty()).map(|(k, _)| k).collect();
            for site in wanting {
                self.turn(site, now, acts);
            }
        }
        self.turn(site, now, acts);
    }

    fn settled(&mut self, session: u64, result: &PartResult, now: UnixMs, acts: &mut Vec<Act>) {
        let Some((ready, is_tried)) = self.sessions.get(&session).map(|open| (open.ready, open.is_connected)) else {
            return;
        };
        if !is_tried {
            self.give_back_quotas(ready, now);
        }
        if let Some(entry) = self.take_settled(session, result, now) {
            self.settle(entry, result, now, acts);
        }
        if result.results.iter().any(|r| r.verdict == Verdict::Delivered) {
            self.recovers(ready);
        }
        let is_retired = self.ready.get(ready).is_some_and(|ready| ready.retired);
        let is_released = self.sessions.get(&session).is_some_and(|session| session.is_released);
        if self.draining || is_retired || is_released || self.should_yield(session) || self.is_ahead_in_vain(session) {
            self.dismiss(session, acts);
            return;
        }
        let is_idle = self.sessions.get(&session).is_some_and(|session| session.holds.is_empty());
        if let Some(queue) = self.ready.get_mut(ready) {
            queue.idle.extend(is_idle.then_some(session));
            let site = queue.site;
            self.serve(ready, now, acts);
            self.turn(site, now, acts);
        }
    }

    fn ended(&mut self, session: u64, fault: Option<&Fault>, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(over) = self.sessions.remove(&session) else { return };
        let key = over.ready;
        let Some(ready) = self.ready.get_mut(key) else { return };
        ready.sessions = ready.sessions.saturating_sub(1);
        ready.idle.retain(|idle| *idle != session);
        ready.quick.retain(|quick| *quick != session);
        let site = ready.site;
        for entry in over.holds.iter().rev() {
            self.give_back_paid(key, &over, now);
            self.take_back(key, *entry, now);
        }
        if let Some(fault) = fault {
            self.blame(key, fault, session, &over, now);
        }
        self.serve(key, now, acts);
        self.turn(site, now, acts);
        self.forget_ready_if_unused(key, now);
    }

    /// Lets the path, the source behind its proxy or the whole proxy rest, and puts back what has no other way.
    fn blame(&mut self, key: ReadyKey, fault: &Fault, number: u64, session: &Session, now: UnixMs) {
        let (opened, way, newest) = (session.opened, session.way, self.last_session);
        let Some(ready) = self.ready.get_mut(key) else { return };
        let party = fault.party();
        (ready.why, ready.party) = (Some(fault.to_string().into()), Some(party));
        match party {
            Party::Limit => ready.held_until = now.plus(fault.retry_after.unwrap_or(rest_after(1))),
            Party::Remote => ready.failed(number, newest, now),
            Party::Source | Party::Proxy if concerns_path_only(fault.reason) => {
                ready.failed(number, newest, now);
                self.give_back(key, now);
            }
            Party::Source | Party::Proxy => {
                let source = ready.source.clone();
                self.health.failed(&source, way, fault, opened, now);
                let health = &self.health;
                let all = self.ready.iter().filter(|(_, r)| !health.usable(&r.source, now)).map(|(k, _)| k);
                for resting in all.collect::<Vec<_>>() {
                    self.give_back(resting, now);
                }
            }
        }
        self.set_timer(self.ready.get(key).map_or(now, |r| r.held_until.max(now)), Timer::Ready(key));
    }

    /// Puts an entry that a session did not try at the head of the ready queue, if it may still go out there.
    fn take_back(&mut self, key: ReadyKey, entry: EntryKey, now: UnixMs) {
        let Some(queue) = self.entries.get(entry).map(|e| e.queue) else { return };
        if !self.may_still_go(key, entry) {
            self.untake(key, entry, now);
            self.return_due(entry);
            return;
        }
        self.put(entry, Place::Ready);
        let scheduled = &self.queues[queue];
        self.ready[key].waiting.push_front(scheduled.priority(), &scheduled.tenant, entry);
    }

    /// Whether an entry that was handed out to a path may go out there now: its pool has the source, its queue leads
    /// there by what is known of late, and nobody has ordered otherwise.
    pub(super) fn may_still_go(&mut self, key: ReadyKey, entry: EntryKey) -> bool {
        let Some(queue) = self.entries.get(entry).map(|e| e.queue) else { return false };
        let Some(ready) = self.ready.get(key).filter(|ready| !ready.retired) else { return false };
        let Some(slot) = self.sites.get(ready.site).filter(|slot| slot.epoch == self.lead_epoch) else { return false };
        let (source, site) = (ready.source.name.clone(), slot.site.name.clone());
        self.leaves_by(queue, &source) && self.blocks(queue).is_none_or(|blocks| blocks.path(&source, &site).is_none())
    }

    /// Puts what waits in a ready queue back at the head of the scheduled queues.
    pub(super) fn give_back(&mut self, key: ReadyKey, now: UnixMs) {
        let Some(ready) = self.ready.get_mut(key) else { return };
        let site = ready.site;
        for entry in ready.waiting.take_out(|_| true).into_iter().rev() {
            self.untake(key, entry, now);
            self.return_due(entry);
        }
        // The queues learn of it when another source of their pools has room, or when the rest ends.
        self.set_timer(UnixMs(0), Timer::Site(site));
    }

    /// Turns the results of an attempt into what happens next with the part.
    fn settle(&mut self, key: EntryKey, result: &PartResult, now: UnixMs, acts: &mut Vec<Act>) {
        let random = self.random();
        let Some(queue) = self.entries.get(key).map(|entry| entry.queue) else { return };
        let options = *self.options_of(queue);
        let Some(entry) = self.entries.get_mut(key) else { return };
        let done = |r: &&RecipientResult| matches!(r.verdict, Verdict::Delivered | Verdict::Bounce);
        entry.settle(result.results.iter().filter(done).map(|r| r.recipient));
        let counts = result.results.iter().any(|r| matches!(r.verdict, Verdict::Retry { counts: true }));
        let held = result.results.iter().any(|r| r.verdict == Verdict::Hold);
        if held {
            entry.attempts = entry.attempts.saturating_add(1);
            entry.due = HELD;
        } else if counts {
            self.queues[queue].last = last_answer(result, now);
            entry.attempts = entry.attempts.saturating_add(1);
            entry.due = now.plus(options.retry_after(entry.attempts, random));
        } else {
            entry.due = now.plus(UNCOUNTED_WAIT);
        }
        let told = self.choose_told(key, result, now);
        if told.is_empty() {
            self.finish(key, now, acts);
        } else {
            self.report(key, result.ticket.clone(), told, Cause::Answered, result.witness.clone(), acts);
        }
    }

    /// Stores where the part stands, and forgets or reschedules it.
    fn finish(&mut self, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) {
        let Some(entry) = self.entries.get(key) else { return };
        let (id, part) = (entry.id, entry.part);
        if entry.is_settled() {
            acts.push(Act::Mark { id, part, mark: Mark::Done });
            self.remove(key);
            return;
        }
        self.mark_later(key, acts);
        self.schedule(key, now, acts);
    }

    /// Stores the schedule of a part, and where it is if that is not what its metadata say.
    pub(super) fn mark_later(&self, key: EntryKey, acts: &mut Vec<Act>) {
        let Some(entry) = self.entries.get(key) else { return };
        let (queue, pool, _) = &self.queues[entry.queue].key;
        let told = entry.notes.told();
        let is_told = entry.notes.is_moved() || told > 0;
        let moved = is_told.then(|| Arc::new(Moved { queue: queue.clone(), pool: pool.clone(), told }));
        let mark = Mark::Later { attempts: entry.attempts, due: entry.due, settled: entry.settled.to_vec(), moved };
        acts.push(Act::Mark { id: entry.id, part: entry.part, mark });
    }

    fn remove(&mut self, key: EntryKey) {
        self.put(key, Place::Reporting);
        let Some(entry) = self.entries.remove(key) else { return };
        self.leave(entry.queue);
    }

    /// A queue holds one entry less.
    pub(super) fn leave(&mut self, key: QueueKey) {
        let queue = &mut self.queues[key];
        queue.held -= 1;
        if queue.held == 0 && queue.is_idle_without_site() {
            self.set_timer(UnixMs(0), Timer::Queue(key));
        }
    }

    pub(super) fn expire(&mut self, key: EntryKey, acts: &mut Vec<Act>) {
        let Some(queue) = self.entries.get(key).map(|entry| entry.queue) else { return };
        let text = format!("not delivered within {} s", self.options_of(queue).max_age.as_secs());
        self.fail(key, Cause::Expired, &Response::own(551, EnhancedCode::new(5, 4, 7), &text), acts);
    }

    /// Fails all open recipients of an entry, wherever it waits.
    pub(super) fn fail(&mut self, key: EntryKey, cause: Cause, response: &Response, acts: &mut Vec<Act>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let ticket = entry.ticket(self.queues[entry.queue].key.0.clone());
        let open: Vec<u16> = entry.open_recipients().collect();
        entry.settle(open.iter().copied());
        let failed = |recipient| RecipientResult { recipient, verdict: Verdict::Bounce, response: response.clone() };
        self.report(key, ticket, open.into_iter().map(failed).collect(), cause, None, acts);
    }
}

/// The words of a transient failure, cut short.
fn last_answer(result: &PartResult, now: UnixMs) -> Option<Box<LastAnswer>> {
    let counts = |r: &&RecipientResult| matches!(r.verdict, Verdict::Retry { counts: true });
    let text: String = result.results.iter().find(counts)?.response.to_string().chars().take(LAST_CHARS).collect();
    Some(Box::new(LastAnswer { at: now, text: text.into() }))
}

/// Faults that say something of this (source, site) only, not of the source or the proxy as such.
fn concerns_path_only(reason: Reason) -> bool {
    use Reason::{DestinationProhibited, FamilyMismatch, PathMisconfigured, SourcePortsExhausted};
    matches!(reason, SourcePortsExhausted | FamilyMismatch | DestinationProhibited | PathMisconfigured)
}
