//! An egress source and the ways in which it is reached. Plain data. Floor 0.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use egret_shared::net::tls_client::KnownServer;

use super::warmup::Warmup;

/// A named way out: one address, its EHLO name, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: Arc<str>,
    /// The address that the destination sees; `None` lets the host choose (direct only).
    pub address: Option<IpAddr>,
    /// The name told in EHLO.
    pub ehlo_name: Arc<str>,
    /// That name is its own; otherwise it is the host's, and a path may have another.
    pub names_itself: bool,
    /// How it is reached: the first way that does not rest is used. At least one.
    pub ways: Vec<Way>,
    /// How much it sends on each day until it is warm; nothing if it is. Of several plans each one holds.
    pub warmup: Vec<Warmup>,
}

/// How a source is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Dialed from this host, bound to the source's address.
    Direct,
    /// Through a proxy.
    Proxy(Arc<Proxy>),
}

impl Way {
    /// The proxy, if it leads through one.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        match self {
            Self::Direct => None,
            Self::Proxy(proxy) => Some(proxy),
        }
    }
}

/// A proxy as the MTA sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its name.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is spoken to it.
    pub dialect: Dialect,
    /// User name and password (RFC 1929); with [`Dialect::Connect`] the user name may hold
    /// `{source}`, which becomes the source's address.
    pub credentials: Option<Credentials>,
    /// TLS to it, around all that is said.
    pub tls: Option<KnownServer>,
    /// Where egret-proxy's API is asked what became of a session that ended without a word.
    pub admin: Option<SocketAddr>,
}

/// A user name and password. Its `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What is spoken to a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// SOCKS5 as KumoMTA speaks it: BIND chooses the source, CONNECT follows.
    #[default]
    Socks5,
    /// Plain SOCKS5 CONNECT; the source is chosen by user name or by the proxy's listener.
    Connect,
    /// A PROXY protocol version 1 line whose source and destination are the dial.
    ProxyV1,
    /// A PROXY protocol version 2 header whose source and destination are the dial.
    ProxyV2,
}

impl Dialect {
    /// A header asks, and nothing is answered but what the destination says, or one 421 line of egret-proxy.
    pub fn is_header(self) -> bool {
        matches!(self, Self::ProxyV1 | Self::ProxyV2)
    }
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Socks5 => "socks5",
            Self::Connect => "socks5-connect",
            Self::ProxyV1 => "proxy-v1",
            Self::ProxyV2 => "proxy-v2",
        })
    }
}

impl std::str::FromStr for Dialect {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "socks5" => Ok(Self::Socks5),
            "socks5-connect" => Ok(Self::Connect),
            "proxy-v1" => Ok(Self::ProxyV1),
            "proxy-v2" => Ok(Self::ProxyV2),
            _ => Err("write \"socks5\", \"socks5-connect\", \"proxy-v1\" or \"proxy-v2\"".to_owned()),
        }
    }
}
