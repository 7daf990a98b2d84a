//! A message on offer, and the two answers to it.
//! Plain data and one trait. Floor 1.
//! Always: a client is told 250 for a message only from a [`Taken`].

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use egret_shared::clock::UnixMs;
use egret_shared::text::Line;

use super::auth::{Credentials, Verdict};
use crate::message::{Address, EnhancedCode, MessageId, MessageWish, Wishes};

/// A message as a client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The reverse-path; `None` is the null sender.
    pub sender: Option<Address>,
    /// The forward-paths, one at least, in the order in which they came.
    pub recipients: Vec<Address>,
    /// What MAIL said of reports (RFC 3461).
    pub wish: MessageWish,
    /// What RCPT said of reports, by the recipient's number.
    pub wishes: Wishes,
    /// The message holds bytes over 127, whatever BODY said.
    pub eight_bit: bool,
    /// SMTPUTF8 was asked for (RFC 6531).
    pub smtputf8: bool,
    /// It is not to be sent before this (RFC 4865).
    pub not_before: Option<UnixMs>,
    /// The message: dots unstuffed, every CR and LF in a CRLF, no NUL. One that came by BDAT may lack the final CRLF.
    pub body: Bytes,
    /// The client.
    pub client: SocketAddr,
    /// The name that it gave with HELO or EHLO (ASCII).
    pub helo: Line,
    /// Version and cipher, if it came in TLS.
    pub tls: Option<String>,
    /// The user that the client has shown to be.
    pub user: Option<Line>,
    /// SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA or one of them for UTF-8 (RFC 3848, RFC 6531), for the trace header.
    pub protocol: &'static str,
}

/// Why something is not taken, in the words that the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reply code, 400 to 599. After 421 the session is closed.
    pub code: u16,
    /// The enhanced code of the same class (RFC 3463).
    pub enhanced: EnhancedCode,
    /// The text; bytes that are not ASCII are told as `?`.
    pub text: Line,
}

impl Refusal {
    /// A refusal in our own words.
    pub fn new(code: u16, enhanced: (u8, u16, u16), text: &str) -> Self {
        let (class, subject, detail) = enhanced;
        Self { code, enhanced: EnhancedCode::new(class, subject, detail), text: Line::sanitized(text.as_bytes()) }
    }
}

/// The promise that a message is safe. Made only by whoever stored it.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Taken(MessageId);

impl Taken {
    /// The message with this id is on stable storage.
    pub fn new(id: MessageId) -> Self {
        Self(id)
    }

    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.0
    }
}

/// What is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A transaction, by MAIL.
    Mail,
    /// The text of its message, by DATA or the first BDAT.
    Text,
}

/// Takes messages, or says why not.
pub trait Acceptor: Send + Sync + 'static {
    /// Takes a message: stores it, then promises.
    ///
    /// # Errors
    /// What the client is told instead.
    fn accept(&self, offered: Offered) -> impl Future<Output = Result<Taken, Refusal>> + Send;

    /// Whether the client is who it says. The answer to one that is not may take a while.
    fn authenticate(&self, client: SocketAddr, credentials: Credentials) -> impl Future<Output = Verdict> + Send;

    /// The time.
    fn now(&self) -> UnixMs;

    /// Asked before each MAIL and before each message begins: some refusal while that cannot be.
    fn gate(&self, asked: Asked) -> Option<Refusal>;
}
