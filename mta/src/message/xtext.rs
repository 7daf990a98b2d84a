//! How text stands in a parameter of a command: xtext (RFC 3461 section 4), and the escapes for addresses beyond
//! ASCII (RFC 6533 section 3).
//! Pure. Floor 0.
//! Always: what is decoded holds no control character; what is encoded holds no space, no `=` and, unless it is
//! said to, nothing beyond ASCII; and decoding gives back what was encoded.

use std::fmt::Write as _;

/// Text as xtext. It must be printable ASCII to be decoded again.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'+' | b'=') => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            byte => _ = write!(out, "+{byte:02X}"),
        }
    }
    out
}

/// What an xtext says; `None` if it is none, or says something that cannot be printed. What is beyond ASCII, which
/// xtext does not know, stays as it is.
pub fn decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '+' => {
                let (digits, after) = rest.split_at_checked(2)?;
                out.push(printable(u32::from(hexadecimal(digits)? as u8), true)?);
                rest = after;
            }
            '=' | ' ' => return None,
            c if c.is_control() => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// An address in ASCII: each character that is not plain as `\x{…}` (utf-8-addr-xtext).
pub fn escape(address: &str) -> String {
    escape_if(address, |c| !c.is_ascii())
}

/// An address as it may stand where UTF-8 may (utf-8-addr-unitext).
pub fn escape_ascii(address: &str) -> String {
    escape_if(address, |_| false)
}

fn escape_if(address: &str, also: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(address.len());
    for c in address.chars() {
        let is_plain = !matches!(c, '\\' | '+' | '=' | ' ' | '\u{7f}') && !c.is_control();
        match is_plain && !also(c) {
            true => out.push(c),
            // Writing to a String cannot fail.
            false => _ = write!(out, "\\x{{{:02X}}}", u32::from(c)),
        }
    }
    out
}

/// What an address with escapes says; `None` if an escape is none, or says something that cannot be printed.
pub fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut pieces = text.split('\\');
    out.push_str(pieces.next()?);
    for piece in pieces {
        let (digits, after) = piece.strip_prefix("x{")?.split_once('}')?;
        if !(2..=6).contains(&digits.len()) {
            return None;
        }
        out.push(printable(hexadecimal(digits)?, false)?);
        out.push_str(after);
    }
    Some(out)
}

/// Digits alone: `from_str_radix` would take a sign.
fn hexadecimal(digits: &str) -> Option<u32> {
    let is_good = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_good.then(|| u32::from_str_radix(digits, 16).ok())?
}

fn printable(number: u32, ascii: bool) -> Option<char> {
    char::from_u32(number).filter(|c| !c.is_control() && (c.is_ascii() || !ascii))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn xtext_is_that_of_the_rfc() {
        assert_eq!(encode("a+b=c d@e.f"), "a+2Bb+3Dc+20d@e.f");
        assert_eq!(decode("a+2Bb+3dc+20d@e.f").as_deref(), Some("a+b=c d@e.f"));
        assert_eq!(decode("").as_deref(), Some(""));
        for bad in ["+", "+2", "+2G", "+-1", "+ü", "++2B", "a=b", "a b", "a\tb", "+0A", "+0d", "+00", "+7F", "+C3+BC"]
        {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_beyond_ascii_are_escaped_as_in_the_rfc() {
        assert_eq!(escape("ü+x@ö.test"), "\\x{FC}\\x{2B}x@\\x{F6}.test");
        assert_eq!(escape_ascii("ü+\\x@ö.test"), "ü\\x{2B}\\x{5C}x@ö.test");
        assert_eq!(unescape("\\x{fc}\\x{2B}x@\\x{1F4E7}.test").as_deref(), Some("ü+x@📧.test"));
        for bad in ["\\", "\\x", "\\x{}", "\\x{1}", "\\x{FC", "\\y{FC}", "\\x{+FC}", "\\x{D800}", "\\x{0A}", "\\x{85}"]
        {
            assert_eq!(unescape(bad), None, "{bad}");
        }
        assert_eq!(unescape("\\x{1000041}"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(ascii in "[ -~]{0,40}", any in "[^\\p{Cc}]{0,40}") {
            let encoded = encode(&ascii);
            prop_assert!(!encoded.contains([' ', '=']) && encoded.is_ascii());
            prop_assert_eq!(decode(&encoded), Some(ascii));
            let escaped = escape(&any);
            prop_assert!(!escaped.contains([' ', '=', '+']) && escaped.is_ascii());
            prop_assert_eq!(unescape(&escaped), Some(any.clone()));
            prop_assert_eq!(unescape(&escape_ascii(&any)), Some(any));
        }

        #[test]
        fn what_is_decoded_can_be_printed(text in "\\PC{0,20}|[+x{}\\\\0-9A-F]{0,20}") {
            for told in [decode(&text), unescape(&text)].into_iter().flatten() {
                prop_assert!(!told.chars().any(char::is_control), "{told:?}");
            }
        }
    }
}
