//! The engine against a world of scripted sessions, faults and DNS, with a moved clock.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Reason};
use egret_shared::limits::Limits;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::ahead::MOST_HELD;
use super::control::words::Control;
use super::engine::Timer;
use super::floors::Floor;
use super::scheduled::{Place, is_due_in};
use super::*;
use crate::dns::site::{MxHost, Protocol, Site};
use crate::message::*;
use crate::routing::pool::Pool;
use crate::routing::source::{Source, Way};
use crate::shaping::options::PathLimits;
use crate::shaping::per_site::PerSite;

const MINUTE: Duration = Duration::from_secs(60);
const START: UnixMs = UnixMs(1_000_000);

impl Engine {
    /// Every live entry says where it is, and a key of it is there.
    fn check(&self, reporting: &HashSet<EntryKey>) {
        let mut keys: HashSet<(Place, EntryKey)> = HashSet::new();
        let timers = self.each_timer().filter_map(|timer| match timer {
            Timer::Entry(entry) => Some((Place::Timer, entry)),
            _ => None,
        });
        let due = self.queues.iter().flat_map(|(key, queue)| queue.due.iter().map(move |e| (key, *e)));
        let due = due.filter(|(queue, e)| is_due_in(&self.entries, *e, *queue)).map(|(_, e)| (Place::Due, e));
        let held = self.sessions.values().flat_map(|s| s.holds.iter().map(|entry| (Place::Session, *entry)));
        keys.extend(timers.chain(due).chain(held).chain(reporting.iter().map(|e| (Place::Reporting, *e))));
        for entry in self.ready.values().flat_map(|r| r.waiting.iter()) {
            assert!(keys.insert((Place::Ready, entry)), "an entry is in two ready queues");
            assert_eq!(self.entries.get(entry).map(|e| e.place), Some(Place::Ready), "a ready queue holds another's");
        }
        for ready in self.ready.values() {
            for queue in ready.waiting.iter().filter_map(|entry| self.entries.get(entry)).map(|entry| entry.queue) {
                let pool = self.pool_of(queue).expect("a pool");
                assert!(pool.members.iter().any(|(source, _)| *source == ready.source), "it leaves from elsewhere");
            }
        }
        for (key, slot) in &self.sites {
            let retired = self.ready.values().filter(|ready| ready.site == key && ready.retired);
            assert_eq!(slot.retired, retired.count());
        }
        for (key, entry) in &self.entries {
            assert!(keys.contains(&(entry.place, key)), "{} part {} is not at {:?}", entry.id, entry.part, entry.place);
        }
        for (key, queue) in &self.queues {
            let own = || self.entries.values().filter(|e| e.queue == key);
            assert_eq!(queue.held, own().count());
            assert_eq!(queue.waiting, own().filter(|e| e.place == Place::Due).count());
        }
        for (key, ready) in &self.ready {
            assert_eq!(ready.sessions, self.sessions.values().filter(|s| s.ready == key).count());
            assert!(ready.sessions <= ready.budget.sessions);
            let held = |number: &u64| self.sessions.get(number).map(|session| session.holds.len());
            assert!(ready.idle.iter().all(|number| held(number) == Some(0)), "an idle session has a ticket");
            let may_more = |number: &u64| held(number).is_some_and(|held| (1..MOST_HELD).contains(&held));
            assert!(ready.quick.iter().all(may_more), "a session may have more than it may");
            assert!(ready.quick.iter().all(|quick| !self.sessions[quick].is_released));
        }
    }
}

fn source(name: &str) -> Arc<Source> {
    let name: Arc<str> = name.into();
    Arc::new(Source {
        name: name.clone(),
        address: Some([127, 0, 0, 1].into()),
        ehlo_name: name,
        names_itself: true,
        warmup: Vec::new(),
        ways: vec![Way::Direct],
    })
}

fn site(name: &str) -> Arc<Site> {
    let host = MxHost {
        name: name.into(),
        addresses: vec![[127, 0, 0, 9].into()],
        port: 25,
        policy: crate::dns::site::HostPolicy::None,
    };
    Arc::new(Site { name: name.into(), hosts: vec![host], protocol: Protocol::Smtp })
}

/// What limits paths, as a test says.
#[derive(Clone, Default)]
struct Shaped(
    Arc<Mutex<PerSite<Arc<PathLimits>>>>,
    Arc<Mutex<HashMap<String, Arc<PathLimits>>>>,
    Arc<Mutex<Arc<[Floor]>>>,
);

impl Paths for Shaped {
    fn limits(&self, source: &str, site: &Site) -> Arc<PathLimits> {
        let of_source = self.1.lock().get(source).cloned();
        of_source.unwrap_or_else(|| self.0.lock().of(&site.name).clone())
    }

    fn floors(&self) -> Arc<[Floor]> {
        self.2.lock().clone()
    }
}

