//! MTA-STS (RFC 8461): when a policy is asked for, and which one holds. Floor 3.
//! Always: a policy that cannot be had now changes nothing about one that is kept and good; one fetch of a domain at
//! a time; a failed one is not repeated for some minutes.

pub mod cache;
mod fetch;
pub mod policy;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use egret_shared::clock::Clock;
use egret_shared::net::tls_client::ClientTls;
use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use self::cache::{Kept, PolicyCache};
use self::fetch::FetchError;
use self::policy::Policy;
use super::resolver::Resolver;
use crate::event::tls::TlsResult;
use crate::tls_report::{Applied, Ends, PolicyType, TlsReports};

/// Fetches at once, and the turns that domains take.
const TURNS: usize = 64;

/// Where policies are asked for.
#[derive(Clone)]
pub struct Sts(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    tls: Arc<ClientTls>,
    port: u16,
    cache: PolicyCache,
    reports: TlsReports,
    clock: Clock,
    turns: Vec<Mutex<()>>,
    random: RandomState,
}

impl Sts {
    /// `tls` has the authorities that may vouch for a policy's server; `port` is that of HTTPS.
    pub fn new(
        resolver: Resolver,
        tls: Arc<ClientTls>,
        port: u16,
        cache: PolicyCache,
        reports: TlsReports,
        clock: Clock,
    ) -> Self {
        let turns = (0..TURNS).map(|_| Mutex::new(())).collect();
        Self(Arc::new(Inner { resolver, tls, port, cache, reports, clock, turns, random: RandomState::new() }))
    }

    /// The policy of `domain` that holds now, if there is one.
    pub async fn policy(&self, domain: &str) -> Option<Arc<Kept>> {
        let this = &self.0;
        let records = this.resolver.texts(&format!("_mta-sts.{domain}")).await;
        // No answer, or none that announces a policy, takes none away (RFC 8461 section 5.1).
        let announced = policy::announced(records.iter().map(String::as_str));
        if let Some(id) = announced
            && this.cache.wants(domain, &id, this.clock.wall())
        {
            let turn = usize::try_from(this.random.hash_one(domain)).unwrap_or_default() % TURNS;
            let turn = this.turns.get(turn)?.lock().await;
            // Another may have fetched it while this one waited.
            if this.cache.wants(domain, &id, this.clock.wall()) {
                self.fetch(domain, &id).await;
            }
            drop(turn);
        }
        this.cache.get(domain, this.clock.wall())
    }

    async fn fetch(&self, domain: &str, id: &str) {
        let this = &self.0;
        let fetched = match fetch::fetch(&this.resolver, &this.tls, this.port, domain).await {
            Ok(bytes) => Policy::read(&bytes).map_err(|e| FetchError::new(TlsResult::StsPolicyInvalid, e.to_string())),
            Err(error) => Err(error),
        };
        let now = this.clock.wall();
        match fetched {
            Ok(policy) => {
                info!(domain, id, %policy, "MTA-STS policy");
                this.cache.keep(domain, id, policy, now);
            }
            Err(FetchError { result, text }) => {
                this.cache.failed(domain, id, now);
                let kept = this.cache.get(domain, now);
                let is_kept = kept.is_some();
                warn!(domain, id, why = %text, is_kept, "the MTA-STS policy that is announced cannot be had");
                let none = || Applied::new(PolicyType::Sts, Vec::new(), Vec::new());
                let applied = kept.map_or_else(none, |kept| kept.applied.clone());
                this.reports.count(domain, &applied, result, Ends::default());
            }
        }
        debug!(domain, policies = this.cache.len(), "MTA-STS cache");
    }
}
