//! What a reload replaces while sessions go on: what decides about the way of mail, and the options of each path.
//! Floor 6.
//! Always: what is here was built whole before it took the place of the former.

use std::sync::Arc;

use arc_swap::ArcSwap;
use egret_shared::net::tls_client::{ClientTls, ClientTlsError};

use super::shelf::TlsShelf;
use crate::config::Config;
use crate::delivery::{OutcomeRule, OutcomeRules};
use crate::dns::site::Site;
use crate::routing::ways::Ways;
use crate::shaping::Shaper;
use crate::shaping::blocks::Shaping;
use crate::shaping::options::{PathLimits, PathOptions};
use crate::shaping::patch::Patch;
use crate::shaping::per_site::PerSite;
use crate::shaping::resolve::Effective;

/// What a session to a site is given.
#[derive(Clone)]
pub(crate) struct Setup {
    pub options: Arc<PathOptions>,
    pub tls: Arc<ClientTls>,
}

/// What decides about paths.
pub(crate) struct Paths {
    pub shaper: Shaper,
    shelf: TlsShelf,
}

/// What a reload replaces. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    pub(crate) ways: Arc<ArcSwap<Ways>>,
    pub(crate) paths: Arc<ArcSwap<Paths>>,
    pub(super) outcomes: OutcomeRules,
    /// What only a restart changes: the port of mail exchangers, and the pools.
    smtp_port: u16,
    pools: Arc<[Arc<str>]>,
}

/// What is to take the place of what is live.
pub(super) struct Next {
    ways: Ways,
    paths: Paths,
    outcomes: Vec<OutcomeRule>,
    /// Routes or shaping differ: what is queued must be led anew.
    pub leads: bool,
    /// The shaping files say something else.
    pub shapes: bool,
}

impl Live {
    /// What `config` says.
    pub(super) fn new(config: &Config) -> Result<Self, ClientTlsError> {
        let pools: Vec<_> = config.pools.iter().map(|pool| pool.name.clone()).collect();
        let paths = Paths::of(config, config.dns.smtp_port)?;
        let live = Self::build(config.ways(), paths, config.dns.smtp_port, pools.into());
        live.outcomes.replace(config.outcomes.clone());
        Ok(live)
    }

    pub(crate) fn build(ways: Ways, paths: Paths, smtp_port: u16, pools: Arc<[Arc<str>]>) -> Self {
        let (ways, paths) = (Arc::new(ArcSwap::from_pointee(ways)), Arc::new(ArcSwap::from_pointee(paths)));
        Self { ways, paths, outcomes: OutcomeRules::default(), smtp_port, pools }
    }

    /// TLS where nothing else is said.
    pub(super) fn tls(&self) -> Arc<ClientTls> {
        self.paths.load().shelf.plain()
    }

    /// The options of a path and where they come from. Cheap: what was found once is remembered.
    pub(crate) fn effective(&self, source: &str, site: &Site) -> Arc<Effective> {
        self.paths.load().shaper.effective(source, site)
    }

    /// How much a path takes. Cheap: what was found once is remembered.
    pub fn limits(&self, source: &str, site: &Site) -> Arc<PathLimits> {
        self.effective(source, site).options.limits.clone()
    }

    /// What a session from a source to a site is given.
    pub(crate) fn setup(&self, source: &str, site: &Site) -> Setup {
        let paths = self.paths.load();
        let options = paths.shaper.effective(source, site).options.clone();
        let tls = paths.shelf.of(&options.tls);
        Setup { options, tls }
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
        let (earlier, next) =
            (self.paths.load(), Paths::of(config, self.smtp_port).map_err(|error| error.to_string())?);
        let shapes = earlier.shaper.shaping().texts != next.shaper.shaping().texts;
        let paths = Paths { shaper: next.shaper.following(&earlier.shaper), ..next };
        let (leads, outcomes) = (shapes || ways.routes != now.routes, config.outcomes.clone());
        Ok(Next { ways, paths, outcomes, leads, shapes })
    }

    /// Takes it.
    pub(super) fn replace(&self, next: Next) {
        self.ways.store(Arc::new(next.ways));
        self.paths.store(Arc::new(next.paths));
        self.outcomes.replace(next.outcomes);
        // Their domains are looked up anew.
        self.paths.load().shaper.wake();
    }
}

impl crate::queue::Paths for Live {
    fn limits(&self, source: &str, site: &Site) -> Arc<PathLimits> {
        Self::limits(self, source, site)
    }
}

impl Paths {
    /// What is said of all paths, of those that routes lead to, and in shaping files.
    pub(crate) fn new(
        shaping: Arc<Shaping>,
        delivery: Arc<Patch>,
        own: PerSite<Arc<Patch>>,
    ) -> Result<Self, ClientTlsError> {
        let base = delivery.over(&PathOptions::default());
        let shelf = TlsShelf::new(&base.tls, own.values().map(|patch| &**patch).chain(shaping.patches()))?;
        Ok(Self { shaper: Shaper::new(shaping, delivery, own), shelf })
    }

    fn of(config: &Config, smtp_port: u16) -> Result<Self, ClientTlsError> {
        let shaping = Arc::new(config.shaping.shaping.clone());
        Self::new(shaping, config.delivery.clone(), config.routes.options(smtp_port))
    }
}
