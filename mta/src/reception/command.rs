//! SMTP commands as values (RFC 5321 section 4.1, RFC 1870, RFC 3030, RFC 3207, RFC 3461, RFC 4865,
//! RFC 4954, RFC 6152, RFC 6531).
//! Pure. Floor 1.
//! Always: what is not understood whole is refused whole; no part of a bad command has an effect.

use egret_shared::text::Line;

use super::auth::Response;
use super::hold::Hold;
use super::notification::{scan_mail, scan_rcpt};
use super::offer::Refusal;
use super::path::{parameters, scan_path};
use crate::message::{Address, MessageWish, RecipientWish, xtext};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// HELO, or EHLO if extended.
    Hello {
        /// The client's name.
        name: Line,
        /// EHLO: extensions may be used.
        extended: bool,
    },
    /// MAIL FROM.
    Mail(Mail),
    /// RCPT TO.
    Rcpt(Rcpt),
    /// DATA.
    Data,
    /// BDAT.
    Bdat {
        /// Bytes of the chunk, which follow the command.
        bytes: u64,
        /// It is the last one.
        last: bool,
    },
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Auth {
        /// How the client would show who it is.
        mechanism: String,
        /// What it shows at once.
        initial: Option<Response>,
    },
    /// RSET.
    Reset,
    /// NOOP.
    Noop,
    /// HELP.
    Help,
    /// VRFY.
    Verify,
    /// QUIT.
    Quit,
}

/// What MAIL says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path; `None` is the null sender.
    pub sender: Option<Address>,
    /// The length that the client declares, in bytes.
    pub size: Option<u64>,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// HOLDFOR or HOLDUNTIL: not to be sent before.
    pub hold: Option<Hold>,
    /// RET and ENVID.
    pub wish: MessageWish,
    /// AUTH was given: who wrote the message, as somebody else has found. It is read, and nobody here acts on it.
    pub auth: bool,
    /// A parameter was given: not before EHLO.
    pub extended: bool,
}

/// What RCPT says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rcpt {
    /// The forward-path; `None` is the postmaster of this host.
    pub address: Option<Address>,
    /// NOTIFY and ORCPT.
    pub wish: RecipientWish,
    /// A parameter holds characters beyond ASCII: not without SMTPUTF8.
    pub needs_utf8: bool,
    /// A parameter was given: not before EHLO.
    pub extended: bool,
}

/// Why a line is not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It holds bytes that are not UTF-8.
    #[error("command is not UTF-8")]
    NotUtf8,
    /// Nobody knows the verb.
    #[error("command unknown")]
    Unknown,
    /// The verb is known to RFCs, and not to this server.
    #[error("command not implemented")]
    NotImplemented,
    /// A web browser, made to speak to a mail server.
    #[error("this is not a web server")]
    Web,
    /// Something follows a verb that takes nothing.
    #[error("command takes no argument")]
    Argument,
    /// HELO or EHLO without a name, or with one that cannot be.
    #[error("a domain name or address literal must follow")]
    Name,
    /// MAIL without FROM: or RCPT without TO:.
    #[error("{0} and an address in angle brackets must follow")]
    Keyword(&'static str),
    /// The path is not in brackets, or something clings to it.
    #[error("address must stand in angle brackets, parameters behind a space")]
    Brackets,
    /// A source route that is none.
    #[error("source route is malformed")]
    Route,
    /// The mailbox cannot be one.
    #[error("bad address: {0}")]
    Address(&'static str),
    /// The mailbox needs SMTPUTF8, which MAIL did not ask for.
    #[error("address needs SMTPUTF8, which MAIL did not ask for")]
    NeedsUtf8,
    /// A parameter that was not offered.
    #[error("parameter not supported")]
    Parameter,
    /// A parameter that was offered, with a value that it cannot have, or twice.
    #[error("bad or repeated value of {0}")]
    Value(&'static str),
    /// HOLDFOR and HOLDUNTIL, or one of them twice.
    #[error("one of HOLDFOR and HOLDUNTIL is allowed, once")]
    Holds,
    /// To be held longer than EHLO has said.
    #[error("messages are held for {0} seconds at most")]
    HeldTooLong(u64),
    /// AUTH without a mechanism, or with more than it and an initial response.
    #[error("a mechanism, and no more than an initial response behind it, must follow")]
    Mechanism,
    /// BDAT without a length: where its bytes end is unknown.
    #[error("BDAT needs a length in bytes; closing, for the end of the chunk is unknown")]
    Chunk,
}

impl Bad {
    /// What the client is told.
    pub fn refusal(&self) -> Refusal {
        let (code, enhanced) = match self {
            Self::Unknown | Self::NotUtf8 => (500, (5, 5, 2)),
            Self::NotImplemented => (502, (5, 5, 1)),
            Self::Web => (421, (4, 7, 0)),
            Self::Address(_) => (501, (5, 1, 3)),
            Self::NeedsUtf8 => (553, (5, 6, 7)),
            Self::Parameter => (555, (5, 5, 4)),
            _ => (501, (5, 5, 4)),
        };
        Refusal::new(code, enhanced, &self.to_string())
    }

    /// True if the session cannot go on.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Chunk | Self::Web)
    }
}

/// Reads a line, its CRLF taken off.
///
/// # Errors
/// See [`Bad`].
pub fn parse(line: &[u8]) -> Result<Command, Bad> {
    let line = std::str::from_utf8(line).map_err(|_| Bad::NotUtf8)?.trim_end_matches(' ');
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    let plain = |command| if argument.is_empty() { Ok(command) } else { Err(Bad::Argument) };
    match &*verb.to_ascii_uppercase() {
        "MAIL" => mail(argument).map(Command::Mail),
        "RCPT" => rcpt(argument).map(Command::Rcpt),
        "DATA" => plain(Command::Data),
        "BDAT" => bdat(argument),
        "EHLO" => hello(argument, true),
        "HELO" => hello(argument, false),
        "STARTTLS" => plain(Command::StartTls),
        "AUTH" => auth(argument),
        "RSET" => plain(Command::Reset),
        "QUIT" => plain(Command::Quit),
        "NOOP" => Ok(Command::Noop),
        "HELP" => Ok(Command::Help),
        "VRFY" => {
            if argument.is_empty() {
                Err(Bad::Name)
            } else {
                Ok(Command::Verify)
            }
        }
        "EXPN" | "ETRN" | "TURN" | "SEND" | "SOML" | "SAML" => Err(Bad::NotImplemented),
        "GET" | "POST" | "PUT" | "HEAD" | "OPTIONS" | "CONNECT" => Err(Bad::Web),
        _ => Err(Bad::Unknown),
    }
}

fn hello(name: &str, extended: bool) -> Result<Command, Bad> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    match (1..=255).contains(&name.len()) && name.bytes().all(good) {
        true => Ok(Command::Hello { name: Line::sanitized(name.as_bytes()), extended }),
        false => Err(Bad::Name),
    }
}

