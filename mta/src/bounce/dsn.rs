//! The report to a sender that recipients failed for good: RFC 3464 in a multipart/report (RFC 6522).
//! Pure. Floor 2.
//! Always: no report about a message of the null sender, so a report never has a report; each line of
//! the result ends by CRLF and none is over 998 bytes; all is ASCII unless the sender's own address
//! needs SMTPUTF8, and only then are RFC 6533's types used.

use std::fmt::Write as _;

use bytes::Bytes;
use egret_shared::clock::UnixMs;
use memchr::memmem;

use super::mime::{Charset, field, fits_lines, paragraph, quoted_printable, with_crlf, words};
use crate::message::{Address, Content, EnhancedCode, Message, MessageId, Response};

/// A message up to this size is returned whole, a larger one by its headers.
const MAX_WHOLE_BYTES: usize = 16 * 1024;
/// Headers are returned up to this size, cut at a line end.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// A response is told up to this many characters.
const MAX_RESPONSE_CHARS: usize = 1000;
/// Our own words, where a reply of the destination would be `smtp` (RFC 3464 section 2.1.1).
const OWN_DIAGNOSTIC: &str = "x-egret;";

/// One recipient that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Who did not get the message.
    pub recipient: &'a Address,
    /// The words that decided.
    pub response: &'a Response,
    /// The name of the mail server that answered, if one did.
    pub remote: Option<&'a str>,
    /// It was given up because it waited too long.
    pub expired: bool,
}

/// All that a report tells.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The id of the report itself: it becomes its Message-ID, and the spool's id if the caller likes.
    pub id: MessageId,
    /// This host's name.
    pub hostname: &'a str,
    /// The message that could not be delivered.
    pub original: &'a Message,
    /// When it was accepted here.
    pub received: UnixMs,
    /// The time now.
    pub now: UnixMs,
    /// The recipients that failed.
    pub failures: &'a [Failure<'a>],
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

/// Writes the report. `None` if the original has the null sender, or nothing failed.
pub fn write(report: &Report<'_>) -> Option<Dsn> {
    let sender = report.original.meta.sender.as_ref()?;
    if report.failures.is_empty() {
        return None;
    }
    let charset = if sender.needs_utf8() { Charset::Utf8 } else { Charset::Ascii };
    let parts = [explanation(report, charset), delivery_status(report, charset), returned(report, charset)];
    let boundary = boundary(report.id, &parts);
    let mut out = own_headers(report, sender, &boundary, charset);
    for part in &parts {
        let _ = write!(out, "--{boundary}\r\nContent-Type: {}\r\n", part.content_type);
        let _ = write!(out, "Content-Transfer-Encoding: {}\r\n\r\n", part.encoding);
        out.push_str(&part.body);
        out.push_str("\r\n");
    }
    let _ = write!(out, "--{boundary}--\r\n");
    let eight_bit = !out.is_ascii();
    let content = Content { added: Bytes::new(), body: Bytes::from(out) };
    Some(Dsn { recipient: sender.clone(), content, eight_bit, smtputf8: charset == Charset::Utf8 })
}

/// One part of the report, encoded. Its body ends by CRLF or is empty.
struct Part {
    content_type: &'static str,
    encoding: &'static str,
    body: String,
}

fn own_headers(report: &Report<'_>, sender: &Address, boundary: &str, charset: Charset) -> String {
    let host = host(report.hostname);
    let mut out = String::new();
    let own = |text: &str| words(text, Charset::Ascii);
    field(&mut out, "From", &own(&format!("Mail Delivery System <MAILER-DAEMON@{host}>")));
    field(&mut out, "To", &[format!("<{}>", whole(sender.as_str(), charset))]);
    field(&mut out, "Subject", &own("Undelivered mail returned to sender"));
    field(&mut out, "Date", &own(&date(report.now)));
    field(&mut out, "Message-ID", &own(&format!("<{}.dsn@{host}>", report.id)));
    field(&mut out, "Auto-Submitted", &own("auto-replied"));
    field(&mut out, "MIME-Version", &own("1.0"));
    let kind = format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\"");
    field(&mut out, "Content-Type", &own(&kind));
    out.push_str("\r\n");
    out
}