/// So many sessions at once.
fn sessions(most: u32) -> Arc<PathLimits> {
    Arc::new(PathLimits { connection_limit: most.into(), ..PathLimits::default() })
}

fn meter() -> Meter {
    Meter::new(Limits::memory(), false, START, std::time::Instant::now())
}

fn options() -> QueueOptions {
    QueueOptions {
        retry_interval: MINUTE,
        max_retry_interval: 20 * MINUTE,
        max_age: 24 * 60 * MINUTE,
        max_ready: 4,
        delay_notice: DelayNotice::default(),
    }
}

/// The engine with everything around it played by the test.
struct World {
    shaped: Shaped,
    engine: Engine,
    now: UnixMs,
    acts: Vec<Act>,
    tickets: HashMap<u64, Ticket>,
    /// What was handed to busy sessions.
    ahead: HashMap<u64, VecDeque<Ticket>>,
    /// A session that is told of the end carries out what it has ahead, as one does that has written it.
    finishes: bool,
    idle: HashSet<u64>,
    opened: Vec<(Arc<str>, u64)>,
    asked: Vec<PartKey>,
    failed: Vec<Notice>,
    marks: HashMap<MessageId, Mark>,
    kept: Vec<Control>,
}

impl World {
    fn new(sources: usize, limit: u32) -> Self {
        let members = (0..sources).map(|i| (source(&format!("s{i}")), 1)).collect();
        let pool = Pool { name: "p".into(), members };
        let shaped = Shaped::default();
        *shaped.0.lock() = sessions(limit).into();
        let engine = Engine::new(options(), shaped.clone(), meter(), vec![pool], "p".into(), 7);
        Self {
            shaped,
            engine,
            now: START,
            acts: Vec::new(),
            tickets: HashMap::new(),
            ahead: HashMap::new(),
            finishes: false,
            idle: HashSet::new(),
            opened: Vec::new(),
            asked: Vec::new(),
            failed: Vec::new(),
            marks: HashMap::new(),
            kept: Vec::new(),
        }
    }

    /// Other limits of paths.
    fn shape(&mut self, limits: impl Into<PerSite<Arc<PathLimits>>>) {
        *self.shaped.0.lock() = limits.into();
        self.engine.paths_changed();
    }

    fn admit(&mut self, domain: &str, recipients: u16) -> MessageId {
        self.admit_with(QueueName::of_domain(domain), recipients)
    }

    fn admit_to(&mut self, queue: QueueName) -> MessageId {
        self.admit_with(queue, 1)
    }

    fn admit_with(&mut self, queue: QueueName, recipients: u16) -> MessageId {
        let id = MessageId::generate();
        let (pool, received) = ("p".into(), self.now);
        let (settled, hears_of_delay, priority) = (Vec::new(), true, Priority::Normal);
        let (part, attempts, due) = (0, 0, None);
        let admit =
            Admit { id, part, queue, pool, priority, recipients, received, attempts, due, settled, hears_of_delay };
        self.engine.admit(admit, self.now, &mut self.acts);
        self.play();
        id
    }

    /// Admits one to a queue without checking the engine, which takes long when it holds much.
    fn put(&mut self, queue: QueueName) {
        self.put_as(Priority::Normal, queue);
    }

    /// The same with a priority.
    fn put_as(&mut self, priority: Priority, queue: QueueName) -> MessageId {
        let (id, pool, received) = (MessageId::generate(), "p".into(), self.now);
        let (settled, hears_of_delay) = (Vec::new(), false);
        let (part, recipients, attempts, due) = (0, 1, 0, None);
        let admit =
            Admit { id, part, queue, pool, priority, recipients, received, attempts, due, settled, hears_of_delay };
        self.engine.admit(admit, self.now, &mut self.acts);
        id
    }

    /// Answers every question for a site.
    fn settled_in(&mut self) {
        self.perform();
        for key in std::mem::take(&mut self.asked) {
            self.engine.resolved(&key, known(key.0.domain()), self.now, &mut self.acts);
        }
        self.perform();
    }

    /// Performs the acts as the driver would, and checks the engine.
    fn play(&mut self) {
        self.perform();
        let reporting = self.failed.iter().map(|f| f.key).collect();
        self.engine.check(&reporting);
    }

    fn perform(&mut self) {
        for act in std::mem::take(&mut self.acts) {
            match act {
                Act::Resolve(key) => self.asked.push(key),
                Act::Open { session, source, first, .. } => {
                    self.opened.push((source.name.clone(), session));
                    assert!(self.tickets.insert(session, first).is_none());
                }
                Act::Hand { session, ticket } => {
                    let is_idle = self.idle.remove(&session);
                    let ahead = self.ahead.entry(session).or_default();
                    if is_idle {
                        assert!(self.tickets.insert(session, ticket).is_none() && ahead.is_empty());
                    } else {
                        ahead.push_back(ticket);
                        assert!(ahead.len() < MOST_HELD, "a session has more ahead than there is room for");
                    }
                }
                Act::Release { session } if self.finishes && self.tickets.contains_key(&session) => {}
                Act::Release { session } => self.end_unchecked(session, None),
                Act::Mark { id, mark, .. } => drop(self.marks.insert(id, mark)),
                Act::Report(failed) => self.failed.push(failed),
                Act::Keep(controls) => self.kept = controls,
            }
        }
        if !self.acts.is_empty() {
            self.perform();
        }
    }

