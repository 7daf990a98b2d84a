//! Pools whose sources are found at run time: the addresses that proxies announce. Pure. Floor 1.
//! Always: what a proxy announces leads mail only to it, within the networks and with the credentials that the configuration
//! names; a source that the configuration defines is never replaced, nor its address found a second time for its pool; the
//! same announcements give the same pools, in the same order; an address whose warm-up begins on a day that is not known
//! yet is in no pool.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use egret_shared::address::Range;
use egret_shared::net::tls_client::{KnownServer, KnownServerError};
use egret_shared::registry::record::{Endpoint, ProxyRecord};

use super::pool::Pool;
use super::source::{Credentials, Dialect, Proxy, Source, Way};
use super::warmup::{Day, Plan, Warmup};

/// Which announced addresses are in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The pool.
    pub pool: Arc<str>,
    /// A proxy must have all of these tags.
    pub tags: Vec<String>,
    /// The address must be in one of these, if there are any.
    pub addresses: Vec<Range>,
    /// How addresses that are found are warmed up.
    pub warmup: Option<FoundWarmup>,
}

/// How addresses that are found are warmed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundWarmup {
    /// The first day of all; without it each begins on its own.
    pub start: Option<Day>,
    /// How much from then on.
    pub plan: Arc<Plan>,
}

impl Selector {
    fn wants(&self, proxy: &ProxyRecord, address: IpAddr) -> bool {
        self.tags.iter().all(|tag| proxy.tags.contains(tag)) && self.may_have(address)
    }

    fn may_have(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|range| range.contains(address))
    }
}

/// How announced proxies are used, and their addresses named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// Which addresses go where.
    pub selectors: Vec<Selector>,
    /// The EHLO name; `{address}` in it becomes the address, with hyphens.
    pub ehlo_name: Option<String>,
    /// This host's name.
    pub hostname: Arc<str>,
    /// What is spoken.
    pub dialect: Dialect,
    /// Who we are to them.
    pub credentials: Option<Credentials>,
    /// TLS to them.
    pub tls: Option<TlsToProxies>,
    /// Where they may be; everywhere if empty.
    pub networks: Vec<Range>,
}

/// TLS to announced proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsToProxies {
    /// The name that certificates must be valid for; the proxy's address if absent.
    pub server_name: Option<String>,
    /// Who may sign them.
    pub authorities: Option<PathBuf>,
    /// Our own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl TlsToProxies {
    /// Towards a proxy at `address`.
    ///
    /// # Errors
    /// Which file or value is at fault.
    pub fn towards(&self, address: IpAddr) -> Result<KnownServer, KnownServerError> {
        let name = self.server_name.clone().unwrap_or_else(|| address.to_string());
        let own = self.own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        KnownServer::new(&name, self.authorities.as_deref(), own)
    }
}

/// The pools, and what an operator should hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The pools that were defined, with the sources that were found.
    pub pools: Vec<Pool>,
    /// Addresses that more than one proxy holds, with their names.
    pub twice: BTreeMap<IpAddr, Vec<String>>,
    /// Proxies that are not used, and why.
    pub unused: BTreeMap<String, String>,
    /// Addresses whose warm-up begins on a day of their own, whether it is known or not.
    pub dated: BTreeSet<IpAddr>,
}

impl Discovery {
    /// Whether a source of that name may be found: its address is its name.
    pub fn finds(&self, source: &str) -> bool {
        source.parse().is_ok_and(|address| self.selectors.iter().any(|selector| selector.may_have(address)))
    }

    /// The pools of `defined`, with what `announced` adds to them; `first_day` says when an address was there first.
    pub fn pools(
        &self,
        defined: &[Pool],
        announced: &[ProxyRecord],
        first_day: impl Fn(IpAddr) -> Option<Day>,
    ) -> Discovered {
        let mut found = Discovered { pools: defined.to_vec(), ..Discovered::default() };
        if self.selectors.is_empty() {
            return found;
        }
        let holders = self.holders(announced, &mut found);
        let sources: Vec<&Arc<Source>> = defined.iter().flat_map(|p| &p.members).map(|(source, _)| source).collect();
        let taken: BTreeSet<&str> = sources.iter().map(|source| &*source.name).collect();
        let mut by_address: BTreeMap<IpAddr, &Arc<Source>> = BTreeMap::new();
        for source in &sources {
            if let Some(address) = source.address {
                by_address.entry(address).or_insert(source);
            }
        }
        for (address, ways) in holders {
            if ways.len() > 1 {
                found.twice.insert(address, ways.iter().map(|(record, _)| record.name.clone()).collect());
            }
            let wanting = |selector: &&Selector| ways.iter().any(|(record, _)| selector.wants(record, address));
            let selectors: Vec<&Selector> = self.selectors.iter().filter(wanting).collect();
            // One address is one source, in whichever pools: a second would have the limits of each source once more.
            let source = match by_address.get(&address) {
                Some(own) => Arc::clone(own),
                None => {
                    let source = self.source(address, ways.iter().map(|(_, way)| way.clone()).collect());
                    if taken.contains(&*source.name) {
                        continue;
                    }
                    // Until its day is known it could send too much.
                    let Some(warmup) = plans(&selectors, address, &first_day, &mut found.dated) else { continue };
                    Arc::new(Source { warmup, ..source })
                }
            };
            let has = |pool: &Pool| pool.members.iter().any(|(member, _)| member.address == Some(address));
            let wants = |pool: &&mut Pool| selectors.iter().any(|selector| selector.pool == pool.name) && !has(pool);
            for pool in found.pools.iter_mut().filter(wants) {
                pool.members.push((source.clone(), 1));
            }
        }
        found
    }

