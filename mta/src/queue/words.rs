//! What is told to the engine and what it gives out. Plain data. Floor 1.

use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;

use super::control::words::Control;
use crate::dns::site::Site;
use crate::message::{Mark, MessageId, Priority, QueueName, RecipientResult, Response, Ticket, Witness};
use crate::routing::source::{Source, Way};

slotmap::new_key_type! {
    /// A part in the queues.
    pub struct EntryKey;
}

/// The due time of a part that waits for an operator.
pub const HELD: UnixMs = UnixMs(u64::MAX);

/// A part of a message on stable storage, to be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit {
    /// The message.
    pub id: MessageId,
    /// Which of its parts.
    pub part: u16,
    /// Its scheduled queue.
    pub queue: QueueName,
    /// The pool that it leaves from.
    pub pool: Arc<str>,
    /// How soon it goes out where others wait.
    pub priority: Priority,
    /// How many recipients the part has.
    pub recipients: u16,
    /// When it began to wait: when the message was accepted, or until when its sender had it held. Its age
    /// counts from then ([`crate::message::Metadata::waits_since`]).
    pub received: UnixMs,
    /// Attempts that counted so far.
    pub attempts: u16,
    /// When it is due; `None` is at once.
    pub due: Option<UnixMs>,
    /// Recipients that are settled already, sorted.
    pub settled: Vec<u16>,
    /// Its sender wants to hear if it is late.
    pub hears_of_delay: bool,
}

/// A part that was queued before the program was started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readmit {
    /// The part as it stands now.
    pub part: Admit,
    /// An operator has moved it: its queue and pool are not those of its metadata.
    pub is_moved: bool,
    /// How many times its sender was told that it is late.
    pub told: u8,
}

/// Why a domain has no site now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSite {
    /// It never will: what waits for it bounces.
    Permanent(Response),
    /// Ask again later. No attempt is counted: the destination has not said a word.
    Temporary(Response),
}

/// Names a scheduled queue towards the driver: its name, pool and priority.
pub type PartKey = (QueueName, Arc<str>, Priority);

/// What a notice follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An attempt has ended: the destination has answered, and the session has written the events.
    Answered,
    /// It waits for so long that its sender is to be told.
    Late,
    /// The domain has no site.
    Unroutable,
    /// They waited longer than they may.
    Expired,
    /// An operator has said so.
    Bounced,
    /// An operator has said so, and that the sender is not told.
    Dropped,
}

/// Recipients of which the sender is to be told. The engine stores nothing of it until it is told, by
/// [`super::Engine::reported`] with the key, that the report to the sender is on stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What the engine knows the part by.
    pub key: EntryKey,
    /// The part.
    pub ticket: Ticket,
    /// The recipients and the words that decided. Those that have failed for good; those that were taken, if their
    /// sender is owed word of it; and those that are late.
    pub results: Vec<RecipientResult>,
    /// Why.
    pub cause: Cause,
    /// Until when those that are late are tried.
    pub until: UnixMs,
    /// Who has answered.
    pub witness: Option<Box<Witness>>,
}

/// What the engine wants done.
#[derive(Clone, Debug)]
pub enum Act {
    /// Find the site of this queue and tell it.
    Resolve(PartKey),
    /// Open a session with a first ticket.
    Open {
        /// The session's number.
        session: u64,
        /// From where.
        source: Arc<Source>,
        /// By which of its ways.
        way: Way,
        /// To where.
        site: Arc<Site>,
        /// The first work.
        first: Ticket,
    },
    /// Give a session its next ticket.
    Hand {
        /// The session.
        session: u64,
        /// The work.
        ticket: Ticket,
    },
    /// Tell a session that there is no more work.
    Release {
        /// The session.
        session: u64,
    },
    /// Store what became of a part.
    Mark {
        /// The message.
        id: MessageId,
        /// Which of its parts.
        part: u16,
        /// What to store.
        mark: Mark,
    },
    /// Report recipients to the sender.
    Report(Notice),
    /// Keep these orders over a restart, instead of those that were kept before.
    Keep(Vec<Control>),
}

/// The answer to [`Act::Resolve`].
pub type Resolution = Result<(Arc<Site>, Duration), NoSite>;