/// The part for people.
fn explanation(report: &Report<'_>, charset: Charset) -> Part {
    let mut text = String::new();
    say(&mut text, "", &format!("This is the mail system at {}.", host(report.hostname)));
    text.push_str("\r\n");
    say(&mut text, "", "Your message could not be delivered to the recipients below.");
    say(&mut text, "", "No more attempts are made for them.");
    for failure in report.failures {
        text.push_str("\r\n");
        say(&mut text, "  ", &format!("<{}>", failure.recipient));
        for sentence in reason(failure) {
            say(&mut text, "    ", &sentence);
        }
    }
    text.push_str("\r\n");
    say(&mut text, "", &format!("The message was accepted on {}.", date(report.received)));
    say(&mut text, "", &format!("Its id here is {}.", report.original.id));
    say(&mut text, "", "Its headers, or all of it if it is short, are attached.");
    let (encoding, body) = match charset {
        _ if text.is_ascii() => ("7bit", text),
        Charset::Utf8 => ("8bit", text),
        Charset::Ascii => ("quoted-printable", quoted_printable(text.as_bytes())),
    };
    Part { content_type: "text/plain; charset=utf-8", encoding, body }
}

fn say(text: &mut String, indent: &str, sentence: &str) {
    paragraph(text, indent, &words(sentence, Charset::Utf8));
}

/// Why a recipient failed, as sentences.
fn reason(failure: &Failure<'_>) -> Vec<String> {
    let said = capped(failure.response);
    let mut lines = Vec::new();
    if failure.expired {
        lines.push("It waited too long: the attempts up to now did not succeed.".to_owned());
    }
    match (&failure.response.command, failure.remote) {
        (Some(command), Some(remote)) => lines.push(format!("The mail server {remote} answered to {command}:")),
        (Some(command), None) => lines.push(format!("The mail server answered to {command}:")),
        (None, _) => lines.push("The reason:".to_owned()),
    }
    lines.push(said);
    lines
}

/// The part for programs (RFC 3464 section 2, RFC 6533 section 4).
fn delivery_status(report: &Report<'_>, charset: Charset) -> Part {
    let mut out = String::new();
    let own = |text: &str| words(text, Charset::Ascii);
    field(&mut out, "Reporting-MTA", &own(&format!("dns; {}", host(report.hostname))));
    field(&mut out, "Arrival-Date", &own(&date(report.received)));
    for failure in report.failures {
        out.push_str("\r\n");
        field(&mut out, "Final-Recipient", &final_recipient(failure.recipient, charset));
        field(&mut out, "Action", &own("failed"));
        field(&mut out, "Status", &own(&status(failure).to_string()));
        if let Some(remote) = failure.remote {
            field(&mut out, "Remote-MTA", &own(&format!("dns; {remote}")));
        }
        let kind = if failure.response.command.is_some() { "smtp;" } else { OWN_DIAGNOSTIC };
        field(&mut out, "Diagnostic-Code", &words(&format!("{kind} {}", capped(failure.response)), charset));
        // The last attempt of what expired was some time ago, and the field may be left out.
        if !failure.expired {
            field(&mut out, "Last-Attempt-Date", &own(&date(report.now)));
        }
    }
    match charset {
        Charset::Ascii => Part { content_type: "message/delivery-status", encoding: "7bit", body: out },
        Charset::Utf8 => Part { content_type: "message/global-delivery-status", encoding: "8bit", body: out },
    }
}

/// Address type and address: `rfc822` where ASCII suffices, else `utf-8`, in a report that is ASCII by
/// RFC 6533's escapes.
fn final_recipient(recipient: &Address, charset: Charset) -> Vec<String> {
    let text = recipient.as_str();
    if text.is_ascii() {
        return vec!["rfc822;".to_owned(), whole(text, charset)];
    }
    if charset == Charset::Utf8 {
        return vec!["utf-8;".to_owned(), whole(text, charset)];
    }
    let (local, domain) = (recipient.local(), recipient.canonical_domain());
    let kind = if local.is_ascii() { "rfc822;" } else { "utf-8;" };
    vec![kind.to_owned(), format!("{}@{}", whole(&escaped(local), charset), whole(&domain, charset))]
}

/// `\x{…}` for what is not ASCII (RFC 6533 section 3, utf-8-addr-xtext).
fn escaped(local: &str) -> String {
    if local.is_ascii() {
        return local.to_owned();
    }
    let mut out = String::new();
    for c in local.chars() {
        match c {
            '!'..='~' if !matches!(c, '\\' | '+' | '=') => out.push(c),
            // Writing to a String cannot fail.
            c => _ = write!(out, "\\x{{{:02X}}}", u32::from(c)),
        }
    }
    out
}

/// Text that must not be split, with what would break a line as `?`.
fn whole(text: &str, charset: Charset) -> String {
    text.split(' ').map(|piece| words(piece, charset).concat()).collect::<Vec<_>>().join(" ")
}

