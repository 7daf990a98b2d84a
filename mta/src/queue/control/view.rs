//! Shows the queues to an operator. Pure; changes nothing but caches. Floor 2.
//! Always: what is listed is bounded by the caller's limit, the largest first.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use serde::Serialize;
use slotmap::SecondaryMap;

use super::words::{ControlId, Scope};
use crate::message::{MessageId, Priority};
use crate::queue::engine::{Engine, QueueKey};
use crate::queue::scheduled::{Entry, Lead, Place, Scheduled};
use crate::queue::words::EntryKey;

/// With more parts than this, their ages are not looked through for a list: it would hold up mail.
const MAX_LOOKED_THROUGH: usize = 1_000_000;

/// Which queues are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those that this covers.
    pub scope: Scope,
    /// Those of this pool.
    pub pool: Option<Arc<str>>,
    /// At most so many.
    pub limit: usize,
}

/// A scheduled queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueRow {
    /// Its name, `campaign:tenant@domain!routing`.
    pub queue: String,
    /// Its pool.
    pub pool: Arc<str>,
    /// How soon its mail goes out where others wait.
    pub priority: Priority,
    /// Parts in it, wherever they are.
    pub held: usize,
    /// Parts that are due and wait for a site or for room.
    pub due: usize,
    /// When its oldest part began to wait; a part that its sender has held begins in the future.
    pub oldest: Option<UnixMs>,
    /// When the next of those that wait is due.
    pub next_due: Option<UnixMs>,
    /// The site that its domain leads to, or why none is known.
    pub lead: String,
    /// The order that keeps it back.
    pub suspended_by: Option<ControlId>,
}

/// A ready queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadyRow {
    /// From where.
    pub source: Arc<str>,
    /// To where.
    pub site: Arc<str>,
    /// Parts that wait for a session.
    pub waiting: usize,
    /// Sessions, dialing ones included.
    pub sessions: usize,
    /// Those without work.
    pub idle: usize,
    /// No session is opened before this.
    pub held_until: Option<UnixMs>,
    /// Failures in a row.
    pub failures: u32,
    /// The last failure.
    pub why: Option<String>,
    /// The order that closes the path for all mail.
    pub suspended_by: Option<ControlId>,
}

/// Parts of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SumRow {
    /// The tenant, campaign, domain or pool; empty for mail that has none.
    pub name: String,
    /// Scheduled queues.
    pub queues: usize,
    /// Parts in them.
    pub held: usize,
    /// Parts that are due and wait.
    pub due: usize,
}

/// Parts by each of the names that queues have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All parts.
    pub held: usize,
    /// By tenant.
    pub tenants: Vec<SumRow>,
    /// By campaign.
    pub campaigns: Vec<SumRow>,
    /// By domain.
    pub domains: Vec<SumRow>,
    /// By pool.
    pub pools: Vec<SumRow>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartRow {
    /// Its number.
    pub part: u16,
    /// Its scheduled queue.
    pub queue: String,
    /// Its pool.
    pub pool: Arc<str>,
    /// How soon it goes out where others wait.
    pub priority: Priority,
    /// `timer`, `due`, `ready`, `session` or `reporting`.
    pub place: &'static str,
    /// Attempts that counted.
    pub attempts: u16,
    /// When it is, or was, due.
    pub due: UnixMs,
    /// When it expires.
    pub expires: UnixMs,
    /// Recipients that are settled, by their numbers in the part.
    pub settled: Vec<u16>,
    /// What it waits for, in words.
    pub waits_for: Vec<String>,
}

impl Engine {
    /// Scheduled queues, the largest first.
    pub fn show_queues(&mut self, filter: &Filter) -> Vec<QueueRow> {
        let fits = |scope: &Scope, pool: &Option<Arc<str>>, queue: &Scheduled| {
            queue.held > 0
                && scope.fits_name(&queue.key.0)
                && scope.fits_site(queue.lead.site_name())
                && pool.as_ref().is_none_or(|pool| *pool == queue.key.1)
        };
        let found = self.queues.iter().filter(|(_, queue)| fits(&filter.scope, &filter.pool, queue));
        let mut keys: Vec<_> = found.map(|(key, queue)| (Reverse(queue.held), key)).collect();
        keys.sort_unstable();
        keys.truncate(filter.limit);
        let keys: Vec<QueueKey> = keys.into_iter().map(|(_, key)| key).collect();
        let ages = self.ages(&keys);
        keys.into_iter().filter_map(|key| self.queue_row(key, ages.get(key).copied())).collect()
    }

    /// When the oldest of each queue was accepted, and when the next at a timer is due.
    pub(super) fn ages(&self, queues: &[QueueKey]) -> SecondaryMap<QueueKey, (UnixMs, Option<UnixMs>)> {
        let mut ages = SecondaryMap::new();
        if self.entries.len() > MAX_LOOKED_THROUGH {
            return ages;
        }
        ages.extend(queues.iter().map(|key| (*key, (UnixMs(u64::MAX), None))));
        for entry in self.entries.values() {
            let Some((oldest, next)) = ages.get_mut(entry.queue) else { continue };
            *oldest = entry.received.min(*oldest);
            if entry.place == Place::Timer {
                *next = Some(next.map_or(entry.due, |next: UnixMs| next.min(entry.due)));
            }
        }
        ages
    }

