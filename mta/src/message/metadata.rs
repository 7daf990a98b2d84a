//! What is stored of a message beside its bytes, and the marks that follow it on disk.
//! Pure. Floor 0.
//! Always: a part's recipients share one scheduled queue, pool and priority; a message is gone when all its parts are.

use std::sync::Arc;

use bytes::Bytes;
use egret_shared::clock::UnixMs;
use serde::{Deserialize, Serialize};

use super::{Address, MessageId, MessageWish, Notify, Priority, QueueName, Wishes};

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
    /// What was said of reports about them (RFC 3461).
    #[serde(default, skip_serializing_if = "Wishes::is_empty")]
    pub wishes: Wishes,
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
    /// What was said of reports about it (RFC 3461).
    #[serde(default, skip_serializing_if = "MessageWish::is_empty")]
    pub wish: MessageWish,
    /// One for each scheduled queue.
    pub parts: Vec<Part>,
}

impl Metadata {
    /// From when its age counts: when it was accepted, or the time until which its sender had it held.
    pub fn waits_since(&self) -> UnixMs {
        self.not_before.map_or(self.received, |held| held.max(self.received))
    }

    /// Whether its sender wants to hear that a part of it is late.
    pub fn hears_of_delay(&self, part: &Part) -> bool {
        let Part { recipients, wishes, .. } = part;
        let wants = || (0u16..).zip(recipients).any(|(number, _)| wishes.want(number, Notify::DELAY));
        self.sender.is_some() && wants()
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
    /// How many times its sender was told that it is late. Where that is not 0, a part may stand here that is
    /// where its metadata say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub told: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_without_a_word_about_reports_is_as_it_was_before_there_were_any() {
        let before = r#"{"received":1000,"sender":"a@b.test","eight_bit":false,"smtputf8":false,"parts":[{"queue":"@d.test","pool":"p","recipients":["c@d.test"]}]}"#;
        let meta: Metadata = serde_json::from_str(before).expect("readable");
        assert!(meta.wish.is_empty() && meta.parts[0].wishes.is_empty());
        assert_eq!(serde_json::to_string(&meta).expect("writable"), before);
        let before = r#"{"queue":"@d.test","pool":"p"}"#;
        let moved: Moved = serde_json::from_str(before).expect("readable");
        assert_eq!((moved.told, serde_json::to_string(&moved).expect("writable").as_str()), (0, before));
    }

    #[test]
    fn what_was_said_about_reports_is_stored() {
        let said = r#"{"received":1000,"sender":null,"eight_bit":false,"smtputf8":false,"wish":{"ret":"full","envid":"x y"},"parts":[{"queue":"@d.test","pool":"p","recipients":["c@d.test"],"wishes":[[0,{"n":5,"o":"rfc822;o@d.test"}]]}]}"#;
        let meta: Metadata = serde_json::from_str(said).expect("readable");
        assert_eq!(serde_json::to_string(&meta).expect("writable"), said);
        let wish = meta.parts[0].wishes.get(0).expect("a wish");
        assert_eq!(wish.notify.map(|n| n.to_string()).as_deref(), Some("SUCCESS,DELAY"));
    }
}