/// The status of a recipient: what the response says, or what follows from its reply code.
fn status(failure: &Failure<'_>) -> EnhancedCode {
    match failure.response.enhanced {
        Some(code) if code.class == 5 || (code.class == 4 && !failure.expired) => code,
        _ if failure.expired => EnhancedCode::new(5, 4, 7),
        _ if (400..500).contains(&failure.response.code) => EnhancedCode::new(4, 0, 0),
        _ => EnhancedCode::new(5, 0, 0),
    }
}

fn capped(response: &Response) -> String {
    response.to_string().chars().take(MAX_RESPONSE_CHARS).collect()
}

/// What is returned of the original: all of a short one that is plain, else its headers.
fn returned(report: &Report<'_>, charset: Charset) -> Part {
    let content = &report.original.content;
    let body = if content.len() <= MAX_WHOLE_BYTES { &content.body[..] } else { header_section(&content.body) };
    let all = with_crlf(&[&content.added[..], body].concat());
    if content.len() <= MAX_WHOLE_BYTES && all.is_ascii() && fits_lines(&all) {
        // All bytes are ASCII, so nothing is replaced.
        let body = String::from_utf8_lossy(&all).into_owned();
        return Part { content_type: "message/rfc822", encoding: "7bit", body };
    }
    returned_headers(cut_at_line(header_section(&all)), charset)
}

fn returned_headers(headers: &[u8], charset: Charset) -> Part {
    let plain = |content_type, encoding, text: &str| Part { content_type, encoding, body: text.to_owned() };
    match std::str::from_utf8(headers) {
        Ok(text) if text.is_ascii() && fits_lines(headers) => plain("text/rfc822-headers", "7bit", text),
        Ok(text) if charset == Charset::Utf8 && fits_lines(headers) => plain("message/global-headers", "8bit", text),
        _ => plain("text/rfc822-headers", "quoted-printable", &quoted_printable(headers)),
    }
}

/// The lines before the first empty one.
fn header_section(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") {
        return &[];
    }
    memmem::find(message, b"\r\n\r\n").map_or(message, |end| &message[..end + 2])
}

fn cut_at_line(headers: &[u8]) -> &[u8] {
    if headers.len() <= MAX_HEADER_BYTES {
        return headers;
    }
    let head = &headers[..MAX_HEADER_BYTES];
    memmem::rfind(head, b"\r\n").map_or(&[], |end| &head[..end + 2])
}

/// A boundary that no part holds. The id makes it unlikely, the search makes it certain.
fn boundary(id: MessageId, parts: &[Part]) -> String {
    let held = |candidate: &str| parts.iter().any(|part| part.body.contains(candidate));
    let mut candidate = format!("=_{id}");
    while held(&candidate) {
        candidate.push('_');
    }
    candidate
}

/// This host's name as it stands in headers: A-labels.
fn host(hostname: &str) -> String {
    let ascii = idna::domain_to_ascii(hostname).unwrap_or_else(|_| hostname.to_owned());
    words(&ascii, Charset::Ascii).concat()
}

/// RFC 5322 section 3.3, in UTC.
fn date(at: UnixMs) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Writes reports about any bytes: the entry of the fuzz target. The first byte chooses the sender.
pub fn fuzz_report(bytes: &[u8]) {
    let (Some((first, rest)), Ok(ascii), Ok(utf8)) =
        (bytes.split_first(), Address::parse("s@a.test"), Address::parse("ü@ä.test"))
    else {
        return;
    };
    let id = MessageId::from_bytes([7; 16]);
    let sender = if first & 1 == 0 { &ascii } else { &utf8 };
    let meta = crate::message::Metadata {
        received: UnixMs(0),
        sender: Some(sender.clone()),
        eight_bit: true,
        not_before: None,
        smtputf8: true,
        parts: Vec::new(),
    };
    let content = Content { added: Bytes::new(), body: Bytes::copy_from_slice(rest) };
    let original = Message { id, meta, content };
    let text = egret_shared::text::Line::sanitized(rest);
    let response = Response { code: 550, enhanced: None, text, command: Some("RCPT".to_owned()) };
    let failures = [Failure { recipient: &utf8, response: &response, remote: Some("mx.test"), expired: false }];
    let report = Report {
        id,
        hostname: "host.test",
        original: &original,
        received: UnixMs(0),
        now: UnixMs(1),
        failures: &failures,
    };
    let Some(dsn) = write(&report) else { return };
    assert!(fits_lines(&dsn.content.body), "a line is too long");
    assert_eq!(with_crlf(&dsn.content.body), dsn.content.body, "a line does not end by CRLF");
    assert!(dsn.smtputf8 || dsn.content.body.is_ascii(), "not ASCII");
}

#[cfg(test)]
mod tests;
