//! Finds the hosts that take a domain's mail: MX, then A and AAAA of each (RFC 5321 section 5.1).
//! Touches sockets, through hickory-resolver, and its cache. Floor 3.
//! Always: only a definite answer of the DNS is permanent; a time-out, SERVFAIL or broken answer is
//! temporary. No address of special use leaves this room unless the operator allowed it. At most
//! `concurrency` questions are open at once, each ends within `timeout`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::address::{Networks, canonical, special_use};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::answer::{Answer, Counters, Found, Trouble, Vouched, interleave};
use super::exchanger::{self, Chosen, Exchanger};
use super::naming;
use super::site::{HostPolicy, MxHost, Protocol, Site};
use super::tlsa::Host;
use crate::message::{EnhancedCode, Response};
use crate::routing::route::{RouteHost, port_of, site_name};
use crate::tls_report::TlsReports;

pub use super::tlsa::trust_anchors;

/// The shortest time for which an answer is used, and that of an answer of which a part is missing.
pub const MIN_LIFE: Duration = Duration::from_secs(30);
/// The longest time for which an answer is used.
pub const MAX_LIFE: Duration = Duration::from_hours(24);
/// Responses that are remembered.
pub const CACHED_RESPONSES: u64 = 65_536;
/// Questions that may wait on one TCP connection to a server.
const QUESTIONS_PER_CONNECTION: usize = 1_000;

/// How sites are looked up.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// The servers that are asked; none means those of the system (`/etc/resolv.conf`).
    pub servers: Vec<SocketAddr>,
    /// How long one question may take, over all servers and repetitions.
    pub timeout: Duration,
    /// Questions that are open at once.
    pub concurrency: usize,
    /// The port on which mail exchangers listen.
    pub smtp_port: u16,
    /// Networks of special use (RFC 6890) to which mail may go all the same.
    pub allow_special_destinations: Networks,
    /// Hosts of a domain that are used, the best ones.
    pub max_hosts: usize,
    /// Addresses of a host that are used.
    pub max_addresses: usize,
    /// Whether answers are checked by DNSSEC and TLSA records are asked (RFC 7672).
    pub enable_dane: bool,
    /// The file of the keys that DNSSEC trusts; none are those of the root.
    pub trust_anchor: Option<PathBuf>,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            concurrency: 128,
            smtp_port: 25,
            allow_special_destinations: Networks::default(),
            max_hosts: 20,
            max_addresses: 10,
            enable_dane: false,
            trust_anchor: None,
        }
    }
}

/// The resolver could not be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolverError {
    /// The system's servers cannot be read.
    #[error("name servers of the system: {0}; list the servers in the configuration")]
    Servers(String),
    /// The keys that DNSSEC trusts; the text names the file.
    #[error("trust anchor {0}")]
    TrustAnchor(String),
}

/// A site, and for how long it may be used.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Where the domain's mail goes. Its hosts stand in a fresh random order within each preference.
    pub site: Arc<Site>,
    /// When to ask again: 30 seconds to a day.
    pub expires_in: Duration,
    /// The names of all its hosts, also of those without an address just now.
    pub names: Vec<Arc<str>>,
}

/// Why a domain has no site, in the words that its messages get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The DNS says so definitely: 550 5.1.2 there is no such domain, 556 5.1.10 it takes no mail,
    /// 550 5.4.4 its hosts cannot be reached by anyone.
    Permanent {
        /// The words.
        response: Response,
    },
    /// The DNS did not answer, or not definitely: 451 4.4.3.
    Temporary {
        /// The words.
        response: Response,
    },
}

impl Failure {
    fn permanent(code: u16, subject: u16, detail: u16, text: &str) -> Self {
        Self::Permanent { response: Response::own(code, EnhancedCode::new(5, subject, detail), text) }
    }

    fn temporary(domain: &str, trouble: &Trouble) -> Self {
        let text = format!("looking up {domain}: {}", trouble.0);
        Self::Temporary { response: Response::own(451, EnhancedCode::new(4, 4, 3), &text) }
    }

    fn no_domain(domain: &str) -> Self {
        Self::permanent(550, 1, 2, &format!("there is no domain {domain}"))
    }
}

