//! `[pool.NAME]`, `[source.NAME]`, `[proxy.NAME]`, and with [`super::route`] the routes: the ways out. Floor 5.
//! Names are resolved here, from proxies up to routes, so that nothing later can name what is not there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use egret_shared::config::Section;

use super::spelling::told;
use super::{discover, route};
use crate::routing::discover::{Discovery, Selector};
use crate::routing::pool::Pool;
use crate::routing::route::Routes;
use crate::routing::source::{Dialect, Proxy, Source, Way};

/// The name of the source and the pool that stand in when the file names none.
const IMPLICIT: &str = "direct";

/// All ways out.
pub(super) struct Egress {
    pub routes: Routes,
    pub pools: Vec<Pool>,
    pub default_pool: Arc<str>,
    pub discovery: Discovery,
    /// The names of all sources that are not found, whatever pools they are in.
    pub sources: Vec<Arc<str>>,
}

/// What the file defines by name; `None` where the definition was complained about.
pub(super) type Named<T> = BTreeMap<String, Option<Arc<T>>>;

/// Reads all four kinds even if one is wrong, so that every complaint is told.
pub(super) fn build(
    root: &Section<'_>,
    hostname: &str,
    all: &route::All<'_>,
    providers: Option<&[Arc<str>]>,
) -> Option<Egress> {
    let proxies = collect(&root.named("proxy"), super::proxy::build);
    let mut sources =
        collect(&root.named("source"), |name, section| source(name, section, &proxies, hostname, providers));
    if sources.is_empty() {
        sources.insert(IMPLICIT.to_owned(), Some(Arc::new(implicit_source(hostname))));
    }
    let selectors = RefCell::new(Vec::new());
    let mut pools = collect(&root.named("pool"), |name, section| pool(name, section, &sources, &selectors, providers));
    let discovery = discover::build(root, hostname, selectors.into_inner());
    if pools.is_empty() {
        pools.insert(IMPLICIT.to_owned(), pool_of_all(&sources).map(Arc::new));
    }
    let default_pool = default_pool(root, &pools);
    let routes = route::build(root, &pools, all);
    let whole = proxies.values().all(Option::is_some);
    let pools = pools.into_values().map(|pool| pool.map(Arc::unwrap_or_clone)).collect::<Option<Vec<_>>>();
    let sources = sources.into_keys().map(Arc::from).collect();
    whole.then_some(Egress { routes: routes?, pools: pools?, default_pool: default_pool?, discovery, sources })
}

fn collect<'d, T>(sections: &[(String, Section<'d>)], build: impl Fn(&str, &Section<'d>) -> Option<T>) -> Named<T> {
    sections.iter().map(|(name, section)| (name.clone(), build(name, section).map(Arc::new))).collect()
}

fn source(
    name: &str,
    section: &Section<'_>,
    known: &Named<Proxy>,
    hostname: &str,
    providers: Option<&[Arc<str>]>,
) -> Option<Source> {
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
    let proxies = section.with_default::<Vec<String>>(
        "proxies",
        "[]",
        "Instead of `proxy`: several proxies that hold the address. The first that is healthy is used.",
    );
    if let Some(name) = ehlo_name.as_deref().filter(|name| !super::is_host_name(name)) {
        section.complain("ehlo_name", format!("{name:?} is not a host name"));
    }
    let warmup = super::warmup::build(name, section, providers).into_iter().collect();
    let ways = ways(section, proxy, proxies, known)?;
    let must_name = |way: &Way| way.proxy().is_some_and(|proxy| proxy.dialect != Dialect::Connect);
    if address.is_none() && ways.iter().any(must_name) {
        section.complain("address", "is missing; its proxy's dialect must name the source's address");
    }
    let names_itself = ehlo_name.is_some();
    let ehlo_name = ehlo_name.as_deref().unwrap_or(hostname).into();
    Some(Source { name: name.into(), address, ehlo_name, names_itself, ways, warmup })
}

/// The ways of a source, in the order in which they are used.
fn ways(section: &Section<'_>, one: Option<String>, several: Vec<String>, known: &Named<Proxy>) -> Option<Vec<Way>> {
    let (key, wanted) = match one {
        Some(_) if !several.is_empty() => {
            section.complain("proxy", "stands beside proxies; write one of the two");
            return None;
        }
        Some(one) => ("proxy", vec![one]),
        None if several.is_empty() => return Some(vec![Way::Direct]),
        None => ("proxies", several),
    };
    let twice = wanted.iter().enumerate().find(|(n, name)| wanted[..*n].contains(name));
    if let Some((_, name)) = twice {
        section.complain("proxies", format!("names {name:?} twice"));
    }
    let way = |name: &String| find(section, key, "proxy", name, known).map(Way::Proxy);
    let found: Vec<_> = wanted.iter().map(way).collect();
    found.into_iter().collect()
}

fn implicit_source(hostname: &str) -> Source {
    let ways = vec![Way::Direct];
    Source {
        name: IMPLICIT.into(),
        address: None,
        ehlo_name: hostname.into(),
        names_itself: false,
        ways,
        warmup: Vec::new(),
    }
}

fn pool(
    name: &str,
    section: &Section<'_>,
    sources: &Named<Source>,
    selectors: &RefCell<Vec<Selector>>,
    providers: Option<&[Arc<str>]>,
) -> Option<Pool> {
    let weights = section.map::<u32>(
        "sources",
        "The sources and their weights, as in `{ a1 = 1, a2 = 3 }`: a2 sends three times as much.",
    );
    let selector = discover::selector(name, section, providers);
    if weights.is_empty() && selector.is_none() {
        section.complain("sources", "names no source; write it like `sources = { a1 = 1 }`");
    }
    selectors.borrow_mut().extend(selector);
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

/// What `name` stands for, or a complaint that tells what there is.
pub(super) fn find<T>(
    section: &Section<'_>,
    key: &'static str,
    kind: &str,
    name: &str,
    all: &Named<T>,
) -> Option<Arc<T>> {
    if let Some(found) = all.get(name) {
        return found.clone();
    }
    let known = told(name, all.keys().map(String::as_str));
    let known = known.unwrap_or_else(|| format!("there is none; add [{kind}.{name}]"));
    section.complain(key, format!("names the {kind} {name:?}, which is not in this file ({known})"));
    None
}
