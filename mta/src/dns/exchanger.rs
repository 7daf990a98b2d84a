//! What a set of MX records means (RFC 5321 section 5.1, RFC 7505): which hosts, in which order.
//! Pure. Floor 1.
//! Always: a host's name is lower case without a final dot, no address text, and holds only letters,
//! digits, `-`, `_` and `.`; at most `max_hosts` hosts are kept.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};

/// A host that takes mail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exchanger {
    /// Lower is better.
    pub preference: u16,
    /// The host's name.
    pub name: String,
}

/// What a set of MX records says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// The domain takes no mail (RFC 7505).
    NullMx,
    /// No record names a host that could exist.
    NoneUsable,
    /// The hosts by preference, and by name within one preference.
    Hosts(Vec<Exchanger>),
}

/// Reads MX records: preference and exchange. A null record beside real ones is a mistake and is passed over.
pub fn choose(records: impl IntoIterator<Item = (u16, String)>, max_hosts: usize) -> Chosen {
    let mut best = BTreeMap::<String, u16>::new();
    let (mut seen, mut null) = (false, true);
    for (preference, exchange) in records {
        seen = true;
        let name = exchange.strip_suffix('.').unwrap_or(&exchange).to_ascii_lowercase();
        null &= name.is_empty();
        if is_host_name(&name) {
            let kept = best.entry(name).or_insert(preference);
            *kept = preference.min(*kept);
        }
    }
    if seen && null {
        return Chosen::NullMx;
    }
    let mut hosts: Vec<_> = best.into_iter().map(|(name, preference)| Exchanger { preference, name }).collect();
    hosts.sort_unstable();
    hosts.truncate(max_hosts);
    if hosts.is_empty() { Chosen::NoneUsable } else { Chosen::Hosts(hosts) }
}

fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(plain) && name.parse::<IpAddr>().is_err()
}

/// Puts the hosts of one preference in a random order (RFC 5321 section 5.1), a new one at each call.
pub fn shuffle(hosts: &mut [Exchanger]) {
    let random = RandomState::new();
    hosts.sort_by_cached_key(|host| (host.preference, random.hash_one(&host.name)));
}

/// The address in a literal: `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
/// `None` if `domain` is no literal, `Some(None)` if it is a literal of something else.
pub fn literal(domain: &str) -> Option<Option<IpAddr>> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    let ip = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inner[5..].parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        _ => inner.parse().map(IpAddr::V4).ok(),
    };
    Some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(records: &[(u16, &str)]) -> Chosen {
        choose(records.iter().map(|(preference, name)| (*preference, (*name).to_owned())), 3)
    }

    fn names(hosts: &[Exchanger]) -> String {
        hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(",")
    }

    fn hosts(records: &[(u16, &str)]) -> Vec<Exchanger> {
        match chosen(records) {
            Chosen::Hosts(hosts) => hosts,
            other => panic!("no hosts: {other:?}"),
        }
    }

    #[test]
    fn a_null_record_counts_only_where_it_stands_alone() {
        assert_eq!(chosen(&[(0, ".")]), Chosen::NullMx);
        assert_eq!(chosen(&[(0, "."), (5, ".")]), Chosen::NullMx);
        assert_eq!(names(&hosts(&[(0, "."), (5, "mx.test.")])), "mx.test");
    }

    #[test]
    fn what_is_no_host_name_is_passed_over() {
        assert_eq!(chosen(&[(10, "192.0.2.1.")]), Chosen::NoneUsable);
        assert_eq!(chosen(&[(10, "a,b.test."), (10, "a\\000.test.")]), Chosen::NoneUsable);
        assert_eq!(names(&hosts(&[(1, "192.0.2.1."), (2, "mx_1.test.")])), "mx_1.test");
    }

    #[test]
    fn a_host_is_tried_once_by_its_best_preference_and_sets_are_cut() {
        let hosts = hosts(&[(20, "A.test."), (10, "c.test."), (5, "a.test."), (30, "d.test."), (30, "e.test.")]);
        assert_eq!(names(&hosts), "a.test,c.test,d.test");
        assert_eq!(hosts[0].preference, 5);
    }

    #[test]
    fn literals() {
        assert_eq!(literal("[192.0.2.1]"), Some("192.0.2.1".parse().ok()));
        assert_eq!(literal("[ipv6:2001:db8::1]"), Some("2001:db8::1".parse().ok()));
        assert_eq!((literal("[x]"), literal("[::1]"), literal("a.test")), (Some(None), Some(None), None));
    }

    proptest! {
        #[test]
        fn the_hosts_are_the_same_in_any_order_and_the_shuffle_keeps_preferences(
            records in proptest::collection::vec((0u16..4, "[a-c]{1,2}\\.test\\."), 1..12).prop_shuffle(),
        ) {
            let mut sorted = records.clone();
            sorted.sort();
            let (one, two) = (choose(records, 20), choose(sorted, 20));
            prop_assert_eq!(&one, &two);
            let Chosen::Hosts(mut hosts) = one else { return Err(TestCaseError::fail("no hosts")) };
            let before = hosts.clone();
            shuffle(&mut hosts);
            prop_assert!(hosts.windows(2).all(|pair| pair[0].preference <= pair[1].preference));
            hosts.sort();
            prop_assert_eq!(hosts, before);
        }
    }

    #[test]
    fn the_order_within_a_preference_changes() {
        let mut hosts = hosts(&[(1, "a.test"), (1, "b.test"), (2, "c.test")]);
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..200 {
            shuffle(&mut hosts);
            firsts.insert(hosts[0].name.clone());
            assert_eq!(hosts[2].name, "c.test");
        }
        assert_eq!(firsts.len(), 2, "200 shuffles of two hosts gave one order");
    }
}
