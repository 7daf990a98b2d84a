//! The part of a report that shows which message it is about: all of it, or its headers.
//! Pure. Floor 2.
//! Always: only with a report of failure, and only up to a limit, is a message returned whole (RFC 3461 section 4.3).

use memchr::memmem;

use super::dsn::{News, Part, Report};
use super::mime::{Charset, fits_lines, quoted_printable, with_crlf};
use crate::message::{Content, Return};

/// A message up to this size is returned whole if its sender has not said how much it wants.
const MAX_UNASKED_BYTES: usize = 16 * 1024;
/// Headers are returned up to this size, cut at a line end.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The part, and whether it is the whole message.
pub(super) fn returned(report: &Report<'_>, charset: Charset) -> (Part, bool) {
    let Content { added, body } = &report.original.content;
    if added.len() + body.len() <= most(report) {
        let all = with_crlf(&[&added[..], &body[..]].concat());
        if let Some((content_type, encoding)) = form(report, &all, charset) {
            return (Part { content_type, encoding, body: all }, true);
        }
    }
    let headers = with_crlf(&[&added[..], header_section(body)].concat());
    (returned_headers(cut_at_line(header_section(&headers)), charset), false)
}

/// The largest message that is returned whole.
fn most(report: &Report<'_>) -> usize {
    match (report.news, report.original.meta.wish.ret) {
        (News::Failed | News::Expired, Some(Return::Full)) => report.max_returned_bytes,
        (News::Failed | News::Expired, None) => report.max_returned_bytes.min(MAX_UNASKED_BYTES),
        _ => 0,
    }
}

/// Type and encoding of a whole message. What is not plain is a risk on the way back, taken only for a sender that
/// has asked for all.
fn form(report: &Report<'_>, all: &[u8], charset: Charset) -> Option<(&'static str, &'static str)> {
    let is_asked = report.original.meta.wish.ret == Some(Return::Full);
    match () {
        () if !fits_lines(all) => None,
        () if all.is_ascii() => Some(("message/rfc822", "7bit")),
        () if is_asked && header_section(all).is_ascii() => Some(("message/rfc822", "8bit")),
        () if is_asked && charset == Charset::Utf8 && str::from_utf8(all).is_ok() => Some(("message/global", "8bit")),
        () => None,
    }
}

fn returned_headers(headers: &[u8], charset: Charset) -> Part {
    match str::from_utf8(headers) {
        Ok(text) if text.is_ascii() && fits_lines(headers) => Part::new("text/rfc822-headers", "7bit", text.to_owned()),
        Ok(text) if charset == Charset::Utf8 && fits_lines(headers) => {
            Part::new("message/global-headers", "8bit", text.to_owned())
        }
        _ => Part::new("text/rfc822-headers", "quoted-printable", quoted_printable(headers)),
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
