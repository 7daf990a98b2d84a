//! IP addresses in the plural: ranges, sets of networks, and the table of special-use networks.
//! Pure. Floor 0. Knows nothing of what is plumbed on a host.
//! Always: an IPv4-mapped IPv6 address is treated as the IPv4 address in it.

mod range;
mod set;
mod special;

pub use range::Range;
pub use set::{Network, Networks};
pub use special::special_use;

use std::net::{IpAddr, Ipv4Addr};

/// The networks of one host or site: loopback, RFC 1918, RFC 4193 and link-local.
pub fn private_networks() -> Networks {
    const PRIVATE: [&str; 8] = [
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    ];
    Networks::new(PRIVATE.iter().filter_map(|n| n.parse().ok()).collect())
}

/// The address with an IPv4-mapped one turned into IPv4, so that no spelling escapes a rule.
pub fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// The unspecified IPv4 address, as it stands in replies that have no address to tell.
pub const NO_ADDRESS: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