fn address(path: &str) -> Result<Address, Bad> {
    Address::parse(path).map_err(|e| Bad::Address(e.why))
}

fn mail(argument: &str) -> Result<Mail, Bad> {
    let (path, rest) = scan_path(argument, "FROM:")?;
    let (mut size, mut body, mut smtputf8, mut hold) = (None, None, false, None);
    let (mut extended, mut wish, mut auth) = (false, MessageWish::default(), false);
    for (key, value) in parameters(rest) {
        extended = true;
        match (&*key.to_ascii_uppercase(), value) {
            ("SIZE", Some(v)) if size.is_none() => size = Some(digits(v).ok_or(Bad::Value("SIZE"))?),
            ("SIZE", _) => return Err(Bad::Value("SIZE")),
            ("BODY", Some(v)) if body.is_none() && is_body(v) => body = Some(()),
            ("BODY", _) => return Err(Bad::Value("BODY")),
            ("SMTPUTF8", None) if !smtputf8 => smtputf8 = true,
            ("SMTPUTF8", _) => return Err(Bad::Value("SMTPUTF8")),
            ("HOLDFOR" | "HOLDUNTIL", _) if hold.is_some() => return Err(Bad::Holds),
            ("HOLDFOR", v) => hold = Some(Hold::scan_for(v.unwrap_or_default())?),
            ("HOLDUNTIL", v) => hold = Some(Hold::scan_until(v.unwrap_or_default())?),
            ("AUTH", Some(v)) if !auth && is_mailbox_xtext(v) => auth = true,
            ("AUTH", _) => return Err(Bad::Value("AUTH")),
            (key, value) => scan_mail(&mut wish, key, value).ok_or(Bad::Parameter)??,
        }
    }
    let sender = if path.is_empty() { None } else { Some(address(path)?) };
    if !smtputf8 && sender.as_ref().is_some_and(Address::needs_utf8) {
        return Err(Bad::NeedsUtf8);
    }
    Ok(Mail { sender, size, smtputf8, hold, wish, auth, extended })
}

/// `<>`, or a mailbox in xtext (RFC 4954 section 5).
fn is_mailbox_xtext(value: &str) -> bool {
    value == "<>" || xtext::decode(value).is_some_and(|text| Address::parse(&text).is_ok())
}

fn auth(argument: &str) -> Result<Command, Bad> {
    let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
    // Names of mechanisms: RFC 4422 section 3.1. What a second space stands before is nothing that AUTH knows.
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if mechanism.is_empty() || mechanism.len() > 20 || !mechanism.bytes().all(good) || initial.contains(' ') {
        return Err(Bad::Mechanism);
    }
    let initial = if initial.is_empty() { None } else { Some(Response::new(initial)) };
    Ok(Command::Auth { mechanism: mechanism.to_owned(), initial })
}

fn is_body(value: &str) -> bool {
    value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME")
}

fn rcpt(argument: &str) -> Result<Rcpt, Bad> {
    let (path, rest) = scan_path(argument, "TO:")?;
    let mut rcpt = Rcpt { needs_utf8: !rest.is_ascii(), ..Rcpt::default() };
    for (key, value) in parameters(rest) {
        rcpt.extended = true;
        scan_rcpt(&mut rcpt.wish, &key.to_ascii_uppercase(), value).ok_or(Bad::Parameter)??;
    }
    if !path.eq_ignore_ascii_case("postmaster") {
        rcpt.address = Some(address(path)?);
    }
    Ok(rcpt)
}

fn bdat(argument: &str) -> Result<Command, Bad> {
    let (bytes, last) = argument.split_once(' ').unwrap_or((argument, ""));
    let bytes = digits(bytes).ok_or(Bad::Chunk)?;
    match last.is_empty() || last.eq_ignore_ascii_case("LAST") {
        true => Ok(Command::Bdat { bytes, last: !last.is_empty() }),
        false => Err(Bad::Chunk),
    }
}

/// A number of up to 20 digits (RFC 1870 section 6.1). One that no integer here can hold is as large as can be.
fn digits(text: &str) -> Option<u64> {
    let good = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
