//! Where a queue leads, and what keeps the sources of its pool. Pure; changes nothing but caches. Floor 2.
//! Always: a source that nothing keeps is enough for the queue: then nothing is told of the others.

use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::fault::Party;

use super::why::{Blocker, Found, Setter, What};
use crate::queue::engine::{Engine, QueueKey};
use crate::queue::meter::{Kind, Reached};
use crate::queue::ready::{Ready, SiteSlot};
use crate::queue::scheduled::Lead;
use crate::routing::source::Source;
use crate::routing::warmup::{Quota, end_of};

/// Sources of a pool that are told one by one; more are counted.
const MAX_SOURCES: usize = 50;

impl Engine {
    /// Where a queue leads, and what keeps the sources of its pool.
    pub(super) fn way_of(&self, key: QueueKey, now: UnixMs, found: &mut Found) {
        let queue = &self.queues[key];
        if let Some(by) = queue.limited.as_ref().filter(|by| by.until.is_none_or(|until| until > now)) {
            found.add(reached(by, "").lasting(None, by.until));
        }
        let (site, until) = match &queue.lead {
            Lead::Known(site, until) => (site, *until),
            Lead::Failed(until, why) => {
                let text = format!("no site is known: {why}");
                return found.add(Blocker::new(What::Dns, Setter::Dns, text).lasting(None, Some(*until)));
            }
            Lead::Asked => return found.add(Blocker::new(What::Dns, Setter::Dns, "the DNS is being asked")),
            Lead::Unknown => return,
        };
        let slot = self.site_names.get(&site.name).and_then(|slot| self.sites.get(*slot));
        let pool = self.pools.get(&queue.key.1).or_else(|| self.pools.get(&self.default_pool));
        let (Some(slot), Some((pool, _))) = (slot, pool) else { return };
        if until <= now {
            return;
        }
        if pool.members.is_empty() {
            let text = format!("the pool {} has no source now: no proxy announces an address that fits", pool.name);
            return found.add(Blocker::new(What::Pool, Setter::Proxy, text));
        }
        let each: Vec<Found> = pool.members.iter().map(|(source, _)| self.kept_from(source, slot, key, now)).collect();
        if each.iter().any(|own| own.blockers.is_empty()) {
            return;
        }
        let first = each.iter().map(|own| own.earliest).reduce(|one, other| [one, other].into_iter().flatten().min());
        let mut ways: Vec<Blocker> = each.into_iter().flat_map(|own| own.blockers).collect();
        let more = ways.len().saturating_sub(MAX_SOURCES);
        ways.truncate(MAX_SOURCES);
        found.blockers.extend(ways);
        if more > 0 {
            let text = format!("{more} more things that keep sources of the pool; `queue ready` lists all paths");
            found.blockers.push(Blocker::new(What::SourceRest, Setter::Source, text));
        }
        if let Some(first) = first {
            found.after(first);
        }
    }

    /// What keeps mail of a queue from one source.
    fn kept_from(&self, source: &Arc<Source>, slot: &SiteSlot, key: QueueKey, now: UnixMs) -> Found {
        let (mut own, queue, site) = (Found::new(now), &self.queues[key], &slot.site.name);
        let of_path = slot.ready.get(&source.name).copied();
        let ready = of_path.and_then(|key| self.ready.get(key));
        if let Some(by) = queue.blocks.path(&source.name, site).filter(|by| queue.blocks.whole != Some(*by)) {
            own.add(self.order(by).of(source));
        }
        if !slot.fits(source) {
            let text = format!("{site} has no address of its family");
            own.add(Blocker::new(What::Family, Setter::Dns, text).of(source));
        }
        self.rests(source, now, &mut own);
        let Some((ready, of_path)) = ready.zip(of_path) else { return own };
        if ready.held_until > now {
            own.add(held(ready));
        }
        if let Some(by) = ready.unchosen.as_ref().filter(|_| ready.is_unchosen(now)) {
            let quotas = self.quotas_of(of_path, now);
            own.add(match quotas.iter().find(|quota| quota.name == by.name) {
                Some(quota) => used_up(quota).of(source),
                None => reached(by, "").lasting(None, by.until).of(source),
            });
        }
        if let Some((by, words)) = self.kept_away(ready, key, now) {
            own.add(reached(&by, &words).lasting(None, by.until).of(source));
        }
        let most = self.controls.most_ready(&source.name, site, self.options.max_ready, now);
        if !ready.waiting.has_room(queue.priority(), &queue.tenant, ready.most_waiting(most)) {
            let text = format!("{} parts wait before it, as many as may", ready.waiting.len());
            own.add(Blocker::new(What::Room, Setter::Limit, text).of(source));
        }
        own
    }

    /// The rests of a source, if each of its ways rests.
    pub(super) fn rests(&self, source: &Arc<Source>, now: UnixMs, found: &mut Found) {
        let Some(usable) = self.health.rests_until(source, now) else { return };
        for way in &source.ways {
            for rest in self.health.rests(source, way).filter(|rest| rest.until > now) {
                let (what, setter) = match rest.party {
                    Party::Proxy => (What::ProxyRest, Setter::Proxy),
                    _ => (What::SourceRest, Setter::Source),
                };
                let behind = way.proxy().map(|proxy| format!("proxy {}: ", proxy.name)).unwrap_or_default();
                let blocker = Blocker::new(what, setter, format!("{behind}{}", rest.why)).of(source);
                found.blockers.push(blocker.lasting(Some(rest.since), Some(rest.until)));
            }
        }
        found.after(Some(usable));
    }
}

/// A limit that is waited for, and what else is to be said of it.
pub(super) fn reached(by: &Reached, words: &str) -> Blocker {
    let what = match by.kind {
        Kind::Rate => "is used up for now",
        Kind::Places => "has no free place",
    };
    Blocker::new(What::Limit, Setter::Limit, format!("{} {what}{words}", by.name))
}

/// A quota of the day that is used up. It is looked at again before the day ends, since others may give something back.
fn used_up(quota: &Quota) -> Blocker {
    let text = match quota.most {
        0 => format!("{} lets nothing through today", quota.name),
        most => format!("{} lets {most} messages through today, and they are used", quota.name),
    };
    Blocker::new(What::Limit, Setter::Limit, text).lasting(None, Some(end_of(quota.day)))
}

/// A path that rests.
pub(super) fn held(ready: &Ready) -> Blocker {
    let setter = match ready.party {
        Some(Party::Limit) => Setter::Limit,
        Some(Party::Source) => Setter::Source,
        Some(Party::Proxy) => Setter::Proxy,
        Some(Party::Remote) | None => Setter::Destination,
    };
    let why = ready.why.as_deref().unwrap_or("it failed");
    // A limit is no failure.
    let text = match ready.failures {
        0 => why.to_owned(),
        failures => format!("{why}; {failures} failures in a row"),
    };
    let since = Some(ready.failed_at).filter(|at| at.0 > 0);
    Blocker::new(What::PathRest, setter, text).lasting(since, Some(ready.held_until)).of(&ready.source)
}
