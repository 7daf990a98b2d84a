//! The server's side of SMTP as a machine: bytes in, replies and acts out (RFC 5321 section 3).
//! Pure: no socket, no clock, no TLS. Floor 1.
//! Always: any split of the bytes gives the same replies and acts (but for STARTTLS, behind which
//! nothing may wait); a message is answered 250 only by [`Session::answered`] with a `Taken`;
//! nothing is read as a command before the message before it has truly ended.

mod opening;
mod transaction;

use std::net::SocketAddr;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::text::Line;
use memchr::memchr;

use super::auth::{Credentials, Exchange};
use super::budget::{Body, Share};
use super::command::{self, Bad, Command, Mail};
use super::line::{LineScan, Unfit, command_limit, scan_line};
use super::offer::{Asked, Offered, Refusal, Taken};
use super::reply;
use super::settings::Settings;
use crate::message::{Address, Wishes};

/// Bytes of an endless command line that are thrown away before the session is closed.
const MAX_SKIPPED_BYTES: usize = 64 << 10;
/// Bytes of replies that gather before they must be sent.
const MAX_REPLY_BYTES: usize = 16 << 10;
/// Bytes of a message that count as progress.
pub(super) const PROGRESS_BYTES: u64 = 4096;

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Send the replies, then read on.
    More,
    /// Send the replies, then go on with what is read.
    Flush,
    /// Offer the message, and tell what became of it by [`Session::answered`].
    Offer(Box<Offered>),
    /// Have the credentials checked, and tell what became of it by [`Session::authenticated`].
    Authenticate(Box<Credentials>),
    /// Send the replies, then upgrade to TLS and begin a new session.
    StartTls,
    /// Send the replies, then close.
    Close,
}

/// What a step did.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are used up.
    pub used: usize,
    /// What is to be done now.
    pub act: Act,
}

/// What is told to the machine at a step beside bytes.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The time.
    pub now: UnixMs,
    /// Says why something cannot begin now.
    pub gate: &'a dyn Fn(Asked) -> Option<Refusal>,
}

/// What the client is known for.
#[derive(Clone, Debug)]
struct Hello {
    name: Line,
    extended: bool,
}

/// From MAIL to the answer.
#[derive(Debug)]
struct Transaction {
    mail: Mail,
    not_before: Option<UnixMs>,
    recipients: Vec<Address>,
    wishes: Wishes,
    /// Recipients that were over the limit.
    over: u32,
    /// What came by BDAT so far.
    chunks: Option<Body>,
}

#[derive(Debug)]
enum Phase {
    /// Awaits a command.
    Command,
    /// Awaits the end of a command line that is longer than its limit.
    Skip { dropped: usize, after_cr: bool, limit: usize },
    /// Awaits a response within AUTH.
    Auth(Exchange),
    /// Awaits a verdict on this user's credentials.
    Checked(Line),
    /// Awaits the end of a message.
    Data(Body),
    /// Awaits the rest of a chunk, which is thrown away if it is refused already.
    Chunk { size: u64, left: u64, last: bool, refusal: Option<Refusal> },
    /// Awaits the answer to an offer.
    Offered,
    /// Nothing more is read.
    Ended,
}

/// One session, or the part of it before or after STARTTLS.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    client: SocketAddr,
    tls: Option<String>,
    phase: Phase,
    hello: Option<Hello>,
    /// Who the client is, if it has shown that.
    user: Option<Line>,
    transaction: Option<Transaction>,
    /// What the message on offer holds of the budget.
    share: Option<Share>,
    errors: u32,
    /// Wrong passwords.
    failures: u32,
    idle_commands: u32,
    messages: u32,
    commands: u64,
    data_bytes: u64,
    refused: Vec<u16>,
    smuggled: bool,
}

