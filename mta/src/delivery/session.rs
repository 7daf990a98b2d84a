//! One session: a way to the site, then ticket after ticket, until there is no more work.
//! Floor 4. Reads messages and writes events through what the app hands it; tells the queues what
//! became of each ticket on the channel that came with the seat.
//! Always: every ticket that it is given is either settled once or returned once, also when it is
//! cut short; events are written before the ticket is settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use egret_shared::fault::Fault;
use egret_shared::net::tls_client::ClientTls;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::broken_tls::BrokenTls;
use super::connection::Connection;
use super::dialogue::{Act, Decided, Envelope, Finished, Lost};
use super::open::{Opened, Secure, Unopened, open};
use super::outcome::Judgement;
use super::report::{self, Attempt, Metrics, Wire};
use super::trace::{Tap, Tracer, What};
use super::way::examine;
use crate::dns::site::Site;
use crate::event::record::{Record, Timing};
use crate::message::{
    Address, EnhancedCode, FromSession, Message, MessageId, Part, PartResult, RecipientResult, Response, Ticket,
    Verdict,
};
use crate::routing::source::{Source, Way};
use crate::shaping::options::{PathOptions, Uncertain};

/// From where, to where, and how.
#[derive(Clone, Debug)]
pub struct Path {
    /// The source.
    pub source: Arc<Source>,
    /// By which of its ways.
    pub way: Way,
    /// The destination.
    pub site: Arc<Site>,
    /// The options.
    pub options: Arc<PathOptions>,
}

/// What a session is given to work with.
pub struct Seat {
    /// Its number.
    pub session: u64,
    /// Its path.
    pub path: Path,
    /// The first work.
    pub first: Ticket,
    /// More work, one ticket at a time; closed when there is no more.
    pub work: mpsc::Receiver<Ticket>,
    /// Where it tells what became of it.
    pub report: mpsc::Sender<FromSession>,
    /// Cut short: finish nothing more.
    pub stop: CancellationToken,
}

/// What all sessions share.
#[derive(Clone)]
pub struct Deps<R, E> {
    /// Where messages are read.
    pub messages: R,
    /// Where events are written.
    pub events: E,
    /// The clock.
    pub clock: Clock,
    /// TLS towards destinations.
    pub tls: Arc<ClientTls>,
    /// Metrics.
    pub metrics: Metrics,
    /// Who watches.
    pub tracer: Tracer,
    /// Hosts whose TLS is broken.
    pub broken_tls: BrokenTls,
}

/// Where messages are read.
pub trait Reader: Clone + Send + Sync + 'static {
    /// Reads a message whole; the error is for people.
    fn read(&self, id: MessageId) -> impl Future<Output = Result<Arc<Message>, String>> + Send;
    /// The first attempt has ended: its body need not stay in memory.
    fn forget_body(&self, id: MessageId);
}

/// Where events are written.
pub trait Events: Clone + Send + Sync + 'static {
    /// Writes an event; returns at once.
    fn write(&self, record: Record);
}

/// The ticket in hand, and what is known of it.
struct Current {
    ticket: Ticket,
    message: Option<Arc<Message>>,
    /// Recipients that are to be tried.
    open: VecDeque<u16>,
    results: Vec<RecipientResult>,
    uncertain: Vec<u16>,
    /// A command of it may have been written.
    is_begun: bool,
    transaction: Option<Duration>,
}

impl Current {
    fn new(ticket: Ticket) -> Self {
        Self {
            ticket,
            message: None,
            open: VecDeque::new(),
            results: Vec::new(),
            uncertain: Vec::new(),
            is_begun: false,
            transaction: None,
        }
    }

    fn conclude(&mut self, recipient: u16, verdict: Verdict, response: Response) {
        self.results.push(RecipientResult { recipient, verdict, response });
    }

    /// Gives all that is open the same end.
    fn conclude_open(&mut self, verdict: Verdict, response: &Response) {
        for recipient in std::mem::take(&mut self.open) {
            self.conclude(recipient, verdict, response.clone());
        }
    }
}

struct Session<R, E> {
    number: u64,
    path: Path,
    work: mpsc::Receiver<Ticket>,
    report: mpsc::Sender<FromSession>,
    deps: Deps<R, E>,
    current: Option<Current>,
    connection: Option<Connection>,
    wire: Wire,
    /// Time that opening took, told once.
    connect: Option<Duration>,
    carried: u32,
    /// Why the session broke, if that was not the destination's doing.
    broken_by: Option<Fault>,
}

