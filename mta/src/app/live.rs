//! What a reload replaces while sessions go on: what decides about the way of mail, and the options of each path.
//! Floor 6.
//! Always: what is here was built whole before it took the place of the former.

use std::sync::Arc;

use arc_swap::ArcSwap;
use egret_shared::net::tls_client::{ClientTls, ClientTlsError};

use super::shelf::TlsShelf;
use crate::config::{Config, Overrides};
use crate::delivery::{OutcomeRule, OutcomeRules};
use crate::dns::site::Site;
use crate::queue::control::words::Control;
use crate::queue::floors::Floor;
use crate::queue::rules::QueueRules;
use crate::routing::ways::Ways;
use crate::shaping::Shaper;
use crate::shaping::automation::{RuleSet, Rules};
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
    pub shaped: Arc<Effective>,
}

/// What decides about paths.
pub(crate) struct Paths {
    pub shaper: Shaper,
    shelf: TlsShelf,
    /// What is kept of their limits.
    floors: Arc<[Floor]>,
}

/// What a reload replaces. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    pub(crate) ways: Arc<ArcSwap<Ways>>,
    pub(crate) paths: Arc<ArcSwap<Paths>>,
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
    paths: Paths,
    outcomes: Vec<OutcomeRule>,
    automation: RuleSet,
    /// Routes or shaping differ: what is queued must be led anew.
    pub leads: bool,
    /// The shaping files say something else.
    pub shapes: bool,
    /// What is said of queues.
    pub queues: Arc<QueueRules>,
    /// Files say something else of them.
    pub tells_queues: bool,
}

impl Live {
    /// What `config` says.
    pub(super) fn new(config: &Config) -> Result<Self, ClientTlsError> {
        let paths = Paths::of(config, config.dns.smtp_port)?;
        let live = Self::build(config.ways(), paths, config.dns.smtp_port);
        live.outcomes.replace(config.outcomes.clone());
        live.automation.replace(config.automation.clone());
        Ok(live)
    }

    pub(crate) fn build(ways: Ways, paths: Paths, smtp_port: u16) -> Self {
        let (ways, paths) = (Arc::new(ArcSwap::from_pointee(ways)), Arc::new(ArcSwap::from_pointee(paths)));
        let (outcomes, automation, overrides) = (OutcomeRules::default(), Rules::default(), Arc::default());
        Self { ways, paths, outcomes, automation, overrides, smtp_port }
    }

    /// Sets the options that the orders in force say.
    pub(super) fn set(&self, controls: &[Control]) {
        self.overrides.store(Arc::new(Overrides::of(controls)));
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
        let options = self.effective(source, site).options.clone();
        self.overrides.load().apply(source, &site.name, "", &options).limits.clone()
    }

    /// What a session from a source to a site is given that is opened for a domain.
    pub(crate) fn setup(&self, source: &str, site: &Site, domain: &str) -> Setup {
        let paths = self.paths.load();
        let shaped = paths.shaper.effective(source, site);
        let options = self.overrides.load().apply(source, &site.name, domain, &shaped.options);
        let tls = paths.shelf.of(&options.tls);
        Setup { options, tls, shaped }
    }

    /// What `config` says now, with what only a restart changes as it is.
    ///
    /// # Errors
    /// Its TLS cannot be set up.
    pub(super) fn next(&self, config: &Config) -> Result<Next, String> {
        let (now, ways) = (self.ways.load(), config.ways());
        let (earlier, next) =
            (self.paths.load(), Paths::of(config, self.smtp_port).map_err(|error| error.to_string())?);
        let shapes = earlier.shaper.shaping().texts != next.shaper.shaping().texts;
        let paths = Paths { shaper: next.shaper.following(&earlier.shaper), ..next };
        let (leads, outcomes) = (shapes || ways.routes != now.routes, config.outcomes.clone());
        let automation = config.automation.clone();
        let (queues, tells_queues) = (ways.queues.clone(), ways.queues.texts != now.queues.texts);
        Ok(Next { ways, paths, outcomes, automation, leads, shapes, queues, tells_queues })
    }

    /// Takes it.
    pub(super) fn replace(&self, next: Next) {
        self.ways.store(Arc::new(next.ways));
        self.paths.store(Arc::new(next.paths));
        self.outcomes.replace(next.outcomes);
        self.automation.replace(next.automation);
        // Their domains are looked up anew.
        self.paths.load().shaper.wake();
    }
}

impl crate::queue::Paths for Live {
    fn limits(&self, source: &str, site: &Site) -> Arc<PathLimits> {
        Self::limits(self, source, site)
    }

    fn providers(&self, source: &str, site: &Site) -> Arc<[Arc<str>]> {
        self.effective(source, site).providers.clone()
    }

    fn floors(&self) -> Arc<[Floor]> {
        self.paths.load().floors.clone()
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
        Ok(Self { shaper: Shaper::new(shaping, delivery, own), shelf, floors: Arc::default() })
    }

    fn of(config: &Config, smtp_port: u16) -> Result<Self, ClientTlsError> {
        let shaping = Arc::new(config.shaping.shaping.clone());
        let paths = Self::new(shaping, config.delivery.clone(), config.routes.options(smtp_port))?;
        Ok(Self { floors: config.floors.clone(), ..paths })
    }
}
