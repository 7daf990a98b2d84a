//! The site of a domain as the domain wants its mail to be sent: DANE as the resolver found it, and MTA-STS over it.
//! Floor 3. Touches the resolver and the fetching of policies.
//! Always: a policy changes the site of its own domain only, though another domain has the same hosts: a site under a
//! policy has another name. DANE goes before MTA-STS, host by host (RFC 8461 section 2).

use std::sync::Arc;

use super::exchanger;
use super::resolver::{Failure, Resolved, Resolver};
use super::site::{HostPolicy, MxHost, Site};
use super::sts::Sts;
use super::sts::cache::Kept;
use super::sts::policy::Mode;
use crate::event::tls::TlsResult;
use crate::message::{EnhancedCode, Response};
use crate::tls_report::{Ends, TlsReports};

/// What is put behind the name of a site that MTA-STS rules.
const MARK: &str = "+sts";

/// Looks up sites. Cheap to clone.
#[derive(Clone)]
pub struct Policed {
    resolver: Resolver,
    sts: Option<Sts>,
    reports: TlsReports,
}

impl Policed {
    /// With MTA-STS, if it is asked.
    pub fn new(resolver: Resolver, sts: Option<Sts>, reports: TlsReports) -> Self {
        Self { resolver, sts, reports }
    }

    /// What asks the DNS.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// The site of a domain, as [`Resolver::site`] gives it, under the domain's policy.
    ///
    /// # Errors
    /// As [`Resolver::site`]; and 451 4.7.5 if the policy allows none of the hosts.
    pub async fn site(&self, domain: &str) -> Result<Resolved, Failure> {
        let found = self.resolver.site(domain).await?;
        let Some(sts) = self.sts.as_ref().filter(|_| exchanger::literal(domain).is_none()) else {
            return Ok(found);
        };
        match sts.policy(domain).await {
            Some(kept) if kept.policy.mode == Mode::Enforce => self.enforce(domain, &found, &kept),
            _ => Ok(found),
        }
    }

    fn enforce(&self, domain: &str, found: &Resolved, kept: &Kept) -> Result<Resolved, Failure> {
        let hosts = allowed(&found.site.hosts, kept);
        // Of all the hosts, also those without an address just now: the site's name must not depend on the weather.
        let is_dane = |name: &str| hosts.iter().any(|host| *host.name == *name && host.policy != HostPolicy::Sts);
        let is_refused = |name: &&Arc<str>| !kept.policy.allows(name) && !is_dane(name);
        let refused: Vec<Arc<str>> = found.names.iter().filter(is_refused).cloned().collect();
        for host in &refused {
            let ends = Ends { host: Some(host.clone()), ..Ends::default() };
            self.reports.count(domain, &kept.applied, TlsResult::ValidationFailure, ends);
            tracing::warn!(domain, %host, id = kept.id, "the domain's MTA-STS policy does not allow this mail exchanger");
        }
        if hosts.is_empty() {
            let text = format!(
                "the MTA-STS policy of {domain} (id {}) allows none of its mail exchangers: {}",
                kept.id,
                refused.join(", ")
            );
            return Err(Failure::Temporary { response: Response::own(451, EnhancedCode::new(4, 7, 5), &text) });
        }
        let is_sts = hosts.iter().any(|host| host.policy == HostPolicy::Sts);
        let name = match (is_sts, refused.is_empty()) {
            (false, true) => found.site.name.clone(),
            (true, true) => format!("{}{MARK}", found.site.name).into(),
            // Fewer hosts are another site.
            (_, false) => format!("{}{MARK}-{}", found.site.name, refused.join("-")).into(),
        };
        let site = Site { name, hosts, protocol: found.site.protocol };
        Ok(Resolved { site: Arc::new(site), ..found.clone() })
    }
}

/// The hosts that mail may go to, each with what rules it.
fn allowed(hosts: &[MxHost], kept: &Kept) -> Vec<MxHost> {
    let ruled = |host: &MxHost| match host.policy {
        HostPolicy::Dane(_) => Some(host.clone()),
        HostPolicy::None | HostPolicy::Sts if kept.policy.allows(&host.name) => {
            Some(MxHost { policy: HostPolicy::Sts, ..host.clone() })
        }
        HostPolicy::None | HostPolicy::Sts => None,
    };
    hosts.iter().filter_map(ruled).collect()
}
