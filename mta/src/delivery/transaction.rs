//! One SMTP transaction: its commands as they are written and answered, and what each answer means
//! for which recipient.
//! Pure. Floor 2.
//! Always: `finish` decides every recipient that no reply has decided before.

use super::capabilities::Capabilities;
use super::outcome::{Judgement, Stage};
use super::wish::{Wanted, of_mail, of_rcpt};
use crate::message::{Address, Response};

/// What MAIL needs to know of a message.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The reverse-path; `None` is the null sender.
    pub sender: Option<&'a Address>,
    /// Bytes of the message.
    pub size: u64,
    /// It holds bytes over 127.
    pub eight_bit: bool,
    /// It, or an address of it, needs SMTPUTF8.
    pub smtputf8: bool,
    /// What was said of reports about it, if anything was.
    pub wanted: Option<Wanted<'a>>,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The caller's number of it.
    pub recipient: u16,
    /// What the answer means.
    pub judgement: Judgement,
    /// The answer.
    pub response: Response,
}

/// A transaction that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// One for each recipient.
    pub decided: Vec<Decided>,
    /// The server answered nothing of it but, at most, that it leaves: it says nothing of the message.
    pub is_untouched: bool,
}

/// How content is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// After the answer to DATA, its dots doubled.
    Data,
    /// Right behind BDAT, as it is (RFC 3030).
    Bdat,
}

/// Which commands are written before the first answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    One,
    /// Those in front of BDAT, or DATA with them.
    AllButContent,
    All,
}

/// A command of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Reset,
    Mail,
    Rcpt(u16),
    Data,
    /// The content follows it at once.
    Bdat,
}

