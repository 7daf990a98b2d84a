//! SMTP replies as bytes: lines, codes, enhanced codes in full width (RFC 5321 section 4.2, RFC 2034).
//! Pure. Floor 1.
//! Always: what is kept of a reply is bounded and printable, however long or odd the reply is; the
//! same bytes give the same replies however they are cut.

use bytes::BytesMut;
use egret_shared::text::Line;

use crate::message::{EnhancedCode, Response};

/// The longest reply, all its lines together, in bytes.
pub const MAX_REPLY_BYTES: usize = 64 * 1024;
/// Lines that are kept of a reply; more are read and dropped.
const KEPT_LINES: usize = 100;
/// Bytes that are kept of a line.
const KEPT_LINE_BYTES: usize = 1000;
/// Bytes that are shown of a line that is no reply.
const SHOWN_BYTES: usize = 80;

/// Bytes that are no SMTP reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// A line does not start with a reply code.
    #[error("{line:?} is not an SMTP reply")]
    Malformed {
        /// Its first bytes, made printable.
        line: String,
    },
    /// The lines of one reply have two codes.
    #[error("one reply has the codes {first} and {second}")]
    Mixed {
        /// The first code.
        first: u16,
        /// The one that differs.
        second: u16,
    },
    /// It does not end.
    #[error("the reply is longer than {MAX_REPLY_BYTES} bytes")]
    TooLong,
}

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Its lines without their codes, joined by LF.
    text: String,
}

impl Reply {
    /// Its lines without their codes.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// Its first line as it came, code included.
    pub fn first_line(&self) -> String {
        format!("{} {}", self.code, self.lines().next().unwrap_or_default())
    }

    /// The reply as it is stored and reported: the answer to `command`.
    pub fn response(&self, command: &str) -> Response {
        let enhanced = self.lines().next().and_then(|line| self.enhanced(line)).map(|(code, _)| code);
        let mut text = String::with_capacity(self.text.len());
        for line in self.lines() {
            let line = match self.enhanced(line) {
                Some((code, rest)) if Some(code) == enhanced => rest,
                _ => line,
            };
            if !text.is_empty() && !line.is_empty() {
                text.push(' ');
            }
            text.push_str(line);
        }
        let text = Line::sanitized(text.as_bytes());
        Response { code: self.code, enhanced, text, command: Some(command.to_owned()) }
    }

    /// The enhanced code in front of a line, if its class is that of the reply code.
    fn enhanced<'a>(&self, line: &'a str) -> Option<(EnhancedCode, &'a str)> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let code = EnhancedCode::parse(word).filter(|code| u16::from(code.class) == self.code / 100)?;
        Some((code, rest.trim_start()))
    }
}

/// Puts replies together from bytes.
#[derive(Debug, Default)]
pub struct Parser {
    code: Option<u16>,
    text: String,
    lines: usize,
    bytes: usize,
    /// Bytes of the input that are known to hold no line end.
    scanned: usize,
}

impl Parser {
    /// Takes the next whole reply out of `input`; `None` if bytes are missing.
    ///
    /// # Errors
    /// [`Bad`]: the connection cannot be used any more.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, Bad> {
        while let Some(end) = memchr::memchr(b'\n', &input[self.scanned..]) {
            let line = input.split_to(self.scanned + end + 1);
            self.scanned = 0;
            self.bytes += line.len();
            if self.bytes > MAX_REPLY_BYTES {
                return Err(Bad::TooLong);
            }
            if self.line(&line)? {
                return Ok(Some(self.take()));
            }
        }
        self.scanned = input.len();
        if self.bytes + self.scanned > MAX_REPLY_BYTES { Err(Bad::TooLong) } else { Ok(None) }
    }

    /// Takes one line; true if it was the last of its reply.
    fn line(&mut self, line: &[u8]) -> Result<bool, Bad> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, more, rest) = split(line).ok_or_else(|| {
            let shown = &line[..line.len().min(SHOWN_BYTES)];
            Bad::Malformed { line: Line::sanitized(shown).as_str().to_owned() }
        })?;
        let first = *self.code.get_or_insert(code);
        if first != code {
            return Err(Bad::Mixed { first, second: code });
        }
        if self.lines < KEPT_LINES {
            if self.lines > 0 {
                self.text.push('\n');
            }
            let kept = &rest[..rest.len().min(KEPT_LINE_BYTES)];
            self.text.push_str(Line::sanitized(kept).as_str());
        }
        self.lines += 1;
        Ok(!more)
    }

    fn take(&mut self) -> Reply {
        let done = std::mem::take(self);
        Reply { code: done.code.unwrap_or_default(), text: done.text }
    }
}

