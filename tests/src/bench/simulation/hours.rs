//! How evenly each part of the simulated day was shared: over a whole day one bad hour of a node is hardly seen.
//! Pure. Floor 3.

use super::check::Check;

/// Fewer messages a node than this in a part of the day say nothing.
const ENOUGH: f64 = 100.0;

/// What came of one site from part to part of the day.
struct Site {
    /// The number of its limit.
    id: usize,
    /// Messages of each node up to now.
    before: Vec<u64>,
    /// The smallest share of a node in any part, and when that ended.
    least: Option<(f64, u64)>,
}

/// The saturated sites from part to part of the day.
pub struct Hours {
    sites: Vec<Site>,
    nodes: Vec<usize>,
}

impl Hours {
    /// Of these limits; only `nodes` count.
    pub fn new(limits: &[usize], nodes: &[usize]) -> Self {
        let site = |id: &usize| Site { id: *id, before: Vec::new(), least: None };
        Self { sites: limits.iter().map(site).collect(), nodes: nodes.to_vec() }
    }

    /// A part of the day ends: the smallest share of a node in it for each site, of the mean, if there was enough to say.
    pub fn ends(&mut self, check: &Check, now: u64) -> Vec<Option<f64>> {
        self.sites.iter_mut().map(|site| site.ends(&self.nodes, check, now)).collect()
    }

    /// The smallest share of a node in any part of the day, and when that part ended.
    pub fn least(&self, site: usize) -> Option<(f64, u64)> {
        self.sites.get(site)?.least
    }
}

impl Site {
    fn ends(&mut self, nodes: &[usize], check: &Check, now: u64) -> Option<f64> {
        let sent = &check.seen(self.id).by_node;
        let before = |node: &usize| self.before.get(*node).copied().unwrap_or(0);
        let shares: Vec<u64> = nodes.iter().map(|node| sent[*node] - before(node)).collect();
        self.before.clone_from(sent);
        let mean = shares.iter().sum::<u64>() as f64 / shares.len().max(1) as f64;
        let least = (mean >= ENOUGH).then(|| shares.iter().min().copied().unwrap_or(0) as f64 / mean)?;
        if self.least.is_none_or(|(known, _)| least < known) {
            self.least = Some((least, now));
        }
        Some(least)
    }
}