    fn queue_row(&mut self, key: QueueKey, ages: Option<(UnixMs, Option<UnixMs>)>) -> Option<QueueRow> {
        let suspended_by = self.blocks(key)?.whole;
        let queue = self.queues.get(key)?;
        Some(QueueRow {
            queue: queue.key.0.to_string(),
            pool: queue.key.1.clone(),
            priority: queue.priority(),
            held: queue.held,
            due: queue.waiting,
            oldest: ages.map(|(oldest, _)| oldest),
            next_due: ages.and_then(|(_, next)| next),
            lead: lead_text(&queue.lead),
            suspended_by,
        })
    }

    /// Ready queues, those with most waiting first.
    pub fn show_ready(&self, filter: &Filter, now: UnixMs) -> Vec<ReadyRow> {
        let mut rows = Vec::new();
        for ready in self.ready.values() {
            let Some(site) = self.sites.get(ready.site).map(|slot| slot.site.name.clone()) else { continue };
            let source = ready.source.name.clone();
            if !filter.scope.fits_path(&source, &site) {
                continue;
            }
            let closes = |scope: &Scope| {
                scope.campaign.is_none()
                    && scope.tenant.is_none()
                    && scope.domain.is_none()
                    && scope.routing.is_none()
                    && scope.fits_path(&source, &site)
            };
            let suspended_by = self.controls.blocking().find(|(_, scope)| closes(scope)).map(|(id, _)| id);
            let rest = self.health.rests_until(&ready.source, now);
            rows.push(ReadyRow {
                waiting: ready.waiting.len(),
                sessions: ready.sessions,
                idle: ready.idle.len(),
                held_until: Some(ready.held_until).filter(|until| *until > now).max(rest),
                failures: ready.failures,
                why: ready.why.as_deref().map(str::to_owned),
                suspended_by,
                source,
                site,
            });
        }
        rows.sort_by(|a, b| (b.waiting, b.sessions, &a.source).cmp(&(a.waiting, a.sessions, &b.source)));
        rows.truncate(filter.limit);
        rows
    }

    /// Parts by tenant, campaign, domain and pool, the largest first.
    pub fn show_summary(&self, limit: usize) -> Summary {
        let mut sums: [HashMap<&str, SumRow>; 4] = Default::default();
        for queue in self.queues.values().filter(|queue| queue.held > 0) {
            let (name, pool, _) = &queue.key;
            let names = [name.tenant().unwrap_or(""), name.campaign().unwrap_or(""), name.domain(), pool];
            for (sums, name) in sums.iter_mut().zip(names) {
                let empty = || SumRow { name: name.to_owned(), queues: 0, held: 0, due: 0 };
                let sum = sums.entry(name).or_insert_with(empty);
                sum.queues += 1;
                sum.held += queue.held;
                sum.due += queue.waiting;
            }
        }
        let [tenants, campaigns, domains, pools] = sums.map(|sums| {
            let mut rows: Vec<SumRow> = sums.into_values().collect();
            rows.sort_by(|a, b| (b.held, &a.name).cmp(&(a.held, &b.name)));
            rows.truncate(limit);
            rows
        });
        Summary { held: self.entries.len(), tenants, campaigns, domains, pools }
    }

    /// The parts of a message that are queued.
    pub fn show_message(&mut self, id: MessageId, now: UnixMs) -> Vec<PartRow> {
        let found = self.entries.iter().filter(|(_, entry)| entry.id == id);
        let mut keys: Vec<(u16, EntryKey)> = found.map(|(key, entry)| (entry.part, key)).collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|(_, key)| self.part_row(key, now)).collect()
    }

    fn part_row(&mut self, key: EntryKey, now: UnixMs) -> Option<PartRow> {
        let waits_for = self.why_part(key, now)?.blockers.into_iter().map(|blocker| blocker.text).collect();
        let entry = self.entries.get(key)?;
        let &(ref queue, ref pool, priority) = &self.queues.get(entry.queue)?.key;
        let place = match entry.place {
            Place::Timer => "timer",
            Place::Due => "due",
            Place::Ready => "ready",
            Place::Session => "session",
            Place::Reporting => "reporting",
        };
        let Entry { part, attempts, due, received, .. } = *entry;
        let expires = received.plus(self.options_of(entry.queue).max_age);
        let (queue, pool, settled) = (queue.to_string(), pool.clone(), entry.settled.to_vec());
        Some(PartRow { part, queue, pool, priority, place, attempts, due, expires, settled, waits_for })
    }
}

fn lead_text(lead: &Lead) -> String {
    match lead {
        Lead::Unknown => "not looked up yet".to_owned(),
        Lead::Asked => "the DNS is being asked".to_owned(),
        Lead::Known(site, _) => site.name.to_string(),
        Lead::Failed(_, why) => format!("no site is known: {why}"),
    }
}
