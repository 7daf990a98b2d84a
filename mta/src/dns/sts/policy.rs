//! MTA-STS policies (RFC 8461): the TXT record that announces one, the file that holds it, and which hosts it allows.
//! Pure. Floor 1.
//! Always: what is not exactly a policy is none; a pattern's wildcard stands for one label, the leftmost.

use std::fmt;

/// The largest policy file that is read (RFC 8461 section 3.3 suggests it).
pub const MAX_POLICY_BYTES: usize = 64 << 10;
/// The longest life that a policy may ask for, in seconds: about a year (RFC 8461 section 3.2).
const MAX_AGE_LIMIT: u64 = 31_557_600;
/// Patterns in one policy.
const MAX_PATTERNS: usize = 256;
/// The version that record and file start with.
const VERSION: &str = "STSv1";

/// What a policy asks of its senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No delivery but to a host of the policy, in TLS with a valid certificate.
    Enforce,
    /// Delivery as without a policy; what would have failed is reported.
    Testing,
    /// No policy is in force.
    None,
}

impl Mode {
    /// Its name in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// A domain's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it asks.
    pub mode: Mode,
    /// The hosts that may take the domain's mail, lower case: names, or `*.` and a name.
    pub mx: Vec<String>,
    /// For how many seconds it may be used.
    pub max_age_s: u64,
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Too long.
    #[error("it is longer than {MAX_POLICY_BYTES} bytes")]
    TooLong,
    /// Not of the characters that a policy consists of.
    #[error("it is not plain text")]
    NotText,
    /// It does not start as a policy does.
    #[error("its first line is not \"version: STSv1\"")]
    Version,
    /// A line without a key and a value.
    #[error("line {0} is not \"key: value\"")]
    Line(usize),
    /// A key that each policy must have.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A value that means nothing.
    #[error("{key} is {value:?}, which means nothing")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// Too many patterns.
    #[error("it has more than {MAX_PATTERNS} mx patterns")]
    TooMany,
}

impl Policy {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| PolicyError::NotText)?;
        let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        if text.contains(|c: char| c.is_control() && !matches!(c, '\r' | '\n' | '\t')) {
            return Err(PolicyError::NotText);
        }
        let first = lines.next().and_then(field);
        if first != Some(("version", VERSION)) {
            return Err(PolicyError::Version);
        }
        // Of a key that stands twice the first counts (RFC 8461 section 3.2), but for mx.
        let (mut mode, mut max_age, mut mx) = (None, None, Vec::new());
        for (number, line) in lines.enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            match field(line).ok_or(PolicyError::Line(number + 2))? {
                ("mode", value) if mode.is_none() => mode = Some(read_mode(value)?),
                ("max_age", value) if max_age.is_none() => max_age = Some(read_age(value)?),
                ("mx", _) if mx.len() >= MAX_PATTERNS => return Err(PolicyError::TooMany),
                ("mx", value) => mx.push(read_pattern(value)?),
                _ => {}
            }
        }
        let mode = mode.ok_or(PolicyError::Missing("mode"))?;
        let max_age_s = max_age.ok_or(PolicyError::Missing("max_age"))?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::Missing("mx"));
        }
        Ok(Self { mode, mx, max_age_s })
    }

    /// Whether mail may go to this host: a name as MX records have it.
    pub fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => *pattern == host,
        })
    }

    /// Its lines, as reports repeat them (RFC 8460 section 4.4).
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("version: {VERSION}"), format!("mode: {}", self.mode.as_str())];
        lines.extend(self.mx.iter().map(|pattern| format!("mx: {pattern}")));
        lines.push(format!("max_age: {}", self.max_age_s));
        lines
    }

    /// About how much memory it takes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.mx.iter().map(|pattern| size_of::<String>() + pattern.len()).sum::<usize>()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}

/// A key and its value; white space stands around the value only.
fn field(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let key = key.trim_end_matches([' ', '\t']);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let is_key = key.bytes().all(plain) && key.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    let value = value.trim_matches([' ', '\t']);
    (is_key && key.len() <= 32 && !value.is_empty() && !value.contains('\r')).then_some((key, value))
}

fn read_mode(value: &str) -> Result<Mode, PolicyError> {
    let modes = [Mode::Enforce, Mode::Testing, Mode::None];
    let found = modes.into_iter().find(|mode| mode.as_str() == value);
    found.ok_or_else(|| PolicyError::Value { key: "mode", value: shown(value) })
}

fn read_age(value: &str) -> Result<u64, PolicyError> {
    let digits = value.len() <= 10 && value.bytes().all(|b| b.is_ascii_digit());
    let seconds = value.parse().ok().filter(|_| digits);
    let bad = || PolicyError::Value { key: "max_age", value: shown(value) };
    // More than a year is a year: the policy is good, its wish is too long.
    seconds.map(|seconds: u64| seconds.min(MAX_AGE_LIMIT)).ok_or_else(bad)
}

fn read_pattern(value: &str) -> Result<String, PolicyError> {
    let pattern = value.trim_end_matches('.').to_ascii_lowercase();
    let name = pattern.strip_prefix("*.").unwrap_or(&pattern);
    let plain = |label: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
    };
    if name.len() > 253 || !name.split('.').all(plain) {
        return Err(PolicyError::Value { key: "mx", value: shown(value) });
    }
    Ok(pattern)
}

/// What a person gets to see of a value from outside.
fn shown(value: &str) -> String {
    value.chars().take(80).collect()
}