impl Session {
    /// A session of which nothing came yet. `tls` has version and cipher if it is in TLS.
    pub fn new(settings: Arc<Settings>, client: SocketAddr, tls: Option<String>) -> Self {
        Self {
            settings,
            client,
            tls,
            phase: Phase::Command,
            hello: None,
            user: None,
            transaction: None,
            share: None,
            errors: 0,
            failures: 0,
            idle_commands: 0,
            messages: 0,
            commands: 0,
            data_bytes: 0,
            refused: Vec::new(),
            smuggled: false,
        }
    }

    /// Writes the greeting.
    pub fn greet(&self, out: &mut Vec<u8>) {
        reply::write_bare(out, 220, &format!("{} ESMTP Egret", self.settings.hostname));
    }

    /// Reads on, as far as it gets. Call it again with the rest of `input` and what came since.
    pub fn step(&mut self, input: &[u8], around: Around<'_>, out: &mut Vec<u8>) -> Step {
        let mut used = 0;
        loop {
            if matches!(self.phase, Phase::Ended) {
                return Step { used: input.len(), act: Act::Close };
            }
            if out.len() >= MAX_REPLY_BYTES {
                return Step { used, act: Act::Flush };
            }
            let (took, act) = self.advance(&input[used..], around, out);
            used += took;
            if let Some(act) = act {
                return Step { used, act };
            }
        }
    }

    /// Tells what became of the offered message.
    pub fn answered(&mut self, answer: Result<Taken, Refusal>, out: &mut Vec<u8>) {
        self.phase = Phase::Command;
        self.share = None;
        match answer {
            Ok(taken) => {
                self.messages += 1;
                (self.idle_commands, self.errors) = (0, 0);
                reply::write(out, 250, (2, 0, 0), &format!("taken as {}", taken.id()));
            }
            Err(refusal) => self.tell(&refusal, out),
        }
    }

