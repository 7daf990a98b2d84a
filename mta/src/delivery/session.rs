//! One session: a way to the site, then ticket after ticket, until there is no more work.
//! Floor 4. Reads messages and writes events through what the app hands it; tells the queues what
//! became of each ticket on the channel that came with the seat.
//! Always: every ticket that it is given is either settled once or returned once, also when it is
//! cut short; events are written before the ticket is settled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use egret_shared::fault::{Fault, Party};
use egret_shared::net::tls_client::ClientTls;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::current::{Current, envelope};
use super::dialogue::{Act, Decided, Lost};
use super::hosts::HostMemory;
use super::learn::{learn, tell_deferred};
use super::open::{Opened, Secure, Unopened, open};
use super::outcome::Judgement;
use super::outcome_rule::OutcomeRules;
use super::plan::{Empty, Plan};
use super::policy::Policing;
use super::react::react;
use super::report::{self, Attempt, Metrics, Wire};
use super::trace::{Tap, Tracer, What};
use super::transact::transact;
use super::way::examine;
use crate::dns::site::Site;
use crate::event::record::{Record, Timing};
use crate::message::{EnhancedCode, FromSession, Message, MessageId, PartResult, Response, Ticket, Verdict};
use crate::routing::source::{Source, Way};
use crate::shaping::automation::Automation;
use crate::shaping::options::{PathOptions, ReconnectStrategy};
use crate::shaping::resolve::Effective;

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
    /// What else shaping says of it.
    pub shaped: Arc<Effective>,
}

/// What a session is given to work with.
pub struct Seat {
    /// Its number.
    pub session: u64,
    /// Its path.
    pub path: Path,
    /// The first work.
    pub first: Ticket,
    /// More work, in order, some of it ahead of time; closed when there is no more, and then what is in it goes back.
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
    /// Hosts that break what they offer.
    pub hosts: HostMemory,
    /// What the operator says of answers.
    pub outcomes: OutcomeRules,
    /// What follows from answers by itself.
    pub automation: Automation,
    /// TLS by the policies of domains.
    pub policing: Policing,
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
    /// Tickets of this connection, and of those before it.
    carried: u32,
    total: u32,
    plan: Plan,
    /// Why the session broke, if that was not the destination's doing.
    broken_by: Option<Fault>,
    /// Something was ordered for which what was handed ahead goes back, to be handed out anew.
    is_over: bool,
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
        total: 0,
        plan: Plan::default(),
        broken_by: None,
        is_over: false,
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
    /// Carries tickets over one connection after the other, until there is no more work, or no address for it.
    async fn carry(&mut self) -> Option<Fault> {
        self.plan = match Plan::new(&self.path.site, self.path.source.address, &self.path.options.hosts) {
            Ok(plan) => plan,
            Err(Empty::Prohibited(words)) => {
                self.bounce_all(&words).await;
                return None;
            }
            Err(Empty::Excluded(fault)) => {
                let current = self.current.as_ref()?;
                tell_fault(&self.deps, &fault, &current.ticket, &self.path, &self.wire);
                return Some(fault);
            }
        };
        if let Err(fault) = self.connect(true).await {
            return Some(fault);
        }
        let _ = self.report.send(FromSession::Connected { session: self.number }).await;
        loop {
            self.use_connection().await;
            if self.broken_by.is_some() || !self.goes_on().await {
                return self.broken_by.take();
            }
            if let Err(fault) = self.connect(false).await {
                // The site as such works: another session begins at its first address.
                return Some(fault).filter(|fault| fault.party() != Party::Remote);
            }
        }
    }

    /// Carries tickets until there is no more work, or this connection carries no more.
    async fn use_connection(&mut self) {
        while self.current.is_some() {
            self.deliver().await;
            if self.settle().await.is_none() || !self.may_go_on() {
                break;
            }
            let Some(connection) = self.connection.as_mut().filter(|_| !self.work.is_closed()) else { break };
            self.current = connection.idle(&mut self.work).await.map(Current::new);
        }
    }

    /// Whether there is work for a further connection, and an address for that.
    async fn goes_on(&mut self) -> bool {
        if self.is_over || self.connection.as_ref().is_some_and(|c| c.dialogue.is_usable()) {
            return false;
        }
        let is_deferred = self.current.as_ref().is_some_and(|current| current.again.is_some());
        match self.path.options.hosts.reconnect_strategy {
            _ if is_deferred => {}
            ReconnectStrategy::TerminateSession => return false,
            ReconnectStrategy::ReconnectSameHost => self.plan.repeat(),
            ReconnectStrategy::ConnectNextHost => {}
        }
        if self.plan.has_more() && self.current.is_none() {
            self.current = self.more_work().await;
        }
        self.plan.has_more() && self.current.is_some()
    }

    /// Waits for work without a connection.
    async fn more_work(&mut self) -> Option<Current> {
        if self.work.is_closed() {
            return None;
        }
        let idle = self.path.options.smtp.timeouts.idle;
        tokio::time::timeout(idle, self.work.recv()).await.ok().flatten().map(Current::new)
    }