/// Runs one session to its end.
pub async fn run<R: Reader, E: Events>(seat: Seat, deps: Deps<R, E>) {
    let Seat { session, path, first, work, report, stop } = seat;
    let _active = deps.metrics.session();
    let mut session = Session {
        number: session,
        path,
        work,
        report,
        deps,
        current: Some(Current::new(first)),
        connection: None,
        wire: Wire::default(),
        connect: None,
        carried: 0,
        broken_by: None,
    };
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        fault = session.carry() => Some(fault),
    };
    if ended.is_none() {
        session.cut_short().await;
    }
    session.end(ended.flatten()).await;
}

impl<R: Reader, E: Events> Session<R, E> {
    /// Opens the session and carries tickets until there is no more work, or none can be carried.
    async fn carry(&mut self) -> Option<Fault> {
        let started = self.deps.clock.now();
        match self.open().await {
            Ok(opened) => {
                let took = self.since(started);
                self.deps.metrics.opened(took, opened.connection.tls.is_some());
                self.wire = opened.wire;
                self.connection = Some(opened.connection);
                self.connect = Some(took);
                let _ = self.report.send(FromSession::Connected { session: self.number }).await;
            }
            Err(Unopened { fault, response, wire }) => {
                self.wire = wire;
                if let Some(response) = response {
                    self.give_up_first(&response).await;
                }
                return Some(fault);
            }
        }
        while self.current.is_some() {
            self.deliver().await;
            if self.settle().await.is_none() || !self.may_go_on() {
                break;
            }
            let idle = self.connection.as_mut()?.idle(&mut self.work).await;
            self.current = idle.map(Current::new);
        }
        self.broken_by.take()
    }

    async fn open(&self) -> Result<Opened, Unopened> {
        let tell = |fault: &Fault, wire: &Wire| {
            if let Some(current) = &self.current {
                tell_fault(&self.deps, fault, &current.ticket, &self.path, wire);
            }
        };
        let Deps { tls, metrics, broken_tls, clock, .. } = &self.deps;
        open(&self.path, Secure { tls, broken: broken_tls, now: clock.wall() }, metrics, &self.tap(), tell).await
    }

    /// How the session is shown to who watches it.
    fn tap(&self) -> Tap {
        let (source, site) = (&self.path.source.name, &self.path.site.name);
        let mut tap = Tap::new(&self.deps.tracer, &self.deps.clock, self.number, source, site);
        if let Some(current) = &self.current {
            tap.carry(&current.ticket);
        }
        tap
    }

    fn may_go_on(&self) -> bool {
        let usable = self.connection.as_ref().is_some_and(|c| c.dialogue.is_usable());
        usable && self.carried < self.path.options.max_deliveries_per_connection
    }

    /// No host of the site took the session: that is the end of the attempt.
    async fn give_up_first(&mut self, response: &Response) {
        if self.fetch().await.is_some()
            && let Some(current) = &mut self.current
        {
            current.conclude_open(Verdict::Retry { counts: true }, response);
        }
        self.settle().await;
    }

    /// Reads the message of the ticket in hand; `None` if that failed, and then the ticket has its end.
    async fn fetch(&mut self) -> Option<Arc<Message>> {
        let (id, part) = self.current.as_ref().map(|c| (c.ticket.id, usize::from(c.ticket.part)))?;
        let read = self.deps.messages.read(id).await;
        let current = self.current.as_mut()?;
        let read = read.and_then(|message| match message.meta.parts.get(part) {
            Some(found) => Ok((found.recipients.len(), message.clone())),
            None => Err(format!("it has no part {part}")),
        });
        match read {
            Ok((recipients, message)) => {
                let recipients = 0..u16::try_from(recipients).unwrap_or(u16::MAX);
                let settled = &current.ticket.settled;
                current.open = recipients.filter(|n| settled.binary_search(n).is_err()).collect();
                current.message = Some(message.clone());
                Some(message)
            }
            Err(error) => {
                tracing::error!(%id, part, %error, "message cannot be read; it stays queued");
                let words = Response::own(451, EnhancedCode::new(4, 3, 0), &format!("message cannot be read: {error}"));
                let settled = &current.ticket.settled;
                let first = (0..=u16::MAX).find(|n| settled.binary_search(n).is_err()).unwrap_or_default();
                current.conclude(first, Verdict::Retry { counts: false }, words);
                None
            }
        }
    }

