//! The work of the simulated fleet: sites and their limits, how popular they are, how busy each hour is. Pure. Floor 1.
//! Always: a limit has one name and one number, whoever meets it; saturated sites have more work at each node, all the
//! time, than their limits let through.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::limits::{Count, Rate, Throttle};

use super::chance::Chance;
use super::{SECOND, Setup};

/// Sites behind the saturated ones whose provider has limits of its own, beyond what they are used.
const PROVIDERS: usize = 14;
/// Messages that come together for one path, and so go in one session.
const BATCH: u32 = 20;
/// The same for saturated sites.
const SATURATED_BATCH: u32 = 10;

/// What a path from one source to one site takes.
#[derive(Debug)]
pub struct Path {
    /// The site.
    pub site: usize,
    /// Places of a session.
    pub places: Box<[(Arc<str>, Count)]>,
    /// What each message takes.
    pub rates: Box<[(Arc<str>, Throttle)]>,
    /// The same limits by their numbers.
    pub place_ids: Box<[usize]>,
    /// The same limits by their numbers.
    pub rate_ids: Box<[usize]>,
}

/// What limits a site that always has more work.
#[derive(Clone, Debug)]
pub enum Tight {
    /// A rate.
    Rate(Rate),
    /// Places.
    Count(u32),
}

/// A site with more work than its limit lets through.
#[derive(Clone, Debug)]
pub struct Saturated {
    /// What it is called in figures.
    pub title: &'static str,
    /// Its limit.
    pub tight: Tight,
    /// The limit holds for the one source that it has, not for all sources together.
    pub is_path: bool,
    /// Time of one message.
    pub each: u64,
}

/// Limits that the checks know, by number.
#[derive(Clone, Debug)]
pub enum Limit {
    /// Places.
    Count(Arc<str>, u32),
    /// A rate.
    Rate(Arc<str>, Rate),
}

/// Sites, sources, limits.
pub struct World {
    /// All limits so far, by number.
    pub limits: Vec<Limit>,
    /// The saturated sites: the first ones.
    pub saturated: Vec<Saturated>,
    /// The number of the limit of each of them.
    pub tight: Vec<usize>,
    names: HashMap<Arc<str>, usize>,
    paths: HashMap<(usize, usize), Rc<Path>>,
    /// The part of all mail up to each site.
    popular: Vec<f64>,
    setup: Setup,
}

fn rate(nodes: u64, tenths: u64) -> Rate {
    // So many tenths a second for each node, and a second of it at once.
    Rate { count: nodes * tenths, period: Duration::from_secs(10), burst: (nodes * tenths / 10).max(1) }
}

fn saturated(nodes: u64) -> Vec<Saturated> {
    let places = |tenths: u64| Tight::Count(u32::try_from((nodes * tenths / 10).max(1)).unwrap_or(u32::MAX));
    let site = |title, tight, is_path, each| Saturated { title, tight, is_path, each };
    vec![
        site("provider, fast rate", Tight::Rate(rate(nodes, 5)), false, SECOND / 5),
        site("provider, slow rate", Tight::Rate(rate(nodes, 1)), false, SECOND / 5),
        site("provider, many places", places(15), false, 3 * SECOND),
        site("provider, few places", places(1), false, SECOND),
        site("one path, rate", Tight::Rate(Rate { burst: 5, ..rate(nodes, 1) }), true, SECOND / 5),
        site("one path, places", Tight::Count(10), true, SECOND),
    ]
}

impl World {
    /// Of a fleet.
    pub fn new(setup: &Setup) -> Self {
        let saturated = saturated(setup.nodes as u64);
        let mut popular = vec![0.0; saturated.len()];
        let mut sum = 0.0;
        for site in saturated.len()..setup.sites {
            sum += 1.0 / ((site - saturated.len()) as f64 + 1.0);
            popular.push(sum);
        }
        for part in &mut popular {
            *part /= sum;
        }
        let mut world = Self {
            limits: Vec::new(),
            tight: Vec::new(),
            saturated,
            names: HashMap::new(),
            paths: HashMap::new(),
            popular,
            setup: setup.clone(),
        };
        for site in 0..world.saturated.len() {
            let path = world.path(site, 0);
            let is_rate = matches!(world.saturated[site].tight, Tight::Rate(_));
            let ids = if is_rate { &path.rate_ids } else { &path.place_ids };
            // Of a path its own limits come first, then those of the provider.
            let tight = if world.saturated[site].is_path { ids.first() } else { ids.last() };
            world.tight.extend(tight);
        }
        world
    }

