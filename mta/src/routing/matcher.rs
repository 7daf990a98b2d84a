//! Texts and addresses as an operator describes them in a rule: exactly, with `*` and `?`, or by a regular expression.
//! Pure. Floor 1.
//! Always: letters count in either case; a pattern fits a whole text, never a part of it, unless a regular expression
//! says so.

use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};

use crate::message::Address;

/// Memory that one compiled expression may take.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Why an expression that takes more is refused, and what to do.
pub const TOO_BIG: &str = "takes more than 1MiB of memory; repeat less, as {1,9} instead of {1,999}, write [0-9] instead of \\d and [A-Za-z0-9_] instead of \\w, which are for all alphabets, or write several expressions";

/// A text: `Spring`, `spring-*`, or `/^spring-[0-9]+$/`.
#[derive(Clone, Debug)]
pub struct TextPattern {
    text: String,
    regex: Regex,
}

/// An address: `a@example.com`, `*@example.com`, `example.com`, `*.example.com` (all below it), `<>` (the null sender), or
/// `/expression/` over the whole address.
#[derive(Clone, Debug)]
pub struct AddressPattern {
    pattern: TextPattern,
    is_of_domain: bool,
}

/// A user: as a text, but `-` is who is none, whom no other pattern fits.
#[derive(Clone, Debug)]
pub struct UserPattern(TextPattern);

impl UserPattern {
    /// Whether a user fits; `None` is nobody.
    pub fn fits(&self, user: Option<&str>) -> bool {
        user.map_or(self.0.text == "-", |user| self.0.fits(user))
    }
}

impl FromStr for UserPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl TextPattern {
    /// Whether a text fits.
    pub fn fits(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl AddressPattern {
    /// Whether an address fits; `None` is the null sender.
    pub fn fits(&self, address: Option<&Address>) -> bool {
        match address {
            None => self.pattern.text == "<>",
            Some(address) if self.is_of_domain => self.pattern.fits(&address.canonical_domain()),
            Some(address) => {
                let local = address.as_str().rsplit_once('@').map_or(address.as_str(), |(local, _)| local);
                self.pattern.fits(&format!("{local}@{}", address.canonical_domain()))
            }
        }
    }
}

impl FromStr for TextPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let expression = match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(expression) if text.len() > 1 => expression.to_owned(),
            _ => glob(text),
        };
        let regex = RegexBuilder::new(&expression).case_insensitive(true).size_limit(MAX_COMPILED_BYTES).build();
        let regex = regex.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => TOO_BIG.to_owned(),
            error => format!("is no regular expression: {error}"),
        })?;
        Ok(Self { text: text.to_owned(), regex })
    }
}

/// An expression for a text with `*` (any letters) and `?` (one).
fn glob(text: &str) -> String {
    let piece = |c: char| match c {
        '*' => ".*".to_owned(),
        '?' => ".".to_owned(),
        c => regex::escape(&c.to_string()),
    };
    format!("(?s)^{}$", text.chars().map(piece).collect::<String>())
}

impl FromStr for AddressPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; the null sender is \"<>\"".to_owned());
        }
        let is_expression = text.len() > 1 && text.starts_with('/') && text.ends_with('/');
        if is_expression || text == "<>" {
            return Ok(Self { pattern: text.parse()?, is_of_domain: false });
        }
        let (local, domain) = match text.rsplit_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, text),
        };
        // Wildcards are no part of a name that IDNA knows.
        let ascii = match domain.is_ascii() || domain.contains(['*', '?']) {
            true => domain.to_ascii_lowercase(),
            false => idna::domain_to_ascii(domain).map_err(|_| format!("{domain:?} is no domain"))?,
        };
        let whole = local.map_or_else(|| ascii.clone(), |local| format!("{local}@{ascii}"));
        Ok(Self { pattern: whole.parse()?, is_of_domain: local.is_none() })
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_whole_and_in_any_case() {
        for (pattern, text, fits) in [
            ("Spring", "sPRING", true),
            ("spring", "springs", false),
            ("spring-*", "spring-2026", true),
            ("spring-*", "offspring-2026", false),
            ("v?", "v1", true),
            ("v?", "v12", false),
            ("a.b", "axb", false),
            ("*", "", true),
            ("*", "two\nlines", true),
            ("/[0-9]{3}/", "ab123", true),
            ("/^[0-9]{3}$/", "ab123", false),
            ("/", "/", true),
        ] {
            let read: TextPattern = pattern.parse().expect("a pattern");
            assert_eq!(read.fits(text), fits, "{pattern} {text:?}");
        }
        assert!("/(/".parse::<TextPattern>().is_err());
        assert!("/(a{1000}){1000}/".parse::<TextPattern>().is_err(), "an expression must not eat the memory");
    }

    #[test]
    fn nobody_is_no_user() {
        for (pattern, user, fits) in [
            ("*", Some("shop"), true),
            ("*", None, false),
            ("/.?/", None, false),
            ("-", None, true),
            ("-", Some("shop"), false),
            ("SHOP", Some("shop"), true),
            ("shop-?", Some("shop-1"), true),
            ("shop", Some("shops"), false),
            ("/^shop/", Some("shops"), true),
        ] {
            assert_eq!(pattern.parse::<UserPattern>().expect("a pattern").fits(user), fits, "{pattern} {user:?}");
        }
    }

    #[test]
    fn addresses_fit_by_domain_or_whole() {
        for (pattern, address, fits) in [
            ("a@b.test", "A@B.TEST", true),
            ("a@b.test", "aa@b.test", false),
            ("*@b.test", "x.y@b.test", true),
            ("b.test", "x@b.test", true),
            ("b.test", "x@c.b.test", false),
            ("*.b.test", "x@c.b.test", true),
            ("*.b.test", "x@b.test", false),
            ("b\u{fc}cher.test", "x@b\u{fc}cher.test", true),
            ("/^bounce\\+.*@b\\.test$/", "bounce+1@b.test", true),
            ("/^bounce\\+/", "x@b.test", false),
            ("<>", "x@b.test", false),
        ] {
            let (read, address) = (pattern.parse::<AddressPattern>(), Address::parse(address).expect("an address"));
            assert_eq!(read.expect("a pattern").fits(Some(&address)), fits, "{pattern} {address}");
        }
        let null: AddressPattern = "<>".parse().expect("a pattern");
        let any: AddressPattern = "*".parse().expect("a pattern");
        assert!(null.fits(None) && !any.fits(None), "the null sender is only itself");
        assert!("".parse::<AddressPattern>().is_err());
    }
}
