//! The sources as the engine has them: their pools, their ways, what rests. Pure. Floor 2.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use serde::Serialize;

use crate::queue::engine::Engine;
use crate::routing::warmup::{Day, Warmup, date, day_of};

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceView {
    /// Its name.
    pub source: Arc<str>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The name told in EHLO.
    pub ehlo_name: Arc<str>,
    /// The pools that have it, with its weight.
    pub pools: BTreeMap<Arc<str>, u32>,
    /// How it is reached, in the order of use.
    pub ways: Vec<WayView>,
    /// Whether a session may be opened now.
    pub is_usable: bool,
    /// Its sessions.
    pub sessions: usize,
    /// Where it stands in its plans, until it is warm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warmup: Vec<WarmupView>,
}

/// Where a source stands in a plan of warm-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WarmupView {
    /// The first day, like "2026-12-01".
    pub start: String,
    /// Which day of the plan it is, from one; zero before the first.
    pub day: usize,
    /// How many days it has.
    pub days: usize,
    /// How many messages to each site today, where the plan has no other number for it; as many as it can if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
}

impl WarmupView {
    fn of(warmup: &Warmup, today: Day) -> Option<Self> {
        let day = warmup.day_of_plan(today)?;
        let messages = day.checked_sub(1).map_or(Some(0), |at| warmup.plan.messages.get(at).copied());
        Some(Self { start: date(warmup.start), day, days: warmup.plan.days(), messages })
    }
}

/// A way of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WayView {
    /// The proxy; none dials from this host.
    pub proxy: Option<Arc<str>>,
    /// Until when it rests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rests_until: Option<UnixMs>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Box<str>>,
}

impl Engine {
    /// All sources, by name.
    pub fn sources(&self, now: UnixMs) -> Vec<SourceView> {
        let mut sessions: HashMap<&str, usize> = HashMap::new();
        for ready in self.ready.values() {
            *sessions.entry(&ready.source.name).or_default() += ready.sessions;
        }
        let mut found: BTreeMap<Arc<str>, SourceView> = BTreeMap::new();
        for (pool, (source, weight)) in self.pools.values().flat_map(|(p, _)| p.members.iter().map(move |m| (p, m))) {
            let view = found.entry(source.name.clone()).or_insert_with(|| {
                let way = |way| {
                    let rest = self.health.rests(source, way).filter(|rest| rest.until > now).max_by_key(|r| r.until);
                    let proxy = way.proxy().map(|proxy| proxy.name.clone());
                    WayView { proxy, rests_until: rest.map(|r| r.until), why: rest.map(|r| r.why.clone()) }
                };
                SourceView {
                    source: source.name.clone(),
                    address: source.address,
                    ehlo_name: source.ehlo_name.clone(),
                    pools: BTreeMap::new(),
                    ways: source.ways.iter().map(way).collect(),
                    is_usable: self.health.usable(source, now),
                    sessions: sessions.get(&*source.name).copied().unwrap_or(0),
                    warmup: source.warmup.iter().filter_map(|plan| WarmupView::of(plan, day_of(now))).collect(),
                }
            });
            view.pools.insert(pool.name.clone(), *weight);
        }
        found.into_values().collect()
    }
}
