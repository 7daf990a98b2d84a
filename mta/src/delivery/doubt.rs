//! What a transaction shows of a server's pipelining and chunking: that it works, or that answers are missing or cannot
//! be right.
//! Pure. Floor 2.

use super::act::Lost;
use super::hosts::Habit;
use super::outcome::Stage;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// What the server did.
    pub habit: Habit,
    /// Nothing else explains it.
    pub is_certain: bool,
}

/// What a session knows of it.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// The server has answered pipelined commands, in this session or of late.
    is_proven: bool,
    /// Commands of the transaction were written before the answers to those in front of them.
    is_pipelined: bool,
    /// What the transaction has shown.
    sign: Option<Sign>,
    /// Bytes were there before the command that they would answer was written.
    is_early: bool,
}

impl Doubts {
    /// The server is known to answer pipelined commands.
    pub fn trust(&mut self) {
        self.is_proven = true;
    }

    /// A transaction begins.
    pub fn begin(&mut self, is_pipelined: bool) {
        (self.is_pipelined, self.sign) = (is_pipelined, None);
    }

    /// What the last transaction has shown.
    pub fn sign(&self) -> Option<Sign> {
        self.sign
    }

    /// A command was appended while `is_early` bytes of the server were there already: what they hold cannot be meant
    /// for it.
    pub fn wrote(&mut self, is_early: bool) {
        self.is_early = is_early;
    }

    /// Whether the reply that has come was there before its command; asked once for each reply.
    pub fn was_early(&mut self) -> bool {
        std::mem::take(&mut self.is_early)
    }

    /// All pipelined commands were answered, each by what can be its answer.
    pub fn passed(&mut self) {
        // Once is enough: what is known already is not told again with each message.
        if self.is_pipelined && self.sign.is_none() && !self.is_proven {
            self.is_proven = true;
            self.sign = Some(Sign { habit: Habit::Pipelines, is_certain: true });
        }
    }

    /// A reply cannot be the answer to its command: one is missing or too many. What was heard of the transaction before
    /// it is not to be believed.
    pub fn mismatched(&mut self) {
        if self.is_pipelined {
            self.sign = Some(Sign { habit: Habit::BreaksPipelining, is_certain: true });
        }
    }

    /// BDAT was not understood.
    pub fn refused_bdat(&mut self) {
        self.sign = Some(Sign { habit: Habit::BreaksChunking, is_certain: true });
    }

    /// The session ended while each answer was held against how the server answers, with transactions behind one
    /// another if it `is_overlapped`. True if what was heard of the transaction is not to be believed.
    pub fn lost_watched(&mut self, lost: &Lost, is_overlapped: bool) -> bool {
        let is_mismatch = *lost == Lost::OutOfStep;
        if is_mismatch || (is_overlapped && *lost != Lost::Stopped) {
            self.sign = Some(Sign { habit: Habit::BreaksAhead, is_certain: false });
        }
        is_mismatch
    }

    /// The session ended at `stage`. True if what was heard of the transaction is not to be believed: the server is
    /// silent though commands are before it, so answers are missing, and those that came may be to others.
    pub fn lost(&mut self, lost: &Lost, stage: Stage) -> bool {
        let missing = matches!(stage, Stage::Reset | Stage::Mail | Stage::Rcpt | Stage::Data);
        let is_mismatch = *lost == Lost::OutOfStep && (missing || stage == Stage::Content);
        if !self.is_pipelined || !missing || *lost == Lost::Stopped || (self.is_proven && !is_mismatch) {
            return is_mismatch;
        }
        self.sign = Some(Sign { habit: Habit::BreaksPipelining, is_certain: is_mismatch });
        is_mismatch || matches!(lost, Lost::Late(_))
    }
}
