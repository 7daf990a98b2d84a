//! Static routes: what the operator says about domains, before the DNS is asked.
//! Pure. Floor 2.
//! Always: the most specific pattern wins (a name, then the longest suffix, then `*`), whatever the
//! order in the file; a route that names no hosts leaves the hosts to the DNS.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

pub use super::pattern::Pattern;
use crate::dns::site::Protocol;
use crate::shaping::patch::Patch;
use crate::shaping::per_site::PerSite;

/// A host of a route, as the operator wrote it: an address or a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHost {
    /// A name or an IP address without brackets.
    pub host: String,
    /// The port; `None` is the port of SMTP.
    pub port: Option<u16>,
}

/// What is said about a domain, or about mail that a rule leads by this route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The hosts that take its mail, in the order in which they are tried; empty leaves them to the DNS.
    pub hosts: Vec<RouteHost>,
    /// What the hosts speak.
    pub protocol: Protocol,
    /// The pool that its mail leaves from; `None` is the default pool.
    pub pool: Option<Arc<str>>,
    /// The name by which rules choose it.
    pub name: Option<Arc<str>>,
    /// Its place in the file, from 0.
    pub place: usize,
    /// What it says of its path.
    pub options: Option<Arc<Patch>>,
}

/// Where LMTP is spoken unless a route names a port (never that of SMTP: RFC 2033 section 5).
const LMTP_PORT: u16 = 24;

/// The port of hosts for which a route names none.
pub fn port_of(protocol: Protocol, smtp_port: u16) -> u16 {
    match protocol {
        Protocol::Smtp => smtp_port,
        Protocol::Lmtp => LMTP_PORT,
    }
}

/// The name of the site that hosts of a route are.
pub fn site_name(hosts: &[RouteHost], protocol: Protocol, smtp_port: u16) -> String {
    let mark = if protocol == Protocol::Lmtp { "/lmtp" } else { "" };
    let port = |host: &RouteHost| host.port.unwrap_or_else(|| port_of(protocol, smtp_port));
    hosts.iter().map(|host| format!("{}:{}{mark}", host.host, port(host))).collect::<Vec<_>>().join(",")
}

/// All routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    named: HashMap<Arc<str>, Arc<Route>>,
    domains: HashMap<String, Arc<Route>>,
    below: HashMap<String, Arc<Route>>,
    any: Option<Arc<Route>>,
}

impl Routes {
    /// Adds a route; `false` if the pattern has one already.
    pub fn add(&mut self, pattern: Pattern, route: Arc<Route>) -> bool {
        match pattern {
            Pattern::Domain(domain) => self.domains.insert(domain, route).is_none(),
            Pattern::Below(domain) => self.below.insert(domain, route).is_none(),
            Pattern::Any => self.any.replace(route).is_none(),
        }
    }

    /// Adds a route by its name; `false` if another has it.
    pub fn add_named(&mut self, route: Arc<Route>) -> bool {
        route.name.clone().is_none_or(|name| self.named.insert(name, route).is_none())
    }

    /// The route of a name.
    pub fn named(&self, name: &str) -> Option<&Route> {
        self.named.get(name).map(AsRef::as_ref)
    }

    /// The names of routes, sorted.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.named.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// The pools that routes name.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all().filter_map(|route| route.pool.as_ref())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.named.values().chain(self.domains.values()).chain(self.below.values()).chain(&self.any)
    }

    /// What routes say of the paths that they lead to.
    pub fn options(&self, smtp_port: u16) -> PerSite<Arc<Patch>> {
        let mut all = PerSite::of_all(Arc::default());
        for route in self.all() {
            let Some(options) = &route.options else { continue };
            match &route.name {
                _ if !route.hosts.is_empty() => {
                    let site = site_name(&route.hosts, route.protocol, smtp_port);
                    all.set_site(site.into(), options.clone());
                }
                Some(name) => all.set_route(name.clone(), options.clone()),
                None => {}
            }
        }
        all
    }

    /// The route of a domain in its canonical spelling.
    pub fn find(&self, domain: &str) -> Option<&Route> {
        let exact = self.domains.get(domain);
        let parents = || domain.match_indices('.').find_map(|(dot, _)| self.below.get(&domain[dot + 1..]));
        exact.or_else(parents).or(self.any.as_ref()).map(AsRef::as_ref)
    }
}

impl FromStr for RouteHost {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write \"192.0.2.1:25\", \"[2001:db8::1]:25\", or \"mx.example.com:25\"".to_owned();
        if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) };
            return Ok(Self { host: host.to_owned(), port: read_port(port).map_err(|()| wrong())? });
        }
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(Self { host: text.to_owned(), port: None });
        }
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let name_or_v4 = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if host.is_empty() || !name_or_v4 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port: read_port(port).map_err(|()| wrong())? })
    }
}

/// No port at all is fine, a wrong one is not.
fn read_port(text: Option<&str>) -> Result<Option<u16>, ()> {
    let port = |digits: &str| digits.parse().ok().filter(|port| *port > 0).ok_or(());
    text.map(port).transpose()
}

egret_shared::config_value_from_str! {
    Pattern => "a domain pattern",
    RouteHost => "a host with a port",
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(patterns: &[&str]) -> Routes {
        let mut routes = Routes::default();
        for pattern in patterns {
            let pool = Some((*pattern).into());
            let added = routes.add(pattern.parse().expect("a pattern"), Arc::new(Route { pool, ..Route::default() }));
            assert!(added, "{pattern}");
        }
        routes
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let routes = routes(&["*", "*.example.com", "a.example.com", "*.b.example.com", "[192.0.2.1]"]);
        for (domain, want) in [
            ("example.com", "*"),
            ("x.example.com", "*.example.com"),
            ("a.example.com", "a.example.com"),
            ("x.a.example.com", "*.example.com"),
            ("x.b.example.com", "*.b.example.com"),
            ("notexample.com", "*"),
            ("[192.0.2.1]", "[192.0.2.1]"),
        ] {
            assert_eq!(routes.find(domain).and_then(|r| r.pool.as_deref()), Some(want), "{domain}");
        }
        assert!(Routes::default().find("example.com").is_none());
    }

    #[test]
    fn hosts_are_read_with_and_without_a_port() {
        for (text, host, port) in [
            ("127.0.0.1:2526", "127.0.0.1", Some(2526)),
            ("127.0.0.1", "127.0.0.1", None),
            ("[::1]:25", "::1", Some(25)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("MX.example.com:587", "mx.example.com", Some(587)),
        ] {
            assert_eq!(text.parse(), Ok(RouteHost { host: host.to_owned(), port }), "{text}");
        }
        for bad in ["", ":25", "a:0", "a:99999", "a:", "[::1", "[x]:25", "a b", "a:25:26"] {
            assert!(bad.parse::<RouteHost>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_are_canonical() {
        assert_eq!("EXÄMPLE.test.".parse(), Ok(Pattern::Domain("xn--exmple-cua.test".to_owned())));
        for bad in ["", "*.", "a*b", "*.*.b", "a b", "u@d"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
