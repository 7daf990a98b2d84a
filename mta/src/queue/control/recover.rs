//! How much goes over a path on its way back from a suspension, and over one whose limit is set for a time.
//! Pure. Floor 2.
//! Always: without any of these nothing is looked up; a path comes back by successes only, whoever suspended it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::limits::Count;

use super::Controls;
use super::words::{Control, ControlKind, Scope};
use crate::queue::engine::{Engine, ReadyKey, Timer};
use crate::queue::ready::Ready;
use crate::shaping::automation::Recovery;

/// After the end of its suspension a path is as any other, whether mail showed that it works or not.
const MEMORY: Duration = Duration::from_secs(86_400);
/// The option that limits sessions.
const CONNECTION_LIMIT: &str = "connection_limit";
/// Parts that may wait on a path for each one that may be under way; others find another source meanwhile.
const READY_PER_TURN: usize = 2;

/// A source and a site.
type Way = (Arc<str>, Arc<str>);

/// Paths on their way back.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    paths: HashMap<Way, (Recovery, UnixMs)>,
    /// Sources or sites that were suspended as such: each of their paths comes back by itself.
    wide: Vec<(Scope, Recovery, UnixMs)>,
    /// Limits that are set for a time.
    limits: Vec<(Scope, usize)>,
    /// There is a fleet, which says who probes.
    is_shared: bool,
    /// Paths whose probe was taken, of which the fleet does not know yet.
    proven: Vec<Way>,
}

impl Recoveries {
    /// A suspension has ended by itself.
    pub fn begin(&mut self, ended: &Control, now: UnixMs) {
        let (Scope { source, site, .. }, until) = (&ended.scope, ended.expires.plus(MEMORY));
        let is_of_paths = ended.scope.is_of_path() && ended.scope.is_of_all_mail();
        if ended.kind != ControlKind::Suspend || !is_of_paths || until <= now {
            return;
        }
        self.paths.retain(|_, (_, until)| *until > now);
        self.wide.retain(|(_, _, until)| *until > now);
        let recovery = match self.is_shared {
            true => Recovery::asking(ended.relapses),
            false => Recovery::new(ended.relapses),
        };
        match (source, site) {
            (Some(source), Some(site)) => {
                self.paths.insert((source.clone(), site.clone()), (recovery, until));
            }
            _ => {
                self.forget(&ended.scope);
                self.wide.push((ended.scope.clone(), recovery, until));
            }
        }
    }

    /// It is suspended again.
    pub fn forget(&mut self, scope: &Scope) {
        self.paths.retain(|(source, site), _| !scope.fits_path(source, site));
        self.wide.retain(|(wide, ..)| !scope.covers(wide));
    }

    /// How many relapses there are if a path that is on its way back goes wrong now.
    pub fn relapses(&self, scope: &Scope, now: UnixMs) -> Option<u32> {
        let (Some(source), Some(site)) = (&scope.source, &scope.site) else { return None };
        let recovery = self.of(source, site, now)?;
        recovery.cap().map(|_| recovery.relapsed())
    }

    /// The limits among the orders that last.
    pub fn set_limits(&mut self, kept: &[Control]) {
        let limit = |control: &Control| {
            let setting = control.setting.as_ref().filter(|setting| setting.name == CONNECTION_LIMIT)?;
            let count: Count = setting.value.trim_matches(['"', '\'']).parse().ok()?;
            // What is set for a domain concerns one of the domains of a site.
            control.scope.domain.is_none().then(|| (control.scope.clone(), count.count as usize))
        };
        self.limits = kept.iter().filter_map(limit).collect();
    }

    fn of(&self, source: &Arc<str>, site: &Arc<str>, now: UnixMs) -> Option<Recovery> {
        if self.paths.is_empty() && self.wide.is_empty() {
            return None;
        }
        if let Some((recovery, _)) = self.paths.get(&(source.clone(), site.clone())).filter(|(_, until)| *until > now) {
            return Some(*recovery);
        }
        let wide = self.wide.iter().find(|(scope, _, until)| *until > now && scope.fits_path(source, site));
        wide.map(|(_, recovery, _)| *recovery)
    }

    fn cap(&self, source: &Arc<str>, site: &Arc<str>, now: UnixMs) -> Option<usize> {
        let set = self.limits.iter().rev().find(|(scope, _)| scope.fits_path(source, site)).map(|(_, limit)| *limit);
        let open = self.of(source, site, now).and_then(|recovery| recovery.cap());
        [set, open].into_iter().flatten().min()
    }

