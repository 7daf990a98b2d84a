//! The paths of MAIL and RCPT, with what may follow them (RFC 5321 sections 4.1.1.2, 4.1.2, 4.1.1.11).
//! Pure. Floor 1.
//! Always: a path ends at the first angle bracket outside quotes, and only a space may follow it.

use crate::message::Address;

use super::command::Bad;

/// The null reverse-path is `None`. Source routes are ignored, as section 3.6.1 asks.
pub(super) fn scan_path<'a>(argument: &'a str, keyword: &'static str) -> Result<(&'a str, &'a str), Bad> {
    let rest = after_keyword(argument, keyword).ok_or(Bad::Keyword(keyword))?;
    let inner = rest.trim_start_matches(' ').strip_prefix('<').ok_or(Bad::Brackets)?;
    let end = closing_bracket(inner).ok_or(Bad::Brackets)?;
    let (path, rest) = (&inner[..end], &inner[end + 1..]);
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(Bad::Brackets);
    }
    Ok((without_route(path)?, rest))
}

fn after_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, tail) = argument.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then_some(tail)
}

fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            b'<' if !quoted => return None,
            _ => {}
        }
    }
    None
}

/// `@a,@b:user@c` is `user@c`.
fn without_route(path: &str) -> Result<&str, Bad> {
    let mut rest = path;
    while let Some(hop) = rest.strip_prefix('@') {
        let end = end_of_hop(hop).ok_or(Bad::Route)?;
        let probe = format!("x@{}", &hop[..end]);
        Address::parse(&probe).map_err(|_| Bad::Route)?;
        rest = &hop[end + 1..];
        match hop.as_bytes().get(end) {
            Some(b':') => return Ok(rest),
            _ if rest.starts_with('@') => {}
            _ => return Err(Bad::Route),
        }
    }
    Ok(rest)
}

fn end_of_hop(hop: &str) -> Option<usize> {
    let mut literal = false;
    hop.bytes().position(|byte| {
        match byte {
            b'[' => literal = true,
            b']' => literal = false,
            _ => {}
        }
        !literal && matches!(byte, b',' | b':')
    })
}

/// Parameters as `KEY` and perhaps a value.
pub(super) fn parameters(rest: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    rest.split(' ').filter(|piece| !piece.is_empty()).map(|piece| match piece.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (piece, None),
    })
}
