//! The engine against a world of scripted sessions, faults and DNS, with a moved clock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Reason};
use egret_shared::limits::Limits;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::control::words::Control;
use super::engine::Timer;
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
        let held = self.sessions.values().filter_map(|s| Some((Place::Session, s.holds?)));
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
struct Shaped(Arc<Mutex<PerSite<Arc<PathLimits>>>>, Arc<Mutex<HashMap<String, Arc<PathLimits>>>>);

impl Paths for Shaped {
    fn limits(&self, source: &str, site: &Site) -> Arc<PathLimits> {
        let of_source = self.1.lock().get(source).cloned();
        of_source.unwrap_or_else(|| self.0.lock().of(&site.name).clone())
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
                    assert!(self.idle.remove(&session), "a busy session was handed a ticket");
                    assert!(self.tickets.insert(session, ticket).is_none());
                }
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

    /// Tells the engine what the limits say, as the driver would.
    fn hear_of_limits(&mut self) {
        let limits = self.engine.limits();
        let mut woken = std::pin::pin!(limits.woken());
        if let Poll::Ready(names) = woken.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.engine.limits_changed(&names, self.now, &mut self.acts);
            self.play();
        }
    }

    fn settle(&mut self, session: u64, verdict: Verdict) {
        self.settle_unchecked(session, verdict);
        self.play();
    }

    fn settle_unchecked(&mut self, session: u64, verdict: Verdict) {
        let Some(ticket) = self.tickets.remove(&session) else { return };
        self.engine.session(FromSession::Connected { session }, self.now, &mut self.acts);
        let response = Response::own(250, EnhancedCode::new(2, 0, 0), "said the test");
        let results = vec![RecipientResult { recipient: 0, verdict, response }];
        let result = PartResult { ticket, results, witness: None };
        self.idle.insert(session);
        self.engine.session(FromSession::Settled { session, result }, self.now, &mut self.acts);
        self.perform();
    }

    fn end(&mut self, session: u64, fault: Option<Fault>) {
        self.end_unchecked(session, fault);
        self.play();
    }

    fn end_unchecked(&mut self, session: u64, fault: Option<Fault>) {
        self.idle.remove(&session);
        let returned = self.tickets.remove(&session).into_iter().collect();
        self.engine.session(FromSession::Ended { session, fault, returned }, self.now, &mut self.acts);
        self.perform();
    }

    fn report_all(&mut self) {
        for failed in std::mem::take(&mut self.failed) {
            self.engine.reported(failed.key, self.now, &mut self.acts);
        }
        self.play();
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

#[expect(clippy::unnecessary_wraps, reason = "it stands in for a resolver")]
fn known(domain: &str) -> Result<(Arc<Site>, Duration), NoSite> {
    Ok((site(domain), 5 * MINUTE))
}

#[test]
fn a_message_goes_out_at_once_and_is_done() {
    let mut world = World::new(1, 5);
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    let busy = world.busy();
    assert_eq!(busy.len(), 1);
    world.settle(busy[0], Verdict::Delivered);
    assert_eq!(world.marks.get(&id), Some(&Mark::Done));
    assert!(world.engine.is_empty());
}

#[test]
fn an_answer_counts_and_backs_off_a_fault_does_neither() {
    let mut world = World::new(1, 5);
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    let session = world.busy()[0];
    world.end(session, Some(Fault::new(Reason::SourceNotPlumbed, "gone")));
    assert!(world.busy().is_empty() && !world.marks.contains_key(&id), "a source fault must not touch the message");
    world.pass(Duration::from_secs(2));
    let session = world.busy()[0];
    world.settle(session, Verdict::Retry { counts: true });
    let Some(Mark::Later { attempts, due, .. }) = world.marks.get(&id) else { panic!("no mark") };
    let wait = due.since(world.now);
    assert!(*attempts == 1 && wait >= MINUTE * 95 / 100 && wait <= MINUTE * 105 / 100, "{attempts} {wait:?}");
}

#[test]
fn a_source_fault_moves_everything_to_the_other_source_at_once() {
    let mut world = World::new(2, 1);
    for _ in 0..6 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let (name, session) = world.opened[0].clone();
    world.end(session, Some(Fault::new(Reason::SourceNotPlumbed, "gone")));
    for _ in 0..10 {
        for session in world.busy() {
            assert_ne!(world.opened.iter().find(|(_, s)| *s == session).map(|(n, _)| n), Some(&name));
            world.settle(session, Verdict::Delivered);
        }
    }
    assert!(world.engine.is_empty());
}

#[test]
fn a_dead_site_costs_one_probe_at_a_time() {
    let mut world = World::new(1, 8);
    for _ in 0..50 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    while let Some(session) = world.busy().first().copied() {
        world.end(session, Some(Fault::new(Reason::ConnectionRefused, "refused")));
    }
    world.opened.clear();
    for _ in 0..600 {
        world.pass(Duration::from_secs(1));
        assert!(world.busy().len() <= 1, "more than one probe");
        for session in world.busy() {
            world.end(session, Some(Fault::new(Reason::ConnectionRefused, "refused")));
        }
    }
    assert!(world.opened.len() <= 20, "{} probes in ten minutes", world.opened.len());
}

#[test]
fn sessions_that_fail_together_are_one_failure() {
    let mut world = World::new(1, 8);
    for _ in 0..50 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let busy = world.busy();
    assert!(busy.len() > 1);
    for session in busy {
        world.end(session, Some(Fault::new(Reason::ConnectionRefused, "refused")));
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.busy().len(), 1, "the site is probed after the first rest");
}

#[test]
fn what_no_one_takes_expires_wherever_it_waits() {
    let mut world = World::new(1, 1);
    let ids: Vec<MessageId> = (0..5).map(|_| world.admit("a.test", 2)).collect();
    world.answer_dns(known);
    world.admit("no-dns.test", 1);
    world.pass(25 * 60 * MINUTE);
    world.pass(MINUTE);
    // One is in flight; the others and the one without a site have expired.
    assert_eq!(world.failed.iter().filter(|f| f.cause == Cause::Expired).count(), 5);
    assert!(world.marks.is_empty(), "nothing is marked before its report is stored");
    world.report_all();
    assert_eq!(ids.iter().filter(|id| world.marks.get(id) == Some(&Mark::Done)).count(), 4);
}

#[test]
fn a_domain_that_does_not_exist_bounces_one_that_is_unknown_waits() {
    let mut world = World::new(1, 1);
    world.admit("gone.test", 3);
    let later = world.admit("later.test", 1);
    let response = Response::own(550, EnhancedCode::new(5, 1, 2), "no such domain");
    world.answer_dns(|domain| match domain {
        "gone.test" => Err(NoSite::Permanent(response.clone())),
        _ => Err(NoSite::Temporary(response.clone())),
    });
    assert_eq!(world.failed.len(), 1);
    assert_eq!(world.failed[0].results.len(), 3);
    world.report_all();
    assert!(!world.marks.contains_key(&later));
    world.pass(MINUTE);
    assert_eq!(world.asked.len(), 1, "DNS is asked again about the other");
}

#[test]
fn draining_finishes_what_is_in_flight_and_starts_nothing() {
    let mut world = World::new(1, 2);
    for _ in 0..9 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let busy = world.busy();
    world.engine.drain(&mut world.acts);
    world.play();
    assert!(!world.engine.is_drained());
    for session in busy {
        world.settle(session, Verdict::Delivered);
    }
    assert!(world.engine.is_drained());
    assert_eq!(world.engine.len(), 9 - world.marks.len());
}

#[test]
fn a_tenant_with_ten_messages_does_not_wait_for_a_million_of_another() {
    let mut world = World::new(1, 1);
    for n in 0..20_000u32 {
        world.put(QueueName::new(Some(&format!("c{}", n % 1_000)), Some("a"), "a.test"));
    }
    world.settled_in();
    let b = QueueName::new(None, Some("b"), "a.test");
    for _ in 0..10 {
        world.put(b.clone());
    }
    world.settled_in();
    let mut handed = 0;
    for turn in 1..=25 {
        let session = world.busy()[0];
        handed += usize::from(world.tickets[&session].queue == b);
        world.settle_unchecked(session, Verdict::Delivered);
        assert!(turn < 25 || handed == 10, "{handed} of ten after {turn} hand-outs");
    }
    world.play();
}

#[test]
fn what_was_held_is_tried_and_its_age_counts_from_the_end_of_the_hold() {
    let day = 24 * 60 * MINUTE;
    let mut world = World::new(1, 1);
    let due = world.now.plus(5 * day);
    let id = MessageId::generate();
    let (queue, pool) = (QueueName::of_domain("a.test"), "p".into());
    // As intake and recovery make it of a message that is five times as long held as it may wait.
    let admit = Admit {
        id,
        part: 0,
        queue,
        pool,
        priority: Priority::Normal,
        recipients: 1,
        received: due,
        attempts: 0,
        due: Some(due),
        settled: Vec::new(),
        hears_of_delay: true,
    };
    world.engine.admit(admit, world.now, &mut world.acts);
    world.play();
    for _ in 0..5 {
        assert!(world.asked.is_empty() && world.failed.is_empty(), "nothing happens before it is due");
        world.pass(day);
    }
    world.answer_dns(known);
    assert_eq!(world.tickets.len(), 1, "it is tried when it is due");
    while world.failed.is_empty() && world.now < due.plus(2 * day) {
        for session in world.tickets.keys().copied().collect::<Vec<_>>() {
            world.settle(session, Verdict::Retry { counts: true });
        }
        world.pass(5 * MINUTE);
        world.answer_dns(known);
    }
    let expired: Vec<_> = world.failed.iter().map(|failed| (failed.ticket.id, failed.cause)).collect();
    assert_eq!(expired, [(id, Cause::Expired)]);
    let age = world.now.since(due);
    assert!(age >= day && age <= day + 30 * MINUTE, "it expired after {age:?}");
}

#[test]
fn a_long_due_list_expires_in_steps() {
    let mut world = World::new(1, 1);
    for _ in 0..400_000 {
        world.put(QueueName::of_domain("a.test"));
    }
    world.settled_in();
    world.now = world.now.plus(25 * 60 * MINUTE);
    let mut steps = 0;
    while world.engine.len() > 1 && steps < 10_000 {
        steps += 1;
        world.now = world.engine.next_wake().unwrap_or(world.now).max(world.now);
        let began = std::time::Instant::now();
        world.engine.tick(world.now, &mut world.acts);
        assert!(began.elapsed() < Duration::from_millis(200), "one turn took {:?}", began.elapsed());
        assert!(world.acts.len() <= 600, "{} acts in one turn", world.acts.len());
        for act in std::mem::take(&mut world.acts) {
            if let Act::Report(failed) = act {
                world.engine.reported(failed.key, world.now, &mut Vec::new());
            }
        }
    }
    assert_eq!(world.engine.len(), 1, "all but the one in flight have expired");
}

mod automation;
mod control;
mod limits;
mod model;
mod notice;
mod pools;
mod priority;
mod property;
mod rules;
mod why;