    /// Carries the ticket in hand: transactions until each recipient has its end, or the
    /// connection has.
    async fn deliver(&mut self) {
        let started = self.deps.clock.now();
        let Some(message) = self.fetch().await else { return };
        let part = self.current.as_ref().map_or(0, |c| usize::from(c.ticket.part));
        let Some(part) = message.meta.parts.get(part) else { return };
        let (Some(connection), Some(current)) = (&mut self.connection, &mut self.current) else { return };
        self.carried += 1;
        connection.tap.carry(&current.ticket);
        let limit = usize::try_from(self.path.options.max_recipients_per_batch).unwrap_or(usize::MAX).max(1);
        while !current.open.is_empty() && connection.dialogue.is_usable() {
            let batch: Vec<u16> = current.open.iter().take(limit).copied().collect();
            let envelope = envelope(&message, part, &batch);
            if let Some(objection) = connection.dialogue.objection(&envelope) {
                current.open.drain(..batch.len());
                for recipient in batch {
                    current.conclude(recipient, Verdict::Bounce, objection.clone());
                }
                continue;
            }
            current.is_begun = true;
            let mut finished = transact(connection, &message, part, &envelope, &batch).await;
            if connection.dialogue.is_broken() {
                let is_said = |d: &Decided| d.response.command.is_some() || d.judgement == Judgement::Uncertain;
                let (said, unsaid) = finished.decided.into_iter().partition(is_said);
                finished.decided = unsaid;
                take(current, said, false, self.path.options.smtp.uncertain);
                if let Some(fault) = examine(&self.path.source, &self.path.way).await {
                    tell_fault(&self.deps, &fault, &current.ticket, &self.path, &self.wire);
                    connection.tap.tell(What::Fault, || fault.to_string());
                    // The destination said nothing of the others: they go out another way, as if never tried.
                    current.is_begun = !current.results.is_empty();
                    self.broken_by = Some(fault);
                    break;
                }
            }
            if finished.is_untouched && self.carried > 1 && !connection.dialogue.is_usable() {
                // The server left between two messages: that says nothing of this one.
                current.is_begun = !current.results.is_empty();
                break;
            }
            let taken = finished.decided.iter().any(|d| d.judgement == Judgement::Delivered);
            if taken {
                self.deps.metrics.sent(envelope.size);
            }
            take(current, finished.decided, connection.dialogue.is_usable(), self.path.options.smtp.uncertain);
        }
        current.transaction = Some(self.deps.clock.now().saturating_duration_since(started));
    }

    /// Tells what became of the ticket in hand; `None` if it was not tried and stays for `end`.
    async fn settle(&mut self) -> Option<()> {
        let untried = |c: &Current| c.results.is_empty() && !c.is_begun;
        if self.current.as_ref().is_none_or(untried) {
            return None;
        }
        // The queues are gone only when the program is: then there is no one to tell.
        let permit = self.report.reserve().await.ok();
        // From here to the send nothing waits: a cut cannot come between.
        let current = self.current.take()?;
        let timing = Timing {
            waited_ms: Some(millis(self.deps.clock.wall().since(current.ticket.received))),
            connect_ms: self.connect.take().map(millis),
            transaction_ms: current.transaction.map(millis),
        };
        if let Some(message) = &current.message {
            let Current { ticket, results, uncertain, .. } = &current;
            let attempt = Attempt { ticket, message, results, uncertain, timing, now: self.deps.clock.wall() };
            let write = |record| self.deps.events.write(record);
            report::tell(&attempt, &self.path, &self.wire, &self.deps.metrics, write);
        }
        if current.ticket.attempts == 0 {
            self.deps.messages.forget_body(current.ticket.id);
        }
        let result = PartResult { ticket: current.ticket, results: current.results };
        if let Some(permit) = permit {
            permit.send(FromSession::Settled { session: self.number, result });
        }
        Some(())
    }