/// Looks sites up. Cheap to clone; the clones share cache and limits.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    dns: TokioResolver,
    options: DnsOptions,
    open: Semaphore,
    counters: Counters,
    reports: Option<TlsReports>,
}

/// What became of the look-up of one host.
enum HostFound {
    Usable(Vec<IpAddr>, Duration, Vouched),
    Prohibited(IpAddr, &'static str),
    NoAddress,
    NoDomain,
}

impl Resolver {
    /// Forgets every answer that it remembers.
    pub fn clear_cache(&self) {
        self.0.dns.clear_cache();
    }

    /// A resolver that asks as `options` say.
    ///
    /// # Errors
    /// If the system's servers are wanted and cannot be read, or the trust anchor cannot.
    pub fn new(options: DnsOptions) -> Result<Self, ResolverError> {
        Self::reporting(options, None)
    }

    /// The same; TLSA records that cannot be had are counted in `reports`.
    ///
    /// # Errors
    /// As [`Resolver::new`].
    pub fn reporting(options: DnsOptions, reports: Option<TlsReports>) -> Result<Self, ResolverError> {
        let failed = |e: NetError| ResolverError::Servers(e.to_string());
        let mut builder = builder(&options.servers).map_err(failed)?;
        tune(builder.options_mut(), &options);
        if options.enable_dane {
            let anchors = trust_anchors(options.trust_anchor.as_deref()).map_err(ResolverError::TrustAnchor)?;
            builder = builder.with_trust_anchor(anchors);
        }
        let dns = builder.build().map_err(failed)?;
        let open = Semaphore::new(options.concurrency.max(1));
        Ok(Self(Arc::new(Inner { dns, options, open, counters: Counters::new(), reports })))
    }

    pub(super) fn reports(&self) -> Option<&TlsReports> {
        self.0.reports.as_ref()
    }

    /// The texts of a name; none also if there is no answer.
    pub(super) async fn texts(&self, name: &str) -> Vec<String> {
        let Some(name) = absolute(name) else { return Vec::new() };
        let Ok(answer) = self.ask(&name, RecordType::TXT).await else { return Vec::new() };
        let text = |record: RData| match record {
            RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
            _ => None,
        };
        answer.records().0.into_iter().filter_map(text).collect()
    }

    /// The addresses of a host that a domain names, none of special use unless that is allowed; the error is for people.
    pub(super) async fn addresses_of(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        match self.host(host).await {
            Ok(HostFound::Usable(addresses, ..)) => Ok(addresses),
            Ok(HostFound::Prohibited(ip, what)) => Err(format!("{host} is {ip}: {what}")),
            Ok(HostFound::NoAddress | HostFound::NoDomain) => Err(format!("{host} has no address")),
            Err(Trouble(why)) => Err(format!("looking up {why}")),
        }
    }

    /// The site of `domain`: a domain in its canonical spelling (lower case, A-labels), or an address
    /// literal in brackets.
    pub async fn site(&self, domain: &str) -> Result<Resolved, Failure> {
        if let Some(literal) = exchanger::literal(domain) {
            return self.literal_site(domain, literal);
        }
        let name = absolute(domain).ok_or_else(|| Failure::no_domain(domain))?;
        match self.ask(&name, RecordType::MX).await.map_err(|t| Failure::temporary(domain, &t))? {
            Answer::NoDomain => Err(Failure::no_domain(domain)),
            Answer::NoData { .. } => self.implicit_site(domain).await,
            Answer::Records(found) => self.explicit_site(domain, &found).await,
        }
    }

