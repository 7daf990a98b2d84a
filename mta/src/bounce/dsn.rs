//! The report to a sender of what became of recipients: RFC 3464 in a multipart/report (RFC 6522).
//! Pure. Floor 2.
//! Always: no report about a message of the null sender, so a report never has a report; each line of
//! the result ends by CRLF and none is over 998 bytes; all is ASCII unless the sender's own address
//! needs SMTPUTF8, and only then are RFC 6533's types used, or unless the sender wants its whole message, which
//! is not ASCII.

use bytes::Bytes;
use egret_shared::clock::UnixMs;
use egret_shared::text::Line;
use memchr::memmem;

use super::letter::letter;
use super::mime::{Charset, field, fits_lines, with_crlf, words};
use super::returned::returned;
use super::status::delivery_status;
use crate::message::{Address, Content, Message, MessageId, MessageWish, Original, RecipientWish, Response, Return};
use crate::shaping::automation::reason;

/// A response is told up to this many characters.
const MAX_RESPONSE_CHARS: usize = 1000;

/// What became of the recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// They will never get it.
    Failed,
    /// They were given up because they waited too long.
    Expired,
    /// They wait still.
    Delayed {
        /// Until when they are tried.
        until: UnixMs,
    },
    /// It was passed on to a server that tells nothing more (RFC 3461 section 5.2.2).
    Relayed,
    /// It is in their mailboxes.
    Delivered,
}

impl News {
    /// As RFC 3464 section 2.3.3 names it.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Failed | Self::Expired => "failed",
            Self::Delayed { .. } => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Failed | Self::Expired => "Undelivered mail returned to sender",
            Self::Delayed { .. } => "Mail is late and still being tried",
            Self::Relayed => "Mail was passed on",
            Self::Delivered => "Mail was delivered",
        }
    }
}

/// One recipient.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Who it is.
    pub recipient: &'a Address,
    /// What the sender said of reports about it.
    pub wish: Option<&'a RecipientWish>,
    /// The words that decided.
    pub response: &'a Response,
    /// The name of the mail server that answered, if one did.
    pub remote: Option<&'a str>,
    /// When the last attempt was made, if that is known.
    pub last_attempt: Option<UnixMs>,
}

/// All that a report tells.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The id of the report itself: it becomes its Message-ID, and the spool's id if the caller likes.
    pub id: MessageId,
    /// This host's name.
    pub hostname: &'a str,
    /// The message that it is about.
    pub original: &'a Message,
    /// When that was accepted here.
    pub received: UnixMs,
    /// The time now.
    pub now: UnixMs,
    /// What became of it.
    pub news: News,
    /// For these recipients.
    pub recipients: &'a [Told<'a>],
    /// The largest message that is returned whole.
    pub max_returned_bytes: usize,
}

/// A report, ready to be spooled with the null sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    /// Whom to send it to: the sender of the original.
    pub recipient: Address,
    /// Its bytes, headers first.
    pub content: Content,
    /// It holds bytes over 127.
    pub eight_bit: bool,
    /// It needs SMTPUTF8 on its way.
    pub smtputf8: bool,
}

