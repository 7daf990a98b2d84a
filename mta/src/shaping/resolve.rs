//! The options of one path, and where each comes from: what is said for all, for providers, for the site and for the
//! domain, laid over each other in KumoMTA's order. Pure. Floor 1.
//! Always: default, then providers in the order of the files, then what these say of the source, then the site, the
//! domain, the site's source, the domain's source, and over all a route's own.

use std::sync::Arc;

use super::automation::Rule;
use super::blocks::{Block, DomainBlock, Provider, Shaping, standing};
use super::options::{PathLimits, PathOptions};
use super::patch::{Patch, Place, Setting};

/// What is known of a path when its options are asked for.
pub struct Asked<'a> {
    /// The source.
    pub source: &'a str,
    /// The hosts of the site.
    pub hosts: &'a [&'a str],
    /// Whether a provider holds by the domain, whatever the hosts are.
    pub holds_provider: &'a dyn Fn(&Provider) -> bool,
    /// Whether a domain's block holds: its site is this one, or it is the domain itself.
    pub holds_domain: &'a dyn Fn(&DomainBlock) -> bool,
}

/// Of whom something is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of all.
    Default,
    /// Of a provider.
    Provider(Arc<str>),
    /// Of the site of this domain.
    Site(Arc<str>),
    /// Of this domain alone.
    Domain(Arc<str>),
}

/// One thing that is said, and under which heading.
#[derive(Clone, Debug)]
pub struct Step {
    /// The heading.
    pub block: Arc<str>,
    /// What is said.
    pub patch: Arc<Patch>,
    /// It follows from a provider and the source, and stands in no file as it is.
    pub implied: bool,
}

/// An option and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What is said.
    pub setting: Setting,
    /// The heading that it stands under.
    pub block: Arc<str>,
}

/// The options of a path.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// The options.
    pub options: Arc<PathOptions>,
    /// Those that were said somewhere, in the order of their keys; all others have their defaults.
    pub from: Vec<Origin>,
    /// The provider, for metrics.
    pub provider: Option<Arc<str>>,
    /// All providers that it is of, in the order of the files; behind them the one for metrics, if it bears another name.
    pub providers: Arc<[Arc<str>]>,
    /// The rules over answers that hold here, and of whom they are said.
    pub automation: Vec<(Scope, Arc<Rule>)>,
}

/// What a path is told, in order.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Options.
    pub steps: Vec<Step>,
    /// Rules.
    pub rules: Vec<(Scope, Arc<Rule>)>,
    /// It depends on the source beyond the steps: a provider has limits that are named by it.
    pub by_source: bool,
}

/// The key of the label that a provider gives.
pub const PROVIDER_NAME: &str = "provider_name";

impl Told {
    fn say(&mut self, block: &Arc<str>, patch: &Arc<Patch>) {
        self.steps.push(Step { block: block.clone(), patch: patch.clone(), implied: false });
    }

    fn imply(&mut self, block: &Arc<str>, patch: Patch) {
        self.steps.push(Step { block: block.clone(), patch: Arc::new(patch), implied: true });
    }

    fn rules_of(&mut self, scope: &Scope, block: &Block) {
        self.rules.extend(block.rules.iter().map(|rule| (scope.clone(), rule.clone())));
    }
}

/// Finds what a path is told by `shaping`.
pub fn told(shaping: &Shaping, asked: &Asked<'_>) -> Told {
    let mut told = Told::default();
    for block in shaping.standing_defaults() {
        told.say(&block.title, &block.patch);
        told.rules_of(&Scope::Default, block);
    }
    let holds = |provider: &&Provider| provider.fits_hosts(asked.hosts) || (asked.holds_provider)(provider);
    let providers: Vec<&Provider> = shaping.providers.iter().filter(holds).collect();
    for provider in &providers {
        for one in provider.standing() {
            told.say(&one.block.title, &one.block.patch);
            told.rules_of(&Scope::Provider(provider.name.clone()), &one.block);
        }
        imply(&mut told, provider, asked.source);
    }
    for provider in &providers {
        let mut said = false;
        for one in provider.standing() {
            if let Some(own) = one.block.sources.get(asked.source) {
                told.say(&own.title, &own.patch);
                said = true;
            }
        }
        if said {
            imply(&mut told, provider, asked.source);
            imply_selection(&mut told, provider, asked.source);
        }
    }
    let of = |rollup: bool| {
        let fits = |one: &&DomainBlock| one.rollup == rollup && (asked.holds_domain)(one);
        standing(&shaping.domains.iter().filter(fits).collect::<Vec<_>>(), |one| &one.block)
    };
    let (site, domain) = (of(true), of(false));
    for one in site.iter().chain(&domain) {
        told.say(&one.block.title, &one.block.patch);
        let name = one.domain.clone();
        told.rules_of(&if one.rollup { Scope::Site(name) } else { Scope::Domain(name) }, &one.block);
    }
    for own in site.iter().chain(&domain).filter_map(|one| one.block.sources.get(asked.source)) {
        told.say(&own.title, &own.patch);
    }
    told
}

