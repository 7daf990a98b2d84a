//! Work handed ahead: a session that is quick has its next ticket before it has told of the one in hand, so that it
//! goes on without a wait. Pure. Floor 2.
//! Always: nothing is handed ahead that an idle session could take, or one that may be opened; what was handed and not
//! begun comes back as if never handed.

use std::time::Duration;

use egret_shared::clock::UnixMs;

use super::engine::{Engine, ReadyKey};
use super::words::{Act, EntryKey};
use crate::message::PartResult;
use crate::shaping::options::MOST_AHEAD;

/// Tickets that a session may have, the one in hand included.
pub(super) const MOST_HELD: usize = 1 + MOST_AHEAD as usize;
/// A session that needs longer for a ticket gets none ahead: what waits behind a slow one would have gone out sooner
/// by another session.
const QUICK: Duration = Duration::from_secs(1);

impl Engine {
    /// Hands waiting entries ahead to busy sessions, those first that got theirs first.
    pub(super) fn hand_ahead(&mut self, key: ReadyKey, now: UnixMs, acts: &mut Vec<Act>) {
        while self.may_hand_ahead(key, now) {
            let Some(session) = self.ready[key].quick.pop_front() else { return };
            if let Some(ticket) = self.take(key, session, now) {
                acts.push(Act::Hand { session, ticket });
            }
            self.may_take_more(key, session);
        }
    }

    /// A path that is in doubt, on its way back or at a limit gives nothing out of turn; nor does one with a rate of
    /// messages, of which each is taken when the message goes out, or with a limit of which a part is kept.
    fn may_hand_ahead(&self, key: ReadyKey, now: UnixMs) -> bool {
        let Some(ready) = self.ready.get(key) else { return false };
        let is_sound = ready.failures == 0 && ready.held_until <= now && ready.limited.is_none() && !ready.retired;
        let is_free = is_sound && ready.budget.messages.is_empty() && ready.budget.parted.is_none();
        let has_work = !ready.waiting.is_empty() && ready.idle.is_empty() && !ready.quick.is_empty();
        let is_resting = || self.health.rests_until(&ready.source, now).is_some() || self.cap(key, now).is_some();
        !self.draining && is_free && has_work && !is_resting()
    }

    /// A quick session that has something in hand may take more, up to [`MOST_HELD`].
    pub(super) fn may_take_more(&mut self, key: ReadyKey, number: u64) {
        let Some(session) = self.sessions.get(&number) else { return };
        if session.is_quick && (1..MOST_HELD).contains(&session.holds.len()) {
            self.ready[key].quick.push_back(number);
        }
    }

    /// Takes the entry that `result` is about from its session, which has been as quick about it as that says.
    pub(super) fn take_settled(&mut self, number: u64, result: &PartResult, now: UnixMs) -> Option<EntryKey> {
        let session = self.sessions.get_mut(&number)?;
        let (id, part) = (result.ticket.id, result.ticket.part);
        let is_it = |entry: &EntryKey| self.entries.get(*entry).is_none_or(|e| e.id == id && e.part == part);
        let entry = session.holds.iter().position(is_it).and_then(|place| session.holds.remove(place));
        session.is_quick = now.since(session.since) <= QUICK;
        session.since = now;
        let (key, is_idle) = (session.ready, session.holds.is_empty());
        if let Some(ready) = self.ready.get_mut(key) {
            ready.quick.retain(|quick| *quick != number);
        }
        if !is_idle {
            self.may_take_more(key, number);
        }
        entry
    }

    /// Whether what a session has ahead may no longer go out there.
    pub(super) fn is_ahead_in_vain(&mut self, number: u64) -> bool {
        let held = |engine: &Self, place: usize| {
            let session = engine.sessions.get(&number)?;
            Some((session.ready, *session.holds.get(place)?))
        };
        let mut places = 0..MOST_HELD;
        places.any(|place| held(self, place).is_some_and(|(key, entry)| !self.may_still_go(key, entry)))
    }
}
