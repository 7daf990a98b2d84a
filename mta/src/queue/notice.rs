//! What senders are told: when something is to be told, and that it is late.
//! Pure. Floor 2.
//! Always: a part whose sender is being told is in no list and in no session until that is on stable storage; of
//! each wait after which a sender is told that its message is late, it is told once.

use egret_shared::clock::UnixMs;

use super::engine::Engine;
use super::scheduled::{Entry, Lead, Place};
use super::words::{Act, Cause, EntryKey, Notice};
use crate::message::{EnhancedCode, PartResult, RecipientResult, Response, Ticket, Verdict, Witness};

impl Engine {
    /// The results of an attempt that are to be told to the sender.
    pub(super) fn choose_told(&mut self, key: EntryKey, result: &PartResult, now: UnixMs) -> Vec<RecipientResult> {
        let is_late = self.entries.get(key).is_some_and(|entry| !entry.is_settled()) && self.is_late(key, now);
        if is_late {
            self.note_told(key, now);
        }
        let owed = |r: &RecipientResult| result.witness.as_ref().is_some_and(|w| w.owed.contains(&r.recipient));
        let is_told = |r: &&RecipientResult| match r.verdict {
            Verdict::Bounce => true,
            Verdict::Delivered => owed(r),
            Verdict::Retry { .. } | Verdict::Hold => is_late,
        };
        result.results.iter().filter(is_told).cloned().collect()
    }

    /// Has the sender told of these results; until that is done, the part waits for it.
    pub(super) fn report(
        &mut self,
        key: EntryKey,
        ticket: Ticket,
        results: Vec<RecipientResult>,
        cause: Cause,
        witness: Option<Box<Witness>>,
        acts: &mut Vec<Act>,
    ) {
        self.put(key, Place::Reporting);
        self.reporting += 1;
        let queue = self.entries.get(key).map(|entry| entry.queue).unwrap_or_default();
        let until = ticket.received.plus(self.options_of(queue).max_age);
        acts.push(Act::Report(Notice { key, ticket, results, cause, until, witness }));
    }

    /// Whether the sender is to be told now that a part is late.
    pub(super) fn is_late(&self, key: EntryKey, now: UnixMs) -> bool {
        let due = |entry: &Entry| self.options_of(entry.queue).delay_notice.due_after(now.since(entry.received));
        let is_late = |entry: &Entry| entry.notes.hears_of_delay() && due(entry) > entry.notes.told();
        self.entries.get(key).is_some_and(is_late) && !self.draining
    }

    fn note_told(&mut self, key: EntryKey, now: UnixMs) {
        let Some(queue) = self.entries.get(key).map(|entry| entry.queue) else { return };
        let notice = self.options_of(queue).delay_notice;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.notes.set_told(notice.due_after(now.since(entry.received)));
        }
    }

    /// Tells the sender of a part that waits in a list, not for an answer to an attempt, that it is late.
    pub(super) fn tell_late(&mut self, key: EntryKey, now: UnixMs, acts: &mut Vec<Act>) {
        self.note_told(key, now);
        let Some(entry) = self.entries.get(key) else { return };
        let queue = &self.queues[entry.queue];
        let last = match &queue.lead {
            Lead::Failed(_, text) => Some(text),
            _ => queue.last.as_ref().map(|last| &last.text),
        };
        let mut text = format!("not delivered yet after {} attempts", entry.attempts);
        if let Some(last) = last {
            text = format!("{text}; what was last heard about its destination: {last}");
        }
        let response = Response::own(451, EnhancedCode::new(4, 4, 7), &text);
        let verdict = Verdict::Retry { counts: false };
        let late = |recipient| RecipientResult { recipient, verdict, response: response.clone() };
        let (results, ticket) = (entry.open_recipients().map(late).collect(), entry.ticket(queue.key.0.clone()));
        self.report(key, ticket, results, Cause::Late, None, acts);
    }
}
