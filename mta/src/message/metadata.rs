//! What is stored of a message beside its bytes, and the marks that follow it on disk.
//! Pure. Floor 0.
//! Always: a part's recipients share one scheduled queue; a message is gone when all its parts are.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use egret_shared::clock::UnixMs;
use serde::{Deserialize, Serialize};

use super::{Address, MessageId, MessageWish, Notify, Wishes};

/// The name of a scheduled queue: `campaign:tenant@domain`, the first two optional.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// The queue of a domain (canonical: lower case, A-labels) with no tenant and no campaign.
    pub fn of_domain(domain: &str) -> Self {
        Self(format!("@{domain}").into())
    }

    /// The queue of a domain (canonical), with the tenant and the campaign that its mail is for. Characters
    /// that would make the name ambiguous (`:`, `@`, and all that is no graphic ASCII) become `_`; letters become
    /// lower case, so that `Acme` and `acme` are one tenant.
    pub fn new(campaign: Option<&str>, tenant: Option<&str>, domain: &str) -> Self {
        let plain = |text: &str| {
            let fits = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '@');
            text.chars().map(|c| if fits(c) { c.to_ascii_lowercase() } else { '_' }).collect::<String>()
        };
        let tenant = tenant.map(plain).unwrap_or_default();
        match campaign.map(plain) {
            Some(campaign) => Self(format!("{campaign}:{tenant}@{domain}").into()),
            None => Self(format!("{tenant}@{domain}").into()),
        }
    }

    /// The campaign, if its name holds one.
    pub fn campaign(&self) -> Option<&str> {
        let (before, _) = self.0.rsplit_once('@')?;
        before.split_once(':').map(|(campaign, _)| campaign)
    }

    /// The tenant, if its name holds one.
    pub fn tenant(&self) -> Option<&str> {
        let (before, _) = self.0.rsplit_once('@')?;
        let tenant = before.split_once(':').map_or(before, |(_, tenant)| tenant);
        (!tenant.is_empty()).then_some(tenant)
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain part.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or(&*self.0, |(_, domain)| domain)
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The recipients of a message that share one scheduled queue: the unit that is scheduled and tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The scheduled queue.
    pub queue: QueueName,
    /// The pool of sources that it leaves from.
    pub pool: Arc<str>,
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

    #[test]
    fn a_queue_name_holds_campaign_tenant_and_domain_without_doubt() {
        let pieces = |campaign, tenant| {
            let name = QueueName::new(campaign, tenant, "a.test");
            let owned = |piece: Option<&str>| piece.map(str::to_owned);
            (name.to_string(), owned(name.campaign()), owned(name.tenant()), name.domain().to_owned())
        };
        let some = |text: &str| Some(text.to_owned());
        let domain = || "a.test".to_owned();
        assert_eq!(pieces(None, None), ("@a.test".into(), None, None, domain()));
        assert_eq!(pieces(None, Some("t")), ("t@a.test".into(), None, some("t"), domain()));
        assert_eq!(pieces(Some("c"), None), ("c:@a.test".into(), some("c"), None, domain()));
        assert_eq!(pieces(Some("c"), Some("t")), ("c:t@a.test".into(), some("c"), some("t"), domain()));
        assert_eq!(pieces(Some("C"), Some("Acme")), ("c:acme@a.test".into(), some("c"), some("acme"), domain()));
        assert_eq!(pieces(Some("c@:"), Some("t\n:x")), ("c__:t__x@a.test".into(), some("c__"), some("t__x"), domain()));
    }
}
