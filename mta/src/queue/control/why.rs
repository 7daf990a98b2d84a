//! Why mail does not move: what blocks it now, in order, who set that, since when, and when it can go. Pure; changes
//! nothing but caches. Floor 2.
//! Always: what is told is what the engine itself looks at before it lets a part go on, from the orders over the
//! schedule and the DNS to the sources; nothing is guessed from the past.

use std::cmp::Reverse;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use serde::Serialize;

use super::kept::Wait;
use super::ways::{held, reached};
use super::words::{By, ControlId, Scope};
use crate::message::MessageId;
use crate::queue::engine::{Engine, QueueKey, ReadyKey};
use crate::queue::scheduled::{Entry, Place, Scheduled};
use crate::queue::words::{EntryKey, HELD};
use crate::routing::source::Source;

/// What keeps mail back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A suspension.
    Suspension,
    /// The path is on its way back after a suspension.
    Recovery,
    /// A bounce or a move that works on it.
    Job,
    /// The program is ending.
    Stop,
    /// Its sender had it held.
    Hold,
    /// Its next attempt is not due.
    Schedule,
    /// The DNS is being asked, or gave no answer.
    Dns,
    /// A source rests behind one proxy.
    SourceRest,
    /// A proxy rests.
    ProxyRest,
    /// The path from a source to a site rests after a failure, or waits for a limit.
    PathRest,
    /// Its pool has no source now.
    Pool,
    /// The site has no address of the source's family.
    Family,
    /// A limit is reached.
    Limit,
    /// The ready queue is full.
    Room,
    /// Others are before it.
    Turn,
    /// An attempt is under way.
    Session,
    /// A report to its sender is being stored.
    Report,
}

/// Who set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Setter {
    /// An order.
    Operator,
    /// A rule over the answers of destinations.
    Automation,
    /// Who sent the message.
    Sender,
    /// The mail server that it goes to.
    Destination,
    /// The DNS.
    Dns,
    /// The source's host or address.
    Source,
    /// The proxy, or the way to it.
    Proxy,
    /// A limit.
    Limit,
    /// This program's own order of things.
    Mta,
}

/// One thing that keeps mail back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// What it is.
    pub what: What,
    /// Who set it.
    pub set_by: Setter,
    /// Since when, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMs>,
    /// When it ends by itself, or is tried again, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMs>,
    /// The one source that it concerns; others may be free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// In words.
    pub text: String,
}

/// Why something does not move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// What this is about: a part, a queue, a source, a path.
    pub about: String,
    /// The part of the message, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u16>,
    /// Parts in it.
    pub held: usize,
    /// Those that are due.
    pub due: usize,
    /// What blocks it, in the order in which it is looked at.
    pub blockers: Vec<Blocker>,
    /// The earliest time at which something of it can go; absent if that depends on something whose end is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest: Option<UnixMs>,
}

/// Blockers as they are found: each must end before the next counts.
pub(super) struct Found {
    pub(super) blockers: Vec<Blocker>,
    pub(super) earliest: Option<UnixMs>,
}

impl Found {
    pub(super) fn new(now: UnixMs) -> Self {
        Self { blockers: Vec::new(), earliest: Some(now) }
    }

    pub(super) fn add(&mut self, blocker: Blocker) {
        self.after(blocker.until);
        self.blockers.push(blocker);
    }

    pub(super) fn after(&mut self, until: Option<UnixMs>) {
        self.earliest = self.earliest.zip(until).map(|(earliest, until)| earliest.max(until));
    }

    /// For the first of these limits.
    fn wait_for(&mut self, limits: &[Wait]) {
        for Wait { limited, words, source } in limits {
            let blocker = reached(&limited.by, words).lasting(Some(limited.since), limited.by.until);
            self.blockers.push(blocker.of(source));
        }
        let until: Option<Vec<UnixMs>> = limits.iter().map(|wait| wait.limited.by.until).collect();
        self.after(until.and_then(|until| until.into_iter().min()));
    }

    fn why(self, about: String, held: usize, due: usize) -> Why {
        Why { about, part: None, held, due, blockers: self.blockers, earliest: self.earliest }
    }
}

impl Blocker {
    pub(super) fn new(what: What, set_by: Setter, text: impl Into<String>) -> Self {
        Self { what, set_by, since: None, until: None, source: None, text: text.into() }
    }

    pub(super) fn lasting(self, since: Option<UnixMs>, until: Option<UnixMs>) -> Self {
        Self { since, until, ..self }
    }

    pub(super) fn of(self, source: &Source) -> Self {
        Self { source: Some(source.name.clone()), ..self }
    }
}

