//! Transactions behind one another: each is written whole, with RSET in front, before the one in front of it is
//! answered, and the answers are taken in order (RFC 2920, 3030).
//! Pure. Floor 2.
//! Always: a transaction goes behind another only where the server's answers to each command can be told apart and have
//! shown it before; of what a server has whole and did not answer nobody says that it was not taken, unless it said that
//! it leaves, and left.

use std::collections::VecDeque;

use super::super::looks::Looks;
use super::super::outcome::{Judgement, Seen, Stage, judge};
use super::super::reply::Reply;
use super::super::transaction::{Body, Command, Transaction};
use super::{Act, Dialogue, Envelope, Lost, MAX_AHEAD_BYTES};
use crate::message::{Address, EnhancedCode, Response};

/// What there is beside the transaction whose answers come next.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Transactions behind it, in order.
    behind: VecDeque<Transaction>,
    /// Their buffers are used again.
    free: Vec<Transaction>,
    pub looks: Looks,
    /// The server has said that it leaves: it takes nothing more.
    pub is_leaving: bool,
    /// Why no further reply comes.
    pub over: Option<Lost>,
}

impl Dialogue {
    /// Whether a further transaction may be written now, before those that are under way are answered.
    pub fn may_follow(&self) -> bool {
        let last = self.ahead.behind.back().unwrap_or(&self.transaction);
        let has_room = self.ahead.behind.len() < self.manner.most_ahead as usize;
        let is_sound = self.is_usable && !self.ahead.is_leaving && self.ahead.over.is_none() && self.manner.may_reset;
        // With several recipients some may be asked again at once, and that would come too late.
        has_room
            && is_sound
            && self.is_at_once
            && self.stage != Stage::Idle
            && last.is_single()
            && self.ahead.looks.is_sure()
    }

    /// Whether a message is small enough to follow.
    pub fn may_be_ahead(&self, envelope: &Envelope<'_>) -> bool {
        envelope.size <= MAX_AHEAD_BYTES
    }

    /// Starts a transaction behind those that are under way, where [`Self::may_follow`] lets it. Its content is to be
    /// written behind its commands. RSET comes first: after a refused BDAT the server may hold anything, and would mix
    /// it with what follows (RFC 3030 section 2).
    pub fn follow<'a>(
        &mut self,
        envelope: &Envelope<'_>,
        recipients: impl Iterator<Item = (u16, &'a Address)>,
        send: &mut Vec<u8>,
    ) {
        let mut next = self.ahead.free.pop().unwrap_or_default();
        next.begin(envelope, &self.offered, true, Body::Bdat, recipients);
        next.write_behind(send);
        self.ahead.behind.push_back(next);
    }

    /// The next transaction has its turn: replies are to it. Only when the one in front of it is over.
    pub fn advance(&mut self) {
        let Some(next) = self.ahead.behind.pop_front() else { return };
        self.ahead.free.push(std::mem::replace(&mut self.transaction, next));
        self.doubts.begin(true);
        // RSET stands in front of it.
        self.needs_reset = false;
        self.stage = self.transaction.awaited().map_or(Stage::Idle, Command::stage);
        if !self.is_usable && !self.ahead.is_leaving {
            self.ahead.over.get_or_insert(Lost::OutOfStep);
        }
    }

    /// Whether transactions are behind the one whose answers come next.
    pub fn has_behind(&self) -> bool {
        !self.ahead.behind.is_empty()
    }

    /// Whether the transaction in front is over, and the session goes on with the one behind it.
    pub fn awaits_next(&self) -> bool {
        self.stage == Stage::Idle && self.is_usable && self.transaction.is_whole() && self.has_behind()
    }

    /// Whether all that was begun is written to its end.
    pub fn is_written(&self) -> bool {
        self.transaction.is_whole() && self.ahead.behind.iter().all(Transaction::is_whole)
    }

    /// No further reply comes: it is for the transactions behind the one that is over.
    pub fn cut(&mut self, lost: &Lost) {
        self.is_usable = false;
        self.ahead.over.get_or_insert_with(|| lost.clone());
    }

    pub(super) fn complete_next(&mut self) {
        let mut all = std::iter::once(&mut self.transaction).chain(&mut self.ahead.behind);
        if let Some(next) = all.find(|transaction| !transaction.is_whole()) {
            next.complete();
        }
    }

    /// It is known how the server answers, and each answer is held against that.
    pub(super) fn is_watched(&self) -> bool {
        self.is_at_once && self.ahead.looks.is_sure()
    }

    /// An RSET that is of no other use shows how it is answered.
    pub(super) fn is_curious(&self) -> bool {
        self.is_at_once && self.manner.most_ahead > 0 && self.manner.may_reset && self.ahead.looks.lack_reset()
    }

    /// Whether a reply cannot be the answer whose turn it is. Learns from those that can be no other's.
    pub(super) fn is_out_of_turn(&mut self, reply: &Reply) -> bool {
        if !self.is_at_once {
            return false;
        }
        if !self.ahead.looks.is_sure() {
            self.ahead.looks.learn(self.stage, reply);
            return false;
        }
        // Behind a farewell only more of that may come.
        self.ahead.is_leaving || self.ahead.looks.is_to_another(self.stage, reply)
    }

    /// Whether all of the transaction is on its way, though its first answer is still to come.
    pub(super) fn is_sent(&self) -> bool {
        self.transaction.is_behind() || self.transaction.is_whole()
    }

    /// RSET is refused, and behind it stands all of the transaction: whether the server takes it nobody knows, unless it
    /// leaves now.
    pub(super) fn refused_reset(&mut self, code: u16) -> Option<Act> {
        if code != 421 {
            return Some(self.lost(&Lost::OutOfStep));
        }
        (self.is_usable, self.ahead.is_leaving) = (false, true);
        None
    }

    /// Whether what was heard of the transaction may have been of another.
    pub(super) fn disbelieves(&mut self, lost: &Lost) -> bool {
        let is_overlapped = self.transaction.is_behind() || self.has_behind();
        if self.is_watched() {
            self.doubts.lost_watched(lost, is_overlapped)
        } else {
            self.doubts.lost(lost, self.stage)
        }
    }

    /// Whether the transaction was certainly not taken: the server said that it leaves before it came to it, and left.
    pub(super) fn is_spared(&self, lost: &Lost) -> bool {
        let has_left = matches!(lost, Lost::Closed | Lost::Reset | Lost::Broken(_));
        self.ahead.is_leaving && has_left && self.is_sent() && self.stage == Stage::Reset
    }

    /// Ends a transaction that was not taken.
    pub(super) fn spare(&mut self) -> Act {
        self.is_usable = false;
        let words = Response::own(421, EnhancedCode::new(4, 4, 2), "the other side has left before");
        debug_assert_eq!(judge(self.stage, Seen::Broken), Judgement::Retry { counts: true });
        self.finish(Judgement::Retry { counts: true }, &words)
    }
}
