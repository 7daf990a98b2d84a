//! The engine against a plain reference, over random schedules with a moved clock: attempts are counted
//! exactly, due times are what the back-off of their queue says, expiry is never early and at most a round late, and a
//! suspension counts nothing, while a tenant's own options come and go.

use std::collections::BTreeMap;

use super::*;
use crate::queue::control::words::{Scope, Target};
use crate::queue::rules::{QueuePatch, QueueRules, Said, TenantBlock};

/// A round of the sweep, and the longest step of the clock here.
const ROUND: Duration = Duration::from_secs(10);

/// What is known of one message without the engine.
#[derive(Debug)]
struct Known {
    received: UnixMs,
    attempts: u16,
    /// Not handed out before this.
    due: UnixMs,
    /// In a session it does not expire; it was last there then.
    flew: UnixMs,
    is_of_tenant: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Admit(bool),
    Answer(bool),
    Fault,
    Suspend(u16),
    Requeue,
    /// The tenant's own wait and age, in seconds, or none.
    Reload(Option<(u64, u64)>),
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Admit),
        3 => any::<bool>().prop_map(Step::Answer),
        1 => Just(Step::Fault),
        1 => (1u16..600).prop_map(Step::Suspend),
        1 => Just(Step::Requeue),
        1 => prop::option::of((20u64..400, 600u64..4_000)).prop_map(Step::Reload),
        6 => (1u16..1_500).prop_map(Step::Pass),
    ]
}

/// The engine and what is known beside it.
struct Pair {
    world: World,
    known: BTreeMap<MessageId, Known>,
    suspended_until: UnixMs,
    options: QueueOptions,
    of_tenant: QueueOptions,
    reloaded: UnixMs,
}

impl Pair {
    fn new() -> Self {
        let mut world = World::new(1, 2);
        let options = QueueOptions { max_age: 90 * MINUTE, ..options() };
        world.engine.set_options(options);
        let (suspended_until, reloaded) = (UnixMs(0), UnixMs(0));
        Self { world, known: BTreeMap::new(), suspended_until, options, of_tenant: options, reloaded }
    }

    fn tenant() -> Target {
        Target::new(Scope { tenant: Some("t".into()), ..Scope::default() }, false, "suspend").expect("a target")
    }

    fn options(&self, is_of_tenant: bool) -> QueueOptions {
        if is_of_tenant { self.of_tenant } else { self.options }
    }

