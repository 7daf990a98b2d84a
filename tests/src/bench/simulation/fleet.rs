//! The simulated fleet: events in the order of their times. Floor 3.
//! The driver's part follows `egret_shared::limits::fleet`, that of sessions follows the queues of the MTA.
//! Always: one batch of a node is under way at a time, and takes its time to the store and back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::limits::Ask;

use super::chance::Chance;
use super::check::Check;
use super::node::{Contact, Node, State, Work};
use super::plan::{Fault, Plan};
use super::store::{Asked, Life};
use super::tally::Tally;
use super::world::World;
use super::{SECOND, Setup};

const MILLISECOND: u64 = 1_000;
/// From a wish to ask until the driver asks.
const SOON: u64 = 50;
/// A server that is not there says so.
const REFUSED: u64 = 300;
/// As the drivers have it: no answer within this is none, …
const TIMEOUT: u64 = 250 * MILLISECOND;
/// … who has nothing to ask asks after this whether the store is there, …
const LISTEN: u64 = 250 * MILLISECOND;
/// … and after so long without an answer the store is away; until then it is asked again so soon.
const PATIENCE: u64 = 600 * MILLISECOND;
const AGAIN: u64 = 100 * MILLISECOND;

/// What happens at a time. Nodes are meant in one of their lives.
#[derive(Debug)]
pub(super) enum Event {
    /// Mail comes to a node.
    Arrival(usize, Life),
    /// A node says that it lives.
    Beat(usize, Life),
    /// A node's driver wakes up.
    Wake(usize, Life),
    /// A node's questions reach the store.
    Reach(usize, Life),
    /// The answers are there.
    Answer(usize, Life, u64),
    /// A node may have heard nothing of the store for a while.
    Listen(usize, Life),
    /// No answer came.
    Failed(usize, Life),
    /// A node looks for the store again.
    Again(usize, Life),
    /// A node is told of a limit.
    Nudge(usize, Life, Arc<str>),
    /// Work may go on.
    Go(usize, Life, u64, u32),
    /// Work has waited long for one place.
    Long(usize, Life, u64, u32),
    /// A message is sent.
    Sent(usize, Life, u64, u32),
    /// A fault begins or ends.
    Fault(Fault),
}

struct Due(u64, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The fleet, its store, and who watches.
pub struct Fleet<'s> {
    pub(super) world: World,
    pub(super) check: Check,
    pub(super) tally: Tally,
    pub(super) nodes: Vec<Option<Node>>,
    pub(super) chance: Chance,
    pub(super) store: &'s mut dyn Asked,
    pub(super) is_store_away: bool,
    pub(super) now: u64,
    pub(super) setup: Setup,
    /// Whose life each was.
    pub(super) lives: Vec<usize>,
    /// What is under way from lives that have ended, too.
    under_way: std::collections::HashMap<u64, Vec<Ask>>,
    events: BinaryHeap<Reverse<Due>>,
    event: u64,
    pub(super) works: u64,
    start: Instant,
}

