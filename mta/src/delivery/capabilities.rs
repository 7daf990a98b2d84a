//! What a server offers in its answer to EHLO (RFC 5321 section 4.1.1.1).
//! Pure. Floor 2.

use super::reply::Reply;
use super::transaction::Envelope;
use crate::message::{EnhancedCode, Response};
use crate::shaping::options::Mechanism;

/// Mechanisms of AUTH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mechanisms(u8);

impl Mechanisms {
    /// One more.
    pub fn add(&mut self, mechanism: Mechanism) {
        self.0 |= 1 << mechanism as u8;
    }

    /// Whether it is among them.
    pub fn contains(self, mechanism: Mechanism) -> bool {
        self.0 & (1 << mechanism as u8) != 0
    }
}

/// What the server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// PIPELINING.
    pub pipelining: bool,
    /// STARTTLS.
    pub starttls: bool,
    /// CHUNKING.
    pub chunking: bool,
    /// 8BITMIME.
    pub eight_bit: bool,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// DSN.
    pub dsn: bool,
    /// SIZE is offered.
    pub size: bool,
    /// The largest message; `None` is no known limit.
    pub max_size: Option<u64>,
    /// AUTH, by these mechanisms.
    pub auth: Mechanisms,
}

impl Capabilities {
    /// Why a message cannot be sent to who offers this; 8-bit content is sent in any case if `ignores_8bit`.
    pub(super) fn objection(&self, envelope: &Envelope<'_>, ignores_8bit: bool) -> Option<Response> {
        if let Some(max) = self.max_size.filter(|max| envelope.size > *max) {
            let text =
                format!("message of {} bytes is larger than the {max} that the destination takes", envelope.size);
            return Some(Response::own(552, EnhancedCode::new(5, 3, 4), &text));
        }
        if envelope.smtputf8 && !self.smtputf8 {
            let text = "message needs SMTPUTF8, which the destination does not offer";
            return Some(Response::own(553, EnhancedCode::new(5, 6, 7), text));
        }
        if envelope.eight_bit && !self.eight_bit && !ignores_8bit {
            let text = "message holds 8-bit content and the destination does not offer 8BITMIME";
            return Some(Response::own(554, EnhancedCode::new(5, 6, 3), text));
        }
        None
    }

    pub(super) fn read(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines().skip(1) {
            // Old servers write `AUTH=LOGIN`.
            let mut words = line.split(|c: char| c.is_ascii_whitespace() || c == '=').filter(|word| !word.is_empty());
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                "STARTTLS" => found.starttls = true,
                "CHUNKING" => found.chunking = true,
                "8BITMIME" => found.eight_bit = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "DSN" => found.dsn = true,
                "SIZE" => {
                    found.size = true;
                    found.max_size = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                "AUTH" => words.filter_map(|word| word.parse().ok()).for_each(|one| found.auth.add(one)),
                _ => {}
            }
        }
        found
    }
}