    /// How busy it is at a time, on average 1: a night, and a peak of 3.6.
    pub fn busy(&self, at: u64) -> f64 {
        let day = self.setup.day.as_micros() as f64;
        let hour = (at as f64 / day).fract();
        0.4 + 3.2 * (std::f64::consts::TAU * (hour - 0.25)).sin().max(0.0).powi(4)
    }

    /// The mean time between batches at one node when it is as busy as on average.
    pub fn mean_wait(&self) -> f64 {
        let a_second = self.setup.messages / 86_400.0 / f64::from(BATCH) / self.setup.nodes as f64;
        SECOND as f64 / a_second
    }

    /// A site by its popularity: the second has half of what the first has, and so on. Those that are saturated have
    /// work in any case.
    pub fn any_site(&self, chance: &mut Chance) -> usize {
        let part = chance.part();
        self.popular.partition_point(|sum| *sum <= part).clamp(self.saturated.len(), self.setup.sites - 1)
    }

    /// How many messages come together.
    pub fn batch(&self, site: usize) -> u32 {
        if site < self.saturated.len() { SATURATED_BATCH } else { BATCH }
    }

    /// Time of one message.
    pub fn each(&self, site: usize) -> u64 {
        self.saturated.get(site).map_or(SECOND * 3 / 20, |saturated| saturated.each)
    }

    /// The path from a source to a site.
    pub fn path(&mut self, site: usize, source: usize) -> Rc<Path> {
        let source = if self.saturated.get(site).is_some_and(|saturated| saturated.is_path) { 0 } else { source };
        if let Some(path) = self.paths.get(&(site, source)) {
            return path.clone();
        }
        let path = Rc::new(self.new_path(site, source));
        self.paths.insert((site, source), path.clone());
        path
    }

    fn new_path(&mut self, site: usize, source: usize) -> Path {
        let at = format!("source-{source:03}->mx.site-{site:04}.example@smtp");
        let all = format!("provider-{site:04}.example");
        let tight = self.saturated.get(site).cloned();
        let roomy = Rate { count: 10, period: Duration::from_secs(1), burst: 20 };
        let (mut count, mut pace) = (5, roomy);
        if let Some(Saturated { tight, is_path: true, .. }) = &tight {
            match tight {
                Tight::Count(places) => count = *places,
                Tight::Rate(rate) => (count, pace) = (u32::try_from(self.setup.nodes).unwrap_or(u32::MAX) * 2, *rate),
            }
        }
        let mut counts = vec![(format!("connection_limit {at}"), count)];
        let mut rates = vec![(format!("max_message_rate {at}"), pace)];
        let mut provider = |count, pace| {
            counts.push((format!("connection_limit {all}"), count));
            rates.push((format!("max_message_rate {all}"), pace));
        };
        let nodes = self.setup.nodes as u64;
        let many = u32::try_from(nodes * 4).unwrap_or(u32::MAX);
        let fast = Rate { count: nodes * 100, period: Duration::from_secs(1), burst: nodes * 10 };
        match tight {
            Some(Saturated { tight: Tight::Rate(rate), is_path: false, .. }) => provider(many, rate),
            Some(Saturated { tight: Tight::Count(places), is_path: false, .. }) => provider(places, fast),
            None if site < self.saturated.len() + PROVIDERS => provider(many * 10, fast),
            _ => {}
        }
        let places: Box<[_]> =
            counts.into_iter().map(|(name, count)| (Arc::<str>::from(name), Count::from(count))).collect();
        let rates: Box<[_]> =
            rates.into_iter().map(|(name, rate)| (Arc::<str>::from(name), Throttle::from(rate))).collect();
        let place_ids = places.iter().map(|(name, count)| self.id(Limit::Count(name.clone(), count.count))).collect();
        let rate_ids = rates.iter().map(|(name, rate)| self.id(Limit::Rate(name.clone(), rate.rate))).collect();
        Path { site, places, rates, place_ids, rate_ids }
    }

    fn id(&mut self, limit: Limit) -> usize {
        let (Limit::Count(name, _) | Limit::Rate(name, _)) = &limit;
        if let Some(id) = self.names.get(name) {
            return *id;
        }
        self.names.insert(name.clone(), self.limits.len());
        self.limits.push(limit);
        self.limits.len() - 1
    }
}
