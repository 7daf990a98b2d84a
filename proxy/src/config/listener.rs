//! `[[listener]]`: where clients come in, what is spoken there, who is served and from where. Floor 5.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use egret_shared::address::{Network, Networks, Range, private_networks};
use egret_shared::config::{RawValue, Section, Value, raw_string};
use egret_shared::net::{certificate, tls};
use egret_shared::units::Wait;

use crate::auth::Users;
use crate::policy::{Auth, DefaultSources, ListenerPolicy, Protocol, Tls};
use crate::source::SourceSet;

macro_rules! words {
    ($type:ty, $kind:literal, $($word:literal => $value:expr),*) => {
        impl Value for $type {
            const KIND: &'static str = $kind;
            fn read(value: &RawValue<'_>) -> Result<Self, String> {
                match raw_string(value, Self::KIND)? {
                    $($word => Ok($value),)*
                    other => Err(format!("{other:?} is not {}; write one of {}", $kind, [$(concat!("\"", $word, "\"")),*].join(", "))),
                }
            }
        }
    };
}

words!(Protocol, "a protocol", "socks5" => Self::Socks5, "proxy" => Self::Proxy, "auto" => Self::Auto);
words!(Auth, "a way to log in", "none" => Self::None, "password" => Self::Password, "certificate" => Self::Certificate);

/// When success is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplyOn {
    Connect,
    Banner,
}

words!(ReplyOn, "a moment", "connect" => Self::Connect, "banner" => Self::Banner);

impl Value for DefaultSources {
    const KIND: &'static str = "a list, \"all\" or \"same_as_dialed\"";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("all") => Ok(Self::All),
            Some("same_as_dialed") => Ok(Self::SameAsDialed),
            Some(other) => Err(format!("{other:?} is neither \"all\" nor \"same_as_dialed\" nor a list in brackets")),
            None => Vec::<Range>::read(value).map(|ranges| Self::Set(SourceSet::new(ranges))),
        }
    }
}

/// All listeners, those of `source_by_port` included; `None` after a complaint.
pub(super) fn all(root: &Section<'_>, users: Option<&Users>) -> Option<Vec<ListenerPolicy>> {
    let sections = root.repeated("listener");
    if sections.is_empty() {
        root.complain("listener", "is missing; add a [[listener]] with its address");
    }
    let mut all: Vec<ListenerPolicy> = Vec::new();
    let mut is_whole = true;
    for section in &sections {
        let Some(listeners) = build(section, users) else {
            is_whole = false;
            continue;
        };
        for listener in listeners {
            if all.iter().any(|other| other.address == listener.address) {
                section.complain("address", format!("{} is listened at twice", listener.address));
            }
            all.push(listener);
        }
    }
    is_whole.then_some(all)
}

fn build(section: &Section<'_>, users: Option<&Users>) -> Option<Vec<ListenerPolicy>> {
    let address = section.required::<SocketAddr>("address", "Where it listens, like \"10.0.0.5:1080\".");
    let protocol = section.with_default(
        "protocol",
        "\"socks5\"",
        "\"socks5\"; \"proxy\": a PROXY protocol header whose source and destination are dialed; \"auto\": either, the first byte tells.",
    );
    let (auth, client_networks) = who(section, protocol, users);
    let tls = tls(section, auth);
    let default_sources = section.with_default(
        "default_sources",
        "\"all\"",
        "The sources of clients that name none (and whose user has none of its own): a list whose addresses take turns, \"all\", or \"same_as_dialed\": the address at which the client was accepted.",
    );
    let by_port = section.map::<IpAddr>(
        "source_by_port",
        "More ports of the same listener, each with the one source of clients that come there: `{ 10001 = \"192.0.2.1\" }`.",
    );
    let reply_on: ReplyOn = section.with_default(
        "reply_on",
        "\"connect\"",
        "When a SOCKS5 client hears of success: at the \"connect\", or at the \"banner\", so that a destination that closes before it is a reply.",
    );
    let wait = section
        .with_default::<Wait>(
            "banner_wait",
            "\"2s\"",
            "With reply_on = \"banner\": success is told after this even without one.",
        )
        .0;
    let banner_wait = (reply_on == ReplyOn::Banner).then_some(wait);
    let failure_text = section.with_default(
        "failure_text",
        "false",
        "Puts a text like `n=13 r=source_ports_exhausted …` into SOCKS5 failures instead of the number alone.",
    );
    let (address, tls) = (address?, tls.ok()?);
    let listener = |address, default_sources| {
        let client_networks = client_networks.clone();
        let tls = tls.clone();
        ListenerPolicy { address, protocol, auth, client_networks, tls, default_sources, banner_wait, failure_text }
    };
    let mut all = vec![listener(address, default_sources)];
    for (port, source) in by_port {
        match (port.parse::<u16>(), Range::new(source, source)) {
            (Ok(port), Ok(range)) if port > 0 => {
                let set = DefaultSources::Set(SourceSet::new(vec![range]));
                all.push(listener(SocketAddr::new(address.ip(), port), set));
            }
            _ => section.complain("source_by_port", format!("{port:?} is not a port from 1 to 65535")),
        }
    }
    Some(all)
}