/// Code, whether more lines follow, text. A line that ends after the code is taken (RFC 5321
/// section 4.2.1 asks clients for that).
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let digits = line.first_chunk::<3>()?;
    if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match line.get(3) {
        None => Some((code, false, &[])),
        Some(b' ') => Some((code, false, &line[4..])),
        Some(b'-') => Some((code, true, &line[4..])),
        Some(_) => None,
    }
}

/// Reads replies out of arbitrary bytes, whole and cut in two: the entry of the fuzz target.
pub fn fuzz_replies(bytes: &[u8]) {
    let (at, bytes) = bytes.split_first().map_or((0, bytes), |(at, rest)| (usize::from(*at).min(rest.len()), rest));
    assert_eq!(replies(&[bytes]), replies(&[&bytes[..at], &bytes[at..]]), "cut at {at}");
}

fn replies(pieces: &[&[u8]]) -> (Vec<Reply>, Option<Bad>) {
    let (mut parser, mut input, mut found) = (Parser::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.next(&mut input) {
                Ok(Some(reply)) => found.push(reply),
                Ok(None) => break,
                Err(bad) => return (found, Some(bad)),
            }
        }
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(bytes: &[u8]) -> Result<Option<Reply>, Bad> {
        Parser::default().next(&mut BytesMut::from(bytes))
    }

    fn words(bytes: &[u8]) -> String {
        one(bytes).expect("a reply").expect("whole").response("RCPT").to_string()
    }

    #[test]
    fn codes_and_text_as_the_rfcs_write_them() {
        for (bytes, want) in [
            (&b"250 ok\r\n"[..], "250 ok"),
            (b"250\r\n", "250 "),
            (b"250 2.1.5 fine\n", "250 2.1.5 fine"),
            (b"550-5.7.511 Access denied\r\n550 5.7.511 see https://x\r\n", "550 5.7.511 Access denied see https://x"),
            (b"550-5.1.1 no\r\n550 5.1.10 such\r\n", "550 5.1.1 no 5.1.10 such"),
            (b"450 5.1.1 class differs\r\n", "450 5.1.1 class differs"),
            (b"550 5.1.1\r\n", "550 5.1.1 "),
            (b"554 \xff\0x\r\n", "554 \u{fffd}?x"),
        ] {
            assert_eq!(words(bytes), want, "{bytes:?}");
        }
        let reply = one(b"450 5.1.1 class differs\r\n").expect("a reply").expect("whole");
        assert_eq!(reply.response("RCPT").enhanced, None);
    }

    #[test]
    fn what_is_no_reply_is_told() {
        for bad in
            ["99 x\r\n", "2500 x\r\n", "250x\r\n", "HTTP/1.1 400\r\n", "\r\n", "150 x\r\n", "650 x\r\n", "25\r\n"]
        {
            assert!(matches!(one(bad.as_bytes()), Err(Bad::Malformed { .. })), "{bad:?}");
        }
        assert_eq!(one(b"250-a\r\n550 b\r\n"), Err(Bad::Mixed { first: 250, second: 550 }));
    }

    #[test]
    fn a_reply_without_end_is_cut_off_and_bounded() {
        assert_eq!(one(&vec![b'2'; MAX_REPLY_BYTES + 1]), Err(Bad::TooLong));
        let flood = b"250-x\r\n".repeat(MAX_REPLY_BYTES / 7 + 1);
        assert_eq!(one(&flood), Err(Bad::TooLong));
        let mut long = b"250-x\r\n".repeat(500);
        long.extend_from_slice(b"250 end\r\n");
        assert_eq!(one(&long).expect("fits").expect("whole").lines().count(), KEPT_LINES);
    }

    proptest! {
        #[test]
        fn replies_are_the_same_however_they_are_cut(text in "((250|550|99x)[- ]?[a-z. 5]{0,6}\r?\n?){0,6}", at: u8) {
            let mut bytes = vec![at];
            bytes.extend_from_slice(text.as_bytes());
            fuzz_replies(&bytes);
        }
    }
}