    fn succeeded(&mut self, source: &Arc<str>, site: &Arc<str>, limit: usize) {
        if self.paths.is_empty() && self.wide.is_empty() {
            return;
        }
        let is_shared = self.is_shared;
        let Some(recovery) = self.own(source, site) else { return };
        let was_probing = recovery.is_probing();
        recovery.succeeded(limit);
        if is_shared && was_probing {
            self.proven.push((source.clone(), site.clone()));
        }
    }

    /// That of a path, which has one of its own from now on.
    fn own(&mut self, source: &Arc<str>, site: &Arc<str>) -> Option<&mut Recovery> {
        let way = (source.clone(), site.clone());
        if !self.paths.contains_key(&way) {
            let (_, recovery, until) = self.wide.iter().find(|(scope, ..)| scope.fits_path(source, site))?;
            self.paths.insert(way.clone(), (*recovery, *until));
        }
        self.paths.get_mut(&way).map(|(recovery, _)| recovery)
    }
}

impl Controls {
    /// How many parts may wait on a path.
    pub(in crate::queue) fn most_ready(&self, source: &Arc<str>, site: &Arc<str>, most: usize, now: UnixMs) -> usize {
        let open = self.recoveries.of(source, site, now).and_then(|recovery| recovery.cap());
        open.map_or(most, |cap| most.min(cap.max(1) * READY_PER_TURN))
    }
}

impl Engine {
    /// How many parts may be under way on a path at once, beside its site's limit.
    pub(in crate::queue) fn cap(&self, key: ReadyKey, now: UnixMs) -> Option<usize> {
        let ready = self.ready.get(key)?;
        self.controls.recoveries.cap(&ready.source.name, &self.sites.get(ready.site)?.site.name, now)
    }

    /// How many parts may wait in a ready queue.
    pub(in crate::queue) fn most_ready(&self, key: ReadyKey, now: UnixMs) -> usize {
        let most = self.options.max_ready;
        let path = self.ready.get(key).and_then(|ready| Some((ready, self.sites.get(ready.site)?)));
        path.map_or(most, |(ready, slot)| self.controls.most_ready(&ready.source.name, &slot.site.name, most, now))
    }

    /// A path took a part.
    pub(in crate::queue) fn recovers(&mut self, key: ReadyKey) {
        let Self { ready, sites, controls, .. } = self;
        let path = ready.get(key).and_then(|ready| Some((ready, sites.get(ready.site)?)));
        if let Some((ready, slot)) = path {
            controls.recoveries.succeeded(&ready.source.name, &slot.site.name, ready.budget.sessions);
        }
    }

    /// From now on a fleet says who probes.
    pub fn share_recoveries(&mut self) {
        self.controls.recoveries.is_shared = true;
    }

    /// Paths with mail that wait for the fleet to say who probes, and those whose probe was taken since this was
    /// asked last: source and site.
    pub fn probes(&mut self, now: UnixMs) -> [Vec<(Arc<str>, Arc<str>)>; 2] {
        let recoveries = &self.controls.recoveries;
        let asks = |ready: &Ready| {
            let site = self.sites.get(ready.site)?.site.name.clone();
            let recovery = recoveries.of(&ready.source.name, &site, now)?;
            (recovery.asks() && !ready.waiting.is_empty()).then(|| (ready.source.name.clone(), site))
        };
        let asking = self.ready.values().filter_map(asks).collect();
        [asking, std::mem::take(&mut self.controls.recoveries.proven)]
    }

    /// The fleet has said that this node probes a path, or that another has, and it works.
    pub fn allow_probe(&mut self, source: &Arc<str>, site: &Arc<str>, is_proven: bool) {
        if let Some(recovery) = self.controls.recoveries.own(source, site) {
            recovery.allow(is_proven);
        }
        let slot = self.site_names.get(site).copied();
        if let Some(ready) = slot.and_then(|slot| self.sites.get(slot)?.ready.get(source).copied()) {
            self.set_timer(UnixMs(0), Timer::Ready(ready));
        }
    }

    /// What keeps a path on its way back from taking more.
    pub(super) fn recovery_text(&self, key: ReadyKey, now: UnixMs) -> Option<String> {
        let ready = self.ready.get(key)?;
        let recovery = self.controls.recoveries.of(&ready.source.name, &self.sites.get(ready.site)?.site.name, now)?;
        let cap = recovery.cap()?;
        if recovery.asks() {
            return Some("its suspension has ended: one node of the fleet sends one message first".to_owned());
        }
        Some(match recovery.is_probing() {
            true => "its suspension has ended: one message goes first, to see whether it works again".to_owned(),
            false => format!("its suspension has ended: it opens step by step, {cap} at once now"),
        })
    }
}