    /// Who holds each address, in the order of the names. Proxies that are not used are told.
    fn holders<'r>(
        &self,
        announced: &'r [ProxyRecord],
        found: &mut Discovered,
    ) -> BTreeMap<IpAddr, Vec<(&'r ProxyRecord, Way)>> {
        let mut sorted: Vec<&ProxyRecord> = announced.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let mut holders: BTreeMap<IpAddr, Vec<(&ProxyRecord, Way)>> = BTreeMap::new();
        for record in sorted {
            let proxy = match self.proxy(record) {
                Ok(proxy) => proxy,
                Err(why) => {
                    found.unused.insert(record.name.clone(), why);
                    continue;
                }
            };
            for address in record.addresses.iter().filter(|address| address.is_held()) {
                holders.entry(address.address).or_default().push((record, Way::Proxy(proxy.clone())));
            }
        }
        holders
    }

    fn source(&self, address: IpAddr, ways: Vec<Way>) -> Source {
        let text = address.to_string();
        let own = self.ehlo_name.as_ref().map(|name| name.replace("{address}", &with_hyphens(&text)));
        let ehlo_name = own.as_deref().unwrap_or(&self.hostname).into();
        Source {
            name: text.into(),
            address: Some(address),
            ehlo_name,
            names_itself: own.is_some(),
            ways,
            warmup: Vec::new(),
        }
    }

    /// The proxy behind a record.
    fn proxy(&self, record: &ProxyRecord) -> Result<Arc<Proxy>, String> {
        if record.draining {
            return Err("it drains".to_owned());
        }
        let dialect = self.dialect.to_string();
        let speaks = |endpoint: &&Endpoint| endpoint.dialects.contains(&dialect) && endpoint.tls == self.tls.is_some();
        let Some(endpoint) = record.endpoints.iter().find(speaks) else {
            let how = if self.tls.is_some() { "with TLS" } else { "in clear" };
            return Err(format!("it has no endpoint for {dialect} {how}; see [discover]"));
        };
        let (address, ip) = (endpoint.address, endpoint.address.ip());
        if !self.networks.is_empty() && !self.networks.iter().any(|range| range.contains(ip)) {
            return Err(format!("its endpoint {address} is outside of discover.networks"));
        }
        let tls = self.tls.as_ref().map(|tls| tls.towards(ip)).transpose().map_err(|error| error.to_string())?;
        // As in [proxy.NAME]: of use only where the dialect says nothing itself.
        let admin = record.admin.filter(|_| self.dialect.is_header());
        let credentials = self.credentials.clone().filter(|_| !self.dialect.is_header());
        let name = record.name.as_str().into();
        Ok(Arc::new(Proxy { name, address, dialect: self.dialect, credentials, tls, admin }))
    }
}

/// The plans by which an address is found; `None` if it is not known when one of them begins.
fn plans(
    selectors: &[&Selector],
    address: IpAddr,
    first_day: impl Fn(IpAddr) -> Option<Day>,
    dated: &mut BTreeSet<IpAddr>,
) -> Option<Vec<Warmup>> {
    let of: Arc<str> = address.to_string().into();
    let plans = selectors.iter().filter_map(|selector| selector.warmup.as_ref());
    let mut begins = |found: &FoundWarmup| {
        let start = found.start.or_else(|| {
            dated.insert(address);
            first_day(address)
        })?;
        Some(Warmup { of: of.clone(), start, plan: found.plan.clone() })
    };
    plans.map(&mut begins).collect()
}

/// An address as a label of a DNS name.
fn with_hyphens(address: &str) -> String {
    let text = address.replace(['.', ':'], "-");
    // A label neither begins nor ends with a hyphen.
    let (first, last) = (text.starts_with('-'), text.ends_with('-'));
    format!("{}{text}{}", if first { "0" } else { "" }, if last { "0" } else { "" })
}

