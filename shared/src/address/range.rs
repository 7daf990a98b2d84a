//! Several addresses written as one: `192.0.2.7`, `192.0.2.0/28`, `192.0.2.10-192.0.2.40`.
//! Pure. Floor 0. Always: first and last are of one family, and first <= last.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// An inclusive range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

impl Range {
    /// The range from `first` to `last`, both included.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, String> {
        if first.is_ipv4() != last.is_ipv4() {
            return Err("the two ends are of different address families".to_owned());
        }
        if first > last {
            return Err(format!("the first address {first} is above the last {last}"));
        }
        Ok(Self { first, last })
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && self.first <= ip && ip <= self.last
    }

    /// How many addresses it holds (saturating).
    pub fn len(&self) -> u128 {
        match (self.first, self.last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(u32::from(b) - u32::from(a)) + 1,
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(b) - u128::from(a)).saturating_add(1),
            _ => 0,
        }
    }

    /// False: a range holds at least one address.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether its addresses are of IPv4, or of IPv6.
    pub fn contains_family(&self, is_v4: bool) -> bool {
        self.first.is_ipv4() == is_v4
    }

    /// The address at place `n` from 0; `None` after the last.
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        if n >= self.len() {
            return None;
        }
        Some(match self.first {
            IpAddr::V4(first) => IpAddr::V4((u32::from(first) + n as u32).into()),
            IpAddr::V6(first) => IpAddr::V6((u128::from(first) + n).into()),
        })
    }

    /// Its addresses in order. Ask [`Range::len`] before collecting them.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = match (self.first, self.last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => Some(u32::from(a)..=u32::from(b)),
            _ => None,
        };
        let v6 = match (self.first, self.last) {
            (IpAddr::V6(a), IpAddr::V6(b)) => Some(u128::from(a)..=u128::from(b)),
            _ => None,
        };
        let v4 = v4.into_iter().flatten().map(|n| IpAddr::V4(n.into()));
        v4.chain(v6.into_iter().flatten().map(|n| IpAddr::V6(n.into())))
    }
}

impl FromStr for Range {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ip = |text: &str| text.trim().parse::<IpAddr>().map_err(|e| format!("{:?}: {e}", text.trim()));
        if let Some((first, last)) = text.split_once('-') {
            return Self::new(ip(first)?, ip(last)?);
        }
        if text.contains('/') {
            let net: IpNet = text.trim().parse().map_err(|e| format!("{e}"))?;
            return Self::new(net.network(), net.broadcast());
        }
        Self::new(ip(text)?, ip(text)?)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

crate::config_value_from_str!(Range => "an address, a range like \"192.0.2.1-192.0.2.9\" or a network like \"192.0.2.0/28\"");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_three_spellings() {
        let range: Range = "192.0.2.0/30".parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((range.len(), range.iter().count()), (4, 4));
        assert_eq!("192.0.2.3 - 192.0.2.5".parse::<Range>().map(|r| r.len()), Ok(3));
        assert_eq!("2001:db8::/64".parse::<Range>().map(|r| r.len()), Ok(1 << 64));
        for bad in ["192.0.2.5-192.0.2.3", "192.0.2.1-::1", "192.0.2.0/33", "host", ""] {
            assert!(bad.parse::<Range>().is_err(), "{bad} was taken");
        }
    }

    proptest! {
        #[test]
        fn a_range_holds_exactly_what_it_lists(a: u32, more in 0u32..50) {
            let last = a.saturating_add(more);
            let range = Range::new(IpAddr::V4(a.into()), IpAddr::V4(last.into())).expect("in order");
            prop_assert!(range.iter().all(|ip| range.contains(ip)));
            prop_assert_eq!(range.iter().count() as u128, range.len());
            prop_assert_eq!(range.to_string().parse::<Range>(), Ok(range));
        }
    }
}