    /// The site of a static route: hosts in the order given, names looked up, the port of SMTP where
    /// none is given. The operator named them, so addresses of special use are good.
    pub async fn fixed_site(&self, hosts: &[RouteHost], protocol: Protocol) -> Result<Resolved, Failure> {
        let smtp_port = self.0.options.smtp_port;
        let name: Arc<str> = site_name(hosts, protocol, smtp_port).into();
        let (mut usable, mut trouble, mut life) = (Vec::new(), None, MAX_LIFE);
        for RouteHost { host, port } in hosts {
            let port = port.unwrap_or_else(|| port_of(protocol, smtp_port));
            let found = match host.parse::<IpAddr>() {
                Ok(ip) => Ok((vec![canonical(ip)], MAX_LIFE)),
                Err(_) => self.named(host).await,
            };
            match found {
                Ok((addresses, host_life)) => {
                    life = life.min(host_life);
                    usable.push(MxHost { name: host.as_str().into(), addresses, port, policy: HostPolicy::None });
                }
                Err(t) => trouble = Some((host, t)),
            }
        }
        match trouble {
            Some((host, t)) if usable.is_empty() => Err(Failure::temporary(host, &t)),
            Some(_) => Ok(resolved(name, usable, MIN_LIFE, protocol)),
            None => Ok(resolved(name, usable, life, protocol)),
        }
    }

    /// The addresses of a host that the operator named. That it has none is trouble, not an answer:
    /// the route is wrong, not the mail.
    async fn named(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), Trouble> {
        let absent = || Trouble(format!("{host} of the static route has no address"));
        let name = absolute(host).ok_or_else(absent)?;
        let (v4, v6) = tokio::join!(self.ask(&name, RecordType::A), self.ask(&name, RecordType::AAAA));
        let (v4, v6) = (v4?.records(), v6?.records());
        let addresses = interleave(&v4.0, &v6.0);
        if addresses.is_empty() { Err(absent()) } else { Ok((addresses, v4.1.min(v6.1))) }
    }

    fn literal_site(&self, domain: &str, ip: Option<IpAddr>) -> Result<Resolved, Failure> {
        let ip = ip.ok_or_else(|| Failure::no_domain(domain))?;
        match self.addresses(vec![ip], MAX_LIFE, Vouched::default()) {
            HostFound::Usable(addresses, life, _) => {
                let host = self.mx_host(domain, addresses);
                Ok(resolved(domain.into(), vec![host], life, Protocol::Smtp))
            }
            HostFound::Prohibited(ip, what) => Err(prohibited(domain, ip, what)),
            HostFound::NoAddress | HostFound::NoDomain => Err(Failure::no_domain(domain)),
        }
    }

    /// No MX: the domain itself is the host (RFC 5321 section 5.1).
    async fn implicit_site(&self, domain: &str) -> Result<Resolved, Failure> {
        match self.host(domain).await.map_err(|t| Failure::temporary(domain, &t))? {
            HostFound::Usable(addresses, life, vouched) => {
                let host = self.mx_host(domain, addresses);
                self.finished(domain, domain.into(), vec![(host, vouched)], life).await
            }
            HostFound::Prohibited(ip, what) => Err(prohibited(domain, ip, what)),
            HostFound::NoDomain => Err(Failure::no_domain(domain)),
            HostFound::NoAddress => {
                Err(Failure::permanent(550, 1, 2, &format!("{domain} has neither mail exchanger nor address")))
            }
        }
    }

    fn mx_host(&self, name: &str, addresses: Vec<IpAddr>) -> MxHost {
        MxHost { name: name.into(), addresses, port: self.0.options.smtp_port, policy: HostPolicy::None }
    }

    /// The site of these hosts, under DANE where that is asked.
    async fn finished(
        &self,
        domain: &str,
        name: Arc<str>,
        hosts: Vec<Host>,
        life: Duration,
    ) -> Result<Resolved, Failure> {
        if self.0.options.enable_dane {
            return self.secured(domain, name, hosts, life).await;
        }
        Ok(resolved(name, hosts.into_iter().map(|(host, _)| host).collect(), life, Protocol::Smtp))
    }

