//! `[discover]` and `discover` of `[pool.NAME]`: pools whose sources are the addresses that proxies announce. Floor 5.

use std::path::PathBuf;
use std::sync::Arc;

use egret_shared::address::Range;
use egret_shared::config::Section;
use egret_shared::registry::record::is_name;

use super::proxy;
use crate::routing::discover::{Discovery, Selector, TlsToProxies};
use crate::routing::source::Dialect;

/// The addresses of a pool that are found, if it has such.
pub(super) fn selector(pool: &str, section: &Section<'_>, providers: Option<&[Arc<str>]>) -> Option<Selector> {
    let section = section.section("discover");
    let tag = section.optional::<String>("tag", "Sources are the addresses of announced proxies with this tag.");
    let mut tags = section.with_default::<Vec<String>>(
        "tags",
        "[]",
        "The same with several tags, all of which a proxy must have.",
    );
    let addresses = section.with_default::<Vec<Range>>(
        "addresses",
        "[]",
        "Only announced addresses in one of these networks or ranges.",
    );
    let warmup = super::warmup::of_found(&section, providers);
    tags.extend(tag);
    if let Some(bad) = tags.iter().find(|tag| !is_name(tag)) {
        section.complain("tags", format!("holds {bad:?}; tags are of letters, digits and `.-_`"));
    }
    if !section.is_present() {
        return None;
    }
    if tags.is_empty() && addresses.is_empty() {
        section.complain(
            "tag",
            "is missing, and so are tags and addresses; every address of every proxy is \"0.0.0.0/0\" and \"::/0\"",
        );
    }
    Some(Selector { pool: pool.into(), tags, addresses, warmup })
}

/// How announced proxies are used.
pub(super) fn build(root: &Section<'_>, hostname: &str, selectors: Vec<Selector>) -> Discovery {
    let section = root.section("discover");
    let ehlo_name = section.optional::<String>(
        "ehlo_name",
        "The EHLO name of found sources, like \"{address}.out.example.com\": `{address}` becomes the address, with hyphens for dots and colons. `hostname` if absent.",
    );
    if let Some(name) = ehlo_name.as_deref().filter(|name| !super::is_host_name(&name.replace("{address}", "0-0"))) {
        section.complain(
            "ehlo_name",
            format!("{name:?} gives no host name; write it like \"{{address}}.out.example.com\""),
        );
    }
    let dialect: Dialect =
        section.with_default("dialect", "\"socks5\"", "What is spoken to announced proxies, as in `[proxy.NAME]`.");
    let credentials = proxy::credentials(&section);
    let networks = section.with_default::<Vec<Range>>(
        "networks",
        "[]",
        "Announced proxies are used only at addresses in these networks; none is everywhere. Must be given with username.",
    );
    let tls = tls(&section);
    if credentials.is_some() && networks.is_empty() {
        section
            .complain("username", "would be told to whoever announces himself; say in networks where proxies may be");
    }
    if dialect == Dialect::Connect && credentials.as_ref().is_none_or(|c| !c.username.contains("{source}")) {
        section
            .complain("dialect", "names no source; found addresses need a username with {source}, or another dialect");
    }
    if dialect.is_header() && credentials.is_some() {
        section.complain("username", "has no place in the PROXY protocol; remove it or change dialect");
    }
    Discovery { selectors, ehlo_name, hostname: hostname.into(), dialect, credentials, tls, networks }
}

fn tls(section: &Section<'_>) -> Option<TlsToProxies> {
    let is_wanted: bool = section.with_default("tls", "false", "Whether TLS is spoken to announced proxies.");
    let server_name = section.optional::<String>(
        "tls_server_name",
        "The name that the certificates of announced proxies must be valid for; the address of each if absent.",
    );
    let authorities = section.optional::<PathBuf>(
        "tls_authorities",
        "The certificates (PEM) of who may sign them; the Mozilla root program if absent.",
    );
    let certificate = section.optional::<PathBuf>("tls_certificate", "Our own certificate (PEM).");
    let key = section.optional::<PathBuf>("tls_private_key", "Its private key (PEM).");
    let own = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            section.complain("tls_certificate", "and tls_private_key belong together; one of them is missing");
            None
        }
    };
    let tls = TlsToProxies { server_name, authorities, own };
    if !is_wanted {
        return None;
    }
    if let Err(error) = tls.towards([192, 0, 2, 1].into()) {
        section.complain("tls", error.to_string());
    }
    Some(tls)
}

/// The pools' names that find sources, for complaints.
pub(super) fn names(selectors: &[Selector]) -> Vec<Arc<str>> {
    selectors.iter().map(|selector| selector.pool.clone()).collect()
}
