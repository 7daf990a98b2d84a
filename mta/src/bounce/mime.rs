//! The few pieces of MIME that a report is made of: folded fields, wrapped text, transfer encodings.
//! Pure. Floor 1.
//! Always: what is written has CRLF line ends and no other CR, LF or NUL; a field or line of our own
//! stays within 78 columns unless one word is longer, and within [`MAX_LINE_BYTES`] in any case.

use std::fmt::Write as _;

/// The longest line that SMTP carries, without its CRLF (RFC 5321 section 4.5.3.1.6).
pub const MAX_LINE_BYTES: usize = 998;
/// Where our own lines are folded (RFC 5322 section 2.1.1).
const COLUMNS: usize = 76;
/// A word longer than this is cut, so that a line cannot pass [`MAX_LINE_BYTES`].
pub const MAX_WORD_BYTES: usize = 900;
/// The longest line of quoted-printable (RFC 2045 section 6.7).
const QUOTED_COLUMNS: usize = 76;

/// Which bytes a text may hold where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// ASCII only: what is not becomes `?`.
    Ascii,
    /// UTF-8 (RFC 6532).
    Utf8,
}

/// Text from outside as words that may stand in a line: control characters and, for ASCII, everything
/// beyond it become `?`; an over-long word is cut into pieces.
pub fn words(text: &str, charset: Charset) -> Vec<String> {
    let clean = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => '?',
        c if charset == Charset::Ascii && !c.is_ascii() => '?',
        c => c,
    };
    let clean: String = text.chars().map(clean).collect();
    clean.split(' ').filter(|word| !word.is_empty()).flat_map(pieces).collect()
}

fn pieces(word: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for c in word.chars() {
        if pieces.last().is_some_and(|last| last.len() + c.len_utf8() > MAX_WORD_BYTES) {
            pieces.push(String::new());
        }
        if let Some(last) = pieces.last_mut() {
            last.push(c);
        }
    }
    pieces
}

/// Writes `name: words`, folded between words. The words must come from [`words`] or be our own.
pub fn field(out: &mut String, name: &str, words: &[String]) {
    out.push_str(name);
    out.push(':');
    flow(out, name.len() + 1, "\r\n ", words);
}

/// Writes the words as lines of text, each behind `indent`.
pub fn paragraph(out: &mut String, indent: &str, words: &[String]) {
    let Some((first, rest)) = words.split_first() else { return };
    out.push_str(indent);
    out.push_str(first);
    flow(out, indent.len() + first.len(), &format!("\r\n{indent}"), rest);
}

/// Writes each word behind a space, or behind `fold` where it would pass the last column.
fn flow(out: &mut String, mut column: usize, fold: &str, words: &[String]) {
    for (at, word) in words.iter().enumerate() {
        let fits = column + 1 + word.len() <= COLUMNS;
        // A field whose first line is only its name is legal, but some readers fail on it.
        let is_first_of_field = at == 0 && column + 1 + word.len() <= MAX_LINE_BYTES / 2;
        if fits || is_first_of_field {
            out.push(' ');
            column += 1;
        } else {
            out.push_str(fold);
            column = fold.len() - "\r\n".len();
        }
        out.push_str(word);
        column += word.len();
    }
    out.push_str("\r\n");
}

/// The same text with each CR, LF or CRLF as CRLF, and each NUL as `?`.
pub fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    let mut before = 0;
    for &byte in bytes {
        match byte {
            b'\n' if before == b'\r' => {}
            b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
            0 => out.push(b'?'),
            other => out.push(other),
        }
        before = byte;
    }
    out
}

/// True if each line of a text with CRLF line ends is within [`MAX_LINE_BYTES`].
pub fn fits_lines(text: &[u8]) -> bool {
    text.split(|b| *b == b'\n').all(|line| line.len() <= MAX_LINE_BYTES + 1)
}

/// Quoted-printable (RFC 2045 section 6.7) of a text with CRLF line ends.
pub fn quoted_printable(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let mut lines = text.split(|b| *b == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        quote_line(&mut out, line.strip_suffix(b"\r").unwrap_or(line));
        if !is_last {
            out.push_str("\r\n");
        }
    }
    out
}

fn quote_line(out: &mut String, line: &[u8]) {
    let mut column = 0;
    for (at, &byte) in line.iter().enumerate() {
        let blank_at_end = matches!(byte, b' ' | b'\t') && at + 1 == line.len();
        let plain = matches!(byte, b' ' | b'\t' | 33..=126) && byte != b'=' && !blank_at_end;
        let width = if plain { 1 } else { 3 };
        if column + width > QUOTED_COLUMNS - 1 {
            out.push_str("=\r\n");
            column = 0;
        }
        match plain {
            true => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            false => _ = write!(out, "={byte:02X}"),
        }
        column += width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_fields_fold_between_words() {
        let mut out = String::new();
        field(&mut out, "Diagnostic-Code", &words(&"abcdefghi ".repeat(20), Charset::Ascii));
        assert!(out.lines().count() > 2, "{out}");
        assert!(out.lines().all(|line| line.len() <= 78), "{out}");
        assert!(out.lines().skip(1).all(|line| line.starts_with(" abc")), "{out}");
    }

    #[test]
    fn a_paragraph_keeps_its_indent() {
        let mut out = String::new();
        paragraph(&mut out, "    ", &words(&"abcdefghi ".repeat(20), Charset::Ascii));
        assert!(out.lines().all(|line| line.starts_with("    abc") && line.len() <= 78), "{out}");
    }

    #[test]
    fn quoted_printable_is_that_of_the_rfc() {
        assert_eq!(quoted_printable("a=ü \r\nb\t\r\n".as_bytes()), "a=3D=C3=BC=20\r\nb=09\r\n");
        let long = quoted_printable(&[b'x'; 200]);
        assert!(long.lines().all(|line| line.len() <= 76), "{long}");
        assert_eq!(long.replace("=\r\n", ""), "x".repeat(200));
    }

    #[test]
    fn every_line_end_becomes_crlf() {
        assert_eq!(with_crlf(b"a\rb\nc\r\nd\n\re\0"), b"a\r\nb\r\nc\r\nd\r\n\r\ne?");
    }

    proptest! {
        #[test]
        fn nothing_breaks_a_line(text: String, utf8: bool) {
            let charset = if utf8 { Charset::Utf8 } else { Charset::Ascii };
            let mut out = String::new();
            field(&mut out, "X", &words(&text, charset));
            paragraph(&mut out, "  ", &words(&text, charset));
            let rest = out.replace("\r\n", "");
            prop_assert!(!rest.contains(['\r', '\n', '\0']), "{out:?}");
            prop_assert!(utf8 || out.is_ascii());
        }
    }
}
