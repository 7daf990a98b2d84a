//! How a session speaks. Floor 1.

use std::sync::Arc;
use std::time::Duration;

/// Messages that a session is given ahead of time, and so the most that it can send behind one that is not answered.
pub const MOST_AHEAD: u32 = 1;

/// How a session speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpOptions {
    /// The name told in EHLO by sources that have none of their own; `None` is the host's.
    pub ehlo_domain: Option<Arc<str>>,
    /// Whether LMTP is spoken, whatever the site says (RFC 2033).
    pub use_lmtp: bool,
    /// Whether RSET may be used; without it a session whose transaction was given up ends.
    pub enable_rset: bool,
    /// Whether commands are pipelined where the server offers it (RFC 2920).
    pub enable_pipelining: bool,
    /// Whether content is sent by BDAT where the server offers it (RFC 3030).
    pub enable_chunking: bool,
    /// Transactions that may be sent before the one in front of them is answered, where CHUNKING is offered; zero is
    /// none.
    pub max_transactions_ahead: u32,
    /// For how long a server that loses or mixes up pipelined commands gets them one by one; zero is not at all.
    pub remember_broken_pipelining: Duration,
    /// For how long a server that offers CHUNKING and does not know BDAT gets DATA; zero is not at all.
    pub remember_broken_chunking: Duration,
    /// Whether 8-bit content is sent to servers that do not offer 8BITMIME.
    pub ignore_8bit_checks: bool,
    /// What follows when a session dies behind the content, before the answer.
    pub uncertain: Uncertain,
    /// How long to wait at each step.
    pub timeouts: Timeouts,
}

/// What follows when the destination may have taken a message and nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncertain {
    /// It is sent again: it may come twice.
    Retry,
    /// It waits for an operator, or until it expires.
    Hold,
    /// It is taken for delivered: it may be lost.
    Deliver,
}

impl std::str::FromStr for Uncertain {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "retry" => Ok(Self::Retry),
            "hold" => Ok(Self::Hold),
            "deliver" => Ok(Self::Deliver),
            _ => Err("write \"retry\", \"hold\" or \"deliver\"".to_owned()),
        }
    }
}

impl Default for SmtpOptions {
    fn default() -> Self {
        Self {
            ehlo_domain: None,
            use_lmtp: false,
            enable_rset: true,
            enable_pipelining: true,
            enable_chunking: true,
            max_transactions_ahead: 0,
            remember_broken_pipelining: Duration::from_secs(3600),
            remember_broken_chunking: Duration::from_secs(3600),
            ignore_8bit_checks: false,
            uncertain: Uncertain::Retry,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long to wait at each step (RFC 5321 section 4.5.3.2 for the minima).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Proxy, its handshake, and the connection.
    pub connect: Duration,
    /// The 220.
    pub banner: Duration,
    /// EHLO and HELO.
    pub ehlo: Duration,
    /// AUTH, each of its steps.
    pub auth: Duration,
    /// STARTTLS and the handshake.
    pub starttls: Duration,
    /// MAIL.
    pub mail_from: Duration,
    /// RCPT.
    pub rcpt_to: Duration,
    /// DATA, and each block written.
    pub data: Duration,
    /// The reply to the final dot.
    pub data_dot: Duration,
    /// RSET and QUIT.
    pub rset: Duration,
    /// How long an idle session waits for another message.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            connect: minutes(1),
            banner: minutes(5),
            ehlo: minutes(5),
            auth: minutes(1),
            starttls: Duration::from_secs(30),
            mail_from: minutes(5),
            rcpt_to: minutes(5),
            data: minutes(5),
            data_dot: minutes(10),
            rset: Duration::from_secs(20),
            idle: Duration::from_secs(5),
        }
    }
}
