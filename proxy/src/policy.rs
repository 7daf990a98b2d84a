//! What is served and how: everything that a reload can change, as one value. Floor 3.
//! Always: a session keeps the policy it began with.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use egret_shared::address::Networks;
use tokio_rustls::rustls::ServerConfig;

use crate::access::Access;
use crate::auth::Users;
use crate::limit::Caps;
use crate::source::{SourceSet, Sources};

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SOCKS5.
    Socks5,
    /// PROXY protocol version 1 or 2 as a forward request.
    Proxy,
    /// Either: the first byte tells.
    Auto,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Their address is enough.
    None,
    /// User name and password (RFC 1929).
    Password,
    /// A client certificate, one of whose names is that of a user.
    Certificate,
}

/// The sources of clients that name none.
#[derive(Debug)]
pub enum DefaultSources {
    /// All held addresses take turns.
    All,
    /// The address at which the client was accepted.
    SameAsDialed,
    /// These take turns.
    Set(SourceSet),
}

/// TLS towards clients.
#[derive(Clone)]
pub struct Tls {
    /// Certificate, key and what is asked of clients.
    pub config: Arc<ServerConfig>,
    /// Whether clients may also come in clear.
    pub is_optional: bool,
    /// When the certificate ends, in seconds since the Unix epoch.
    pub expires_unix_s: i64,
}

/// How one listener serves.
pub struct ListenerPolicy {
    /// Where it listens, as configured.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Clients that are served.
    pub client_networks: Networks,
    /// TLS.
    pub tls: Option<Tls>,
    /// The sources of clients that name none.
    pub default_sources: DefaultSources,
    /// Success is told at the destination's first byte, or after this wait; `None` at the connection.
    pub banner_wait: Option<Duration>,
    /// Failures carry text to SOCKS5 clients.
    pub failure_text: bool,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// The whole request of a client, TLS included.
    pub handshake: Duration,
    /// A dial.
    pub connect: Duration,
    /// Silence while both sides may speak.
    pub idle: Duration,
    /// Silence after one side has finished.
    pub half_close: Duration,
    /// What is in flight, when the program stops.
    pub drain: Duration,
}

/// All of it.
pub struct Policy {
    /// By listener, in the order of the configuration.
    pub listeners: Vec<ListenerPolicy>,
    /// Users.
    pub users: Users,
    /// What may be dialed.
    pub access: Access,
    /// Held addresses.
    pub sources: Arc<Sources>,
    /// Limits.
    pub caps: Caps,
    /// Time limits.
    pub timeouts: Timeouts,
}

/// The policy that is in force; a reload swaps it. Cheap to clone.
pub type Current = Arc<ArcSwap<Policy>>;

impl Policy {
    /// How the listener at `address` serves; `None` if a reload has taken it out of the configuration.
    pub fn listener(&self, address: SocketAddr) -> Option<&ListenerPolicy> {
        self.listeners.iter().find(|listener| listener.address == address)
    }

    /// The set from which a client that names no source is served: its user's, then its listener's.
    pub fn default_set<'p>(&'p self, listener: &'p ListenerPolicy, user: Option<&str>) -> Option<&'p SourceSet> {
        let own = user.and_then(|name| self.users.sources(name));
        own.or(match &listener.default_sources {
            DefaultSources::Set(set) => Some(set),
            DefaultSources::All | DefaultSources::SameAsDialed => None,
        })
    }

    /// Whether `user` may use `source`, as far as its own list says.
    pub fn is_own(&self, user: Option<&str>, source: IpAddr) -> bool {
        let own = user.and_then(|name| self.users.sources(name));
        own.is_none_or(|set| set.contains(source))
    }
}