fn who(section: &Section<'_>, protocol: Protocol, users: Option<&Users>) -> (Auth, Networks) {
    let networks = section.optional::<Vec<Network>>(
        "client_networks",
        "Clients that are served; loopback and private networks if absent.",
    );
    let auth = section.with_default(
        "auth",
        "\"none\"",
        "\"none\"; \"password\": a user must log in (SOCKS5 only); \"certificate\": a client certificate must name a [user.NAME].",
    );
    let allow_open: bool = section.with_default(
        "allow_open",
        "false",
        "Says that clients of public networks may use the proxy without logging in.",
    );
    let is_open = auth == Auth::None && networks.iter().flatten().any(|network| !is_private(network));
    if is_open && !allow_open {
        section.complain(
            "client_networks",
            "lets public networks use the proxy without logging in; set auth = \"password\" or \"certificate\", or allow_open = true if that is meant",
        );
    }
    if auth == Auth::Password && protocol != Protocol::Socks5 {
        section.complain(
            "auth",
            "\"password\" is not possible in the PROXY protocol; use \"certificate\", or limit client_networks",
        );
    }
    if auth == Auth::Password && users.is_some_and(|users| !users.have_passwords()) {
        section.complain("auth", "wants users with passwords, and there is none; add a [user.NAME], or users_file");
    }
    if auth == Auth::Certificate && users.is_some_and(Users::is_empty) {
        section.complain("auth", "wants users, and there is none; add a [user.NAME] for each name in a certificate");
    }
    (auth, networks.map_or_else(private_networks, Networks::new))
}

/// `Err` after a complaint.
fn tls(section: &Section<'_>, auth: Auth) -> Result<Option<Tls>, ()> {
    let chain = section
        .optional::<PathBuf>("tls_certificate", "A PEM file with the certificate chain: clients are served over TLS.");
    let key = section.optional::<PathBuf>("tls_private_key", "A PEM file with the key of the certificate.");
    let authorities = section.optional::<PathBuf>(
        "tls_client_authorities",
        "A PEM file with the authorities whose client certificates are taken; with auth = \"certificate\".",
    );
    let is_optional =
        section.with_default("tls_optional", "false", "Serves clients in clear too; the first byte tells them apart.");
    let complain = |key, why: String| {
        section.complain(key, why);
        Err(())
    };
    if auth == Auth::Certificate && (authorities.is_none() || chain.is_none() || is_optional) {
        let why =
            "\"certificate\" wants tls_certificate, tls_private_key and tls_client_authorities, and not tls_optional";
        return complain("auth", why.to_owned());
    }
    if auth != Auth::Certificate && authorities.is_some() {
        return complain("tls_client_authorities", "does nothing without auth = \"certificate\"".to_owned());
    }
    let (chain, key) = match (chain, key) {
        (Some(chain), Some(key)) => (chain, key),
        (None, None) if is_optional => {
            return complain("tls_optional", "does nothing without tls_certificate".to_owned());
        }
        (None, None) => return Ok(None),
        _ => return complain("tls_certificate", "and tls_private_key belong together; one is missing".to_owned()),
    };
    let config = match &authorities {
        Some(authorities) => tls::mutual_server_config(&chain, &key, authorities, true),
        None => tls::server_config(&chain, &key),
    };
    let first = tls::certificates(&chain).ok().and_then(|chain| certificate::facts(chain.first()?));
    match config {
        Ok(config) => {
            let expires_unix_s = first.map_or(i64::MAX, |facts| facts.expires_unix_s);
            Ok(Some(Tls { config, is_optional, expires_unix_s }))
        }
        Err(error) => {
            let is_authority =
                authorities.is_some_and(|file| error.to_string().starts_with(&file.display().to_string()));
            complain(if is_authority { "tls_client_authorities" } else { "tls_certificate" }, error.to_string())
        }
    }
}

fn is_private(network: &Network) -> bool {
    let private = private_networks();
    private.contains(network.0.network()) && private.contains(network.0.broadcast())
}
