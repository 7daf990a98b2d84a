//! A mailbox as it stands in an envelope (RFC 5321 section 4.1.2, RFC 6531).
//! Pure. Floor 0.
//! Always: parsed once, kept as written; holds no CR, LF, NUL, space outside quotes, or angle
//! bracket outside quotes, so that it can stand in a command as it is.

use std::fmt;

use egret_shared::text::Line;
use serde::{Deserialize, Serialize};

/// A mailbox: `local-part@domain` or `local-part@[literal]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Line);

/// Why a text is not a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a mail address: {why}")]
pub struct BadAddress {
    /// The text, made printable.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Address {
    /// Reads a mailbox without its angle brackets.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let bad = |why| BadAddress { text: text.escape_debug().to_string(), why };
        let line = Line::new(text).map_err(|_| bad("it holds a line break or NUL"))?;
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| bad("it has no @"))?;
        check_local(local).map_err(bad)?;
        check_domain(domain).map_err(bad)?;
        Ok(Self(line))
    }

    /// The whole mailbox as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The local part, quotes included.
    pub fn local(&self) -> &str {
        self.as_str().rsplit_once('@').map_or("", |(local, _)| local)
    }

    /// The domain or address literal as written.
    pub fn domain(&self) -> &str {
        self.as_str().rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// The domain in the one spelling that queues and limits use: A-labels, lower case, no final dot.
    pub fn canonical_domain(&self) -> String {
        let domain = self.domain();
        if domain.starts_with('[') {
            return domain.to_ascii_lowercase();
        }
        let ascii = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_ascii_lowercase());
        ascii.trim_end_matches('.').to_owned()
    }

    /// True if it holds a character that needs SMTPUTF8 (RFC 6531).
    pub fn needs_utf8(&self) -> bool {
        !self.as_str().is_ascii()
    }
}

fn check_local(local: &str) -> Result<(), &'static str> {
    if local.is_empty() || local.len() > 64 {
        return Err("its local part must have 1 to 64 bytes");
    }
    if let Some(inner) = local.strip_prefix('"') {
        let inner = inner.strip_suffix('"').ok_or("its quoted local part does not end")?;
        return check_quoted(inner);
    }
    if local.split('.').any(str::is_empty) {
        return Err("its local part has an empty piece between dots");
    }
    match local.chars().all(|c| c == '.' || is_atext(c)) {
        true => Ok(()),
        false => Err("its local part holds a character that needs quotes"),
    }
}

fn check_quoted(inner: &str) -> Result<(), &'static str> {
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_some_and(|next| !next.is_control()) => {}
            '\\' | '"' => return Err("its quoted local part ends too early"),
            c if c.is_control() => return Err("its local part holds a control character"),
            _ => {}
        }
    }
    Ok(())
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    if let Some(literal) = domain.strip_prefix('[') {
        let literal = literal.strip_suffix(']').ok_or("its address literal does not end")?;
        return check_literal(literal);
    }
    if domain.is_empty() || domain.len() > 255 {
        return Err("its domain must have 1 to 255 bytes");
    }
    let ascii = idna::domain_to_ascii(domain).map_err(|_| "its domain is not a domain name")?;
    let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
    match ascii.split('.').all(is_label) {
        true => Ok(()),
        false => Err("its domain is not a domain name"),
    }
}

fn check_literal(literal: &str) -> Result<(), &'static str> {
    let good = match literal.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => literal[5..].parse::<std::net::Ipv6Addr>().is_ok(),
        _ => literal.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    if good { Ok(()) } else { Err("its address literal is not an IP address") }
}

fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Address {
    type Error = BadAddress;
    fn try_from(text: String) -> Result<Self, BadAddress> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_rfcs_allow_and_keeps_it_as_written() {
        for good in [
            "a@b.c",
            "a+b=c@d-e.f",
            "\"a b\"@x.y",
            "\"a\\\"b\"@x.y",
            "u@[192.0.2.1]",
            "u@[IPv6:::1]",
            "ü@exämple.test",
            "a@b_c.d",
            "A@B.c.",
        ] {
            assert_eq!(Address::parse(good).map(|a| a.to_string()), Ok(good.to_owned()), "{good}");
        }
    }

    #[test]
    fn refuses_what_could_end_a_command_or_mean_two_things() {
        for bad in [
            "",
            "a",
            "a@",
            "@b",
            "a b@c",
            "a@b>",
            "a@b c",
            "a@@b",
            ".a@b",
            "a..b@c",
            "\"a@b",
            "\"a\"b\"@c",
            "a@[1.2.3]",
            "a@[IPv6:x]",
            "a@b\r\nRCPT TO:<c@d>",
            "a@b\0",
            "a@-b.c",
            "<a@b",
            "a,b@c",
            "a@b,c@d",
            "a@b:25",
            "a@.",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn one_domain_has_one_spelling() {
        for text in ["u@EXÄMPLE.test", "u@exämple.test.", "u@xn--exmple-cua.TEST"] {
            assert_eq!(
                Address::parse(text).map(|a| a.canonical_domain()),
                Ok("xn--exmple-cua.test".to_owned()),
                "{text}"
            );
        }
    }
}
