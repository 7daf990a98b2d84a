//! What a reload replaces while sessions go on: what decides about the way of mail, and the options of each path.
//! Floor 6.
//! Always: what is here was built whole before it took the place of the former.

use std::sync::Arc;

use arc_swap::ArcSwap;
use egret_shared::net::tls_client::{ClientTls, ClientTlsError};

use crate::config::{Config, Overrides};
use crate::delivery::{OutcomeRule, OutcomeRules};
use crate::dns::site::Site;
use crate::queue::Paths;
use crate::queue::control::words::Control;
use crate::routing::ways::Ways;
use crate::shaping::automation::{RuleSet, Rules};
use crate::shaping::options::{PathLimits, PathOptions};
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
    /// What only a restart changes: the port of mail exchangers.
    smtp_port: u16,
}

/// What is to take the place of what is live.
pub(super) struct Next {
    ways: Ways,
    setups: PerSite<Setup>,
    outcomes: Vec<OutcomeRule>,
    automation: RuleSet,
    /// Routes differ: what is queued must be led anew.
    pub leads: bool,
}

impl Live {
    /// What `config` says.
    pub(super) fn new(config: &Config) -> Result<Self, ClientTlsError> {
        let live = Self::build(config.ways(), &config.path, config.dns.smtp_port)?;
        live.outcomes.replace(config.outcomes.clone());
        live.automation.replace(config.automation.clone());
        Ok(live)
    }

    pub(crate) fn build(ways: Ways, path: &PathOptions, smtp_port: u16) -> Result<Self, ClientTlsError> {
        let setups = setups(&ways.routes.options(path, smtp_port))?;
        let (ways, setups) = (Arc::new(ArcSwap::from_pointee(ways)), Arc::new(ArcSwap::from_pointee(setups)));
        let (outcomes, automation, overrides) = (OutcomeRules::default(), Rules::default(), Arc::default());
        Ok(Self { ways, setups, outcomes, automation, overrides, smtp_port })
    }

    /// Sets the options that the orders in force say.
    pub(super) fn set(&self, controls: &[Control]) {
        self.overrides.store(Arc::new(Overrides::of(controls)));
    }

    /// TLS where nothing else is said.
    pub(super) fn tls(&self) -> Arc<ClientTls> {
        self.setups.load().of("").tls.clone()
    }

    /// The limits of the path from a source to a site.
    pub(crate) fn limits(&self, source: &str, site: &Site) -> Arc<PathLimits> {
        let options = self.setups.load().of(&site.name).options.clone();
        self.overrides.load().apply(source, &site.name, "", &options).limits.clone()
    }

    /// What `config` says now, with what only a restart changes as it is.
    ///
    /// # Errors
    /// Its TLS cannot be set up.
    pub(super) fn next(&self, config: &Config) -> Result<Next, String> {
        let (now, ways) = (self.ways.load(), config.ways());
        let setups = setups(&ways.routes.options(&config.path, self.smtp_port)).map_err(|error| error.to_string())?;
        let (leads, outcomes) = (ways.routes != now.routes, config.outcomes.clone());
        let automation = config.automation.clone();
        Ok(Next { ways, setups, outcomes, automation, leads })
    }

    /// Takes it.
    pub(super) fn replace(&self, next: Next) {
        self.ways.store(Arc::new(next.ways));
        self.setups.store(Arc::new(next.setups));
        self.outcomes.replace(next.outcomes);
        self.automation.replace(next.automation);
    }
}

impl Paths for Live {
    fn limits(&self, source: &str, site: &Site) -> Arc<PathLimits> {
        Self::limits(self, source, site)
    }
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
