//! `[[route]]`: hosts, protocol, pool and options of a path, for domains or for mail that rules lead there. Floor 5.
//! Always: two routes that lead to the same site say the same of its path.

use std::collections::HashMap;
use std::sync::Arc;

use egret_shared::config::Section;

use super::egress::{Named, find};
use super::path::{self, Form};
use crate::dns::site::Protocol;
use crate::routing::pool::Pool;
use crate::routing::route::{Pattern, Route, RouteHost, Routes, site_name};
use crate::shaping::options::PathOptions;
use crate::shaping::patch::Patch;

egret_shared::config_value_from_str!(Protocol => "a protocol");

/// The keys that are a route's own; all others are options of its path.
const OWN_KEYS: [&str; 5] = ["name", "domains", "hosts", "pool", "protocol"];
/// The longest name of a route.
const MAX_NAME_BYTES: usize = 64;

/// What holds where a route says nothing else.
pub(super) struct All<'a> {
    /// The options of paths.
    pub options: &'a PathOptions,
    /// The port of mail exchangers.
    pub smtp_port: u16,
}

/// The options of each site that routes lead to, and the place of the first of them.
type Sites = HashMap<String, (usize, Option<Arc<Patch>>)>;

/// Reads all routes even if one is wrong.
pub(super) fn build(root: &Section<'_>, pools: &Named<Pool>, all: &All<'_>) -> Option<Routes> {
    let (mut routes, mut sites, mut whole) = (Routes::default(), Sites::new(), true);
    for (place, section) in root.repeated("route").iter().enumerate() {
        whole &= route(place, section, pools, all, &mut routes, &mut sites).is_some();
    }
    whole.then_some(routes)
}

fn route(
    place: usize,
    section: &Section<'_>,
    pools: &Named<Pool>,
    all: &All<'_>,
    routes: &mut Routes,
    sites: &mut Sites,
) -> Option<()> {
    let name = name(section);
    let domains = section.with_default::<Vec<Pattern>>(
        "domains",
        "[]",
        "Domains it is for: `example.com`, `*.example.com` (all below it), `*` (all). The most specific wins.",
    );
    let hosts = section.with_default::<Vec<RouteHost>>(
        "hosts",
        "[]",
        "Hosts that take the mail, in the order in which they are tried, as `host:port`; none leaves them to the DNS.",
    );
    let pool = section.optional::<String>("pool", "The pool that this mail leaves from; the default pool if absent.");
    let protocol = section.with_default(
        "protocol",
        "\"smtp\"",
        "What the hosts speak: \"smtp\", or \"lmtp\" (RFC 2033; port 24 unless one is named).",
    );
    let options = options(section);
    check(section, &domains, name.as_deref(), protocol, &hosts, pool.is_some(), options.is_some());
    let pool = match pool {
        Some(name) => Some(find(section, "pool", "pool", &name, pools)?.name.clone()),
        None => None,
    };
    let route = Arc::new(Route { hosts, protocol, pool, name, place, options });
    agree(section, &route, all, sites);
    if !routes.add_named(route.clone()) {
        section.complain("name", "is that of another route, too; choose another");
    }
    for pattern in domains {
        if !routes.add(pattern.clone(), route.clone()) {
            section.complain("domains", format!("names {pattern}, which has a route already"));
        }
    }
    Some(())
}

fn name(section: &Section<'_>) -> Option<Arc<str>> {
    let name = section.optional::<String>(
        "name",
        "The name by which rules choose it (`set_route`): 1 to 64 lower-case letters, digits, `-` or `_`. It stands behind `!` in the names of queues.",
    )?;
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(fits) {
        let what =
            format!("{name:?} is no name of a route; use up to {MAX_NAME_BYTES} lower-case letters, digits, - or _");
        section.complain("name", what);
        return None;
    }
    Some(name.into())
}

/// The options of its path, if it says any.
fn options(section: &Section<'_>) -> Option<Arc<Patch>> {
    section.also(
        "(options)",
        "as in `[delivery]`",
        "Any option of a path, by its name in [delivery], like `enable_tls` or `connection_limit`: it holds for the sites of this route instead. Where hosts are left to the DNS the route needs a name, and its mail has sites of its own, `mx.example.com!name`.",
    );
    if !section.holds_more_than(&OWN_KEYS) {
        return None;
    }
    Some(Arc::new(path::read(section, Form::Own)))
}

fn check(
    section: &Section<'_>,
    domains: &[Pattern],
    name: Option<&str>,
    protocol: Protocol,
    hosts: &[RouteHost],
    has_pool: bool,
    has_options: bool,
) {
    if domains.is_empty() && name.is_none() {
        section.complain("domains", "is missing, and name too: nothing would lead here");
    }
    if protocol == Protocol::Lmtp && hosts.is_empty() {
        section.complain("protocol", "is lmtp, which the DNS knows no hosts for; name them in hosts");
    }
    if hosts.is_empty() && !has_pool && !has_options {
        section.complain("hosts", "is missing, and pool too: the route would do nothing");
    }
    if hosts.is_empty() && has_options && name.is_none() {
        section.complain("name", "is missing; a route with options of a path needs one where the DNS names the hosts");
    }
}

/// The options of one site are the same, whichever route leads there.
fn agree(section: &Section<'_>, route: &Route, all: &All<'_>, sites: &mut Sites) {
    if route.hosts.is_empty() {
        return;
    }
    let site = site_name(&route.hosts, route.protocol, all.smtp_port);
    let (first, options) = sites.entry(site).or_insert_with(|| (route.place, route.options.clone()));
    let effective =
        |said: &Option<Arc<Patch>>| said.as_ref().map_or_else(|| all.options.clone(), |said| said.over(all.options));
    if effective(options) != effective(&route.options) {
        let what = format!(
            "are those of [[route]] {}, too, which has other options of the path; hosts in one order are one site, so write the same options in both",
            *first + 1
        );
        section.complain("hosts", what);
    }
}
