//! Which addresses of a site a session tries, in which order, and how far it has come.
//! Pure. Floor 2.
//! Always: an address that the options exclude, or whose family the source lacks, is never in it.

use std::net::{IpAddr, SocketAddr};

use egret_shared::fault::{Fault, Reason};

use crate::dns::site::Site;
use crate::message::{EnhancedCode, Response};
use crate::shaping::options::{HostOptions, IpLookupStrategy};

/// An address of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its host, by its place in the site.
    pub host: usize,
    /// The address.
    pub address: SocketAddr,
}

/// The addresses, best first.
#[derive(Debug, Default)]
pub(super) struct Plan {
    targets: Vec<Target>,
    next: usize,
}

/// Why there is nothing to be tried.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Empty {
    /// The site has an address with which it takes no mail.
    Prohibited(Response),
    /// Nothing is left for this source.
    Excluded(Fault),
}

impl Plan {
    /// What a source with the address `from` may try at `site`.
    pub fn new(site: &Site, from: Option<IpAddr>, options: &HostOptions) -> Result<Self, Empty> {
        let all = || site.hosts.iter().flat_map(|host| host.addresses.iter().map(move |ip| (host, *ip)));
        if let Some((host, ip)) = all().find(|(_, ip)| options.prohibited_hosts.contains(*ip)) {
            let text = format!("{} [{ip}] of {} is in prohibited_hosts", host.name, site.name);
            return Err(Empty::Prohibited(Response::own(550, EnhancedCode::new(5, 4, 4), &text)));
        }
        let mut targets = Vec::new();
        for (at, host) in site.hosts.iter().enumerate() {
            let mut addresses: Vec<_> =
                host.addresses.iter().copied().filter(|ip| !options.skip_hosts.contains(*ip)).collect();
            options.ip_lookup_strategy.arrange(&mut addresses);
            addresses.retain(|ip| from.is_none_or(|from| from.is_ipv4() == ip.is_ipv4()));
            targets
                .extend(addresses.into_iter().map(|ip| Target { host: at, address: SocketAddr::new(ip, host.port) }));
        }
        if targets.is_empty() {
            return Err(Empty::Excluded(excluded(site, from, options)));
        }
        Ok(Self { targets, next: 0 })
    }

    /// The next address.
    pub fn take(&mut self) -> Option<Target> {
        let target = self.targets.get(self.next).copied()?;
        self.next += 1;
        Some(target)
    }

    /// The address that was taken last is the next one again.
    pub fn repeat(&mut self) {
        self.next = self.next.saturating_sub(1);
    }

    /// Whether an address is left.
    pub fn has_more(&self) -> bool {
        self.next < self.targets.len()
    }
}

impl IpLookupStrategy {
    fn arrange(self, addresses: &mut Vec<IpAddr>) {
        match self {
            Self::Ipv4AndIpv6 => {}
            Self::Ipv4Only => addresses.retain(IpAddr::is_ipv4),
            Self::Ipv6Only => addresses.retain(IpAddr::is_ipv6),
            Self::Ipv4ThenIpv6 => addresses.sort_by_key(IpAddr::is_ipv6),
            Self::Ipv6ThenIpv4 => addresses.sort_by_key(IpAddr::is_ipv4),
        }
    }
}

