//! What a sender wants to hear of its message: the parameters of DSN (RFC 3461, RFC 6533).
//! Pure. Floor 1.
//! Always: what is taken holds no control character when it is decoded, and can be said again to the next server in
//! a parameter that the RFCs allow.

use egret_shared::text::Line;

use super::command::Bad;
use crate::message::{MessageWish, Notify, Original, RecipientWish, Return, xtext};

/// Characters of an ENVID, as it is written (RFC 3461 section 4.4).
const MAX_ENVID: usize = 100;
/// Characters of an ORCPT, as it is written (RFC 3461 section 4.2).
const MAX_ORCPT: usize = 500;

/// Reads a parameter of MAIL, unless it is another than RET and ENVID.
pub(super) fn scan_mail(wish: &mut MessageWish, key: &str, value: Option<&str>) -> Option<Result<(), Bad>> {
    match key {
        "RET" => Some(set(&mut wish.ret, scan_ret(value.unwrap_or_default()), "RET")),
        "ENVID" => Some(set(&mut wish.envid, scan_envid(value.unwrap_or_default()), "ENVID")),
        _ => None,
    }
}

/// Reads a parameter of RCPT, unless it is another than NOTIFY and ORCPT.
pub(super) fn scan_rcpt(wish: &mut RecipientWish, key: &str, value: Option<&str>) -> Option<Result<(), Bad>> {
    match key {
        "NOTIFY" => Some(set(&mut wish.notify, Notify::parse(value.unwrap_or_default()), "NOTIFY")),
        "ORCPT" => Some(set(&mut wish.original, scan_original(value.unwrap_or_default()), "ORCPT")),
        _ => None,
    }
}

fn set<T>(slot: &mut Option<T>, value: Option<T>, name: &'static str) -> Result<(), Bad> {
    if slot.is_some() || value.is_none() {
        return Err(Bad::Value(name));
    }
    *slot = value;
    Ok(())
}

fn scan_ret(value: &str) -> Option<Return> {
    let known = [("FULL", Return::Full), ("HDRS", Return::Hdrs)];
    known.into_iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|(_, ret)| ret)
}

fn scan_envid(value: &str) -> Option<Line> {
    let good = (1..=MAX_ENVID).contains(&value.len()) && value.is_ascii();
    Line::new(&good.then(|| xtext::decode(value))??).ok()
}

/// Only an address of the kind `utf-8` may be beyond ASCII, be it by an escape.
fn scan_original(value: &str) -> Option<Original> {
    let (kind, written) = value.split_once(';').filter(|_| value.len() <= MAX_ORCPT)?;
    let original = Original::new(kind, &xtext::decode(written).filter(|address| !address.is_empty())?)?;
    match original.is_utf8() {
        true => Original::new(kind, &xtext::unescape(original.address())?),
        false => original.address().is_ascii().then_some(original),
    }
}

/// Reads any bytes as each of the parameters: the entry of the fuzz target. What is taken is printable, and is taken
/// again as it is told onwards.
pub fn fuzz_notification(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\r', '\n']);
    let is_clean = |text: &str| !text.chars().any(char::is_control);
    if let Some(envid) = scan_envid(text) {
        assert!(is_clean(envid.as_str()) && envid.as_str().is_ascii());
        assert_eq!(scan_envid(&xtext::encode(envid.as_str())), Some(envid));
    }
    if let Some(original) = scan_original(text) {
        assert!(is_clean(original.address()) && (original.is_utf8() || original.address().is_ascii()));
        let forms = match original.is_utf8() {
            true => vec![xtext::escape(original.address()), xtext::escape_ascii(original.address())],
            false => vec![xtext::encode(original.address())],
        };
        for form in forms {
            let told = format!("{};{form}", original.kind());
            assert!(told.len() > MAX_ORCPT || scan_original(&told).as_ref() == Some(&original), "{told}");
        }
        let stored = serde_json::to_string(&original).unwrap_or_default();
        assert_eq!(serde_json::from_str(&stored).ok(), Some(original));
    }
    if let Some(notify) = Notify::parse(text) {
        assert_eq!(Notify::parse(&notify.to_string()), Some(notify));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_original_recipient_has_a_kind_and_an_address_that_can_be_printed() {
        let scan = |text: &str| scan_original(text).map(String::from);
        for (text, want) in [
            ("rfc822;a+2Bb@c.test", "rfc822;a+b@c.test"),
            ("RFC822;\"a+20b\"@c.test", "RFC822;\"a b\"@c.test"),
            ("x400;/C+3DDE/", "x400;/C=DE/"),
            ("utf-8;\\x{FC}\\x{20}@c.test", "utf-8;ü @c.test"),
            ("utf-8;ü@c.test", "utf-8;ü@c.test"),
        ] {
            assert_eq!(scan(text).as_deref(), Some(want), "{text}");
        }
        let long = format!("rfc822;{}", "a".repeat(494));
        for bad in [
            "",
            "rfc822",
            "rfc822;",
            ";a@b",
            "rf c;a",
            "rfc822;a b",
            "rfc822;a+0Db",
            "rfc822;a=b",
            "rfc822;a+2",
            "rfc822;ü@c.test",
            "rfc822;+C3+BC",
            "utf-8;\\x{0A}",
            "utf-8;\\",
            "utf-8;+0A",
            "ü;a",
            "a+b;c",
            &long,
        ] {
            assert_eq!(scan(bad), None, "{bad}");
        }
        assert!(scan(&long[..MAX_ORCPT]).is_some());
    }

    #[test]
    fn a_name_for_the_message_is_printable_and_short() {
        let scan = |text: &str| scan_envid(text).map(String::from);
        assert_eq!(scan("QQ314159+20x").as_deref(), Some("QQ314159 x"));
        assert!(scan(&"a".repeat(MAX_ENVID)).is_some());
        for bad in ["", "a+0A", "a+7F", "ü", "a+C3+BC", "+", "a=b", &"a".repeat(MAX_ENVID + 1)] {
            assert_eq!(scan(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_can_be_told_onwards(text in "\\PC{0,30}|(rfc822|utf-8|x400);[+x{}\\\\0-9A-Fü@ ]{0,30}") {
            fuzz_notification(text.as_bytes());
        }

        #[test]
        fn every_printable_address_can_be_said(ascii in "[ -~]{1,100}", any in "[^\\p{Cc}]{1,40}") {
            let told = scan_original(&format!("rfc822;{}", xtext::encode(&ascii)));
            prop_assert_eq!(told.map(String::from), Some(format!("rfc822;{ascii}")));
            let told = scan_original(&format!("utf-8;{}", xtext::escape(&any)));
            prop_assert_eq!(told.map(String::from), Some(format!("utf-8;{any}")));
        }
    }
}
