//! Names of domains, sites and providers, as queues and paths spell them: what is written otherwise would never fit.
//! Floor 5.

use std::str::FromStr;
use std::sync::Arc;

use egret_shared::config::{Section, nearest};

use crate::routing::matcher::TextPattern;

/// A pattern for domains or sites.
pub(super) struct NamePattern(pub TextPattern);

impl FromStr for NamePattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_expression = text.len() > 1 && text.starts_with('/') && text.ends_with('/');
        if is_expression { text.parse() } else { spelled(text)?.parse() }.map(Self)
    }
}

egret_shared::config_value_from_str!(NamePattern => "a pattern");

/// The name of a domain or site in small ASCII letters, without a dot at its end. Wildcards stay as they are.
pub(super) fn spelled(name: &str) -> Result<String, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err("it is empty, and would fit nothing; without the key all fit".to_owned());
    }
    let label = |label: &str| match label {
        _ if label.is_ascii() => Ok(label.to_ascii_lowercase()),
        _ if label.contains(['*', '?']) => Err(format!(
            "{label:?} has a wildcard beside a letter that is not ASCII; write that part as DNS has it, like \"xn--bcher-kva\""
        )),
        _ => idna::domain_to_ascii(label).map_err(|_| format!("{label:?} cannot be a part of a domain")),
    };
    Ok(name.split('.').map(label).collect::<Result<Vec<_>, _>>()?.join("."))
}

/// The names that could have been meant, the nearest first; `None` if there are none.
pub(super) fn told<'n>(wanted: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    let known: Vec<&str> = known.collect();
    if known.is_empty() {
        return None;
    }
    // Of a name of two letters any other one is near.
    let near = nearest(wanted, &known).filter(|near| near.len().min(wanted.len()) > 2);
    let meant = near.map_or_else(String::new, |near| format!("did you mean {near:?}? "));
    Some(format!("{meant}known: {}", known.join(", ")))
}

/// Complains about a name that no provider has; nothing where the providers were complained about.
pub(super) fn check_provider(section: &Section<'_>, key: &'static str, name: &str, known: Option<&[Arc<str>]>) {
    let Some(known) = known.filter(|known| !known.iter().any(|one| **one == *name)) else { return };
    let known = told(name, known.iter().map(|name| &**name));
    let known = known.unwrap_or_else(|| "there is none; add [provider.\"NAME\"] to a file of shaping.files".to_owned());
    section.complain(key, format!("names the provider {name:?}, which is in no shaping file ({known})"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_the_dns_has_them() {
        for (written, want) in [
            ("B\u{fc}cher.Test.", "xn--bcher-kva.test"),
            ("*.b\u{fc}cher.test", "*.xn--bcher-kva.test"),
            ("(MX1|mx2).a.test", "(mx1|mx2).a.test"),
            ("[IPv6:2001:db8::1]", "[ipv6:2001:db8::1]"),
        ] {
            assert_eq!(spelled(written).as_deref(), Ok(want));
        }
        let pattern = |text: &str| text.parse::<NamePattern>().map(|NamePattern(pattern)| pattern);
        assert!(pattern("b\u{fc}cher.test").expect("a pattern").fits("xn--bcher-kva.test"));
        assert!(pattern("/\\.test$/").expect("an expression").fits("a.test"));
        assert!(pattern("").expect_err("empty").contains("is empty"));
        assert!(pattern("b\u{fc}*.test").expect_err("mixed").contains("write that part as DNS has it"));
    }
}