/// Whose doing it is that nothing is left: the source's, if it lacks the family, otherwise the options'.
fn excluded(site: &Site, from: Option<IpAddr>, options: &HostOptions) -> Fault {
    let all = || site.hosts.iter().flat_map(|host| &host.addresses);
    let fits = |ip: &IpAddr| from.is_none_or(|from| from.is_ipv4() == ip.is_ipv4());
    if !all().any(fits) {
        let from = from.map_or_else(|| "the source".to_owned(), |from| format!("source address {from}"));
        return Fault::new(Reason::FamilyMismatch, format!("{} has no address that {from} can reach", site.name));
    }
    let why = match all().all(|ip| options.skip_hosts.contains(*ip)) {
        true => "skip_hosts",
        false => "skip_hosts and ip_lookup_strategy",
    };
    Fault::new(Reason::PathMisconfigured, format!("no address of {} is left by {why}", site.name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use egret_shared::address::Networks;

    use super::*;
    use crate::dns::site::{HostPolicy, MxHost, Protocol};

    fn site(hosts: &[&[&str]]) -> Site {
        let ip = |text: &&str| text.parse().expect("an address");
        let host = |(n, all): (usize, &&[&str])| MxHost {
            name: format!("mx{n}.test").into(),
            addresses: all.iter().map(ip).collect(),
            port: 25,
            policy: HostPolicy::None,
        };
        Site { name: Arc::from("s"), hosts: hosts.iter().enumerate().map(host).collect(), protocol: Protocol::Smtp }
    }

    fn networks(all: &[&str]) -> Networks {
        Networks::new(all.iter().map(|text| text.parse().expect("a network")).collect())
    }

    fn order(site: &Site, from: Option<&str>, options: &HostOptions) -> Result<Vec<String>, Empty> {
        let mut plan = Plan::new(site, from.map(|from| from.parse().expect("an address")), options)?;
        Ok(std::iter::from_fn(|| plan.take()).map(|target| target.address.ip().to_string()).collect())
    }

    const MIXED: &[&[&str]] = &[&["192.0.2.1", "2001:db8::1", "192.0.2.2"], &["2001:db8::9"]];

    #[test]
    fn families_are_arranged_host_by_host() {
        use IpLookupStrategy::{Ipv4AndIpv6, Ipv4Only, Ipv4ThenIpv6, Ipv6Only, Ipv6ThenIpv4};
        for (strategy, want) in [
            (Ipv4AndIpv6, "192.0.2.1 2001:db8::1 192.0.2.2 2001:db8::9"),
            (Ipv4Only, "192.0.2.1 192.0.2.2"),
            (Ipv6Only, "2001:db8::1 2001:db8::9"),
            (Ipv4ThenIpv6, "192.0.2.1 192.0.2.2 2001:db8::1 2001:db8::9"),
            (Ipv6ThenIpv4, "2001:db8::1 192.0.2.1 192.0.2.2 2001:db8::9"),
        ] {
            let options = HostOptions { ip_lookup_strategy: strategy, ..HostOptions::default() };
            assert_eq!(order(&site(MIXED), None, &options), Ok(want.split(' ').map(str::to_owned).collect()));
        }
        let v6 = order(&site(MIXED), Some("2001:db8::7"), &HostOptions::default());
        assert_eq!(v6, Ok(vec!["2001:db8::1".to_owned(), "2001:db8::9".to_owned()]));
    }

    #[test]
    fn what_is_excluded_is_never_tried_and_whose_doing_that_is_is_said() {
        let skip = |all: &[&str]| HostOptions { skip_hosts: networks(all), ..HostOptions::default() };
        let left = order(&site(MIXED), Some("192.0.2.9"), &skip(&["192.0.2.1"]));
        assert_eq!(left, Ok(vec!["192.0.2.2".to_owned()]));
        let fault = |options: &HostOptions, from| match order(&site(MIXED), from, options) {
            Err(Empty::Excluded(fault)) => (fault.reason, fault.detail),
            other => panic!("{other:?}"),
        };
        let (reason, text) = fault(&skip(&["0.0.0.0/0", "::/0"]), None);
        assert_eq!((reason, &*text), (Reason::PathMisconfigured, "no address of s is left by skip_hosts"));
        let only = HostOptions { ip_lookup_strategy: IpLookupStrategy::Ipv6Only, ..HostOptions::default() };
        let (reason, text) = fault(&only, Some("192.0.2.9"));
        assert_eq!(reason, Reason::PathMisconfigured);
        assert!(text.ends_with("skip_hosts and ip_lookup_strategy"), "{text}");
        match order(&site(&[&["2001:db8::1"]]), Some("192.0.2.9"), &HostOptions::default()) {
            Err(Empty::Excluded(fault)) => assert_eq!(fault.reason, Reason::FamilyMismatch),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_prohibited_address_is_enough_to_bounce() {
        let options = HostOptions { prohibited_hosts: networks(&["2001:db8::9"]), ..HostOptions::default() };
        let Err(Empty::Prohibited(response)) = order(&site(MIXED), Some("192.0.2.9"), &options) else {
            panic!("it is tried")
        };
        assert_eq!(response.to_string(), "550 5.4.4 mx1.test [2001:db8::9] of s is in prohibited_hosts");
    }

    #[test]
    fn the_last_address_may_be_taken_again() {
        let mut plan = Plan::new(&site(&[&["192.0.2.1", "192.0.2.2"]]), None, &HostOptions::default()).expect("a plan");
        let first = plan.take();
        assert!(plan.has_more());
        plan.repeat();
        assert_eq!(plan.take(), first);
        assert_ne!(plan.take(), first);
        assert!(!plan.has_more() && plan.take().is_none());
    }
}
