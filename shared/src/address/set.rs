//! A set of networks, as it stands in an access rule.
//! Pure. Floor 0.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::canonical;

/// One network, written `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(pub IpNet);

impl Network {
    /// The network of `ip` with so many bits; the address alone if it has not so many.
    pub fn around(ip: IpAddr, bits: u8) -> Self {
        Self(IpNet::new(ip, bits).unwrap_or_else(|_| IpNet::from(ip)).trunc())
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let net = text.parse::<IpNet>().or_else(|e| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| e));
        net.map(|net| Self(net.trunc())).map_err(|e| format!("{e}; write a network like \"10.0.0.0/8\" or an address"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

crate::config_value_from_str!(Network => "a network like \"10.0.0.0/8\"");

/// Networks of which an address may be in any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// The set of these networks.
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks.into_iter().map(|n| n.0).collect())
    }

    /// Whether `ip` is in any of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = canonical(ip);
        self.0.iter().any(|net| net.contains(&ip))
    }

    /// True if no address is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_networks_around_it() {
        let around = |ip: &str, bits| Network::around(ip.parse().expect("address"), bits).to_string();
        assert_eq!(around("192.0.2.77", 24), "192.0.2.0/24");
        assert_eq!(around("192.0.2.77", 64), "192.0.2.77/32");
        assert_eq!(around("2001:db8::77:1", 64), "2001:db8::/64");
    }

    #[test]
    fn mapped_addresses_do_not_escape() {
        let set = Networks::new(vec!["10.0.0.0/8".parse().expect("network")]);
        let ip = |t: &str| t.parse::<IpAddr>().expect("address");
        assert!(set.contains(ip("10.1.2.3")) && set.contains(ip("::ffff:10.1.2.3")));
        assert!(!set.contains(ip("11.0.0.1")) && !set.contains(ip("::1")));
    }
}
