//! What is stored of a message beside its bytes, and the marks that follow it on disk.
//! Pure. Floor 0.
//! Always: a part's recipients share one scheduled queue, pool and priority; a message is gone when all its parts are.

use std::sync::Arc;

use bytes::Bytes;
use egret_shared::clock::UnixMs;
use serde::{Deserialize, Serialize};

use super::{Address, MessageId, Priority, QueueName};

/// The recipients of a message that share one scheduled queue, pool and priority: the unit that is scheduled and tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The scheduled queue.
    pub queue: QueueName,
    /// The pool of sources that it leaves from.
    pub pool: Arc<str>,
    /// How soon it goes out where others wait.
    #[serde(default, skip_serializing_if = "Priority::is_normal")]
    pub priority: Priority,
    /// The forward-paths, as given.
    pub recipients: Vec<Address>,
}

/// What is stored beside the bytes of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// When it was accepted.
    pub received: UnixMs,
    /// The reverse-path; `None` is the null sender, to whom no report is ever sent.
    pub sender: Option<Address>,
    /// It holds bytes over 127 (BODY=8BITMIME, RFC 6152).
    pub eight_bit: bool,
    /// It needs SMTPUTF8 on its way (RFC 6531).
    pub smtputf8: bool,
    /// It is not to be tried before this; `None` is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<UnixMs>,
    /// One for each scheduled queue.
    pub parts: Vec<Part>,
}

impl Metadata {
    /// From when its age counts: when it was accepted, or the time until which its sender had it held.
    pub fn waits_since(&self) -> UnixMs {
        self.not_before.map_or(self.received, |held| held.max(self.received))
    }
}

/// The bytes of a message: headers that were added here, and the message as it came, CRLF lines,
/// not dot-stuffed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Trace headers added by this host, each ended by CRLF.
    pub added: Bytes,
    /// The message as it came.
    pub body: Bytes,
}

impl Content {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.added.len() + self.body.len()
    }

    /// True if it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// What is stored beside its bytes.
    pub meta: Metadata,
    /// Its bytes.
    pub content: Content,
}

/// What the spool must remember of a part after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing is left to do for it.
    Done,
    /// It is tried again.
    Later {
        /// Attempts that count so far.
        attempts: u16,
        /// When it is due.
        due: UnixMs,
        /// Indexes (into the part's recipients) of those that are settled already, sorted.
        settled: Vec<u16>,
        /// Where it waits now, if an operator moved it.
        moved: Option<Arc<Moved>>,
    },
}

/// Where a part was moved, away from the queue and pool of its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The scheduled queue. Recipients stay as they are: the domain here is where the part is routed.
    pub queue: QueueName,
    /// The pool.
    pub pool: Arc<str>,
}
