//! What a reload replaces while sessions go on: what decides about the way of mail, and the options of each path.
//! Floor 6.
//! Always: what is here was built whole before it took the place of the former.

use std::sync::Arc;

use arc_swap::ArcSwap;
use egret_shared::net::tls_client::{ClientTls, ClientTlsError};

use crate::config::{Config, Overrides};
use crate::delivery::{OutcomeRule, OutcomeRules};
use crate::queue::control::words::Control;
use crate::routing::ways::Ways;
use crate::shaping::automation::{RuleSet, Rules};
use crate::shaping::options::PathOptions;
use crate::shaping::per_site::PerSite;

/// What a session to a site is given.
#[derive(Clone)]
pub(crate) struct Setup {
    pub options: Arc<PathOptions>,
    pub tls: Arc<ClientTls>,
}

/// What a reload replaces. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    pub(crate) ways: Arc<ArcSwap<Ways>>,
    pub(super) setups: Arc<ArcSwap<PerSite<Setup>>>,
    pub(super) outcomes: OutcomeRules,
    /// Rules over answers.
    pub(super) automation: Rules,
    /// Options that orders set for a time.
    pub(super) overrides: Arc<ArcSwap<Overrides>>,
    /// What only a restart changes: the port of mail exchangers, and the pools.
    smtp_port: u16,
    pools: Arc<[Arc<str>]>,
}

/// What is to take the place of what is live.
pub(super) struct Next {
    ways: Ways,
    setups: PerSite<Setup>,
    outcomes: Vec<OutcomeRule>,
    automation: RuleSet,
    pub limits: PerSite<u32>,
    /// Routes differ: what is queued must be led anew.
    pub leads: bool,
}

impl Live {
    /// What `config` says.
    pub(super) fn new(config: &Config) -> Result<Self, ClientTlsError> {
        let pools: Vec<_> = config.pools.iter().map(|pool| pool.name.clone()).collect();
        let live = Self::build(config.ways(), &config.path, config.dns.smtp_port, pools.into())?;
        live.outcomes.replace(config.outcomes.clone());
        live.automation.replace(config.automation.clone());
        Ok(live)
    }

    pub(crate) fn build(
        ways: Ways,
        path: &PathOptions,
        smtp_port: u16,
        pools: Arc<[Arc<str>]>,
    ) -> Result<Self, ClientTlsError> {
        let setups = setups(&ways.routes.options(path, smtp_port))?;
        let (ways, setups) = (Arc::new(ArcSwap::from_pointee(ways)), Arc::new(ArcSwap::from_pointee(setups)));
        let (outcomes, automation, overrides) = (OutcomeRules::default(), Rules::default(), Arc::default());
        Ok(Self { ways, setups, outcomes, automation, overrides, smtp_port, pools })
    }

    /// Sets the options that the orders in force say.
    pub(super) fn set(&self, controls: &[Control]) {
        self.overrides.store(Arc::new(Overrides::of(controls)));
    }

    /// TLS where nothing else is said.
    pub(super) fn tls(&self) -> Arc<ClientTls> {
        self.setups.load().of("").tls.clone()
    }

    /// The most sessions from one source to each site.
    pub(super) fn connection_limits(&self) -> PerSite<u32> {
        limits(&self.setups.load())
    }

    /// What `config` says now, with what only a restart changes as it is.
    ///
    /// # Errors
    /// It names a pool that is not there yet, or its TLS cannot be set up.
    pub(super) fn next(&self, config: &Config) -> Result<Next, String> {
        let mut named = config.rules.pools().chain(config.routes.pools());
        if let Some(pool) = named.find(|pool| !self.pools.contains(pool)) {
            return Err(format!(
                "a rule or a route names the pool {pool}, which this program gets with a restart; restart it, or name a pool that it has: {}",
                self.pools.iter().map(|pool| &**pool).collect::<Vec<_>>().join(", ")
            ));
        }
        let now = self.ways.load();
        let ways = Ways { default_pool: now.default_pool.clone(), ..config.ways() };
        let setups = setups(&ways.routes.options(&config.path, self.smtp_port)).map_err(|error| error.to_string())?;
        let (leads, limits, outcomes) = (ways.routes != now.routes, limits(&setups), config.outcomes.clone());
        let automation = config.automation.clone();
        Ok(Next { ways, setups, outcomes, automation, limits, leads })
    }

    /// Takes it.
    pub(super) fn replace(&self, next: Next) {
        self.ways.store(Arc::new(next.ways));
        self.setups.store(Arc::new(next.setups));
        self.outcomes.replace(next.outcomes);
        self.automation.replace(next.automation);
    }
}

fn limits(setups: &PerSite<Setup>) -> PerSite<u32> {
    let limits = setups.try_map(|setup| Ok::<_, std::convert::Infallible>(setup.options.limits.connection_limit.count));
    let Ok(limits) = limits;
    limits
}

/// Paths with the same options of TLS share what is made of them.
fn setups(options: &PerSite<Arc<PathOptions>>) -> Result<PerSite<Setup>, ClientTlsError> {
    let mut made: Vec<Setup> = Vec::new();
    options.try_map(|options| {
        let same = |setup: &&Setup| setup.options.tls == options.tls;
        if let Some(setup) = made.iter().find(same) {
            return Ok(Setup { options: options.clone(), tls: setup.tls.clone() });
        }
        let tls = ClientTls::configured(
            options.tls.own(),
            &options.tls.rustls_cipher_suites,
            options.tls.tls_authorities.as_deref(),
        )?;
        let setup = Setup { options: options.clone(), tls: Arc::new(tls) };
        made.push(setup.clone());
        Ok(setup)
    })
}
