//! Domains as the operator writes them: one, all below one, all.
//! Pure. Floor 1.

use std::fmt;
use std::str::FromStr;

/// Domains.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This domain: `example.com`.
    Domain(String),
    /// Every domain below this one, not itself: `*.example.com`.
    Below(String),
    /// Every domain: `*`.
    Any,
}

impl Pattern {
    /// Whether it is for a domain in its canonical spelling.
    pub fn fits(&self, domain: &str) -> bool {
        match self {
            Self::Domain(own) => own == domain,
            Self::Below(parent) => domain.strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::Any => true,
        }
    }
}

impl FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let domain = |text: &str| match idna::domain_to_ascii(text.trim_end_matches('.')) {
            Ok(ascii) if !ascii.is_empty() && !ascii.contains(['*', ' ', '@', '/']) => Ok(ascii),
            _ => Err(format!("{text:?} is no domain; write \"example.com\", \"*.example.com\" or \"*\"")),
        };
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Self::Any),
            _ if text.starts_with('[') => Ok(Self::Domain(text.to_ascii_lowercase())),
            Some(parent) => domain(parent).map(Self::Below),
            None => domain(text).map(Self::Domain),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => f.write_str(domain),
            Self::Below(domain) => write!(f, "*.{domain}"),
            Self::Any => f.write_str("*"),
        }
    }
}
