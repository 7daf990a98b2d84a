//! The client's side of SMTP and LMTP as a machine: replies in, commands and acts out (RFC 5321, 2033, 2920, 3030,
//! 1870, 3207, 4954, 6152, 6531).
//! Pure: no socket, no clock. Floor 2.
//! Always: each recipient of a transaction is decided exactly once; a command is built only from
//! types that cannot hold a line break; after a reply that leaves the two sides out of step no
//! further command is written.

use bytes::BytesMut;
use egret_shared::fault::Reason;
use egret_shared::text::Line;

use super::auth::Exchange;
use super::doubt::{Doubts, Sign};
use super::outcome::{Judgement, Seen, Stage, judge};
use super::reply::{Parser, Reply};
use super::transaction::{Body, Command, First, Transaction};
use crate::dns::site::Protocol;
use crate::message::{Address, EnhancedCode, Response};
use crate::shaping::options::Tls;

pub use super::act::{Act, Lost, Refused};
pub use super::auth::Login;
pub use super::capabilities::Capabilities;
pub use super::manner::Manner;
pub use super::transaction::{Decided, Envelope, Finished};

/// Content up to this size is sent behind its BDAT without waiting for the answers to what stands in front: a refused
/// recipient costs that much, and a taken one is a round trip cheaper.
const MAX_AHEAD_BYTES: u64 = 64 << 10;

/// One session, seen from the client.
#[derive(Debug)]
pub struct Dialogue {
    hello: Line,
    manner: Manner,
    login: Option<Login>,
    exchange: Option<Exchange>,
    is_secure: bool,
    said_helo: bool,
    /// The server holds a sender of a transaction that was given up.
    needs_reset: bool,
    is_usable: bool,
    /// The connection ended in the middle, or went silent.
    is_broken: bool,
    stage: Stage,
    replies: u64,
    parser: Parser,
    offered: Capabilities,
    transaction: Transaction,
    /// How the content of the transaction is sent.
    body: Body,
    /// All of the transaction is written before an answer has come.
    is_at_once: bool,
    doubts: Doubts,
    ahead: Ahead,
}

impl Dialogue {
    /// A session that waits for the greeting. `hello` is the name that it tells.
    pub fn new(hello: &str, manner: Manner) -> Self {
        Self {
            hello: Line::sanitized(hello.as_bytes()),
            manner,
            login: None,
            exchange: None,
            is_secure: false,
            said_helo: false,
            needs_reset: false,
            is_usable: true,
            is_broken: false,
            stage: Stage::Greeting,
            replies: 0,
            parser: Parser::default(),
            offered: Capabilities::default(),
            transaction: Transaction::default(),
            body: Body::Data,
            is_at_once: false,
            doubts: Doubts::default(),
            ahead: Ahead::default(),
        }
    }

    /// It says who this host is before it carries mail.
    #[must_use]
    pub fn authenticate(mut self, login: Option<Login>) -> Self {
        self.login = login;
        self
    }

    /// What is written now may hold a secret.
    pub fn is_secret(&self) -> bool {
        self.stage == Stage::Auth
    }

    /// The server is known to answer pipelined commands: a session that breaks is no sign against that.
    pub fn trust_pipelining(&mut self) {
        self.doubts.trust();
    }

    /// What the last transaction has shown of the server's pipelining and chunking.
    pub fn sign(&self) -> Option<Sign> {
        self.doubts.sign()
    }

