//! Of what a sender wants to hear, and how: what MAIL and RCPT say about reports (RFC 3461).
//! Plain data. Floor 0.
//! Always: a message of which nothing was said has nothing of this in storage; NEVER stands alone.

use std::fmt;

use egret_shared::text::Line;
use serde::{Deserialize, Serialize};

/// How much of a message comes back with a report of failure (RET).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Return {
    /// FULL: all of it.
    Full,
    /// HDRS: its headers.
    Hdrs,
}

/// What MAIL said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageWish {
    /// RET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<Return>,
    /// ENVID, decoded: the sender's name for the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<Line>,
}

impl MessageWish {
    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Of what the sender wants to hear (NOTIFY).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify(u8);

impl Notify {
    /// Of nothing.
    pub const NEVER: Self = Self(0);
    /// That it has arrived.
    pub const SUCCESS: Self = Self(1);
    /// That it will never arrive.
    pub const FAILURE: Self = Self(2);
    /// That it is late.
    pub const DELAY: Self = Self(4);
    /// The names of all but NEVER.
    const NAMES: [(Self, &str); 3] = [(Self::SUCCESS, "SUCCESS"), (Self::FAILURE, "FAILURE"), (Self::DELAY, "DELAY")];

    /// Reads the value of NOTIFY.
    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(Self::NEVER);
        }
        text.split(',').try_fold(Self::NEVER, |all, word| {
            let (one, _) = Self::NAMES.into_iter().find(|(_, name)| word.eq_ignore_ascii_case(name))?;
            Some(Self(all.0 | one.0))
        })
    }

    /// Whether all of `other` is in it.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Self::NAMES.iter().filter(|(one, _)| self.has(*one)).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "NEVER".to_owned() } else { names.join(",") }.as_str())
    }
}

/// To whom the message was addressed at first (ORCPT), decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Original {
    kind: Line,
    address: Line,
}

impl Original {
    /// An address of a kind, which is a word like `rfc822`; `None` if it is no such word.
    pub fn new(kind: &str, address: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~.".contains(&b);
        let is_word = !kind.is_empty() && kind.bytes().all(fits);
        let (kind, address) = (Line::new(kind).ok()?, Line::new(address).ok()?);
        is_word.then_some(Self { kind, address })
    }

    /// The kind as it was written.
    pub fn kind(&self) -> &str {
        self.kind.as_str()
    }

    /// The address.
    pub fn address(&self) -> &str {
        self.address.as_str()
    }

    /// Its address is one beyond ASCII, or may be (RFC 6533).
    pub fn is_utf8(&self) -> bool {
        self.kind().eq_ignore_ascii_case("utf-8")
    }
}

impl From<Original> for String {
    fn from(original: Original) -> Self {
        format!("{};{}", original.kind, original.address)
    }
}

impl TryFrom<String> for Original {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once(';');
        parts.and_then(|(kind, address)| Self::new(kind, address)).ok_or_else(|| format!("{text:?} is no ORCPT"))
    }
}

/// What RCPT said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientWish {
    /// NOTIFY.
    #[serde(default, rename = "n", skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// ORCPT.
    #[serde(default, rename = "o", skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
}

impl RecipientWish {
    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the sender wants to hear of `what`: of failure and delay also if it said nothing (RFC 3461
    /// section 4.1).
    pub fn wants(&self, what: Notify) -> bool {
        match self.notify {
            Some(notify) => notify.has(what),
            None => what != Notify::SUCCESS,
        }
    }
}

/// What was said of recipients, each by its number; of most, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wishes(Vec<(u16, RecipientWish)>);

impl Wishes {
    /// Nothing was said of any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was said of a recipient.
    pub fn get(&self, recipient: u16) -> Option<&RecipientWish> {
        let at = self.0.binary_search_by_key(&recipient, |(number, _)| *number).ok()?;
        self.0.get(at).map(|(_, wish)| wish)
    }

    /// Something was said of a recipient, whose number is higher than all before.
    pub fn push(&mut self, recipient: u16, wish: RecipientWish) {
        if !wish.is_empty() {
            self.0.push((recipient, wish));
        }
    }

    /// What was said of recipient `at` is said of recipient `number` of `other`, in which that is the last.
    pub fn copy_to(&self, at: usize, other: &mut Self, number: usize) {
        if let Some(wish) = u16::try_from(at).ok().and_then(|at| self.get(at)) {
            other.push(u16::try_from(number).unwrap_or(u16::MAX), wish.clone());
        }
    }

    /// Whether the sender wants to hear of `what` about a recipient.
    pub fn want(&self, recipient: u16, what: Notify) -> bool {
        self.get(recipient).map_or_else(|| RecipientWish::default().wants(what), |wish| wish.wants(what))
    }

    /// Recipients about whom the sender wants to hear of success.
    pub fn wanting_success(&self) -> impl Iterator<Item = u16> + '_ {
        let wants = |wish: &RecipientWish| wish.wants(Notify::SUCCESS);
        self.0.iter().filter(move |(_, wish)| wants(wish)).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_is_never_or_a_list_of_the_others() {
        for (text, want) in [
            ("NEVER", "NEVER"),
            ("never", "NEVER"),
            ("success", "SUCCESS"),
            ("DELAY,FAILURE", "FAILURE,DELAY"),
            ("SUCCESS,FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"),
        ] {
            assert_eq!(Notify::parse(text).map(|n| n.to_string()).as_deref(), Some(want), "{text}");
        }
        for bad in ["", ",", "NEVER,DELAY", "SUCCESS,NEVER", "SUCCESS,", "SUCCESS;DELAY", "ALWAYS", "SUCCESS, DELAY"] {
            assert_eq!(Notify::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_says_nothing_hears_of_failure_and_delay() {
        let said = |text| RecipientWish { notify: Notify::parse(text), original: None };
        let wants =
            |wish: RecipientWish| [Notify::SUCCESS, Notify::FAILURE, Notify::DELAY].map(|what| wish.wants(what));
        assert_eq!(wants(RecipientWish::default()), [false, true, true]);
        assert_eq!(wants(said("NEVER")), [false; 3]);
        assert_eq!(wants(said("SUCCESS")), [true, false, false]);
        assert_eq!(wants(said("FAILURE")), [false, true, false]);
    }

    #[test]
    fn wishes_are_short_in_storage_and_read_as_they_were_written() {
        let mut wishes = Wishes::default();
        wishes.push(0, RecipientWish::default());
        wishes.push(1, RecipientWish { notify: Some(Notify::NEVER), original: None });
        wishes.push(7, RecipientWish { notify: None, original: Original::new("rfc822", "a;b@c.test") });
        let text = serde_json::to_string(&wishes).expect("writable");
        assert_eq!(text, r#"[[1,{"n":0}],[7,{"o":"rfc822;a;b@c.test"}]]"#);
        assert_eq!(serde_json::from_str::<Wishes>(&text).expect("readable"), wishes);
        assert_eq!(wishes.get(7).and_then(|w| w.original.as_ref()).map(Original::address), Some("a;b@c.test"));
        assert!(wishes.get(0).is_none() && !wishes.want(1, Notify::FAILURE) && wishes.want(0, Notify::FAILURE));
        assert!(serde_json::from_str::<Wishes>(r#"[[1,{"o":"no kind"}]]"#).is_err());
    }
}
