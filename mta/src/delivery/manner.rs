//! How a session speaks, as its options and what is known of the host say. Plain data. Floor 2.

use crate::dns::site::Protocol;
use crate::shaping::options::Tls;

/// How a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// Whether and how TLS is used.
    pub tls: Tls,
    /// Whether commands are sent together where that is offered.
    pub may_pipeline: bool,
    /// Whether content is sent by BDAT where that is offered.
    pub may_chunk: bool,
    /// Whether 8-bit content is sent where 8BITMIME is not offered.
    pub ignore_8bit_checks: bool,
    /// Whether RSET is used; without it the session ends where one would be needed.
    pub may_reset: bool,
    /// Transactions that may be written before the one in front of them is answered.
    pub most_ahead: u32,
}