/// Writes the report. `None` if the original has the null sender, or there is no recipient to tell of.
pub fn write(report: &Report<'_>) -> Option<Dsn> {
    let sender = report.original.meta.sender.as_ref()?;
    if report.recipients.is_empty() {
        return None;
    }
    let charset = if sender.needs_utf8() { Charset::Utf8 } else { Charset::Ascii };
    let (returned, is_whole) = returned(report, charset);
    let parts = [letter(report, is_whole, charset), delivery_status(report, charset), returned];
    let boundary = boundary(report.id, &parts);
    let mut out = own_headers(report, sender, &boundary, charset).into_bytes();
    for Part { content_type, encoding, body } in &parts {
        let head =
            format!("--{boundary}\r\nContent-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let eight_bit = !out.is_ascii();
    let content = Content { added: Bytes::new(), body: Bytes::from(out) };
    Some(Dsn { recipient: sender.clone(), content, eight_bit, smtputf8: charset == Charset::Utf8 })
}

/// One part of the report, encoded. Its body ends by CRLF or is empty.
pub(super) struct Part {
    pub content_type: &'static str,
    pub encoding: &'static str,
    pub body: Vec<u8>,
}

impl Part {
    pub fn new(content_type: &'static str, encoding: &'static str, body: String) -> Self {
        Self { content_type, encoding, body: body.into_bytes() }
    }
}

fn own_headers(report: &Report<'_>, sender: &Address, boundary: &str, charset: Charset) -> String {
    let host = host(report.hostname);
    let mut out = String::new();
    let own = |text: &str| words(text, Charset::Ascii);
    field(&mut out, "From", &own(&format!("Mail Delivery System <MAILER-DAEMON@{host}>")));
    field(&mut out, "To", &[format!("<{}>", whole(sender.as_str(), charset))]);
    field(&mut out, "Subject", &own(report.news.subject()));
    field(&mut out, "Date", &own(&date(report.now)));
    field(&mut out, "Message-ID", &own(&format!("<{}.dsn@{host}>", report.id)));
    field(&mut out, "Auto-Submitted", &own("auto-replied"));
    field(&mut out, "MIME-Version", &own("1.0"));
    let kind = format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\"");
    field(&mut out, "Content-Type", &own(&kind));
    out.push_str("\r\n");
    out
}

/// Text that must not be split, with what would break a line as `?`.
pub(super) fn whole(text: &str, charset: Charset) -> String {
    text.split(' ').map(|piece| words(piece, charset).concat()).collect::<Vec<_>>().join(" ")
}

/// What a response says to a sender: of our own words nothing that is for operators only.
pub(super) fn capped(response: &Response) -> String {
    let own = if response.command.is_none() { reason::for_strangers(response.text.as_str()) } else { None };
    let other = own.map(|text| Response { text: Line::sanitized(text.as_bytes()), ..response.clone() });
    other.as_ref().unwrap_or(response).to_string().chars().take(MAX_RESPONSE_CHARS).collect()
}

/// A boundary that no part holds. The id makes it unlikely, the search makes it certain.
fn boundary(id: MessageId, parts: &[Part]) -> String {
    let held = |candidate: &str| parts.iter().any(|part| memmem::find(&part.body, candidate.as_bytes()).is_some());
    let mut candidate = format!("=_{id}");
    while held(&candidate) {
        candidate.push('_');
    }
    candidate
}

/// This host's name as it stands in headers: A-labels.
pub(super) fn host(hostname: &str) -> String {
    let ascii = idna::domain_to_ascii(hostname).unwrap_or_else(|_| hostname.to_owned());
    words(&ascii, Charset::Ascii).concat()
}

/// RFC 5322 section 3.3, in UTC.
pub(super) fn date(at: UnixMs) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Writes reports about any bytes: the entry of the fuzz target. The first byte chooses sender, news and how much
/// comes back.
pub fn fuzz_report(bytes: &[u8]) {
    let (Some((first, rest)), Ok(ascii), Ok(utf8)) =
        (bytes.split_first(), Address::parse("s@a.test"), Address::parse("ü@ä.test"))
    else {
        return;
    };
    let (id, text) = (MessageId::from_bytes([7; 16]), Line::sanitized(rest));
    let sender = if first & 1 == 0 { &ascii } else { &utf8 };
    let news = [News::Failed, News::Delayed { until: UnixMs(2) }, News::Relayed][usize::from(first >> 2) % 3];
    let ret = (first & 2 == 0).then_some(Return::Full);
    let meta = crate::message::Metadata {
        received: UnixMs(0),
        sender: Some(sender.clone()),
        eight_bit: true,
        not_before: None,
        smtputf8: true,
        wish: MessageWish { ret, envid: Some(text.clone()) },
        parts: Vec::new(),
    };
    let content = Content { added: Bytes::new(), body: Bytes::copy_from_slice(rest) };
    let original = Message { id, meta, content };
    let wish = RecipientWish { notify: None, original: Original::new("utf-8", text.as_str()) };
    let response = Response { code: 550, enhanced: None, text, command: Some("RCPT".to_owned()) };
    let (remote, last_attempt) = (Some("mx.test"), Some(UnixMs(1)));
    let told = [Told { recipient: &utf8, wish: Some(&wish), response: &response, remote, last_attempt }];
    let report = Report {
        id,
        hostname: "host.test",
        original: &original,
        received: UnixMs(0),
        now: UnixMs(1),
        news,
        recipients: &told,
        max_returned_bytes: 1 << 20,
    };
    let Some(dsn) = write(&report) else { return };
    let body = &dsn.content.body;
    assert!(fits_lines(body), "a line is too long");
    assert_eq!(&with_crlf(body), body, "a line does not end by CRLF");
    let may_be_eight_bit = dsn.smtputf8 || (ret.is_some() && news == News::Failed);
    assert!(may_be_eight_bit || body.is_ascii(), "not ASCII");
}

#[cfg(test)]
mod tests;