impl<'s> Fleet<'s> {
    /// A fleet whose nodes start within the first second.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn new(setup: &Setup, plan: &Plan, store: &'s mut dyn Asked) -> anyhow::Result<Self> {
        let world = World::new(setup);
        let mut check = Check::new(plan.most_nodes);
        check.learn(&world.limits);
        world.tight.iter().for_each(|id| check.is_saturated(*id));
        check.excuse("the start", 0, plan.warm_up);
        let mut fleet = Self {
            world,
            check,
            tally: Tally::default(),
            nodes: (0..plan.most_nodes).map(|_| None).collect(),
            chance: Chance::new(setup.seed),
            store,
            is_store_away: false,
            now: 0,
            setup: setup.clone(),
            lives: Vec::new(),
            under_way: std::collections::HashMap::new(),
            events: BinaryHeap::new(),
            event: 0,
            works: 0,
            // Purses look back in time.
            start: Instant::now() + Duration::from_secs(1_000_000),
        };
        for node in 0..setup.nodes {
            fleet.begin(node)?;
        }
        for (at, fault) in &plan.faults {
            fleet.at(*at, Event::Fault(fault.clone()));
        }
        Ok(fleet)
    }

    /// Runs until the end of the day, and tells of each hour of it.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn run(&mut self, tell: &mut dyn FnMut(u64, &Tally, &Check)) -> anyhow::Result<()> {
        let end = u64::try_from(self.setup.day.as_micros())?;
        let step = (end / 24).max(1);
        let mut told = step;
        while let Some(Reverse(Due(at, _, event))) = self.events.pop() {
            if at >= end {
                break;
            }
            if at >= told {
                tell(told, &self.tally, &self.check);
                told += step;
            }
            self.now = at;
            self.happens(event)?;
        }
        self.now = end;
        self.check.end(end);
        Ok(())
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.event += 1;
        self.events.push(Reverse(Due(at, self.event, event)));
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + Duration::from_micros(self.now)
    }

    /// A node in this life, if it still has it.
    pub(super) fn node(&mut self, node: usize, life: Life) -> Option<&mut Node> {
        self.nodes[node].as_mut().filter(|node| node.life == life)
    }

    /// A node starts, under a name of its own.
    pub(super) fn begin(&mut self, node: usize) -> anyhow::Result<()> {
        let life = self.lives.len();
        self.lives.push(node);
        let name = format!("node-{node:03}.example-{life}");
        self.store.begins(life, &name)?;
        let source = self.chance.between(0, self.setup.sources as u64);
        self.nodes[node] = Some(Node::new(life, &name, usize::try_from(source)?));
        let first = self.now + self.chance.between(0, SECOND);
        self.at(first, Event::Beat(node, life));
        self.at(first, Event::Arrival(node, life));
        for site in 0..self.world.saturated.len() {
            for _ in 0..self.setup.depth {
                self.bring(node, site);
            }
        }
        Ok(())
    }

    /// A node is gone, with its sessions.
    pub(super) fn end(&mut self, node: usize) -> Option<Node> {
        let gone = self.nodes[node].take()?;
        for work in gone.work.values().filter(|work| work.state != State::Waiting) {
            work.path.place_ids.iter().for_each(|id| self.check.freed(*id, self.now));
        }
        Some(gone)
    }

    fn happens(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Arrival(node, life) => self.arrival(node, life),
            Event::Beat(node, life) => self.beat(node, life),
            Event::Wake(node, life) => {
                if let Some(its) = self.node(node, life).filter(|its| its.contact == Contact::Soon) {
                    its.contact = Contact::Quiet;
                    self.exchange(node);
                }
            }
            Event::Reach(node, life) => self.reach(node, life)?,
            Event::Answer(node, life, ticket) => self.answer(node, life, ticket)?,
            Event::Listen(node, life) => self.listen(node, life),
            Event::Failed(node, life) => self.failed(node, life),
            Event::Again(node, life) => self.again(node, life),
            Event::Nudge(node, life, name) => {
                if let Some(its) = self.node(node, life) {
                    its.heard.push(name);
                    self.wish(node);
                }
            }
            Event::Go(node, life, work, step) => {
                if self.is_step(node, life, work, step) {
                    self.go(node, work);
                    self.look(node);
                }
            }
            Event::Sent(node, life, work, step) => {
                if self.is_step(node, life, work, step) {
                    self.sent(node, work);
                    self.look(node);
                }
            }
            Event::Long(node, life, work, step) => {
                if self.is_step(node, life, work, step) {
                    self.waited_long(node, work);
                    self.look(node);
                }
            }
            Event::Fault(fault) => self.fault(&fault)?,
        }
        Ok(())
    }

    fn is_step(&mut self, node: usize, life: Life, work: u64, step: u32) -> bool {
        self.node(node, life).and_then(|its| its.work.get(&work)).is_some_and(|work| work.step == step)
    }

    fn arrival(&mut self, node: usize, life: Life) {
        if self.node(node, life).is_none() {
            return;
        }
        let site = self.world.any_site(&mut self.chance);
        self.bring(node, site);
        let mean = self.world.mean_wait() / self.world.busy(self.now);
        let next = self.now + self.chance.wait(mean);
        self.at(next, Event::Arrival(node, life));
        self.look(node);
    }

    /// Messages for a site, from the next source.
    pub(super) fn bring(&mut self, node: usize, site: usize) {
        let sources = self.setup.sources;
        let Some(its) = &mut self.nodes[node] else { return };
        its.source = (its.source + 1) % sources;
        let path = self.world.path(site, its.source);
        self.check.learn(&self.world.limits);
        self.works += 1;
        let (work, step) = (self.works, 0);
        its.work.insert(work, Work { path, left: self.world.batch(site), state: State::Waiting, step, since: None });
        let life = its.life;
        self.at(self.now, Event::Go(node, life, work, step));
    }

    fn beat(&mut self, node: usize, life: Life) {
        let Some(its) = self.node(node, life) else { return };
        its.beat_due = true;
        self.at(self.now + SECOND, Event::Beat(node, life));
        self.wish(node);
    }

    /// The driver has something to do.
    pub(super) fn wish(&mut self, node: usize) {
        let Some(its) = &mut self.nodes[node] else { return };
        if its.contact == Contact::Quiet {
            its.contact = Contact::Soon;
            let life = its.life;
            self.at(self.now + SOON, Event::Wake(node, life));
        }
    }

    /// After something was done with the purse: what follows from it.
    pub(super) fn look(&mut self, node: usize) {
        self.wake(node);
        if self.nodes[node].as_ref().is_some_and(|its| its.purse.has_asks()) {
            self.wish(node);
        }
    }

    /// Asks all that there is to ask.
    fn exchange(&mut self, node: usize) {
        let now = self.instant();
        let Some(its) = &mut self.nodes[node] else { return };
        if std::mem::take(&mut its.beat_due) {
            self.tally.tick(|| its.purse.tick(now));
        }
        for name in std::mem::take(&mut its.heard) {
            its.purse.nudge(&name, now);
        }
        let asks = self.tally.asks(|| its.purse.asks(now));
        if !asks.is_empty() {
            self.send(node, asks);
        }
        self.look(node);
    }

    fn send(&mut self, node: usize, asks: Vec<Ask>) {
        let Some(its) = &mut self.nodes[node] else { return };
        (its.contact, its.out, its.asked_at) = (Contact::Asking, asks, self.now);
        let life = its.life;
        let way = self.chance.between(self.setup.delay.0, self.setup.delay.1);
        self.at(self.now + way, Event::Reach(node, life));
    }

    fn reach(&mut self, node: usize, life: Life) -> anyhow::Result<()> {
        let (is_away, now) = (self.is_store_away, self.now);
        let Some(its) = self.node(node, life) else { return Ok(()) };
        if its.is_cut || is_away {
            // One that is cut off hears nothing; where no server is, that is said.
            let after = if its.is_cut { TIMEOUT } else { REFUSED };
            self.at(now + after, Event::Failed(node, life));
            return Ok(());
        }
        let asks = its.out.clone();
        let ticket = self.deliver(life, asks)?;
        let way = self.chance.between(self.setup.delay.0, self.setup.delay.1);
        self.at(now + way, Event::Answer(node, life, ticket));
        Ok(())
    }

    /// Questions are at the store.
    pub(super) fn deliver(&mut self, life: Life, asks: Vec<Ask>) -> anyhow::Result<u64> {
        self.tally.asked(&asks, self.now);
        let ticket = self.store.send(life, &asks, self.now)?;
        self.under_way.insert(ticket, asks);
        Ok(ticket)
    }

    /// Takes the answers from the store; who is to be told hears of it a moment later.
    fn answer(&mut self, node: usize, life: Life, ticket: u64) -> anyhow::Result<()> {
        let asks = self.under_way.remove(&ticket).unwrap_or_default();
        let told = self.store.receive(ticket, &asks)?;
        for (heard_by, name) in told.nudges {
            let way = self.chance.between(self.setup.delay.0, self.setup.delay.1);
            let other = self.lives[heard_by];
            if !self.node(other, heard_by).is_none_or(|other| other.is_cut) {
                self.at(self.now + way, Event::Nudge(other, heard_by, name));
            }
        }
        let (at, now) = (self.now, self.instant());
        let Some(its) = self.node(node, life) else { return Ok(()) };
        its.out.clear();
        (its.failed, its.failing) = (0, None);
        if matches!(its.purse.mode(), egret_shared::limits::purse::Mode::Away { .. }) {
            its.purse.back(now);
        } else {
            asks.iter().zip(&told.answers).for_each(|(ask, answer)| its.purse.answered(ask, answer, now));
        }
        (its.contact, its.heard_at) = (Contact::Quiet, at);
        self.at(at + LISTEN, Event::Listen(node, life));
        let counts = asks.iter().filter_map(|ask| if let Ask::Count { name, .. } = ask { Some(name) } else { None });
        self.close_in_surplus(node, counts);
        self.wake(node);
        self.exchange(node);
        Ok(())
    }

    fn listen(&mut self, node: usize, life: Life) {
        let now = self.now;
        let Some(its) = self.node(node, life) else { return };
        if its.contact == Contact::Quiet && now >= its.heard_at + LISTEN {
            its.purse.listen();
            self.wish(node);
        }
    }

    fn failed(&mut self, node: usize, life: Life) {
        let (at, now) = (self.now, self.instant());
        let Some(its) = self.node(node, life) else { return };
        let asks = std::mem::take(&mut its.out);
        if matches!(its.purse.mode(), egret_shared::limits::purse::Mode::Away { .. }) {
            return self.look_for_store(node);
        }
        for ask in &asks {
            its.purse.lost(ask, now);
        }
        let since = *its.failing.get_or_insert(its.asked_at);
        if at - since >= PATIENCE {
            (its.failing, its.failed, its.contact) = (None, 0, Contact::Away(0));
            its.purse.away(now);
            self.tally.went_by_share += 1;
            self.look_for_store(node);
        } else {
            its.contact = Contact::Soon;
            let again = AGAIN.min(PATIENCE - (at - since));
            self.at(self.now + again, Event::Wake(node, life));
        }
        self.wake(node);
    }

    /// After a while, longer each time and never in step with others.
    fn look_for_store(&mut self, node: usize) {
        let Some(its) = &mut self.nodes[node] else { return };
        let attempt = if let Contact::Away(attempt) = its.contact { attempt } else { its.failed };
        let longest = 100 * MILLISECOND * 2u64.pow(attempt.min(5));
        // While it asks, it counts how often it has looked there.
        its.failed = (attempt + 1).min(16);
        its.contact = Contact::Away(its.failed);
        let life = its.life;
        let wait = self.chance.between(longest / 2, longest).min(2 * SECOND);
        self.at(self.now + wait, Event::Again(node, life));
    }

    fn again(&mut self, node: usize, life: Life) {
        if self.node(node, life).is_some_and(|its| matches!(its.contact, Contact::Away(_))) {
            self.send(node, vec![Ask::Live { shard: 0, join: true }]);
        }
    }
}