#[cfg(test)]
mod tests {
    use egret_shared::registry::record::Address;

    use super::*;

    fn proxy(name: &str, tags: &[&str], addresses: &[(&str, &str)]) -> ProxyRecord {
        let address = |(address, state): &(&str, &str)| Address {
            address: address.parse().expect("an address"),
            state: (*state).to_owned(),
        };
        let dialects = vec!["socks5".to_owned()];
        ProxyRecord {
            name: name.to_owned(),
            endpoints: vec![Endpoint { address: ([10, 0, 0, 5], 1080).into(), dialects, tls: false }],
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            addresses: addresses.iter().map(address).collect(),
            ..ProxyRecord::default()
        }
    }

    fn discovery() -> Discovery {
        let range = |text: &str| text.parse().expect("a range");
        let selector = |pool: &str, tags, addresses| Selector { pool: pool.into(), tags, addresses, warmup: None };
        let warm = selector("warm", vec!["warm".to_owned()], Vec::new());
        let net = selector("net", Vec::new(), vec![range("192.0.2.0/28")]);
        Discovery {
            selectors: vec![warm, net],
            ehlo_name: Some("{address}.out.test".to_owned()),
            hostname: "mta.test".into(),
            dialect: Dialect::Socks5,
            credentials: None,
            tls: None,
            networks: vec![range("10.0.0.0/8")],
        }
    }

    fn undated(_: IpAddr) -> Option<Day> {
        None
    }