    /// The tenant's own options are others. What waits for a retry waits no longer than they say.
    fn reload(&mut self, own: Option<(u64, u64)>) {
        let said = |secs: u64| Said { value: Duration::from_secs(secs), words: "w".into(), place: "f:1".into() };
        let (retry_interval, max_age) = own.map(|(wait, age)| (said(wait), said(age))).unzip();
        let patch = QueuePatch { retry_interval, max_age, ..QueuePatch::default() };
        let tenants = [("t".into(), TenantBlock { patch, overall_max_message_rate: None })].into();
        let (base, now) = (self.options, self.world.now);
        self.world.engine.set_queues(base, Arc::new(QueueRules { tenants, ..QueueRules::default() }));
        let (retry_interval, max_age) = own.unwrap_or((base.retry_interval.as_secs(), base.max_age.as_secs()));
        let [retry_interval, max_age] = [retry_interval, max_age].map(Duration::from_secs);
        self.of_tenant = QueueOptions { retry_interval, max_age, ..base };
        self.reloaded = now;
        for known in self.known.values_mut().filter(|known| known.is_of_tenant && known.attempts > 0) {
            known.due = known.due.min(now.plus(retry_interval));
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let world = &mut self.world;
        match step {
            Step::Admit(is_of_tenant) => {
                let (id, received) = (MessageId::generate(), world.now);
                let queue = QueueName::new(None, is_of_tenant.then_some("t"), "a.test");
                let (pool, settled, hears_of_delay, priority) = ("p".into(), Vec::new(), true, Priority::Normal);
                let (part, recipients, attempts, due) = (0, 1, 0, None);
                let admit = Admit {
                    id,
                    part,
                    queue,
                    pool,
                    priority,
                    recipients,
                    received,
                    attempts,
                    due,
                    settled,
                    hears_of_delay,
                };
                world.engine.admit(admit, world.now, &mut world.acts);
                world.play();
                self.known.insert(
                    id,
                    Known { received, attempts: 0, due: received, flew: received, is_of_tenant: *is_of_tenant },
                );
            }
            Step::Answer(counts) => self.answer(*counts)?,
            Step::Fault => {
                if let Some(session) = world.busy().first() {
                    let known = self.known.get_mut(&world.tickets[session].id).expect("admitted");
                    known.flew = world.now;
                    world.end(*session, Some(Fault::new(Reason::SourceNotPlumbed, "gone")));
                }
            }
            Step::Suspend(secs) => {
                let lasts = Duration::from_secs(u64::from(*secs));
                world.engine.suspend(&Self::tenant(), "x".into(), lasts, world.now, &mut world.acts).expect("taken");
                self.suspended_until = self.suspended_until.max(world.now.plus(lasts));
                world.play();
            }
            Step::Requeue => {
                let everything = Target::new(Scope::default(), true, "requeue").expect("a target");
                world.engine.requeue(&everything, world.now).expect("taken");
                for known in self.known.values_mut() {
                    known.due = known.due.min(world.now);
                }
                self.pass(Duration::from_millis(1))?;
            }
            Step::Reload(own) => {
                self.reload(*own);
                self.pass(Duration::from_millis(1))?;
            }
            Step::Pass(secs) => {
                for _ in 0..secs / 5 {
                    self.pass(Duration::from_secs(5))?;
                }
            }
        }
        self.world.answer_dns(known);
        self.look()
    }

    /// A destination says "later": only that counts.
    fn answer(&mut self, counts: bool) -> Result<(), TestCaseError> {
        let Some(session) = self.world.busy().first().copied() else { return Ok(()) };
        let id = self.world.tickets[&session].id;
        self.known.get_mut(&id).expect("admitted").flew = self.world.now;
        self.world.settle(session, Verdict::Retry { counts });
        let Some(Mark::Later { attempts, due, .. }) = self.world.marks.get(&id) else {
            return Err(TestCaseError::fail("no mark"));
        };
        let options = self.options(self.known[&id].is_of_tenant);
        let known = self.known.get_mut(&id).expect("admitted");
        known.attempts += u16::from(counts);
        prop_assert_eq!(*attempts, known.attempts);
        let wait = due.since(self.world.now);
        if counts {
            let wait_of = options.retry_interval * (1 << (known.attempts - 1).min(10));
            let ideal = wait_of.min(options.max_retry_interval);
            prop_assert!(wait >= ideal * 94 / 100 && wait <= ideal * 106 / 100, "{:?} for {:?}", wait, ideal);
        }
        known.due = *due;
        Ok(())
    }

    fn pass(&mut self, span: Duration) -> Result<(), TestCaseError> {
        let before: Vec<u64> = self.world.busy();
        self.world.pass(span);
        self.world.answer_dns(known);
        let now = self.world.now;
        for session in self.world.busy().into_iter().filter(|session| !before.contains(session)) {
            let known = &self.known[&self.world.tickets[&session].id];
            prop_assert!(known.due <= now, "handed out before it was due");
            prop_assert!(!known.is_of_tenant || self.suspended_until <= now, "handed out while it was suspended");
        }
        self.look()
    }

    /// What failed is old enough; what is old enough has failed within a round, unless it is in flight.
    fn look(&mut self) -> Result<(), TestCaseError> {
        let now = self.world.now;
        for failed in std::mem::take(&mut self.world.failed) {
            prop_assert_eq!(failed.cause, Cause::Expired);
            let known = self.known.remove(&failed.ticket.id).expect("failed once");
            let age = self.options(known.is_of_tenant).max_age;
            prop_assert!(known.received.plus(age) <= now, "expired early");
            prop_assert_eq!(failed.ticket.attempts, known.attempts);
            self.world.engine.reported(failed.key, now, &mut self.world.acts);
        }
        self.world.play();
        let ahead = self.world.ahead.values().flatten();
        let flying: HashSet<MessageId> = self.world.tickets.values().chain(ahead).map(|ticket| ticket.id).collect();
        for id in &flying {
            self.known.get_mut(id).expect("admitted").flew = now;
        }
        for (id, known) in self.known.iter().filter(|(id, _)| !flying.contains(*id)) {
            let expiry = known.received.plus(self.options(known.is_of_tenant).max_age);
            let late = now.since(expiry.max(known.flew).max(self.reloaded));
            prop_assert!(late <= 2 * ROUND, "{} is {:?} late", id, late);
        }
        prop_assert_eq!(self.world.engine.len(), self.known.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn the_engine_keeps_every_schedule(steps in prop::collection::vec(step(), 1..60)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.take(step)?;
        }
    }
}