/// What a provider means for a source: its name, and limits for all of its sites.
fn imply(told: &mut Told, provider: &Provider, source: &str) {
    let blocks = provider.standing();
    let (name, mut patch) = (&provider.name, Patch::default());
    if let Some(block) = blocks.first() {
        patch.push(Setting::new(PROVIDER_NAME, name, block.block.place.clone(), |_| ()));
    }
    if let Some((limit, place)) = blocks.iter().rev().find_map(|one| one.connection_limit.clone()) {
        let key = format!("shaping-provider-{name}-{source}-limit");
        let at = format!("additional_connection_limits.{key}");
        patch.push(limiting(&at, &limit.to_string(), place, key, move |limits, key| {
            limits.additional_connection_limits.insert(key, limit);
        }));
        told.by_source = true;
    }
    if let Some((rate, place)) = blocks.iter().rev().find_map(|one| one.message_rate.clone()) {
        let key = format!("shaping-provider-{name}-{source}-rate");
        let at = format!("additional_message_rate_throttles.{key}");
        patch.push(limiting(&at, &rate.to_string(), place, key, move |limits, key| {
            limits.additional_message_rate_throttles.insert(key, rate);
        }));
        told.by_source = true;
    }
    let title = blocks.first().map_or_else(|| name.clone(), |one| one.block.title.clone());
    told.imply(&title, patch);
}

fn imply_selection(told: &mut Told, provider: &Provider, source: &str) {
    let mut sources = provider.standing().into_iter().rev().filter_map(|one| one.block.sources.get(source));
    let Some((own, (rate, place))) = sources.find_map(|own| Some((own, own.selection_rate.clone()?))) else {
        return;
    };
    let key = format!("shaping-provider-{}-{source}-selection-rate", provider.name);
    let at = format!("additional_source_selection_rates.{key}");
    let mut patch = Patch::default();
    patch.push(limiting(&at, &rate.to_string(), place, key, move |limits, key| {
        limits.additional_source_selection_rates.insert(key, rate);
    }));
    told.by_source = true;
    told.imply(&own.title, patch);
}

fn limiting(
    at: &str,
    value: &str,
    place: Place,
    name: String,
    set: impl Fn(&mut PathLimits, Arc<str>) + Send + Sync + 'static,
) -> Setting {
    let name: Arc<str> = name.into();
    Setting::new(at, value, place, move |options| set(Arc::make_mut(&mut options.limits), name.clone()))
}

/// The names of providers that paths may have.
pub fn provider_names(shaping: &Shaping) -> Vec<Arc<str>> {
    let labels = shaping.patches().flat_map(Patch::settings).filter(|one| &*one.key == PROVIDER_NAME);
    let own = shaping.providers.iter().map(|provider| provider.name.clone());
    let mut names: Vec<_> = own.chain(labels.map(|one| one.value.clone())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Lays what is told over each other, the first over the defaults.
pub fn effective(told: Told) -> Effective {
    let mut options = PathOptions::default();
    let mut from: Vec<Origin> = Vec::new();
    for Step { block, patch, .. } in &told.steps {
        patch.apply(&mut options);
        for setting in patch.settings() {
            from.retain(|earlier| earlier.setting.key != setting.key);
            from.push(Origin { setting: setting.clone(), block: block.clone() });
        }
    }
    let provider = from.iter().find(|one| &*one.setting.key == PROVIDER_NAME).map(|one| one.setting.value.clone());
    from.sort_by(|one, other| one.setting.key.cmp(&other.setting.key));
    let implied = told.steps.iter().filter(|step| step.implied).flat_map(|step| step.patch.settings());
    let names = implied.filter(|one| &*one.key == PROVIDER_NAME).map(|one| &one.value).chain(&provider);
    let mut providers: Vec<Arc<str>> = Vec::new();
    for name in names {
        if !providers.contains(name) {
            providers.push(name.clone());
        }
    }
    Effective { options: Arc::new(options), from, provider, providers: providers.into(), automation: told.rules }
}
