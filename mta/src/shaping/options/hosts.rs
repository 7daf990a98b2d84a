//! Which hosts of a site are tried, and what follows when one fails. Floor 1.

use egret_shared::address::Networks;

/// Which addresses of a host are tried, in which order of their families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpLookupStrategy {
    /// Both families, in turn.
    #[default]
    Ipv4AndIpv6,
    /// IPv4 only.
    Ipv4Only,
    /// IPv6 only.
    Ipv6Only,
    /// IPv4 first.
    Ipv4ThenIpv6,
    /// IPv6 first.
    Ipv6ThenIpv4,
}

/// What a session does when its connection has ended and there is more work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReconnectStrategy {
    /// It goes on at the next address of the site, and ends behind the last one.
    #[default]
    ConnectNextHost,
    /// It goes on at the same address.
    ReconnectSameHost,
    /// It ends; another one begins at the site's first address.
    TerminateSession,
}

/// Which hosts of a site are tried, and what follows when one fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// Which addresses of a host are tried.
    pub ip_lookup_strategy: IpLookupStrategy,
    /// Addresses that are passed over.
    pub skip_hosts: Networks,
    /// Addresses with which a site takes no mail at all: what is for it bounces.
    pub prohibited_hosts: Networks,
    /// What follows when a connection has ended and there is more work.
    pub reconnect_strategy: ReconnectStrategy,
    /// Whether a message during which the connection broke is offered to the next address at once.
    pub try_next_host_on_transport_error: bool,
}

macro_rules! from_names {
    ($($type:ident { $($name:ident),* $(,)? })*) => {$(
        impl std::str::FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $(stringify!($name) => Ok(Self::$name),)*
                    _ => Err(concat!("write one of", $(" \"", stringify!($name), "\""),*).to_owned()),
                }
            }
        }
    )*};
}

from_names! {
    IpLookupStrategy { Ipv4AndIpv6, Ipv4Only, Ipv6Only, Ipv4ThenIpv6, Ipv6ThenIpv4 }
    ReconnectStrategy { ConnectNextHost, ReconnectSameHost, TerminateSession }
}