impl Command {
    pub fn stage(self) -> Stage {
        match self {
            Self::Reset => Stage::Reset,
            Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Bdat => Stage::Bdat,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// The commands, each with the offset of its end in `wire`.
    commands: Vec<(Command, usize)>,
    wire: Vec<u8>,
    written: usize,
    answered: usize,
    /// Accepted recipients that have their own answer to the content (LMTP).
    taken: usize,
    has_sender: bool,
    is_touched: bool,
    /// Its content is written to the end: the server has all that it needs to take it.
    is_whole: bool,
    /// It was written before the answers to the one in front of it had come.
    is_behind: bool,
    accepted: Vec<u16>,
    again: Vec<(u16, Response)>,
    decided: Vec<Decided>,
}

impl Transaction {
    /// Builds the commands of a transaction. Keeps its buffers.
    pub fn begin<'a>(
        &mut self,
        envelope: &Envelope<'_>,
        offered: &Capabilities,
        reset: bool,
        body: Body,
        recipients: impl Iterator<Item = (u16, &'a Address)>,
    ) {
        self.clear();
        if reset {
            self.push(Command::Reset, &["RSET"]);
        }
        self.push_mail(envelope, offered);
        for (number, recipient) in recipients {
            let wish = envelope.wanted.filter(|_| offered.dsn).and_then(|wanted| wanted.recipients.get(number));
            let wish = wish.map(|wish| of_rcpt(wish, envelope.smtputf8 && offered.smtputf8)).unwrap_or_default();
            self.push(Command::Rcpt(number), &["RCPT TO:<", recipient.as_str(), ">", &wish]);
        }
        match body {
            Body::Data => self.push(Command::Data, &["DATA"]),
            Body::Bdat => self.push(Command::Bdat, &["BDAT ", &envelope.size.to_string(), " LAST"]),
        }
    }

    fn clear(&mut self) {
        let Self { commands, wire, accepted, again, decided, .. } = self;
        commands.clear();
        wire.clear();
        accepted.clear();
        again.clear();
        decided.clear();
        (self.written, self.answered, self.taken) = (0, 0, 0);
        (self.has_sender, self.is_touched) = (false, false);
        (self.is_whole, self.is_behind) = (false, false);
    }

    fn push_mail(&mut self, envelope: &Envelope<'_>, offered: &Capabilities) {
        let sender = envelope.sender.map_or("", Address::as_str);
        let size = if offered.size { format!(" SIZE={}", envelope.size) } else { String::new() };
        let body = if envelope.eight_bit && offered.eight_bit { " BODY=8BITMIME" } else { "" };
        let utf8 = if envelope.smtputf8 && offered.smtputf8 { " SMTPUTF8" } else { "" };
        let wish = envelope.wanted.filter(|_| offered.dsn).map(|wanted| of_mail(wanted.message)).unwrap_or_default();
        self.push(Command::Mail, &["MAIL FROM:<", sender, ">", &size, body, utf8, &wish]);
    }

    fn push(&mut self, command: Command, pieces: &[&str]) {
        for piece in pieces {
            self.wire.extend_from_slice(piece.as_bytes());
        }
        self.wire.extend_from_slice(b"\r\n");
        self.commands.push((command, self.wire.len()));
    }

    /// Writes the first commands.
    pub fn write(&mut self, first: First, send: &mut Vec<u8>) {
        let is_bdat = self.commands.last().is_some_and(|(command, _)| *command == Command::Bdat);
        let count = match first {
            First::One => 1,
            First::AllButContent if is_bdat => self.commands.len() - 1,
            First::AllButContent | First::All => self.commands.len(),
        };
        for _ in 0..count {
            self.write_one(send);
        }
    }

    /// Writes the next command if none is on its way.
    pub fn write_next(&mut self, send: &mut Vec<u8>) {
        if self.written == self.answered {
            self.write_one(send);
        }
    }

    fn write_one(&mut self, send: &mut Vec<u8>) {
        let start = self.written.checked_sub(1).and_then(|last| self.commands.get(last)).map_or(0, |c| c.1);
        if let Some((_, end)) = self.commands.get(self.written) {
            send.extend_from_slice(&self.wire[start..*end]);
            self.written += 1;
        }
    }

    /// The command whose answer comes next.
    pub fn awaited(&self) -> Option<Command> {
        self.commands.get(self.answered).map(|c| c.0)
    }

    /// Takes the answer to the awaited command, which it returns.
    pub fn answered(&mut self, judgement: Judgement, response: &Response) -> Command {
        let command = self.awaited().unwrap_or(Command::Data);
        self.answered += 1;
        self.is_touched |= command != Command::Reset;
        match (command, judgement) {
            (Command::Mail, Judgement::Go) => self.has_sender = true,
            (Command::Mail, _) => {
                for number in self.undecided() {
                    self.decide(number, judgement, response);
                }
            }
            (Command::Rcpt(number), Judgement::Go) if self.has_sender => self.accepted.push(number),
            (Command::Rcpt(number), Judgement::Again) if self.has_sender => self.again.push((number, response.clone())),
            (Command::Rcpt(number), _) if self.has_sender => self.decide(number, judgement, response),
            _ => {}
        }
        command
    }

    /// Takes an answer to the content that is for one recipient (RFC 2033 section 4.2); whether more are to come.
    pub fn answered_one(&mut self, judgement: Judgement, response: &Response) -> bool {
        if let Some(recipient) = self.accepted.get(self.taken).copied() {
            self.decide(recipient, judgement, response);
        }
        self.taken += 1;
        self.taken < self.accepted.len()
    }

    /// Every command was answered, but for the content.
    pub fn is_answered(&self) -> bool {
        !self.commands.is_empty() && matches!(self.awaited(), None | Some(Command::Bdat))
    }

    /// The answers may have been to other commands: none of them counts.
    pub fn doubt_all(&mut self) {
        self.accepted.clear();
        self.again.clear();
        self.decided.clear();
    }

    /// Its content is written to the end.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// See [`Self::is_whole`].
    pub fn complete(&mut self) {
        self.is_whole = true;
    }

    /// It was written behind another.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Writes it to its content, behind another.
    pub fn write_behind(&mut self, send: &mut Vec<u8>) {
        self.is_behind = true;
        self.write(First::All, send);
    }

    /// It has one recipient, so that nothing of it can be asked for again at once.
    pub fn is_single(&self) -> bool {
        self.commands.iter().filter(|(command, _)| matches!(command, Command::Rcpt(_))).count() == 1
    }

    /// The server may have acted on it without an answer.
    pub fn touch(&mut self) {
        self.is_touched = true;
    }

    /// The server knows the sender.
    pub fn has_sender(&self) -> bool {
        self.has_sender
    }

    /// At least one recipient was taken.
    pub fn has_accepted(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// The next command would be of no use, and is not on its way yet.
    pub fn is_pointless(&self) -> bool {
        let no_sender = self.answered > 0 && !self.has_sender && self.awaited() != Some(Command::Mail);
        let nobody = matches!(self.awaited(), Some(Command::Data | Command::Bdat)) && !self.has_accepted();
        self.written == self.answered && (no_sender || nobody)
    }

    /// Ends it: who is accepted or was not asked shares `judgement`.
    pub fn finish(&mut self, judgement: Judgement, response: &Response) -> Finished {
        let asked_again = std::mem::take(&mut self.again);
        let took_some = self.has_accepted();
        for (number, response) in asked_again {
            let judgement = if took_some { Judgement::Again } else { Judgement::Retry { counts: true } };
            self.decide(number, judgement, &response);
        }
        for number in self.undecided() {
            self.decide(number, judgement, response);
        }
        Finished { decided: std::mem::take(&mut self.decided), is_untouched: !self.is_touched }
    }

    fn decide(&mut self, recipient: u16, judgement: Judgement, response: &Response) {
        self.decided.push(Decided { recipient, judgement, response: response.clone() });
    }

    fn undecided(&self) -> Vec<u16> {
        let mut decided: Vec<u16> = self.decided.iter().map(|d| d.recipient).collect();
        decided.sort_unstable();
        let numbers = self.commands.iter().filter_map(|(command, _)| match command {
            Command::Rcpt(number) => Some(*number),
            _ => None,
        });
        numbers.filter(|number| decided.binary_search(number).is_err()).collect()
    }
}
