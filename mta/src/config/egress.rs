//! `[[route]]`, `[pool.NAME]`, `[source.NAME]`, `[proxy.NAME]`: the ways out. Floor 5.
//! Names are resolved here, from proxies up to routes, so that nothing later can name what is not there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use egret_shared::config::Section;

use crate::routing::pool::Pool;
use crate::routing::route::{Pattern, Route, RouteHost, Routes};
use crate::routing::source::{Credentials, Dialect, Proxy, Source, Way};

egret_shared::config_value_from_str!(Dialect => "a dialect");

/// The name of the source and the pool that stand in when the file names none.
const IMPLICIT: &str = "direct";

/// The longest user name and password of RFC 1929.
const MAX_CREDENTIAL: usize = 255;

/// All ways out.
pub(super) struct Egress {
    pub routes: Routes,
    pub pools: Vec<Pool>,
    pub default_pool: Arc<str>,
}

/// What the file defines by name; `None` where the definition was complained about.
type Named<T> = BTreeMap<String, Option<Arc<T>>>;

/// Reads all four kinds even if one is wrong, so that every complaint is told.
pub(super) fn build(root: &Section<'_>, hostname: &str) -> Option<Egress> {
    let proxies = collect(&root.named("proxy"), proxy);
    let mut sources = collect(&root.named("source"), |name, section| source(name, section, &proxies, hostname));
    if sources.is_empty() {
        sources.insert(IMPLICIT.to_owned(), Some(Arc::new(implicit_source(hostname))));
    }
    let mut pools = collect(&root.named("pool"), |name, section| pool(name, section, &sources));
    if pools.is_empty() {
        pools.insert(IMPLICIT.to_owned(), pool_of_all(&sources).map(Arc::new));
    }
    let default_pool = default_pool(root, &pools);
    let routes = routes(root, &pools);
    let whole = proxies.values().all(Option::is_some);
    let pools = pools.into_values().map(|pool| pool.map(Arc::unwrap_or_clone)).collect::<Option<Vec<_>>>();
    whole.then_some(Egress { routes: routes?, pools: pools?, default_pool: default_pool? })
}

fn collect<'d, T>(sections: &[(String, Section<'d>)], build: impl Fn(&str, &Section<'d>) -> Option<T>) -> Named<T> {
    sections.iter().map(|(name, section)| (name.clone(), build(name, section).map(Arc::new))).collect()
}

fn proxy(name: &str, section: &Section<'_>) -> Option<Proxy> {
    let address = section.required::<SocketAddr>("address", "Where the proxy listens, as address and port.");
    let dialect = section.with_default(
        "dialect",
        "\"socks5\"",
        "\"socks5\" (BIND chooses the source, CONNECT follows; as KumoMTA's proxy), \"socks5-connect\" (CONNECT only: the user name or the proxy's listener chooses), \"proxy-v2\" (a PROXY header names source and destination).",
    );
    let username = section.optional::<String>(
        "username",
        "The user name told to a SOCKS5 proxy; `{source}` in it becomes the source's address.",
    );
    let password_file =
        section.optional::<PathBuf>("password_file", "A file that holds the password, and nothing else.");
    let credentials = match (username, password_file) {
        (Some(username), Some(file)) => Some(credentials(section, username, &file)?),
        (None, None) => None,
        (Some(_), None) => {
            section.complain("username", "stands alone; password_file belongs to it");
            None
        }
        (None, Some(_)) => {
            section.complain("password_file", "stands alone; username belongs to it");
            None
        }
    };
    if dialect == Dialect::ProxyV2 && credentials.is_some() {
        section.complain("username", "has no place in the PROXY protocol; remove it or change dialect");
    }
    Some(Proxy { name: name.into(), address: address?, dialect, credentials })
}

fn credentials(section: &Section<'_>, username: String, file: &std::path::Path) -> Option<Credentials> {
    let password = match std::fs::read_to_string(file) {
        Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
        Err(error) => {
            section.complain("password_file", format!("{} cannot be read: {error}", file.display()));
            return None;
        }
    };
    if password.is_empty() || password.len() > MAX_CREDENTIAL {
        section.complain("password_file", format!("{} does not hold 1 to {MAX_CREDENTIAL} bytes", file.display()));
    }
    // An IPv6 address in place of `{source}` has up to 39 characters.
    if username.is_empty() || username.len() > MAX_CREDENTIAL - 39 {
        section.complain("username", format!("is empty or longer than {} bytes", MAX_CREDENTIAL - 39));
    }
    Some(Credentials { username, password })
}