/// The id of the policy that the TXT records of `_mta-sts.DOMAIN` announce: one of them, and only one, must say
/// `v=STSv1; id=…;` (RFC 8461 section 3.1).
pub fn announced<'a>(records: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let is_ours = |record: &&str| record.strip_prefix("v=STSv1").is_some_and(|r| r.trim_start().starts_with(';'));
    let mut ours = records.into_iter().filter(is_ours);
    let (record, more) = (ours.next()?, ours.next());
    if more.is_some() {
        return None;
    }
    let mut id = None;
    for part in record.split(';').skip(1).map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=')?;
        if key.trim() == "id" && id.is_none() {
            id = Some(value.trim());
        }
    }
    let is_id = |id: &&str| (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    id.filter(is_id).map(str::to_owned)
}

/// Reads any bytes as a record and as a policy: the entry of the fuzz target. What is read, is read again the same from
/// its own lines.
pub fn fuzz_sts(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(id) = announced(text.split('\n'))
    {
        assert!(id.len() <= 32 && id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id:?}");
    }
    if let Ok(policy) = Policy::read(bytes) {
        assert!(policy.max_age_s <= MAX_AGE_LIMIT && policy.mx.len() <= MAX_PATTERNS, "{policy}");
        assert!(policy.mode == Mode::None || !policy.mx.is_empty(), "{policy}");
        assert!(!policy.allows("") && !policy.allows("."), "{policy}");
        assert_eq!(Policy::read(policy.lines().join("\n").as_bytes()).as_ref(), Ok(&policy), "{policy}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "version: STSv1\r\nmode: enforce\r\nmx: mail.a.test\r\nmx: *.B.test\r\nmax_age: 604800\r\n";

    fn refused(text: &str) -> String {
        Policy::read(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn a_policy_is_read_with_either_line_end_and_unknown_keys() {
        let policy = Policy::read(WHOLE.as_bytes()).expect("a policy");
        assert_eq!((policy.mode, policy.max_age_s), (Mode::Enforce, 604_800));
        assert_eq!(policy.mx, ["mail.a.test", "*.b.test"]);
        let odd = "version:STSv1\nnew-key: x\nmode:\ttesting \nmax_age: 99999999\nmode: enforce\nmx: a.test.\n\n";
        let policy = Policy::read(odd.as_bytes()).expect("a policy");
        assert_eq!(policy.lines(), ["version: STSv1", "mode: testing", "mx: a.test", "max_age: 31557600"]);
    }

    #[test]
    fn what_is_no_policy_is_told() {
        for (text, why) in [
            ("", "its first line is not \"version: STSv1\""),
            ("mode: enforce\nversion: STSv1\n", "its first line is not \"version: STSv1\""),
            ("version: STSv2\nmode: none\nmax_age: 1\n", "its first line is not \"version: STSv1\""),
            ("version: STSv1\n<html>\n", "line 2 is not \"key: value\""),
            ("version: STSv1\nmax_age: 1\nmx: a.test", "it has no mode"),
            ("version: STSv1\nmode: enforce\nmx: a.test", "it has no max_age"),
            ("version: STSv1\nmode: enforce\nmax_age: 1", "it has no mx"),
            ("version: STSv1\nmode: Enforce\n", "mode is \"Enforce\", which means nothing"),
            ("version: STSv1\nmax_age: -1\n", "max_age is \"-1\", which means nothing"),
            ("version: STSv1\nmx: *\n", "mx is \"*\", which means nothing"),
            ("version: STSv1\nmx: a.*.test\n", "mx is \"a.*.test\", which means nothing"),
            ("version: STSv1\nmx: a..test\n", "mx is \"a..test\", which means nothing"),
            ("version: STSv1\nmode: none\0\n", "it is not plain text"),
        ] {
            assert_eq!(refused(text), why, "{text:?}");
        }
        assert_eq!(
            refused(&("version: STSv1\n".to_owned() + &"mx: a.test\n".repeat(257))),
            "it has more than 256 mx patterns"
        );
        assert_eq!(refused(&"x".repeat(MAX_POLICY_BYTES + 1)), "it is longer than 65536 bytes");
        assert!(Policy::read(b"version: STSv1\nmode: none\nmax_age: 0").is_ok(), "none needs no host");
    }

    #[test]
    fn a_wildcard_is_one_label() {
        let policy = Policy::read(WHOLE.as_bytes()).expect("a policy");
        for host in ["mail.a.test", "MAIL.A.test.", "x.b.test"] {
            assert!(policy.allows(host), "{host}");
        }
        for host in ["b.test", "x.y.b.test", ".b.test", "a.test", "xmail.a.test", "mail.a.test.evil.test", ""] {
            assert!(!policy.allows(host), "{host}");
        }
    }

    #[test]
    fn one_record_announces_a_policy() {
        let id = |records: &[&str]| announced(records.iter().copied());
        assert_eq!(id(&["v=spf1 -all", "v=STSv1; id=20260101T1;"]), Some("20260101T1".to_owned()));
        assert_eq!(id(&["v=STSv1;id=a"]), Some("a".to_owned()));
        assert_eq!(id(&["v=STSv1 ; new=x; id=a ;"]), Some("a".to_owned()));
        for none in [
            &[][..],
            &["v=STSv1; id=a;", "v=STSv1; id=a;"],
            &["v=STSv1; id=a b;"],
            &["v=STSv1; id=;"],
            &["v=STSv1;"],
            &["v=STSv12; id=a;"],
            &["v=STSv1; id=123456789012345678901234567890123;"],
            &[" v=STSv1; id=a;"],
        ] {
            assert_eq!(id(none), None, "{none:?}");
        }
    }
}