    async fn explicit_site(&self, domain: &str, mx: &Found) -> Result<Resolved, Failure> {
        let exchanges = mx.records.iter().filter_map(|record| match record {
            RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii())),
            _ => None,
        });
        let mut hosts = match exchanger::choose(exchanges, self.0.options.max_hosts) {
            Chosen::Hosts(hosts) => hosts,
            Chosen::NullMx => {
                return Err(Failure::permanent(556, 1, 10, &format!("{domain} takes no mail (null MX)")));
            }
            Chosen::NoneUsable => {
                return Err(Failure::permanent(550, 4, 4, &format!("no MX record of {domain} names a host")));
            }
        };
        let name = naming::site_name(&hosts);
        exchanger::shuffle(&mut hosts);
        let found = self.find_all(&hosts).await;
        let (mut usable, life) = self.combine(domain, &hosts, found, mx.life)?;
        if !mx.vouched.all {
            // Whoever could forge the MX could name any host, with records of its own.
            for (_, vouched) in &mut usable {
                *vouched = Vouched::default();
            }
        }
        let mut resolved = self.finished(domain, name, usable, life).await?;
        resolved.names = hosts.iter().map(|host| host.name.as_str().into()).collect();
        Ok(resolved)
    }

    /// Looks up all hosts at once; the answers stand in the order of `hosts`.
    async fn find_all(&self, hosts: &[Exchanger]) -> Vec<Result<HostFound, Trouble>> {
        let mut tasks = JoinSet::new();
        for (at, host) in hosts.iter().enumerate() {
            let (this, name) = (self.clone(), host.name.clone());
            tasks.spawn(async move { (at, this.host(&name).await) });
        }
        let mut found = tasks.join_all().await;
        found.sort_unstable_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, found)| found).collect()
    }

    fn combine(
        &self,
        domain: &str,
        hosts: &[Exchanger],
        found: Vec<Result<HostFound, Trouble>>,
        mut life: Duration,
    ) -> Result<(Vec<Host>, Duration), Failure> {
        let (mut usable, mut trouble, mut refused) = (Vec::new(), None, None);
        for (host, found) in hosts.iter().zip(found) {
            match found {
                Ok(HostFound::Usable(addresses, host_life, vouched)) => {
                    life = life.min(host_life);
                    usable.push((self.mx_host(&host.name, addresses), vouched));
                }
                Ok(HostFound::Prohibited(ip, what)) => refused = Some((ip, what)),
                Ok(HostFound::NoAddress | HostFound::NoDomain) => debug!(domain, host = host.name, "has no address"),
                Err(t) => trouble = Some(t),
            }
        }
        if usable.is_empty() {
            return Err(match (trouble, refused) {
                (Some(trouble), _) => Failure::temporary(domain, &trouble),
                (None, Some((ip, what))) => prohibited(domain, ip, what),
                (None, None) => Failure::permanent(550, 4, 4, &format!("no mail exchanger of {domain} has an address")),
            });
        }
        // A host that could not be looked up just now is asked for again soon.
        let life = if trouble.is_some() { MIN_LIFE } else { life };
        Ok((usable, life))
    }

    /// The addresses of a host, both families asked at once.
    async fn host(&self, host: &str) -> Result<HostFound, Trouble> {
        let Some(name) = absolute(host) else { return Ok(HostFound::NoDomain) };
        let (v4, v6) = tokio::join!(self.ask(&name, RecordType::A), self.ask(&name, RecordType::AAAA));
        let (v4, v6) = match (v4, v6) {
            (Ok(Answer::NoDomain), Ok(Answer::NoDomain)) => return Ok(HostFound::NoDomain),
            (Ok(Answer::NoData { proven: false }), Ok(Answer::NoData { proven: false })) => {
                return self.unproven(&name).await;
            }
            // One family is enough to deliver with; without it, the other's trouble leaves all open.
            (Ok(Answer::Records(v4)), Err(_)) => (Some(Found { life: MIN_LIFE, ..v4 }), None),
            (Err(_), Ok(Answer::Records(v6))) => (None, Some(Found { life: MIN_LIFE, ..v6 })),
            (Err(trouble), _) | (_, Err(trouble)) => return Err(trouble),
            (Ok(v4), Ok(v6)) => (v4.found(), v6.found()),
        };
        let records = |found: &Option<Found>| found.as_ref().map(|found| found.records.clone()).unwrap_or_default();
        let addresses = interleave(&records(&v4), &records(&v6));
        let life = [&v4, &v6].into_iter().flatten().map(|found| found.life).min().unwrap_or(MAX_LIFE);
        let vouched = match (v4, v6) {
            (Some(v4), Some(v6)) => v4.vouched.and(v6.vouched),
            (one, other) => one.or(other).map(|found| found.vouched).unwrap_or_default(),
        };
        Ok(self.addresses(addresses, life, vouched))
    }

    fn addresses(&self, all: Vec<IpAddr>, life: Duration, vouched: Vouched) -> HostFound {
        let mut refused = None;
        let mut usable = Vec::new();
        for ip in all.into_iter().map(canonical) {
            match special_use(ip).filter(|_| !self.0.options.allow_special_destinations.contains(ip)) {
                Some(what) => refused = Some((ip, what)),
                None if !usable.contains(&ip) && usable.len() < self.0.options.max_addresses => usable.push(ip),
                None => {}
            }
        }
        match (usable.is_empty(), refused) {
            (false, _) => HostFound::Usable(usable, life, vouched),
            (true, Some((ip, what))) => HostFound::Prohibited(ip, what),
            (true, None) => HostFound::NoAddress,
        }
    }

    /// Asks one question.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Result<Answer, Trouble> {
        let answer = match self.question(name, kind).await {
            Ok(lookup) => Ok(Answer::of(&lookup, name, kind)),
            Err(error) => Answer::negative(name, &error),
        };
        self.0.counters.count(&answer);
        answer
    }

    async fn question(&self, name: &Name, kind: RecordType) -> Result<Lookup, NetError> {
        let _permit = self.0.open.acquire().await.map_err(|_| NetError::Busy)?;
        tokio::time::timeout(self.0.options.timeout, self.0.dns.lookup(name.clone(), kind))
            .await
            .unwrap_or(Err(NetError::Timeout))
    }

    /// A host without address, of which no SOA tells so (RFC 2308). hickory gives an alias chain
    /// without end in the same words, and that is no definite answer.
    async fn unproven(&self, name: &Name) -> Result<HostFound, Trouble> {
        match self.question(name, RecordType::CNAME).await {
            Ok(_) => Err(Trouble(format!("{name} is an alias that leads nowhere"))),
            Err(_) => Ok(HostFound::NoAddress),
        }
    }
}