    /// What is awaited.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Replies so far: a driver grants each its time.
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// What the server offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.offered
    }

    /// Whether a further command may be written.
    pub fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// The connection ended in the middle or went silent: that may be the way's doing, too.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Reads replies out of `input`, appends commands to `send`, until something is to be done or
    /// bytes are missing (`None`).
    pub fn step(&mut self, input: &mut BytesMut, send: &mut Vec<u8>) -> Option<Act> {
        if let Some(lost) = self.ahead.over.clone().filter(|_| self.stage != Stage::Idle) {
            return Some(self.lost(&lost));
        }
        loop {
            let reply = match self.parser.next(input) {
                Ok(None) => return None,
                Ok(Some(reply)) => reply,
                Err(bad) => return Some(self.lost(&bad.into())),
            };
            self.replies += 1;
            // A server may say at any time that it leaves; else a reply that was there before its command answers
            // something else, and so would all that follow.
            if self.doubts.was_early() && reply.code != 421 {
                return Some(self.lost(&Lost::OutOfStep));
            }
            if self.ahead.is_leaving && reply.code == 421 {
                continue;
            }
            if self.is_out_of_turn(&reply) {
                return Some(self.lost(&Lost::OutOfStep));
            }
            let (stage, written) = (self.stage, send.len());
            let act = self.take(&reply, send);
            if send.len() > written {
                self.doubts.wrote(!input.is_empty());
            }
            match act {
                None => {}
                act if input.is_empty() => return act,
                // What waits is to the transaction behind it.
                act @ Some(Act::Finished(_)) if self.has_behind() => return act,
                Some(Act::Upgrade) => return Some(self.lost(&Lost::Early)),
                Some(Act::Ready) => {
                    self.stage = stage;
                    self.doubts.wrote(true);
                }
                act @ Some(Act::Finished(_)) => {
                    self.is_usable = false;
                    return act;
                }
                act => return act,
            }
        }
    }

    /// The TLS handshake is done.
    pub fn upgraded(&mut self, send: &mut Vec<u8>) {
        self.is_secure = true;
        self.hello(self.verb(), send);
    }

    /// Says why this message cannot be sent here, before anything of it is sent.
    pub fn objection(&self, envelope: &Envelope<'_>) -> Option<Response> {
        self.offered.objection(envelope, self.manner.ignore_8bit_checks)
    }

    /// Content is written as it is, without doubled dots and a final one.
    pub fn is_chunked(&self) -> bool {
        self.body == Body::Bdat
    }

    /// The commands were not understood as they were meant: nothing more may be written.
    pub fn out_of_step(&mut self) {
        self.is_usable = false;
    }

    /// Starts a transaction. `recipients` are numbered by the caller. True if the content is to be written at once,
    /// behind the commands: small content is not worth the wait for their answers.
    pub fn begin<'a>(
        &mut self,
        envelope: &Envelope<'_>,
        recipients: impl Iterator<Item = (u16, &'a Address)>,
        send: &mut Vec<u8>,
    ) -> bool {
        let Manner { may_pipeline, may_chunk, protocol, .. } = self.manner;
        self.body = if may_chunk && self.offered.chunking { Body::Bdat } else { Body::Data };
        let is_pipelined = may_pipeline && self.offered.pipelining;
        let is_small = envelope.size <= MAX_AHEAD_BYTES && protocol == Protocol::Smtp;
        let first = match is_pipelined {
            false => First::One,
            true if is_small && self.body == Body::Bdat => First::All,
            true => First::AllButContent,
        };
        self.is_at_once = first == First::All;
        let reset = std::mem::take(&mut self.needs_reset) || self.is_curious();
        self.doubts.begin(is_pipelined);
        self.transaction.begin(envelope, &self.offered, reset, self.body, recipients);
        self.transaction.write(first, send);
        self.stage = self.transaction.awaited().map_or(Stage::Idle, Command::stage);
        self.is_at_once
    }

    /// The content is written to its end: that of the first transaction of which that was not told yet.
    pub fn content_written(&mut self) {
        match self.stage {
            Stage::Content if self.body == Body::Bdat => self.stage = Stage::Bdat,
            Stage::Content => self.stage = Stage::AfterDot,
            // Answers to what stands in front of it are still to come.
            _ => self.complete_next(),
        }
    }

    /// Says goodbye; the answer is [`Act::Left`].
    pub fn quit(&mut self, send: &mut Vec<u8>) {
        send.extend_from_slice(b"QUIT\r\n");
        self.stage = Stage::Quit;
    }

    /// No further reply comes.
    pub fn lost(&mut self, lost: &Lost) -> Act {
        let enhanced = match lost {
            Lost::Malformed(_) | Lost::Early | Lost::OutOfStep => EnhancedCode::new(4, 5, 0),
            Lost::Stopped => EnhancedCode::new(4, 3, 2),
            _ => EnhancedCode::new(4, 4, 2),
        };
        self.ahead.over.get_or_insert_with(|| lost.clone());
        if self.is_spared(lost) {
            return self.spare();
        }
        if self.disbelieves(lost) {
            self.transaction.doubt_all();
        }
        let within = matches!(self.stage, Stage::Reset | Stage::Mail | Stage::Rcpt);
        if self.transaction.is_whole() && within {
            // The server has all that it needs to take it.
            self.stage = Stage::Bdat;
            self.transaction.touch();
        }
        let text = format!("{lost} at {}", self.stage.command());
        let response = Response::own(421, enhanced, &text);
        self.is_usable = false;
        self.is_broken = matches!(lost, Lost::Closed | Lost::Broken(_) | Lost::Reset | Lost::Late(_));
        match self.stage {
            Stage::Connect | Stage::Greeting | Stage::Hello | Stage::StartTls | Stage::Auth => {
                let reason = match (lost, self.replies) {
                    (Lost::Late(_), _) => Reason::ConnectionTimeout,
                    (Lost::Closed, 0) => Reason::RemoteClosedPreBanner,
                    (Lost::Reset, 0) => Reason::RemoteResetPreBanner,
                    _ => Reason::RemoteClosed,
                };
                Act::Refused(Refused { response, line: None, reason })
            }
            Stage::Idle | Stage::Quit => Act::Left,
            stage => self.finish(judge(stage, lost.seen()), &response),
        }
    }

    fn take(&mut self, reply: &Reply, send: &mut Vec<u8>) -> Option<Act> {
        let judgement = judge(self.stage, Seen::Reply(reply.code));
        match self.stage {
            Stage::Connect | Stage::Greeting => {
                if judgement != Judgement::Go {
                    return Some(self.refused(reply, Some(reply.first_line())));
                }
                self.hello(self.verb(), send);
                None
            }
            Stage::Hello => self.take_hello(reply, judgement, send),
            Stage::StartTls if reply.code == 220 => Some(Act::Upgrade),
            // Nothing is lost yet: the server said no, and the session goes on in clear.
            Stage::StartTls if reply.code != 421 && !self.manner.tls.is_required() => self.ready(send),
            Stage::StartTls => Some(self.refused(reply, None)),
            Stage::Auth => self.take_auth(reply, judgement, send),
            Stage::Content => {
                // The server answered before the end: it does not know where the content ends.
                self.is_usable = false;
                Some(self.finish(judgement, &reply.response(Stage::Content.command())))
            }
            Stage::AfterDot | Stage::Bdat => self.take_verdict(reply, judgement),
            Stage::Idle | Stage::Quit => {
                self.is_usable = false;
                Some(Act::Left)
            }
            Stage::Reset | Stage::Mail | Stage::Rcpt | Stage::Data => self.take_command(reply, judgement, send),
        }
    }

    /// An answer to the content: for all recipients, or in LMTP for one.
    fn take_verdict(&mut self, reply: &Reply, judgement: Judgement) -> Option<Act> {
        let response = reply.response(self.stage.command());
        self.is_usable &= reply.code != 421;
        self.ahead.is_leaving |= reply.code == 421;
        if self.manner.protocol == Protocol::Lmtp
            && self.is_usable
            && self.transaction.answered_one(judgement, &response)
        {
            return None;
        }
        if self.stage == Stage::Bdat && matches!(reply.code, 500..=504) {
            // It knows BDAT only if all that it missed was a recipient; if not, it takes the content for commands.
            let knows_it = (reply.code == 503 && !self.transaction.has_accepted()) || self.ahead.looks.is_sure();
            self.is_usable &= knows_it;
            if !knows_it {
                self.doubts.refused_bdat();
            }
        }
        // RFC 3030 section 2: after a refused BDAT the server may hold anything.
        self.needs_reset |= self.stage == Stage::Bdat && judgement != Judgement::Delivered;
        Some(self.finish(judgement, &response))
    }

    /// The greeting of the protocol.
    fn verb(&self) -> &'static str {
        match self.manner.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        }
    }

    fn take_hello(&mut self, reply: &Reply, judgement: Judgement, send: &mut Vec<u8>) -> Option<Act> {
        if judgement != Judgement::Go {
            let is_smtp = self.manner.protocol == Protocol::Smtp;
            let may_fall_back =
                is_smtp && reply.code >= 500 && !self.said_helo && !self.is_secure && !self.manner.tls.is_required();
            if !may_fall_back {
                return Some(self.refused(reply, None));
            }
            self.said_helo = true;
            self.hello("HELO", send);
            return None;
        }
        self.offered = if self.said_helo { Capabilities::default() } else { Capabilities::read(reply) };
        if self.is_secure || self.manner.tls == Tls::Disabled {
            return self.ready(send);
        }
        if self.offered.starttls {
            send.extend_from_slice(b"STARTTLS\r\n");
            self.stage = Stage::StartTls;
            return None;
        }
        if self.manner.tls.is_required() {
            self.is_usable = false;
            let text = "TLS is required and the destination does not offer STARTTLS";
            let response = Response::own(451, EnhancedCode::new(4, 7, 5), text);
            return Some(Act::Refused(Refused { response, line: None, reason: Reason::RemoteClosed }));
        }
        self.ready(send)
    }

    /// An answer to AUTH: a challenge, or the end of it.
    fn take_auth(&mut self, reply: &Reply, judgement: Judgement, send: &mut Vec<u8>) -> Option<Act> {
        if judgement == Judgement::Go {
            self.stage = Stage::Idle;
            return Some(Act::Ready);
        }
        if let (334, Some(exchange), Some(login)) = (reply.code, &mut self.exchange, &self.login)
            && exchange.answer(login, reply.lines().next().unwrap_or_default(), send).is_ok()
        {
            return None;
        }
        Some(self.refused(reply, None))
    }

    fn take_command(&mut self, reply: &Reply, judgement: Judgement, send: &mut Vec<u8>) -> Option<Act> {
        let response = reply.response(self.stage.command());
        // It is no answer to this command: the two sides disagree about what was asked.
        if reply.code < 400 && (reply.code >= 300) != (self.stage == Stage::Data) {
            if self.is_watched() {
                return Some(self.lost(&Lost::OutOfStep));
            }
            self.is_usable = false;
            self.doubts.mismatched();
            self.transaction.doubt_all();
            return Some(self.finish(Judgement::Retry { counts: true }, &response));
        }
        let refuses_reset = self.stage == Stage::Reset && judgement != Judgement::Go;
        if refuses_reset && self.is_sent() {
            return self.refused_reset(reply.code);
        }
        if reply.code == 421 || refuses_reset {
            self.is_usable = false;
            self.ahead.is_leaving |= reply.code == 421;
            return Some(self.finish(Judgement::Retry { counts: true }, &response));
        }
        let transaction = &mut self.transaction;
        match transaction.answered(judgement, &response) {
            Command::Data if judgement == Judgement::Go && transaction.has_accepted() => {
                self.stage = Stage::Content;
                return Some(Act::SendContent);
            }
            // It would take content for nobody: end that at once.
            Command::Data if judgement == Judgement::Go => {
                send.extend_from_slice(b".\r\n");
                self.stage = Stage::AfterDot;
                return None;
            }
            Command::Data => {
                self.needs_reset = transaction.has_sender();
                // A 3xx that is not 354: the two sides disagree about what comes next.
                self.is_usable &= reply.code >= 400;
                return Some(self.finish(judgement, &response));
            }
            Command::Reset | Command::Mail | Command::Rcpt(_) | Command::Bdat => {}
        }
        if transaction.is_pointless() {
            self.needs_reset = transaction.has_sender();
            return Some(self.finish(judgement, &response));
        }
        let was_sent = send.len();
        transaction.write_next(send);
        self.stage = transaction.awaited().map_or(Stage::Idle, Command::stage);
        if self.stage == Stage::Bdat && send.len() > was_sent {
            self.stage = Stage::Content;
            return Some(Act::SendContent);
        }
        None
    }

    fn finish(&mut self, judgement: Judgement, response: &Response) -> Act {
        if self.transaction.is_answered() {
            self.doubts.passed();
        }
        self.stage = Stage::Idle;
        self.is_usable &= self.manner.may_reset || !self.needs_reset;
        Act::Finished(self.transaction.finish(judgement, response))
    }

    fn refused(&mut self, reply: &Reply, line: Option<String>) -> Act {
        self.is_usable = false;
        let response = reply.response(self.stage.command());
        Act::Refused(Refused { response, line, reason: Reason::RemoteClosed })
    }

    fn hello(&mut self, verb: &str, send: &mut Vec<u8>) {
        for piece in [verb, " ", self.hello.as_str(), "\r\n"] {
            send.extend_from_slice(piece.as_bytes());
        }
        self.stage = Stage::Hello;
    }

    /// Nothing is left but to say who this host is, if it is to say so.
    fn ready(&mut self, send: &mut Vec<u8>) -> Option<Act> {
        let Some(login) = &self.login else {
            self.stage = Stage::Idle;
            return Some(Act::Ready);
        };
        self.exchange = login.begin(&self.offered, send);
        self.stage = Stage::Auth;
        if self.exchange.is_some() {
            return None;
        }
        self.is_usable = false;
        let wanted = login.mechanisms.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
        let text = format!("a user name is configured and the destination does not offer AUTH by {wanted}");
        let response = Response::own(451, EnhancedCode::new(4, 7, 0), &text);
        Some(Act::Refused(Refused { response, line: None, reason: Reason::RemoteClosed }))
    }
}

mod ahead;
mod fuzz;
use ahead::Ahead;
pub use fuzz::fuzz_dialogue;

#[cfg(test)]
mod tests;
