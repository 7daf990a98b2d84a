//! The sources as the engine has them: their pools, their ways, what rests. Pure. Floor 2.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use serde::Serialize;

use super::Controls;
use super::words::ControlId;
use crate::queue::engine::Engine;
use crate::routing::warmup::{Day, Warmup, date, day_of};

/// Sources that are named where one is not known.
const MAX_TOLD: usize = 20;

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
    /// The order that keeps back all that goes out from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended_by: Option<ControlId>,
    /// Sites to which nothing goes out from it, by orders that name both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suspended_to: Vec<Arc<str>>,
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

/// Orders that keep back all that goes out from sources.
#[derive(Default)]
struct Closed<'a> {
    all: Option<ControlId>,
    sources: HashMap<&'a str, ControlId>,
    sites: HashMap<&'a str, BTreeSet<Arc<str>>>,
}

impl Controls {
    fn closed(&self) -> Closed<'_> {
        let mut closed = Closed::default();
        for (id, scope) in self.blocking().filter(|(_, scope)| scope.is_of_all_mail()) {
            match (scope.source.as_deref(), &scope.site) {
                (None, None) => closed.all = closed.all.or(Some(id)),
                (Some(source), None) => drop(closed.sources.insert(source, id)),
                (Some(source), Some(site)) => drop(closed.sites.entry(source).or_default().insert(site.clone())),
                // Such a site is closed for all of them.
                (None, Some(_)) => {}
            }
        }
        closed
    }
}

impl Engine {
    /// Whether a pool has a source of that name; if not, the names of those that there are.
    pub(super) fn is_source(&self, name: &str) -> Result<(), String> {
        let names = self.pools.values().flat_map(|(pool, _)| &pool.members).map(|(source, _)| &*source.name);
        let names: BTreeSet<&str> = names.collect();
        if names.contains(name) {
            return Ok(());
        }
        let mut told = names.iter().take(MAX_TOLD).copied().collect::<Vec<_>>().join(", ");
        if names.len() > MAX_TOLD {
            let _ = write!(told, " and {} more, which `fleet` lists", names.len() - MAX_TOLD);
        }
        Err(if told.is_empty() { "none".to_owned() } else { told })
    }

    /// All sources, by name.
    pub fn sources(&self, now: UnixMs) -> Vec<SourceView> {
        let mut sessions: HashMap<&str, usize> = HashMap::new();
        for ready in self.ready.values() {
            *sessions.entry(&ready.source.name).or_default() += ready.sessions;
        }
        let closed = self.controls.closed();
        let mut found: BTreeMap<Arc<str>, SourceView> = BTreeMap::new();
        for (pool, (source, weight)) in self.pools.values().flat_map(|(p, _)| p.members.iter().map(move |m| (p, m))) {
            let view = found.entry(source.name.clone()).or_insert_with(|| {
                let way = |way| {
                    let rest = self.health.rests(source, way).filter(|rest| rest.until > now).max_by_key(|r| r.until);
                    let proxy = way.proxy().map(|proxy| proxy.name.clone());
                    WayView { proxy, rests_until: rest.map(|r| r.until), why: rest.map(|r| r.why.clone()) }
                };
                let sites = closed.sites.get(&*source.name);
                SourceView {
                    source: source.name.clone(),
                    address: source.address,
                    ehlo_name: source.ehlo_name.clone(),
                    pools: BTreeMap::new(),
                    ways: source.ways.iter().map(way).collect(),
                    is_usable: self.health.usable(source, now),
                    sessions: sessions.get(&*source.name).copied().unwrap_or(0),
                    suspended_by: closed.all.or(closed.sources.get(&*source.name).copied()),
                    suspended_to: sites.into_iter().flatten().cloned().collect(),
                    warmup: source.warmup.iter().filter_map(|plan| WarmupView::of(plan, day_of(now))).collect(),
                }
            });
            view.pools.insert(pool.name.clone(), *weight);
        }
        found.into_values().collect()
    }
}
