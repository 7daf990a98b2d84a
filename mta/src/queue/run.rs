//! The task that drives the engine: tells it words and the time, and performs its acts.
//! Floor 4. Opens sessions, resolves domains and reports failures through the hands that the app
//! gives it, so that it knows neither delivery nor DNS.
//! Always: it never waits for a session; every channel here is bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::{Clock, UnixMs};
use egret_shared::limits::Limits;
use metrics::{Gauge, gauge};
use tokio::sync::{mpsc, oneshot};

use super::ahead::MOST_HELD;
use super::control::words::Control;
use super::engine::Engine;
use super::meter::Meter;
use super::options::QueueOptions;
use super::words::{Act, Admit, EntryKey, Notice, PartKey, Readmit, Resolution};
use crate::dns::site::Site;
use crate::message::{FromSession, Mark, MessageId, QueueName, Ticket};
use crate::routing::source::{Source, Way};

/// Words that may wait for the engine; a full channel makes their senders wait.
const MAX_WORDS: usize = 16_384;
/// Words taken at one wake.
const BATCH: usize = 512;

/// What may be told to the engine's task.
enum Word {
    Admit(Vec<Admit>),
    /// With the epoch of the engine's questions in which it was asked.
    Resolved(PartKey, u64, Resolution),
    Reported(EntryKey),
    Readmit(Vec<Readmit>),
    Ask(Errand),
    Drain,
}

/// Something that is asked of the engine, or ordered. It returns what gives the answer once what the
/// engine wants done for it has been begun.
type Errand = Box<dyn FnOnce(&mut Engine, UnixMs, &mut Vec<Act>) -> Answer + Send>;
type Answer = Box<dyn FnOnce() + Send>;

/// A session to be opened.
pub struct Opening {
    /// Its number.
    pub session: u64,
    /// From where.
    pub source: Arc<Source>,
    /// By which of its ways.
    pub way: Way,
    /// To where.
    pub site: Arc<Site>,
    /// The first work.
    pub first: Ticket,
    /// More work, in order; closed when there is no more, and then what is in it and not begun comes back.
    pub work: mpsc::Receiver<Ticket>,
    /// Where the session tells what became of it.
    pub report: mpsc::Sender<FromSession>,
}

/// What the engine's task has done by others.
pub trait Hands: Send + Sync + 'static {
    /// Finds the site of a scheduled queue.
    fn resolve(&self, queue: &QueueName) -> impl Future<Output = Resolution> + Send + 'static;
    /// Starts a session; returns at once.
    fn open(&self, opening: Opening);
    /// Tells the sender of recipients; returns when the report is on stable storage.
    fn report(&self, notice: Notice) -> impl Future<Output = ()> + Send + 'static;
    /// Stores a mark; returns at once.
    fn mark(&self, id: MessageId, part: u16, mark: Mark);
    /// Keeps orders over a restart, instead of those of before; returns at once.
    fn keep(&self, controls: Vec<Control>);
}

/// The handle of the queues. Cheap to clone.
#[derive(Clone)]
pub struct Queues(mpsc::Sender<Word>);

/// The queues' task has ended: the program is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queues have stopped")]
pub struct Stopped;

impl Queues {
    /// Queues parts that are on stable storage. Waits if the engine is behind.
    pub async fn admit(&self, parts: Vec<Admit>) -> Result<(), Stopped> {
        self.0.send(Word::Admit(parts)).await.map_err(|_| Stopped)
    }

    /// Queues parts again that an earlier run has queued. Blocks while the engine is behind.
    pub fn readmit_blocking(&self, parts: Vec<Readmit>) -> Result<(), Stopped> {
        self.0.blocking_send(Word::Readmit(parts)).map_err(|_| Stopped)
    }

    /// Asks the engine, or gives it an order. What it then wants done has been begun when this returns.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine, UnixMs, &mut Vec<Act>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let errand: Errand = Box::new(move |engine, now, acts| {
            let found = question(engine, now, acts);
            // Who no longer waits for the answer needs none.
            Box::new(move || drop(reply.send(found)))
        });
        self.0.send(Word::Ask(errand)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Other options, which hold at once for all that is queued.
    pub async fn set_options(&self, options: QueueOptions) -> Result<(), Stopped> {
        self.ask(move |engine, _, _| engine.set_options(options)).await
    }

    /// Opens no more sessions, lets those that run finish, and ends the task.
    pub async fn drain(&self) -> Result<(), Stopped> {
        self.0.send(Word::Drain).await.map_err(|_| Stopped)
    }
}

/// The driver of the engine.
pub struct Driver<H> {
    engine: Engine,
    hands: Arc<H>,
    time: Start,
    limits: Limits,
    words: mpsc::Receiver<Word>,
    told: mpsc::Sender<Word>,
    reports: mpsc::Receiver<FromSession>,
    reporter: mpsc::Sender<FromSession>,
    work: HashMap<u64, mpsc::Sender<Ticket>>,
    /// Given as soon as the acts of their errands have been performed.
    answers: Vec<Answer>,
    gauges: [Gauge; 7],
}

/// Wall time that does not jump: the wall clock at the start plus monotonic time since.
#[derive(Clone)]
pub struct Start {
    clock: Clock,
    wall: UnixMs,
    started: Instant,
}

impl Start {
    /// Begins now.
    pub fn now_of(clock: &Clock) -> Self {
        Self { wall: clock.wall(), started: clock.now(), clock: clock.clone() }
    }