impl Engine {
    /// Why the parts of a message do not move; empty if none is queued.
    pub fn why_message(&mut self, id: MessageId, now: UnixMs) -> Vec<Why> {
        let found = self.entries.iter().filter(|(_, entry)| entry.id == id);
        let mut keys: Vec<(u16, EntryKey)> = found.map(|(key, entry)| (entry.part, key)).collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|(_, key)| self.why_part(key, now)).collect()
    }

    /// Why the queues that `scope` covers do not move, the largest first, at most `limit`.
    pub fn why_queues(&mut self, scope: &Scope, limit: usize, now: UnixMs) -> Vec<Why> {
        let found = self.queues.iter().filter(|(_, queue)| queue.held > 0 && scope.fits_name(&queue.key.0));
        let mut keys: Vec<_> = found.map(|(key, queue)| (Reverse(queue.held), key)).collect();
        keys.sort_unstable();
        keys.truncate(limit);
        let keys: Vec<QueueKey> = keys.into_iter().map(|(_, key)| key).collect();
        let ages = self.ages(&keys);
        keys.into_iter().map(|key| self.why_queue(key, ages.get(key).and_then(|(_, next)| *next), now)).collect()
    }

    /// Why a source sends nothing, and what each of its paths waits for; `None` if no pool has it.
    pub fn why_source(&self, name: &str, now: UnixMs) -> Option<Vec<Why>> {
        let members = self.pools.values().flat_map(|(pool, _)| &pool.members);
        let source = members.map(|(source, _)| source).find(|source| &*source.name == name)?.clone();
        let ready: Vec<_> = self.ready.iter().filter(|(_, ready)| ready.source.name == source.name).collect();
        let waiting = ready.iter().map(|(_, ready)| ready.waiting.len()).sum();
        let mut found = self.found(now);
        for (id, scope) in self.controls.blocking() {
            if scope.is_all_of(&source.name) {
                found.add(self.order(id));
            }
        }
        self.rests(&source, now, &mut found);
        let mut all = vec![found.why(format!("source {name}"), waiting, waiting)];
        all.extend(ready.into_iter().map(|(key, _)| self.why_path(key, now)));
        Some(all)
    }

    fn found(&self, now: UnixMs) -> Found {
        let mut found = Found::new(now);
        if self.draining {
            found.add(Blocker::new(What::Stop, Setter::Operator, "the program is ending; the next start goes on"));
        }
        found
    }

    pub(super) fn why_part(&mut self, key: EntryKey, now: UnixMs) -> Option<Why> {
        let &Entry { place, queue, part, due, received, attempts, .. } = self.entries.get(key)?;
        let mut found = self.found(now);
        if let Some(by) = self.blocks(queue).and_then(|blocks| blocks.whole) {
            found.add(self.order(by));
        }
        match place {
            Place::Timer => {
                found.add(self.schedule_of(queue, attempts, received, due, now));
                self.way_of(queue, now, &mut found);
            }
            Place::Due => self.way_of(queue, now, &mut found),
            Place::Ready => {
                let is_there = |(_, ready): &(ReadyKey, &_)| -> bool { holds(ready, key) };
                if let Some((ready, _)) = self.ready.iter().find(is_there) {
                    self.turn_of(ready, Some(queue), now, &mut found);
                }
            }
            Place::Session => found.add(self.attempt_of(key)),
            Place::Reporting => {
                let text = "a report to its sender is being stored";
                found.add(Blocker::new(What::Report, Setter::Mta, text));
            }
        }
        let about = self.queues.get(queue)?.key.0.to_string();
        Some(Why { part: Some(part), ..found.why(about, 1, usize::from(due <= now)) })
    }

    fn why_queue(&mut self, key: QueueKey, next_due: Option<UnixMs>, now: UnixMs) -> Why {
        let mut found = self.found(now);
        if let Some(by) = self.blocks(key).and_then(|blocks| blocks.whole) {
            found.add(self.order(by));
        }
        let queue = &self.queues[key];
        let (about, held, due) = (about(queue), queue.held, queue.waiting);
        if due == 0 && next_due.is_some() {
            let words = queue.last.as_ref().map_or_else(String::new, |last| format!("; last answer: {}", last.text));
            let text = format!("no part is due before the next attempt{words}");
            let since = queue.last.as_ref().map(|last| last.at);
            let setter = if queue.last.is_some() { Setter::Destination } else { Setter::Mta };
            found.add(Blocker::new(What::Schedule, setter, text).lasting(since, next_due));
        }
        self.way_of(key, now, &mut found);
        let waits = if found.blockers.is_empty() { self.ready_waits_for(key, now) } else { Vec::new() };
        if !waits.is_empty() {
            found.wait_for(&waits);
        } else if found.blockers.is_empty() && due == 0 {
            self.under_way(key, now, &mut found);
        }
        found.why(about, held, due)
    }

    /// Where the parts of a queue are that none of its lists holds.
    fn under_way(&self, queue: QueueKey, now: UnixMs, found: &mut Found) {
        let is_of = |entry: &EntryKey| self.entries.get(*entry).is_some_and(|entry| entry.queue == queue);
        for (key, _) in self.ready.iter().filter(|(_, ready)| ready.waiting.iter().any(|entry| is_of(&entry))) {
            self.turn_of(key, Some(queue), now, found);
        }
        let held = self.sessions.values().flat_map(|session| &session.holds).filter(|entry| is_of(entry)).count();
        if found.blockers.is_empty() && held > 0 {
            let text = format!("{held} parts are carried by sessions now");
            found.add(Blocker::new(What::Session, Setter::Destination, text));
        }
    }

    fn why_path(&self, key: ReadyKey, now: UnixMs) -> Why {
        let (mut found, ready) = (self.found(now), &self.ready[key]);
        let site = self.site_name(key);
        let closes = |scope: &Scope| scope.is_of_all_mail() && scope.fits_path(&ready.source.name, site);
        if let Some((by, _)) = self.controls.blocking().find(|(_, scope)| closes(scope)) {
            found.add(self.order(by));
        }
        self.turn_of(key, None, now, &mut found);
        let waiting = ready.waiting.len();
        found.why(format!("source {} to {site}", ready.source.name), waiting, waiting)
    }

    pub(super) fn order(&self, id: ControlId) -> Blocker {
        if let Some(control) = self.controls.kept.iter().find(|control| control.id == id) {
            let text = format!("control {id} over {}: {}", control.scope, control.reason);
            let setter = match control.by {
                By::Operator => Setter::Operator,
                By::Automation => Setter::Automation,
            };
            let blocker = Blocker::new(What::Suspension, setter, text);
            return blocker.lasting(Some(control.created), Some(control.expires));
        }
        Blocker::new(What::Job, Setter::Operator, format!("job {id} is to bounce or to move it"))
    }

    /// Why a part waits at its timer.
    fn schedule_of(&self, queue: QueueKey, attempts: u16, received: UnixMs, due: UnixMs, now: UnixMs) -> Blocker {
        let last = self.queues.get(queue).and_then(|queue| queue.last.as_ref());
        if due == HELD {
            let text = "a session died behind its content, which may have been taken: `queue requeue` sends it again, \
                        `queue bounce` gives it up, at its age's end it expires";
            return Blocker::new(What::Hold, Setter::Mta, text);
        }
        let blocker = match (attempts, last) {
            _ if received > now => Blocker::new(What::Hold, Setter::Sender, "its sender has it held"),
            (0, _) => Blocker::new(What::Schedule, Setter::Mta, "its last try did not count and is made again shortly"),
            (_, None) => {
                let text = format!("{attempts} attempts so far; the next is not due");
                Blocker::new(What::Schedule, Setter::Destination, text)
            }
            (_, Some(last)) => {
                let text = format!("{attempts} attempts so far; the last answer to its queue: {}", last.text);
                Blocker { since: Some(last.at), ..Blocker::new(What::Schedule, Setter::Destination, text) }
            }
        };
        Blocker { until: Some(due), ..blocker }
    }

    fn attempt_of(&self, key: EntryKey) -> Blocker {
        let held = self.sessions.iter().find(|(_, session)| session.holds.contains(&key));
        let Some((number, session)) = held else {
            return Blocker::new(What::Session, Setter::Destination, "an attempt is under way");
        };
        let source = &self.ready[session.ready].source;
        let text = format!("session #{number} carries it from {} to {}", source.name, self.site_name(session.ready));
        Blocker::new(What::Session, Setter::Destination, text).lasting(Some(session.opened), None).of(source)
    }

    /// What a part of a ready queue waits for; if a queue is given, a part of that.
    fn turn_of(&self, key: ReadyKey, queue: Option<QueueKey>, now: UnixMs, found: &mut Found) {
        let ready = &self.ready[key];
        let limits = self.waits_for(ready, queue, now);
        self.rests(&ready.source, now, found);
        if ready.held_until > now {
            found.add(held(ready));
        } else if !limits.is_empty() {
            found.wait_for(&limits);
        } else if !ready.waiting.is_empty() {
            let (waiting, open) = (ready.waiting.len(), ready.sessions);
            let most = ready.most_sessions();
            let why = ready.why.as_ref().map(|why| format!("; the last failure: {why}")).unwrap_or_default();
            let by_class = by_class(ready.waiting.counts());
            if let Some(text) = self.recovery_text(key, now) {
                found.add(Blocker::new(What::Recovery, Setter::Automation, text).of(&ready.source));
            }
            let text = format!("{waiting} parts{by_class} have their turns in {open} sessions, of at most {most}{why}");
            found.add(Blocker::new(What::Turn, Setter::Limit, text).lasting(None, None).of(&ready.source));
        }
    }
}

/// A queue in words.
fn about(queue: &Scheduled) -> String {
    let (name, pool, priority) = &queue.key;
    let priority = if priority.is_normal() { String::new() } else { format!(", priority {priority}") };
    format!("{name}, pool {pool}{priority}")
}

fn holds(ready: &crate::queue::ready::Ready, key: EntryKey) -> bool {
    ready.waiting.iter().any(|entry| entry == key)
}

/// How many wait of each priority, if they are not all normal.
fn by_class([high, normal, low]: [usize; 3]) -> String {
    if high + low == 0 { String::new() } else { format!(" ({high} high, {normal} normal, {low} low)") }
}