fn builder(servers: &[SocketAddr]) -> Result<ResolverBuilder<TokioRuntimeProvider>, NetError> {
    if servers.is_empty() {
        return TokioResolver::builder_tokio();
    }
    let servers = servers.iter().map(|server| {
        let mut config = NameServerConfig::udp_and_tcp(server.ip());
        config.connections.iter_mut().for_each(|connection| connection.port = server.port());
        config
    });
    let config = ResolverConfig::from_parts(None, vec![], servers.collect());
    Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
}

fn tune(dns: &mut ResolverOpts, options: &DnsOptions) {
    // Two tries fit into the time that one question has.
    dns.timeout = options.timeout / 2;
    dns.attempts = 1;
    dns.use_hosts_file = ResolveHosts::Never;
    dns.cache_size = CACHED_RESPONSES;
    dns.max_active_requests = QUESTIONS_PER_CONNECTION;
    dns.positive_max_ttl = Some(MAX_LIFE);
    dns.negative_max_ttl = Some(Duration::from_hours(1));
    if options.enable_dane {
        // Under DNSSEC the resolver forgets how long a "no" lives, and would ask for missing TLSA records each time.
        dns.negative_min_ttl = Some(MIN_LIFE);
    }
}

/// The name with its root, so that no search list is applied.
pub(super) fn absolute(domain: &str) -> Option<Name> {
    let mut name = Name::from_ascii(domain).ok()?;
    name.set_fqdn(true);
    Some(name).filter(|name| !name.is_root())
}

fn prohibited(domain: &str, ip: IpAddr, what: &str) -> Failure {
    info!(domain, %ip, what, "points only to addresses of special use");
    Failure::permanent(550, 4, 4, &format!("{domain} points only to addresses of special use ({ip}: {what})"))
}

pub(super) fn resolved(name: Arc<str>, hosts: Vec<MxHost>, life: Duration, protocol: Protocol) -> Resolved {
    let names = hosts.iter().map(|host| host.name.clone()).collect();
    Resolved { site: Arc::new(Site { name, hosts, protocol }), expires_in: life.clamp(MIN_LIFE, MAX_LIFE), names }
}