    /// Limits in this time, for the engine; other nodes use them, too, if `is_shared`.
    pub fn meter(&self, limits: Limits, is_shared: bool) -> Meter {
        Meter::new(limits, is_shared, self.wall, self.started)
    }

    fn now(&self) -> UnixMs {
        self.wall.plus(self.clock.now().saturating_duration_since(self.started))
    }
}

/// A channel to the engine's task. `start` the task with the receiving half.
pub fn channel() -> (Queues, Inbox) {
    let (told, words) = mpsc::channel(MAX_WORDS);
    (Queues(told.clone()), Inbox { told, words })
}

/// The receiving half of [`Queues`].
pub struct Inbox {
    told: mpsc::Sender<Word>,
    words: mpsc::Receiver<Word>,
}

impl<H: Hands> Driver<H> {
    /// A driver of `engine`, whose time begins at `start`.
    pub fn new(engine: Engine, hands: Arc<H>, start: Start, inbox: Inbox) -> Self {
        let (reporter, reports) = mpsc::channel(MAX_WORDS);
        let (time, limits) = (start, engine.limits());
        let gauges = [
            gauge!("egret_mta_queue_parts"),
            gauge!("egret_mta_queue_scheduled_queues"),
            gauge!("egret_mta_queue_ready_queues"),
            gauge!("egret_mta_queue_sessions"),
            gauge!("egret_mta_queue_resting_ways"),
            gauge!("egret_mta_queue_controls"),
            gauge!("egret_mta_queue_jobs"),
        ];
        let Inbox { told, words } = inbox;
        Self {
            engine,
            hands,
            time,
            limits,
            words,
            told,
            reports,
            reporter,
            work: HashMap::new(),
            answers: Vec::new(),
            gauges,
        }
    }

    /// Runs until it has drained.
    pub async fn run(mut self) {
        let (mut words, mut reports, mut acts) = (Vec::new(), Vec::new(), Vec::new());
        let mut changed = Vec::new();
        loop {
            let now = self.time.now();
            self.engine.tick(now, &mut acts);
            self.perform(&mut acts);
            self.answers.drain(..).for_each(|answer| answer());
            self.measure();
            if self.engine.is_drained() {
                return;
            }
            let wait = self.engine.next_wake().map_or(Duration::from_secs(3600), |at| at.since(now));
            tokio::select! {
                _ = self.words.recv_many(&mut words, BATCH) => {}
                _ = self.reports.recv_many(&mut reports, BATCH) => {}
                names = self.limits.woken() => changed = names,
                () = tokio::time::sleep(wait) => {}
            }
            let now = self.time.now();
            for report in reports.drain(..) {
                if let FromSession::Ended { session, .. } = &report {
                    self.work.remove(session);
                }
                self.engine.session(report, now, &mut acts);
            }
            for word in words.drain(..) {
                self.tell(word, now, &mut acts);
            }
            self.engine.limits_changed(&std::mem::take(&mut changed), now, &mut acts);
        }
    }

    fn tell(&mut self, word: Word, now: UnixMs, acts: &mut Vec<Act>) {
        match word {
            Word::Admit(parts) => parts.into_iter().for_each(|part| self.engine.admit(part, now, acts)),
            Word::Resolved(key, epoch, _) if epoch != self.engine.lead_epoch() => acts.push(Act::Resolve(key)),
            Word::Resolved(key, _, resolution) => self.engine.resolved(&key, resolution, now, acts),
            Word::Reported(key) => self.engine.reported(key, now, acts),
            Word::Readmit(parts) => parts.into_iter().for_each(|part| self.engine.readmit(part, now, acts)),
            Word::Ask(errand) => self.answers.push(errand(&mut self.engine, now, acts)),
            Word::Drain => self.engine.drain(acts),
        }
    }

    fn perform(&mut self, acts: &mut Vec<Act>) {
        for act in acts.drain(..) {
            match act {
                Act::Mark { id, part, mark } => self.hands.mark(id, part, mark),
                Act::Hand { session, ticket } => self.hand(session, ticket),
                Act::Open { session, source, way, site, first } => {
                    let (sender, work) = mpsc::channel(MOST_HELD);
                    self.work.insert(session, sender);
                    let report = self.reporter.clone();
                    self.hands.open(Opening { session, source, way, site, first, work, report });
                }
                Act::Keep(controls) => {
                    self.hands.keep(controls);
                    // Among them may be some that set what a path may take.
                    self.engine.paths_changed();
                }
                Act::Release { session } => drop(self.work.remove(&session)),
                Act::Resolve(key) => {
                    let (told, epoch) = (self.told.clone(), self.engine.lead_epoch());
                    let answer = self.hands.resolve(&key.0);
                    // The task ends with its answer; a stopped engine is no one to tell.
                    tokio::spawn(async move { told.send(Word::Resolved(key, epoch, answer.await)).await });
                }
                Act::Report(notice) => {
                    let (told, key, done) = (self.told.clone(), notice.key, self.hands.report(notice));
                    tokio::spawn(async move {
                        done.await;
                        told.send(Word::Reported(key)).await
                    });
                }
            }
        }
    }

    /// There is room for all that a session may have. One that has ended meanwhile gives the ticket back when its end
    /// is told.
    fn hand(&mut self, session: u64, ticket: Ticket) {
        if let Some(work) = self.work.get(&session) {
            let _ = work.try_send(ticket);
        }
    }

    fn measure(&self) {
        let sizes = std::iter::once(self.engine.len()).chain(self.engine.sizes());
        for (gauge, value) in self.gauges.iter().zip(sizes) {
            gauge.set(value as f64);
        }
    }
}