    fn members(found: &Discovered, pool: &str) -> Vec<(String, String)> {
        let pool = found.pools.iter().find(|p| *p.name == *pool).expect("the pool");
        let ways = |source: &Source| {
            source.ways.iter().filter_map(Way::proxy).map(|p| p.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        pool.members.iter().map(|(source, _)| (source.ehlo_name.to_string(), ways(source))).collect()
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    fn defined() -> Vec<Pool> {
        ["net", "warm"].map(|name| Pool { name: name.into(), members: Vec::new() }).into()
    }

    #[test]
    fn pools_get_what_fits_and_an_address_of_two_proxies_has_two_ways() {
        let b = proxy("b", &["warm", "eu"], &[("192.0.2.1", "held"), ("192.0.2.99", "held"), ("192.0.2.3", "missing")]);
        let a = proxy("a", &[], &[("192.0.2.1", "held"), ("192.0.2.2", "held"), ("2001:db8::1", "held")]);
        let found = discovery().pools(&defined(), &[b.clone(), a.clone()], undated);
        assert_eq!(members(&found, "warm"), [pair("192-0-2-1.out.test", "a b"), pair("192-0-2-99.out.test", "b")]);
        assert_eq!(members(&found, "net"), [pair("192-0-2-1.out.test", "a b"), pair("192-0-2-2.out.test", "a")]);
        assert_eq!(found.twice.into_values().collect::<Vec<_>>(), [["a", "b"]]);
        assert_eq!(
            discovery().pools(&defined(), &[a.clone(), b.clone()], undated).pools,
            found.pools,
            "the order says nothing"
        );
        let drains = ProxyRecord { draining: true, ..a };
        let found = discovery().pools(&defined(), &[drains, b], undated);
        assert_eq!(members(&found, "net"), [pair("192-0-2-1.out.test", "b")]);
        assert_eq!(found.unused["a"], "it drains");
    }

    #[test]
    fn a_proxy_where_none_should_be_gets_nothing_and_what_is_defined_stays() {
        let mut stranger = proxy("x", &["warm"], &[("192.0.2.1", "held")]);
        stranger.endpoints[0].address = ([198, 51, 100, 1], 1080).into();
        let found = discovery().pools(&defined(), &[stranger], undated);
        assert!(
            found.pools.iter().all(|pool| pool.members.is_empty()) && found.unused["x"].contains("discover.networks")
        );
        let own = Arc::new(discovery().source([192, 0, 2, 1].into(), vec![Way::Direct]));
        let mut pools = defined();
        pools[0].members.push((own.clone(), 3));
        let found = discovery().pools(&pools, &[proxy("a", &["warm"], &[("192.0.2.1", "held")])], undated);
        assert_eq!(found.pools[0].members, [(own.clone(), 3)]);
        assert_eq!(found.pools[1].members, [(own, 1)], "one name is one source");
        let other = Source { address: None, ..discovery().source([192, 0, 2, 1].into(), vec![Way::Direct]) };
        pools[0].members = vec![(Arc::new(other), 3)];
        let found = discovery().pools(&pools, &[proxy("a", &["warm"], &[("192.0.2.1", "held")])], undated);
        assert!(found.pools[1].members.is_empty(), "its name is another's");
    }

    /// Warms up what the pools find: `warm` from the first day of each address on, `net` from day `start` on.
    fn warming(start: Option<Day>) -> Discovery {
        let found = |start, messages: &[u64]| {
            let plan = Plan { messages: messages.to_vec(), by: [].into() };
            Some(FoundWarmup { start, plan: plan.into() })
        };
        let mut discovery = discovery();
        discovery.selectors[0].warmup = found(None, &[5, 10]);
        discovery.selectors[1].warmup = start.and_then(|start| found(Some(start), &[7]));
        discovery
    }

    /// Of each member of a pool the days on which its plans begin, and by whose name they are counted.
    fn begins(found: &Discovered, pool: &str) -> Vec<Vec<(String, Day)>> {
        let pool = found.pools.iter().find(|p| *p.name == *pool).expect("the pool");
        let told = |plan: &Warmup| (plan.of.to_string(), plan.start);
        pool.members.iter().map(|(source, _)| source.warmup.iter().map(told).collect()).collect()
    }

    #[test]
    fn an_address_is_warmed_up_from_its_first_day_on_and_before_that_is_known_it_is_in_no_pool() {
        let announced = [proxy("a", &["warm"], &[("192.0.2.1", "held"), ("192.0.2.99", "held")])];
        let known = |address: IpAddr| (address == IpAddr::from([192, 0, 2, 99])).then_some(40);
        let found = warming(None).pools(&defined(), &announced, known);
        assert_eq!(begins(&found, "warm"), [[("192.0.2.99".to_owned(), 40)]]);
        assert!(begins(&found, "net").is_empty(), "an address is warmed up, not its use by one pool");
        assert_eq!(found.dated.len(), 2, "also the one whose day is not known is asked about");
        let found = warming(Some(50)).pools(&defined(), &announced, |_| Some(40));
        let one = |of: &str, start| (of.to_owned(), start);
        assert_eq!(begins(&found, "net"), [[one("192.0.2.1", 40), one("192.0.2.1", 50)]], "each plan holds");
        assert_eq!(found.pools[0].members[0].0, found.pools[1].members[0].0, "one source");
        let mut all = warming(Some(50));
        all.selectors.remove(0);
        let found = all.pools(&defined(), &announced, undated);
        assert_eq!(begins(&found, "net"), [[one("192.0.2.1", 50)]]);
        assert!(found.dated.is_empty(), "nobody needs to be asked");
    }

    #[test]
    fn an_address_that_is_found_and_has_a_source_of_its_own_is_that_source_in_each_pool() {
        let announced = [proxy("a", &["warm"], &[("192.0.2.1", "held"), ("192.0.2.2", "held")])];
        let plan = Warmup { of: "a1".into(), start: 30, plan: Plan::default().into() };
        let source = |last: u8, name: &str, warmup: Vec<Warmup>| {
            let source = discovery().source([192, 0, 2, last].into(), vec![Way::Direct]);
            (Arc::new(Source { name: name.into(), warmup, ..source }), 1)
        };
        let own = Pool { name: "own".into(), members: vec![source(1, "a1", vec![plan]), source(2, "a2", Vec::new())] };
        let members = own.members.clone();
        let pools: Vec<Pool> = defined().into_iter().chain([own]).collect();
        let found = warming(None).pools(&pools, &announced, undated);
        assert_eq!(begins(&found, "warm"), [vec![("a1".to_owned(), 30)], vec![]]);
        assert!(found.pools.iter().all(|pool| pool.members == members), "{:?}", found.pools);
        assert!(found.dated.is_empty(), "nobody needs to be asked");
    }

    #[test]
    fn an_address_that_a_pool_has_as_a_source_of_its_own_is_not_found_for_it_again() {
        let announced = [proxy("a", &["warm"], &[("192.0.2.1", "held"), ("192.0.2.2", "held")])];
        let found_source = discovery().source([192, 0, 2, 1].into(), vec![Way::Direct]);
        let own = Arc::new(Source { name: "s1".into(), ..found_source });
        let mut pools = defined();
        pools[1].members.push((own.clone(), 3));
        let found = discovery().pools(&pools, &announced, undated);
        assert_eq!(found.pools[1].members[0], (own.clone(), 3), "its ways stay its own");
        assert_eq!(members(&found, "warm")[1..], [pair("192-0-2-2.out.test", "a")]);
        assert_eq!(found.pools[0].members[0], (own, 1));
    }

    #[test]
    fn an_address_is_a_label() {
        assert_eq!(with_hyphens("192.0.2.1"), "192-0-2-1");
        assert_eq!(with_hyphens("::1"), "0--1");
        assert_eq!(with_hyphens("2001:db8::"), "2001-db8--0");
    }
}
