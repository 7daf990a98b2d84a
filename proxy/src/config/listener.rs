//! `[[listener]]`: where clients come in, what is spoken there, and who is served. Floor 5.

use std::net::SocketAddr;

use egret_shared::address::{Network, Networks, private_networks};
use egret_shared::config::{RawValue, Section, Value, raw_string};

use crate::access::Users;
use crate::handshake::socks5::Auth;
use crate::session::Protocol;

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is spoken.
    pub protocol: Protocol,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Clients that are served.
    pub client_networks: Networks,
}

impl Value for Protocol {
    const KIND: &'static str = "a protocol";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        match raw_string(value, Self::KIND)? {
            "socks5" => Ok(Self::Socks5),
            "proxy" => Ok(Self::Proxy),
            other => Err(format!("{other:?} is not a protocol; write \"socks5\" or \"proxy\"")),
        }
    }
}

impl Value for Auth {
    const KIND: &'static str = "a way to log in";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        match raw_string(value, Self::KIND)? {
            "none" => Ok(Self::None),
            "password" => Ok(Self::Password),
            other => Err(format!("{other:?} is not a way to log in; write \"none\" or \"password\"")),
        }
    }
}

pub(super) fn build(section: &Section<'_>, users: &Users) -> Option<ListenerConfig> {
    let address = section.required("address", "Where it listens, like \"10.0.0.5:1080\".");
    let protocol = section.with_default(
        "protocol",
        "\"socks5\"",
        "\"socks5\", or \"proxy\": a PROXY protocol header whose source and destination are dialed.",
    );
    let networks = section.optional::<Vec<Network>>(
        "client_networks",
        "Clients that are served; loopback and private networks if absent.",
    );
    let auth =
        section.with_default("auth", "\"none\"", "\"none\", or \"password\": a [user.NAME] must log in (SOCKS5 only).");
    let allow_open: bool = section.with_default(
        "allow_open",
        "false",
        "Says that clients of public networks may use the proxy without logging in.",
    );
    let is_open = auth == Auth::None && networks.iter().flatten().any(|network| !is_private(network));
    if is_open && !allow_open {
        section.complain(
            "client_networks",
            "lets public networks use the proxy without logging in; set auth = \"password\", or allow_open = true if that is meant",
        );
    }
    if auth == Auth::Password && protocol == Protocol::Proxy {
        section.complain("auth", "is not possible in the PROXY protocol; limit client_networks instead");
    }
    if auth == Auth::Password && users.is_empty() {
        section.complain("auth", "wants users, and there is none; add [user.NAME] with a password");
    }
    let client_networks = networks.map_or_else(private_networks, Networks::new);
    Some(ListenerConfig { address: address?, protocol, auth, client_networks })
}

fn is_private(network: &Network) -> bool {
    let private = private_networks();
    private.contains(network.0.network()) && private.contains(network.0.broadcast())
}