    /// Connects to the first address that is left and willing. A site of which no address was willing has had its
    /// attempt at the ticket in hand.
    async fn connect(&mut self, is_first: bool) -> Result<(), Fault> {
        let started = self.deps.clock.now();
        self.connection = None;
        let mut plan = std::mem::take(&mut self.plan);
        let opened = self.open(&mut plan).await;
        self.plan = plan;
        match opened {
            Ok(Opened { connection, wire }) => {
                let took = self.since(started);
                self.deps.metrics.opened(took, connection.tls.is_some());
                (self.connection, self.wire, self.connect) = (Some(connection), wire, Some(took));
                (self.carried, self.total) = (0, self.total + self.carried);
                Ok(())
            }
            Err(Unopened { fault, response, wire }) => {
                self.wire = wire;
                let deferred = self.current.as_mut().and_then(|current| current.again.take());
                if let Some(response) = response.filter(|_| is_first || deferred.is_some()).or(deferred) {
                    self.give_up(&response, Verdict::Retry { counts: true }).await;
                }
                Err(fault)
            }
        }
    }

    /// The site takes no mail: so it is for all that comes.
    async fn bounce_all(&mut self, words: &Response) {
        while self.current.is_some() {
            self.give_up(words, Verdict::Bounce).await;
            self.current = self.more_work().await;
        }
    }

    async fn open(&self, plan: &mut Plan) -> Result<Opened, Unopened> {
        let tell = |fault: &Fault, wire: &Wire| {
            if let Some(current) = &self.current {
                tell_fault(&self.deps, fault, &current.ticket, &self.path, wire);
            }
        };
        let Deps { tls, metrics, hosts, clock, policing, .. } = &self.deps;
        let domain = self.current.as_ref().map_or("", |current| current.ticket.queue.domain());
        let secure = Secure { tls, hosts, now: clock.wall(), policing, domain };
        open(&self.path, plan, secure, metrics, &self.tap(), tell).await
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
        usable && !self.is_over && self.carried < self.path.options.max_deliveries_per_connection
    }

    /// Gives the ticket in hand one end for all that is open of it.
    async fn give_up(&mut self, response: &Response, verdict: Verdict) {
        let is_read = self.current.as_ref().is_some_and(|current| current.message.is_some());
        if (is_read || self.fetch().await.is_some())
            && let Some(current) = &mut self.current
        {
            current.conclude_open(verdict, response);
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
        let known = self.current.as_mut().and_then(|current| {
            current.again = None;
            current.message.clone()
        });
        let Some(message) = (match known {
            Some(message) => Some(message),
            None => self.fetch().await,
        }) else {
            return;
        };
        let part = self.current.as_ref().map_or(0, |c| usize::from(c.ticket.part));
        let Some(part) = message.meta.parts.get(part) else { return };
        let (Some(connection), Some(current)) = (&mut self.connection, &mut self.current) else { return };
        self.carried += 1;
        connection.tap.carry(&current.ticket);
        let uncertain = self.path.options.smtp.uncertain;
        current.meets(&connection.dialogue, &part.wishes);
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
                current.take(said, false, uncertain);
                if let Some(fault) = examine(&self.path.source, &self.path.way, connection.local).await {
                    tell_fault(&self.deps, &fault, &current.ticket, &self.path, &self.wire);
                    connection.tap.tell(What::Fault, || fault.to_string());
                    // The destination said nothing of the others: they go out another way, as if never tried.
                    current.is_begun = !current.results.is_empty();
                    self.broken_by = Some(fault);
                    break;
                }
                if self.path.options.hosts.try_next_host_on_transport_error && self.plan.has_more() {
                    let deferred = current.defer(&mut finished.decided);
                    tell_deferred(&self.deps, current, &message, &deferred, &self.path, &self.wire);
                }
            }
            if learn(connection.dialogue.sign(), &self.path, &self.wire, &self.deps) {
                current.take_refusals(finished.decided, uncertain);
                break;
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
            current.take(finished.decided, connection.dialogue.is_usable(), uncertain);
        }
        current.transaction = Some(self.deps.clock.now().saturating_duration_since(started));
    }

    /// Tells what became of the ticket in hand; `None` if it was not tried and stays for `end`.
    async fn settle(&mut self) -> Option<()> {
        if self.current.as_ref().is_none_or(Current::is_unsettled) {
            return None;
        }
        if let Some(current) = &self.current {
            let has_ordered = react(current, &self.path, &self.wire, &self.deps).await;
            self.is_over |= has_ordered && !self.work.is_empty();
        }
        // The queues are gone only when the program is: then there is no one to tell.
        let permit = self.report.reserve().await.ok();
        // From here to the send nothing waits: a cut cannot come between.
        let mut current = self.current.take()?;
        for result in &mut current.results {
            self.deps.outcomes.decide(result, &self.path.site.name, current.ticket.queue.domain());
        }
        let timing = Timing {
            waited_ms: Some(millis(self.deps.clock.wall().since(current.ticket.received))),
            connect_ms: self.connect.take().map(millis),
            transaction_ms: current.transaction.map(millis),
        };
        let mut witness = None;
        if let Some(message) = &current.message {
            let Current { ticket, results, uncertain, .. } = &current;
            let (now, outcomes) = (self.deps.clock.wall(), &self.deps.outcomes);
            let attempt = Attempt { ticket, message, results, uncertain, timing, now, outcomes };
            let write = |record| self.deps.events.write(record);
            report::tell(&attempt, &self.path, &self.wire, &self.deps.metrics, write);
            witness = report::witness(&attempt, &current.owing, &self.path, &self.wire);
        }
        if current.ticket.attempts == 0 {
            self.deps.messages.forget_body(current.ticket.id);
        }
        let result = PartResult { ticket: current.ticket, results: current.results, witness };
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
            current.take(finished.decided, false, self.path.options.smtp.uncertain);
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
            connection.tap.tell(What::End, || format!("{} messages carried", self.total + self.carried));
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
