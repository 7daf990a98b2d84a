//! What became of a recipient in one attempt.
//! Pure. Floor 0.

use std::fmt;

use egret_shared::text::Line;
use serde::{Deserialize, Serialize};

/// An enhanced status code (RFC 3463), in full width: Microsoft sends `5.7.511`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String")]
#[serde(try_from = "String")]
pub struct EnhancedCode {
    /// 2, 4 or 5.
    pub class: u8,
    /// The subject.
    pub subject: u16,
    /// The detail.
    pub detail: u16,
}

impl EnhancedCode {
    /// `class.subject.detail`.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `5.7.511`; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut pieces = text.split('.');
        let mut next = || pieces.next().filter(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
        let (class, subject, detail) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
        (matches!(class, 2 | 4 | 5) && pieces.next().is_none()).then_some(Self { class, subject, detail })
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl From<EnhancedCode> for String {
    fn from(code: EnhancedCode) -> Self {
        code.to_string()
    }
}

impl TryFrom<String> for EnhancedCode {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not an enhanced status code"))
    }
}

/// A reply of the destination, or our own words where it gave none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The SMTP reply code; for our own words the one that fits best (451, 550 …).
    pub code: u16,
    /// The enhanced code, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<EnhancedCode>,
    /// The text, lines joined by a space.
    pub text: Line,
    /// The command that it answers: `RCPT`, `DATA`, `.`; `None` for our own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Response {
    /// Our own words, not the destination's.
    pub fn own(code: u16, enhanced: EnhancedCode, text: &str) -> Self {
        Self { code, enhanced: Some(enhanced), text: Line::sanitized(text.as_bytes()), command: None }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text)
    }
}

/// What is to be done with a recipient after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The destination took it.
    Delivered,
    /// Try again later. Only an answer of the destination counts as an attempt.
    Retry {
        /// Whether the attempt count and the back-off grow.
        counts: bool,
    },
    /// The destination may have taken it, and the operator wants to decide: it waits until one does.
    Hold,
    /// It will never be taken: report to the sender.
    Bounce,
}

/// What became of one recipient of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientResult {
    /// Its index in the part's recipients.
    pub recipient: u16,
    /// What is to be done.
    pub verdict: Verdict,
    /// The words that decided it.
    pub response: Response,
}
