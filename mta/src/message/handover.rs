//! What the queues hand to a delivery session, and what the session hands back.
//! Plain data. Floor 0: it lies below both rooms, so that neither knows the other.

use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::fault::Fault;

use super::{MessageId, QueueName, RecipientResult};

/// A part of a message on its way to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The message.
    pub id: MessageId,
    /// Which of its parts.
    pub part: u16,
    /// Its scheduled queue.
    pub queue: QueueName,
    /// Attempts that counted before this one.
    pub attempts: u16,
    /// When it began to wait: when the message was accepted, or until when its sender had it held.
    pub received: UnixMs,
    /// Indexes of recipients that are settled already, sorted: the others are to be tried.
    pub settled: Vec<u16>,
}

/// What reports to the sender need to know of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The name of the mail server, if one was reached.
    pub remote: Option<Arc<str>>,
    /// Recipients for whom it was taken there, of which the sender wants to hear and that server will not tell.
    pub owed: Vec<u16>,
    /// What that server has taken is in its mailbox (LMTP), not on its way.
    pub is_final: bool,
}

/// What became of one ticket. A recipient without a result was not tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartResult {
    /// The ticket as it was handed over.
    pub ticket: Ticket,
    /// One for each recipient that was tried.
    pub results: Vec<RecipientResult>,
    /// Present if the sender may have to be told.
    pub witness: Option<Box<Witness>>,
}

/// What a session tells the queues.
#[derive(Clone, Debug)]
pub enum FromSession {
    /// It is connected and greeted: the path works.
    Connected {
        /// The session.
        session: u64,
    },
    /// A ticket is done with; the session is ready for another.
    Settled {
        /// The session.
        session: u64,
        /// What became of the ticket.
        result: PartResult,
    },
    /// The session is over.
    Ended {
        /// The session.
        session: u64,
        /// Why it could not be opened, if it could not.
        fault: Option<Fault>,
        /// Tickets that it had and did not try.
        returned: Vec<Ticket>,
    },
}