    fn answer_dns(&mut self, answer: impl Fn(&str) -> Result<(Arc<Site>, Duration), NoSite>) {
        for key in std::mem::take(&mut self.asked) {
            self.engine.resolved(&key, answer(key.0.domain()), self.now, &mut self.acts);
        }
        self.play();
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
        self.engine.tick(self.now, &mut self.acts);
        self.play();
        self.hear_of_limits();
    }

    /// Tells the engine what the limits say, as the driver would. Whether they said something.
    fn hear_of_limits(&mut self) -> bool {
        let limits = self.engine.limits();
        let mut woken = std::pin::pin!(limits.woken());
        if let Poll::Ready(names) = woken.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.engine.limits_changed(&names, self.now, &mut self.acts);
            self.play();
            return true;
        }
        false
    }

    fn settle(&mut self, session: u64, verdict: Verdict) {
        self.settle_unchecked(session, verdict);
        self.play();
    }

    /// The destination does not want a session: its message is tried again later.
    fn refuse(&mut self, session: u64) {
        let Some(ticket) = self.tickets.remove(&session) else { return };
        let result = result(ticket, Verdict::Retry { counts: true });
        self.engine.session(FromSession::Settled { session, result }, self.now, &mut self.acts);
        self.end(session, Some(Fault::new(Reason::ConnectionRefused, "no")));
    }

    fn settle_unchecked(&mut self, session: u64, verdict: Verdict) {
        let Some(ticket) = self.tickets.remove(&session) else { return };
        self.engine.session(FromSession::Connected { session }, self.now, &mut self.acts);
        let result = result(ticket, verdict);
        match self.ahead.get_mut(&session).and_then(VecDeque::pop_front) {
            Some(next) => drop(self.tickets.insert(session, next)),
            None => drop(self.idle.insert(session)),
        }
        self.engine.session(FromSession::Settled { session, result }, self.now, &mut self.acts);
        self.perform();
    }

    fn end(&mut self, session: u64, fault: Option<Fault>) {
        self.end_unchecked(session, fault);
        self.play();
    }

    fn end_unchecked(&mut self, session: u64, fault: Option<Fault>) {
        self.idle.remove(&session);
        let ahead = self.ahead.remove(&session).into_iter().flatten();
        let returned = self.tickets.remove(&session).into_iter().chain(ahead).collect();
        self.engine.session(FromSession::Ended { session, fault, returned }, self.now, &mut self.acts);
        self.perform();
    }

    fn report_all(&mut self) {
        for failed in std::mem::take(&mut self.failed) {
            self.engine.reported(failed.key, self.now, &mut self.acts);
        }
        self.play();
    }

    /// Lets each session deliver what it holds, until nothing moves; returns how many were delivered.
    fn deliver(&mut self) -> usize {
        let before = self.marks.len();
        while let Some(session) = self.busy().first().copied() {
            self.settle(session, Verdict::Delivered);
            self.hear_of_limits();
        }
        self.marks.len() - before
    }

    /// Delivers what may go, for so long.
    fn deliver_for(&mut self, span: Duration) {
        let until = self.now.plus(span);
        while self.now < until {
            self.deliver();
            self.pass(Duration::from_millis(7));
        }
    }

    /// Open sessions.
    fn sessions(&self) -> usize {
        self.tickets.len() + self.idle.len()
    }

    fn busy(&self) -> Vec<u64> {
        let mut busy: Vec<u64> = self.tickets.keys().copied().collect();
        busy.sort_unstable();
        busy
    }
}

fn fill(world: &mut World, domain: &str, count: usize) {
    for _ in 0..count {
        world.admit(domain, 1);
    }
    world.answer_dns(known);
}

fn result(ticket: Ticket, verdict: Verdict) -> PartResult {
    let response = Response::own(250, EnhancedCode::new(2, 0, 0), "said the test");
    PartResult { ticket, results: vec![RecipientResult { recipient: 0, verdict, response }], witness: None }
}

#[expect(clippy::unnecessary_wraps, reason = "it stands in for a resolver")]
fn known(domain: &str) -> Result<(Arc<Site>, Duration), NoSite> {
    Ok((site(domain), 5 * MINUTE))
}

mod automation;
mod basics;
mod control;
mod floors;
mod limits;
mod model;
mod notice;
mod pools;
mod priority;
mod property;
mod rules;
mod warmup;
mod why;