fn source(name: &str, section: &Section<'_>, proxies: &Named<Proxy>, hostname: &str) -> Option<Source> {
    let address = section.optional::<IpAddr>(
        "address",
        "The address that destinations see. Without it the host, or the proxy, chooses.",
    );
    let ehlo_name = section.optional::<String>(
        "ehlo_name",
        "The name told in EHLO, which should be the one that the address's PTR record has; `hostname` if absent.",
    );
    let proxy = section
        .optional::<String>("proxy", "The proxy that holds the address; without it the address is this host's own.");
    if let Some(name) = ehlo_name.as_deref().filter(|name| !super::is_host_name(name)) {
        section.complain("ehlo_name", format!("{name:?} is not a host name"));
    }
    let way = match proxy {
        None => Way::Direct,
        Some(wanted) => Way::Proxy(find(section, "proxy", "proxy", &wanted, proxies)?),
    };
    if let Way::Proxy(proxy) = &way
        && address.is_none()
        && proxy.dialect != Dialect::Connect
    {
        section.complain("address", "is missing; its proxy's dialect must name the source's address");
    }
    let ehlo_name = ehlo_name.as_deref().unwrap_or(hostname).into();
    Some(Source { name: name.into(), address, ehlo_name, way })
}

fn implicit_source(hostname: &str) -> Source {
    Source { name: IMPLICIT.into(), address: None, ehlo_name: hostname.into(), way: Way::Direct }
}

fn pool(name: &str, section: &Section<'_>, sources: &Named<Source>) -> Option<Pool> {
    let weights = section.map::<u32>(
        "sources",
        "The sources and their weights, as in `{ a1 = 1, a2 = 3 }`: a2 sends three times as much.",
    );
    if weights.is_empty() {
        section.complain("sources", "names no source; write it like `sources = { a1 = 1 }`");
    }
    let wanted = weights.len();
    let member = |(name, weight): (String, u32)| {
        if weight == 0 {
            section.complain("sources", format!("gives {name} the weight 0, with which it is never used; remove it"));
        }
        Some((find(section, "sources", "source", &name, sources)?, weight))
    };
    let members: Vec<_> = weights.into_iter().filter_map(member).collect();
    (members.len() == wanted).then(|| Pool { name: name.into(), members })
}

fn pool_of_all(sources: &Named<Source>) -> Option<Pool> {
    let members = sources.values().map(|source| Some((source.clone()?, 1))).collect::<Option<_>>()?;
    Some(Pool { name: IMPLICIT.into(), members })
}

fn default_pool(root: &Section<'_>, pools: &Named<Pool>) -> Option<Arc<str>> {
    let named = root.optional::<String>(
        "default_pool",
        "The pool of mail for which no route chooses another. Needed where there are several.",
    );
    match named {
        Some(name) => find(root, "default_pool", "pool", &name, pools).map(|pool| pool.name.clone()),
        None if pools.len() > 1 => {
            let names = pools.keys().cloned().collect::<Vec<_>>().join(", ");
            root.complain("default_pool", format!("is missing; there are several pools ({names}), so name one"));
            None
        }
        None => pools.values().next()?.as_ref().map(|pool| pool.name.clone()),
    }
}

fn routes(root: &Section<'_>, pools: &Named<Pool>) -> Option<Routes> {
    let mut routes = Routes::default();
    let mut whole = true;
    for section in root.repeated("route") {
        whole &= route(&section, pools, &mut routes).is_some();
    }
    whole.then_some(routes)
}

fn route(section: &Section<'_>, pools: &Named<Pool>, routes: &mut Routes) -> Option<()> {
    let domains = section.required::<Vec<Pattern>>(
        "domains",
        "Domains it is for: `example.com`, `*.example.com` (all below it), `*` (all). The most specific wins.",
    );
    let hosts = section.with_default::<Vec<RouteHost>>(
        "hosts",
        "[]",
        "Hosts that take the mail, in the order in which they are tried, as `host:port`; none leaves them to the DNS.",
    );
    let pool = section.optional::<String>("pool", "The pool that this mail leaves from; the default pool if absent.");
    if hosts.is_empty() && pool.is_none() {
        section.complain("hosts", "is missing, and pool too: the route would do nothing");
    }
    let pool = match pool {
        Some(name) => Some(find(section, "pool", "pool", &name, pools)?.name.clone()),
        None => None,
    };
    let route = Arc::new(Route { hosts, pool });
    for pattern in domains? {
        if !routes.add(pattern.clone(), route.clone()) {
            section.complain("domains", format!("names {pattern}, which has a route already"));
        }
    }
    Some(())
}

/// What `name` stands for, or a complaint that tells what there is.
fn find<T>(section: &Section<'_>, key: &'static str, kind: &str, name: &str, all: &Named<T>) -> Option<Arc<T>> {
    if let Some(found) = all.get(name) {
        return found.clone();
    }
    let known = match all.is_empty() {
        true => format!("there is none; add [{kind}.{name}]"),
        false => format!("known: {}", all.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    section.complain(key, format!("names the {kind} {name:?}, which is not in this file ({known})"));
    None
}
