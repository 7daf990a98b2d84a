//! A site: the hosts that take the mail of a domain, in the order in which they are tried.
//! Plain data. Floor 0.

use std::net::IpAddr;
use std::sync::Arc;

/// The set of hosts that a group of domains shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name: the host names in order of preference, joined by commas.
    pub name: Arc<str>,
    /// Its hosts, best first.
    pub hosts: Vec<MxHost>,
}

/// One host of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxHost {
    /// Its name, for TLS and for people.
    pub name: Arc<str>,
    /// Its addresses, each dialed as it stands here: never resolved again.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
}