    /// True between two transactions: the session can be closed without harm.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Command | Phase::Auth(_)) && self.transaction.is_none()
    }

    /// True while a message comes, as opposed to a command.
    pub fn is_in_data(&self) -> bool {
        matches!(self.phase, Phase::Data(_) | Phase::Chunk { .. })
    }

    /// Grows with each command, and each 4 KiB of a message: what does not grow is stuck.
    pub fn progress(&self) -> u64 {
        self.commands + self.data_bytes / PROGRESS_BYTES
    }

    /// The session ends because the client is too slow.
    pub fn late(&mut self, out: &mut Vec<u8>) {
        self.tell(&Refusal::new(421, (4, 4, 2), "waited too long, closing"), out);
    }

    /// The session ends because the program does.
    pub fn stop(&mut self, out: &mut Vec<u8>) {
        self.tell(&Refusal::new(421, (4, 3, 2), "service stops, try again"), out);
    }

    /// The codes of refusals since the last call.
    pub fn refused(&mut self) -> impl Iterator<Item = u16> + '_ {
        self.refused.drain(..)
    }

    /// True if a message held what looks like an attempt to smuggle commands.
    pub fn smuggled(&self) -> bool {
        self.smuggled
    }

    fn advance(&mut self, input: &[u8], around: Around<'_>, out: &mut Vec<u8>) -> (usize, Option<Act>) {
        match std::mem::replace(&mut self.phase, Phase::Command) {
            Phase::Command => self.command(input, around, out),
            Phase::Skip { dropped, after_cr, limit } => self.skip(input, (dropped, after_cr, limit), out),
            Phase::Auth(exchange) => self.respond(exchange, input, out),
            Phase::Data(text) => self.data(text, input, out),
            Phase::Chunk { size, left, last, mut refusal } => {
                let took = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                if let (None, Some(text)) = (&refusal, self.transaction.as_mut().and_then(|t| t.chunks.as_mut())) {
                    text.feed(&input[..took]);
                    refusal = text.is_shed().then(|| reply::unfit(Unfit::NoRoom));
                }
                self.data_bytes += took as u64;
                let left = left - took as u64;
                if left > 0 {
                    self.phase = Phase::Chunk { size, left, last, refusal };
                    return (took, Some(Act::More));
                }
                (took, self.end_chunk(size, last, refusal, out))
            }
            // No act asks for a step while an offer or credentials wait.
            waiting @ (Phase::Offered | Phase::Checked(_)) => {
                self.phase = waiting;
                (0, Some(Act::More))
            }
            Phase::Ended => {
                self.phase = Phase::Ended;
                (input.len(), Some(Act::Close))
            }
        }
    }

    fn command(&mut self, input: &[u8], around: Around<'_>, out: &mut Vec<u8>) -> (usize, Option<Act>) {
        let limit = command_limit(input);
        match scan_line(input, limit) {
            LineScan::More => (0, Some(Act::More)),
            LineScan::Long => {
                self.phase = Phase::Skip { dropped: 0, after_cr: false, limit };
                (0, None)
            }
            LineScan::Unclean(used) => {
                self.commands += 1;
                self.refuse(&Refusal::new(500, (5, 5, 2), "command holds a bare CR, a bare LF or NUL"), out);
                (used, None)
            }
            LineScan::Got(line) => {
                self.commands += 1;
                let used = line.len() + 2;
                let act = match command::parse(line) {
                    Ok(command) => self.obey(command, input.len() > used, around, out),
                    Err(bad) => {
                        self.refuse_bad(&bad, out);
                        None
                    }
                };
                (used, act)
            }
        }
    }

    fn skip(
        &mut self,
        input: &[u8],
        (dropped, after_cr, limit): (usize, bool, usize),
        out: &mut Vec<u8>,
    ) -> (usize, Option<Act>) {
        let (mut from, mut cr) = (0, after_cr);
        while let Some(at) = memchr(b'\n', &input[from..]).map(|at| from + at) {
            let ends = if at == 0 { cr } else { input[at - 1] == b'\r' };
            if ends && dropped + at < MAX_SKIPPED_BYTES {
                self.commands += 1;
                let text = format!("line is longer than {limit} bytes");
                self.refuse(&Refusal::new(500, (5, 5, 2), &text), out);
                return (at + 1, None);
            }
            (from, cr) = (at + 1, false);
        }
        if dropped + input.len() >= MAX_SKIPPED_BYTES {
            self.tell(&Refusal::new(421, (4, 7, 0), "command line without end, closing"), out);
            return (input.len(), None);
        }
        let after_cr = input.last().map_or(after_cr, |last| *last == b'\r');
        self.phase = Phase::Skip { dropped: dropped + input.len(), after_cr, limit };
        (input.len(), Some(Act::More))
    }

    fn data(&mut self, mut text: Body, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Act>) {
        let end = text.feed(input);
        let took = end.unwrap_or(input.len());
        self.data_bytes += took as u64;
        if text.seen() > self.settings.max_drained_bytes() {
            self.refuse_endless(out);
            return (took, None);
        }
        if end.is_some() {
            return (took, self.offer(text, out));
        }
        self.phase = Phase::Data(text);
        (took, Some(Act::More))
    }

    fn end_chunk(&mut self, size: u64, last: bool, refusal: Option<Refusal>, out: &mut Vec<u8>) -> Option<Act> {
        if let Some(refusal) = refusal {
            // RFC 3030 section 2: after a chunk that failed, only a new transaction helps.
            self.transaction = None;
            if refusal.code < 500 {
                self.tell(&refusal, out);
            } else {
                self.refuse(&refusal, out);
            }
            return None;
        }
        if !last {
            reply::write(out, 250, (2, 0, 0), &format!("{size} bytes taken"));
            return None;
        }
        let text = self.transaction.as_mut().and_then(|t| t.chunks.take())?;
        self.offer(text, out)
    }

    fn offer(&mut self, text: Body, out: &mut Vec<u8>) -> Option<Act> {
        let smuggles = text.smuggles();
        let (transaction, hello) = (self.transaction.take()?, self.hello.clone()?);
        match text.finish() {
            Ok((body, share)) => {
                self.phase = Phase::Offered;
                self.share = Some(share);
                Some(Act::Offer(Box::new(self.offered(transaction, hello, body))))
            }
            Err(Unfit::NoRoom) => {
                self.tell(&reply::unfit(Unfit::NoRoom), out);
                None
            }
            Err(why) => {
                self.refuse(&reply::unfit(why), out);
                if smuggles {
                    self.smuggled = true;
                    self.phase = Phase::Ended;
                }
                None
            }
        }
    }

    fn offered(&self, transaction: Transaction, hello: Hello, body: bytes::Bytes) -> Offered {
        let smtputf8 = transaction.mail.smtputf8;
        let protocol = match hello.extended {
            true => reply::protocol(smtputf8, self.tls.is_some(), self.user.is_some()),
            false => "SMTP",
        };
        Offered {
            sender: transaction.mail.sender,
            recipients: transaction.recipients,
            wish: transaction.mail.wish,
            wishes: transaction.wishes,
            eight_bit: !body.is_ascii(),
            smtputf8,
            not_before: transaction.not_before,
            body,
            client: self.client,
            helo: hello.name,
            tls: self.tls.clone(),
            user: self.user.clone(),
            protocol,
        }
    }

    /// Obeys a command. `more` is true if bytes wait behind it.
    fn obey(&mut self, command: Command, more: bool, around: Around<'_>, out: &mut Vec<u8>) -> Option<Act> {
        match command {
            Command::Mail(mail) => self.mail(mail, around, out),
            Command::Rcpt(rcpt) => self.recipient(rcpt, out),
            Command::Data => self.start_data(around, out),
            Command::Bdat { bytes, last } => self.start_chunk(bytes, last, around, out),
            Command::StartTls => return self.start_tls(more, out),
            Command::Auth { mechanism, initial } => return self.auth(&mechanism, initial.as_ref(), out),
            Command::Quit => {
                reply::write(out, 221, (2, 0, 0), "goodbye");
                self.phase = Phase::Ended;
            }
            idle => self.idle(idle, around.now, out),
        }
        None
    }

    /// The commands that bring no message nearer.
    fn idle(&mut self, command: Command, now: UnixMs, out: &mut Vec<u8>) {
        self.idle_commands += 1;
        if self.idle_commands > self.settings.max_idle_commands {
            return self.tell(&Refusal::new(421, (4, 7, 0), "too many commands without mail, closing"), out);
        }
        match command {
            Command::Hello { name, extended } => self.hello(name, extended, now, out),
            Command::Reset => {
                self.transaction = None;
                reply::write(out, 250, (2, 0, 0), "reset");
            }
            Command::Help => reply::write(out, 214, (2, 0, 0), "see RFC 5321"),
            Command::Verify => reply::write(out, 252, (2, 1, 5), "not verified; send it and see"),
            _ => reply::write(out, 250, (2, 0, 0), "ok"),
        }
    }

    fn misplaced(&mut self, text: &str, out: &mut Vec<u8>) {
        self.refuse(&Refusal::new(503, (5, 5, 1), text), out);
    }

    fn refuse_bad(&mut self, bad: &Bad, out: &mut Vec<u8>) {
        self.refuse(&bad.refusal(), out);
        if bad.is_fatal() {
            self.phase = Phase::Ended;
        }
    }

    /// The client sends more than anyone will wait for.
    fn refuse_endless(&mut self, out: &mut Vec<u8>) {
        self.refuse(&reply::unfit(Unfit::Big(self.settings.max_message_bytes)), out);
        self.phase = Phase::Ended;
    }

    /// Refuses what the client did wrong. Too much of it ends the session.
    fn refuse(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        self.tell(refusal, out);
        self.errors += 1;
        if self.errors >= self.settings.max_errors && !matches!(self.phase, Phase::Ended) {
            self.tell(&Refusal::new(421, (4, 7, 0), "too many errors, closing"), out);
        }
    }

    /// Tells a refusal for which the client need not be at fault. 421 ends the session.
    fn tell(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        reply::write_refusal(out, refusal);
        self.refused.push(refusal.code);
        if refusal.code == 421 {
            self.phase = Phase::Ended;
        }
    }
}

#[cfg(test)]
mod tests;
