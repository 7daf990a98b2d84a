//! A site: the hosts that take the mail of a domain, in the order in which they are tried.
//! Plain data. Floor 0.

use std::net::IpAddr;
use std::sync::Arc;

use egret_shared::net::dane::Dane;

/// The set of hosts that a group of domains shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name: what the host names have in common said once, as KumoMTA names sites; behind it a mark like `+dane` or
    /// `+sts` if a policy rules how they are spoken to.
    pub name: Arc<str>,
    /// Its hosts, best first.
    pub hosts: Vec<MxHost>,
    /// What they speak.
    pub protocol: Protocol,
}

impl Site {
    /// Whether it has an address of the family of `from`.
    pub fn has_family_of(&self, from: IpAddr) -> bool {
        self.hosts.iter().flat_map(|host| &host.addresses).any(|to| to.is_ipv4() == from.is_ipv4())
    }
}

/// What is spoken to the hosts of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): each recipient has its answer after the content.
    Lmtp,
}

impl std::str::FromStr for Protocol {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "smtp" => Ok(Self::Smtp),
            "lmtp" => Ok(Self::Lmtp),
            _ => Err("write \"smtp\" or \"lmtp\"".to_owned()),
        }
    }
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
    /// By what TLS is ruled there, whatever the options of a path say.
    pub policy: HostPolicy,
}

/// What rules TLS towards a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// The options of the path.
    #[default]
    None,
    /// The MTA-STS policy of the domain: TLS with a valid certificate, or no delivery (RFC 8461).
    Sts,
    /// TLSA records of the host: TLS with a certificate that they vouch for, or no delivery (RFC 7672).
    Dane(Arc<Dane>),
}
