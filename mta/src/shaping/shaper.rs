//! The options of paths, by source and site, as the files and the DNS say them.
//! Floor 2. Asks nobody: it is told which site a domain has.
//! Always: a block for a domain whose site could not be looked up keeps the last one that was; two domains of one site
//! for which different things are said have sites of their own, `mx.example.com!~example.com`.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::blocks::{DomainBlock, Provider, Shaping};
use super::patch::Patch;
use super::per_site::{PerSite, SHAPED, unshaped};
use super::resolve::{Asked, Effective, Step, Told, effective, told};
use crate::dns::site::Site;

/// Paths whose options are remembered; when there are more, all are found anew.
const MOST_PATHS: usize = 65_536;

/// What is known of the site of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its name, as it was last found.
    pub site: Option<Arc<str>>,
    /// Why the last look-up failed, if it did.
    pub failed: Option<String>,
}

/// The options of paths.
pub struct Shaper {
    shaping: Arc<Shaping>,
    delivery: Arc<Patch>,
    own: PerSite<Arc<Patch>>,
    sites: RwLock<HashMap<Arc<str>, Known>>,
    cache: Mutex<Cache>,
    changed: Arc<Notify>,
}

/// The patches that are laid over each other, by where they are, and the source if that counts.
type SameKey = (Vec<usize>, Option<Arc<str>>);

#[derive(Default)]
struct Cache {
    /// By site, then by source.
    paths: HashMap<Arc<str>, HashMap<Arc<str>, Arc<Effective>>>,
    /// How many they are.
    count: usize,
    /// Paths that are told the same share what comes of it.
    same: HashMap<SameKey, Arc<Effective>>,
}

impl Default for Shaper {
    fn default() -> Self {
        Self::new(Arc::default(), Arc::default(), PerSite::default())
    }
}

impl Shaper {
    /// `delivery` is what is said for all paths, `own` what routes say of theirs.
    pub fn new(shaping: Arc<Shaping>, delivery: Arc<Patch>, own: PerSite<Arc<Patch>>) -> Self {
        let sites = shaping.rolled().into_iter().map(|domain| (domain, Known::default())).collect();
        let (sites, cache) = (RwLock::new(sites), Mutex::default());
        Self { shaping, delivery, own, sites, cache, changed: Arc::default() }
    }

    /// Takes over from an earlier one which sites its domains have, and who waits for changes.
    #[must_use]
    pub fn following(mut self, earlier: &Self) -> Self {
        let before = earlier.sites.read();
        for (domain, known) in self.sites.get_mut().iter_mut() {
            if let Some(earlier) = before.get(domain) {
                known.clone_from(earlier);
            }
        }
        self.changed = earlier.changed.clone();
        drop(before);
        self
    }

    /// What the files say.
    pub fn shaping(&self) -> &Arc<Shaping> {
        &self.shaping
    }

    /// The domains whose sites must be known, and what is known.
    pub fn rolled(&self) -> Vec<(Arc<str>, Known)> {
        let mut all: Vec<_> = self.sites.read().iter().map(|(domain, known)| (domain.clone(), known.clone())).collect();
        all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Told the site of a domain, or why it could not be looked up: then the last one still counts. Whether it is new
    /// that it could, or could not.
    pub fn learn(&self, domain: &str, found: Result<&str, String>) -> bool {
        let site = found.as_ref().ok().map(|site| plain(site));
        let fits = |known: &Known| known.failed.is_none() && known.site.is_some() && known.site.as_deref() == site;
        match self.sites.read().get(domain) {
            Some(known) if !fits(known) => {}
            _ => return false,
        }
        let mut sites = self.sites.write();
        let Some(known) = sites.get_mut(domain) else { return false };
        let had_failed = known.failed.is_some();
        known.failed = found.err();
        let is_news = had_failed != known.failed.is_some();
        if let Some(site) = site.filter(|site| known.site.as_deref() != Some(site)) {
            known.site = Some(site.into());
            *self.cache.lock() = Cache::default();
            self.changed.notify_one();
        }
        is_news
    }

    /// Waits until other options hold for some site.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Has who waits for a change look.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// The name of the site for mail of this domain: its own, unless something is said of the domain that does not hold
    /// for all of the site.
    pub fn name_for(&self, domain: &str, site: &Site) -> Option<Arc<str>> {
        let hosts = hosts(site);
        let by_domain = |provider: &&Provider| provider.fits_domain(domain) && !provider.fits_hosts(&hosts);
        let mut parts: Vec<String> =
            self.shaping.providers.iter().filter(by_domain).map(|provider| provider_part(&provider.name)).collect();
        if self.shaping.domains.iter().any(|one| !one.rollup && &*one.domain == domain) {
            parts.push(domain.to_owned());
        }
        (!parts.is_empty()).then(|| format!("{}{SHAPED}{}", site.name, parts.join("+")).into())
    }

    /// The options of a path.
    pub fn effective(&self, source: &str, site: &Site) -> Arc<Effective> {
        if let Some(found) = self.cache.lock().paths.get(&site.name).and_then(|by| by.get(source)) {
            return found.clone();
        }
        // Under the lock of the sites, so that what is found by an older answer is not remembered after a newer one.
        let sites = self.sites.read();
        let found = self.find(source, site, &sites);
        let mut cache = self.cache.lock();
        if cache.count >= MOST_PATHS {
            *cache = Cache::default();
        }
        let same = cache.same.entry(found.0).or_insert_with(|| Arc::new(effective(found.1))).clone();
        cache.paths.entry(site.name.clone()).or_default().insert(source.into(), same.clone());
        cache.count += 1;
        same
    }

    fn find(&self, source: &str, site: &Site, sites: &HashMap<Arc<str>, Known>) -> (SameKey, Told) {
        let (hosts, name) = (hosts(site), plain(&site.name));
        let parts: Vec<&str> = match site.name.split_once(SHAPED) {
            Some((_, parts)) => parts.split('+').collect(),
            None => Vec::new(),
        };
        let asked = Asked {
            source,
            hosts: &hosts,
            holds_provider: &|provider| parts.contains(&provider_part(&provider.name).as_str()),
            holds_domain: &|one: &DomainBlock| {
                if !one.rollup {
                    return parts.contains(&&*one.domain);
                }
                sites.get(&one.domain).is_some_and(|known| known.site.as_deref() == Some(name))
            },
        };
        let mut told = told(&self.shaping, &asked);
        let said = |block: &str, patch: &Arc<Patch>| Step { block: block.into(), patch: patch.clone(), implied: false };
        told.steps.insert(0, said("[delivery]", &self.delivery));
        told.steps.push(said("[[route]]", self.own.of(&site.name)));
        // What is implied was made just now; the provider and the source tell it.
        let lasting = told.steps.iter().filter(|step| !step.implied);
        let same = lasting.map(|step| Arc::as_ptr(&step.patch) as usize).collect();
        ((same, told.by_source.then(|| source.into())), told)
    }
}

fn hosts(site: &Site) -> Vec<&str> {
    site.hosts.iter().map(|host| &*host.name).collect()
}

/// The name of a site without the marks of policies, routes and shaping.
fn plain(site: &str) -> &str {
    let site = unshaped(site);
    let site = site.split_once('!').map_or(site, |(site, _)| site);
    site.split_once('+').map_or(site, |(site, _)| site)
}

/// How a provider is named in the name of a site.
fn provider_part(name: &str) -> String {
    format!("@{}", name.replace(['+', '!', '~'], "_"))
}