    /// The program stops now: what is in the middle of a transaction gets its end from where that stands.
    async fn cut_short(&mut self) {
        let connection = self.connection.take();
        let Some(current) = self.current.as_mut().filter(|c| c.is_begun) else { return };
        if let Some(mut connection) = connection
            && let Act::Finished(finished) = connection.dialogue.lost(&Lost::Stopped)
        {
            take(current, finished.decided, false, self.path.options.smtp.uncertain);
        }
        let words = Response::own(421, EnhancedCode::new(4, 3, 2), "this host is stopping");
        current.conclude_open(Verdict::Retry { counts: false }, &words);
        self.settle().await;
    }

    /// Takes no more work, gives back what was not tried, says goodbye, and tells that it is over.
    async fn end(mut self, fault: Option<Fault>) {
        self.work.close();
        let mut returned: Vec<Ticket> = self.current.take().map(|c| c.ticket).into_iter().collect();
        // Ends at once: a closed channel gives out what is in it, and then that there is no more.
        while let Some(ticket) = self.work.recv().await {
            returned.push(ticket);
        }
        if let Some(connection) = self.connection.take() {
            connection.tap.tell(What::End, || format!("{} messages carried", self.carried));
            connection.quit(!returned.is_empty()).await;
        }
        let _ = self.report.send(FromSession::Ended { session: self.number, fault, returned }).await;
    }

    fn since(&self, started: Instant) -> Duration {
        self.deps.clock.now().saturating_duration_since(started)
    }
}

fn tell_fault<R, E: Events>(deps: &Deps<R, E>, fault: &Fault, ticket: &Ticket, path: &Path, wire: &Wire) {
    deps.metrics.fault(fault.reason);
    deps.events.write(report::fault(fault, ticket, path, wire, deps.clock.wall()));
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn envelope<'m>(message: &'m Message, part: &Part, batch: &[u16]) -> Envelope<'m> {
    let meta = &message.meta;
    let recipients = || batch.iter().filter_map(|n| part.recipients.get(usize::from(*n)));
    Envelope {
        sender: meta.sender.as_ref(),
        size: message.content.len() as u64,
        eight_bit: meta.eight_bit,
        smtputf8: meta.smtputf8 || meta.sender.iter().chain(recipients()).any(Address::needs_utf8),
    }
}

/// One transaction, to its end.
async fn transact(
    connection: &mut Connection,
    message: &Message,
    part: &Part,
    envelope: &Envelope<'_>,
    batch: &[u16],
) -> Finished {
    let recipients = batch.iter().filter_map(|n| Some((*n, part.recipients.get(usize::from(*n))?)));
    let (dialogue, send) = connection.parts();
    let mut act =
        if dialogue.begin(envelope, recipients, send) { connection.send_at_once(&message.content).await } else { None };
    loop {
        if act.is_none() {
            act = match connection.next().await {
                Act::SendContent => connection.send_content(&message.content).await,
                act => Some(act),
            };
        }
        match act.take() {
            Some(Act::Finished(finished)) => return finished,
            None => {}
            // No other act can come within a transaction; if one did, the connection is of no use.
            Some(_) => match connection.dialogue.lost(&Lost::Closed) {
                Act::Finished(finished) => return finished,
                _ => return Finished { decided: Vec::new(), is_untouched: true },
            },
        }
    }
}

/// Takes the outcome of a transaction into the ticket in hand.
fn take(current: &mut Current, all: Vec<Decided>, is_usable: bool, uncertain: Uncertain) {
    for decided in all {
        let recipient = decided.recipient;
        let verdict = match decided.judgement {
            Judgement::Delivered => Verdict::Delivered,
            Judgement::Bounce => Verdict::Bounce,
            Judgement::Again if is_usable => {
                // It goes to the end: one that was taken has left, so this ends.
                current.open.retain(|n| *n != recipient);
                current.open.push_back(recipient);
                continue;
            }
            Judgement::Uncertain => {
                current.uncertain.push(recipient);
                match uncertain {
                    Uncertain::Retry => Verdict::Retry { counts: true },
                    Uncertain::Hold => Verdict::Hold,
                    Uncertain::Deliver => Verdict::Delivered,
                }
            }
            Judgement::Retry { counts } => Verdict::Retry { counts },
            Judgement::Go | Judgement::Again | Judgement::NextHost | Judgement::NextWay => {
                Verdict::Retry { counts: true }
            }
        };
        current.open.retain(|n| *n != recipient);
        current.conclude(recipient, verdict, decided.response);
    }
}
