//! Replies as bytes (RFC 5321 section 4.2, RFC 2034).
//! Pure. Floor 1.
//! Always: a reply of ours is ASCII, and each of its lines has at most 512 bytes and one CRLF, at its end.

use std::io::Write as _;
use std::time::Duration;

use egret_shared::clock::UnixMs;

use super::hold::date_time;
use super::line::Unfit;
use super::offer::Refusal;
use super::settings::Settings;

/// Bytes of a reply's text: with code, enhanced code and CRLF the line stays under 512.
const MAX_TEXT_BYTES: usize = 480;

/// Appends a reply of one line with an enhanced code.
pub(super) fn write(out: &mut Vec<u8>, code: u16, (class, subject, detail): (u8, u16, u16), text: &str) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{code} {class}.{subject}.{detail} ");
    write_text(out, text);
}

/// Appends a reply of one line without an enhanced code: the greeting, HELO, 334, 354.
pub(super) fn write_bare(out: &mut Vec<u8>, code: u16, text: &str) {
    let _ = write!(out, "{code} ");
    write_text(out, text);
}

/// Appends a refusal. A code that is none becomes a temporary one.
pub(super) fn write_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    let code = if (400..600).contains(&refusal.code) { refusal.code } else { 451 };
    let enhanced = &refusal.enhanced;
    write(out, code, (enhanced.class, enhanced.subject, enhanced.detail), refusal.text.as_str());
}

/// What is offered in one part of a session and not in another.
#[derive(Clone, Copy)]
pub(super) struct Extensions {
    pub starttls: bool,
    pub auth: bool,
}

/// The name of what is spoken since EHLO (RFC 3848, RFC 6531 section 4.3).
pub(super) fn protocol(utf8: bool, tls: bool, user: bool) -> &'static str {
    match (utf8, tls, user) {
        (false, false, false) => "ESMTP",
        (false, false, true) => "ESMTPA",
        (false, true, false) => "ESMTPS",
        (false, true, true) => "ESMTPSA",
        (true, false, false) => "UTF8SMTP",
        (true, false, true) => "UTF8SMTPA",
        (true, true, false) => "UTF8SMTPS",
        (true, true, true) => "UTF8SMTPSA",
    }
}

/// Appends the reply to EHLO: what this server can do.
pub(super) fn write_extensions(out: &mut Vec<u8>, settings: &Settings, offers: Extensions, now: UnixMs) {
    let (name, size) = (settings.hostname.as_str(), settings.max_message_bytes);
    let starttls = if offers.starttls { "250-STARTTLS\r\n" } else { "" };
    let auth = if offers.auth { "250-AUTH PLAIN LOGIN\r\n" } else { "" };
    let future = match settings.max_future_release {
        Duration::ZERO => String::new(),
        longest => format!("250-FUTURERELEASE {} {}\r\n", longest.as_secs(), date_time(now.plus(longest))),
    };
    let dsn = if settings.dsn { "250-DSN\r\n" } else { "" };
    let _ = write!(
        out,
        "250-{name}\r\n250-PIPELINING\r\n250-SIZE {size}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n\
         250-CHUNKING\r\n{dsn}{starttls}{auth}{future}250 HELP\r\n"
    );
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c as u8 } else { b'?' };
    out.extend(text.chars().take(MAX_TEXT_BYTES).map(printable));
    out.extend_from_slice(b"\r\n");
}

/// What the client of an unfit message is told.
pub(super) fn unfit(why: Unfit) -> Refusal {
    let (code, enhanced) = match why {
        Unfit::Big(_) => (552, (5, 3, 4)),
        Unfit::NoRoom => (452, (4, 3, 1)),
        Unfit::LongLine(_) => (550, (5, 6, 0)),
        Unfit::BareCr | Unfit::BareLf | Unfit::Nul => (550, (5, 6, 11)),
    };
    Refusal::new(code, enhanced, &why.to_string())
}
