//! The ticket that a session has in hand: who is still to be tried, and what became of the others.
//! Pure. Floor 4.
//! Always: a recipient is open, or has one result.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dialogue::{Decided, Dialogue, Envelope};
use super::outcome::Judgement;
use super::wish::Wanted;
use crate::message::{Address, Message, Part, RecipientResult, Response, Ticket, Verdict, Wishes};
use crate::shaping::options::Uncertain;

/// The ticket in hand, and what is known of it.
pub(super) struct Current {
    pub ticket: Ticket,
    pub message: Option<Arc<Message>>,
    /// Recipients that are to be tried.
    pub open: VecDeque<u16>,
    pub results: Vec<RecipientResult>,
    pub uncertain: Vec<u16>,
    /// A command of it may have been written.
    pub is_begun: bool,
    /// Its transaction is on its way behind another's, since then.
    pub sent: Option<Instant>,
    /// It was on its way so.
    pub was_ahead: bool,
    /// The connection broke during it, and the next address is tried at once: the words about that.
    pub again: Option<Response>,
    pub transaction: Option<Duration>,
    pub owing: Owing,
}

/// What is known for reports to the sender.
#[derive(Debug, Default)]
pub(super) struct Owing {
    /// The server tells the sender nothing, and something was said of what it wants to hear.
    is_silent: bool,
    /// Recipients for whom such a server has taken the message.
    pub untold: Vec<u16>,
    /// Results came from more than one server.
    pub is_mixed: bool,
}

impl Current {
    pub fn new(ticket: Ticket) -> Self {
        Self {
            ticket,
            message: None,
            open: VecDeque::new(),
            results: Vec::new(),
            uncertain: Vec::new(),
            is_begun: false,
            sent: None,
            was_ahead: false,
            again: None,
            transaction: None,
            owing: Owing::default(),
        }
    }

    /// From now on a server answers; what does it do for the sender?
    pub fn meets(&mut self, dialogue: &Dialogue, wishes: &Wishes) {
        self.owing.is_silent = !wishes.is_empty() && !dialogue.capabilities().dsn;
        self.owing.is_mixed |= !self.results.is_empty();
    }

    pub fn conclude(&mut self, recipient: u16, verdict: Verdict, response: Response) {
        self.results.push(RecipientResult { recipient, verdict, response });
    }

    /// Gives all that is open the same end.
    pub fn conclude_open(&mut self, verdict: Verdict, response: &Response) {
        for recipient in std::mem::take(&mut self.open) {
            self.conclude(recipient, verdict, response.clone());
        }
    }

    /// The words for recipients that stay open for the next address: those of whom the destination said nothing.
    /// The others are left in `decided`.
    pub fn defer(&mut self, decided: &mut Vec<Decided>) -> Vec<RecipientResult> {
        let counted = Judgement::Retry { counts: true };
        let (unsaid, rest) =
            std::mem::take(decided).into_iter().partition(|d| d.response.command.is_none() && d.judgement == counted);
        *decided = rest;
        let unsaid: Vec<Decided> = unsaid;
        self.again = unsaid.first().map(|d| d.response.clone());
        let verdict = Verdict::Retry { counts: true };
        unsaid
            .into_iter()
            .map(|Decided { recipient, response, .. }| RecipientResult { recipient, verdict, response })
            .collect()
    }

    /// Not a word of it was said, or it waits for the next address: it has no end yet.
    pub fn is_unsettled(&self) -> bool {
        self.again.is_some() || (self.results.is_empty() && !self.is_begun)
    }

    /// Takes the refusals of a transaction. The rest goes out again at once, as if never tried.
    pub fn take_refusals(&mut self, mut all: Vec<Decided>, uncertain: Uncertain) {
        all.retain(|decided| decided.judgement == Judgement::Bounce);
        self.take(all, false, uncertain);
        self.is_begun = !self.results.is_empty();
    }

    /// Takes the outcome of a transaction.
    pub fn take(&mut self, all: Vec<Decided>, is_usable: bool, uncertain: Uncertain) {
        for decided in all {
            let recipient = decided.recipient;
            let verdict = match decided.judgement {
                Judgement::Delivered => {
                    if self.owing.is_silent {
                        self.owing.untold.push(recipient);
                    }
                    Verdict::Delivered
                }
                Judgement::Bounce => Verdict::Bounce,
                Judgement::Again if is_usable => {
                    // It goes to the end: one that was taken has left, so this ends.
                    self.open.retain(|n| *n != recipient);
                    self.open.push_back(recipient);
                    continue;
                }
                Judgement::Uncertain => {
                    self.uncertain.push(recipient);
                    match uncertain {
                        Uncertain::Retry => Verdict::Retry { counts: true },
                        Uncertain::Hold => Verdict::Hold,
                        Uncertain::Deliver => Verdict::Delivered,
                    }
                }
                Judgement::Retry { counts } => Verdict::Retry { counts },
                Judgement::Go | Judgement::Again | Judgement::NextHost | Judgement::NextWay => {
                    Verdict::Retry { counts: true }
                }
            };
            self.open.retain(|n| *n != recipient);
            self.conclude(recipient, verdict, decided.response);
        }
    }
}

/// What MAIL needs to know of a message that goes to these recipients of a part.
pub(super) fn envelope<'m>(message: &'m Message, part: &'m Part, batch: &[u16]) -> Envelope<'m> {
    let meta = &message.meta;
    let is_wanted = !meta.wish.is_empty() || !part.wishes.is_empty();
    let recipients = || batch.iter().filter_map(|n| part.recipients.get(usize::from(*n)));
    Envelope {
        sender: meta.sender.as_ref(),
        size: message.content.len() as u64,
        eight_bit: meta.eight_bit,
        smtputf8: meta.smtputf8 || meta.sender.iter().chain(recipients()).any(Address::needs_utf8),
        wanted: is_wanted.then_some(Wanted { message: &meta.wish, recipients: &part.wishes }),
    }
}
