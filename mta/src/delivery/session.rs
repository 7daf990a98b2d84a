//! One session: a way to the site, then ticket after ticket, until there is no more work.
//! Floor 4. Reads messages and writes events through what the app hands it; tells the queues what
//! became of each ticket on the channel that came with the seat.
//! Always: every ticket that it is given is either settled once or returned once, also when it is
//! cut short; events are written before the ticket is settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use egret_shared::fault::{Fault, Party};
use egret_shared::net::tls_client::ClientTls;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::claims::Claims;
use super::connection::Connection;
use super::current::Current;
use super::dialogue::Act;
use super::hosts::HostMemory;
use super::open::{Opened, Secure, Unopened, open};
use super::outcome_rule::OutcomeRules;
use super::plan::{Empty, Plan};
use super::policy::Policing;
use super::react::react;
use super::report::{self, Attempt, Metrics, Wire};
use super::trace::{Tap, Tracer, What};
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
    /// Sessions through proxies, as the fleet compares them.
    pub claims: Claims,
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

pub(super) struct Session<R, E> {
    number: u64,
    pub(super) path: Path,
    pub(super) work: mpsc::Receiver<Ticket>,
    report: mpsc::Sender<FromSession>,
    pub(super) deps: Deps<R, E>,
    pub(super) current: Option<Current>,
    /// Tickets behind it: those whose transactions are on their way, and then at most one that is not.
    pub(super) ahead: VecDeque<Current>,
    /// Tickets in front of it that have no end, until it is seen what becomes of them.
    pub(super) kept: VecDeque<Current>,
    pub(super) connection: Option<Connection>,
    pub(super) wire: Wire,
    /// Time that opening took, told once.
    connect: Option<Duration>,
    /// Tickets of this connection, and of those before it.
    pub(super) carried: u32,
    total: u32,
    pub(super) plan: Plan,
    /// Why the session broke, if that was not the destination's doing.
    pub(super) broken_by: Option<Fault>,
    /// Something was ordered for which what was handed ahead goes back, to be handed out anew.
    pub(super) is_over: bool,
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
        ahead: VecDeque::new(),
        kept: VecDeque::new(),
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
            let is_settled = self.settle().await.is_some();
            if !is_settled || !self.is_usable() {
                return self.recall().await;
            }
            let is_next_sent = self.ahead.front().is_some_and(|next| next.sent.is_some());
            if !is_next_sent && !self.may_go_on() {
                break;
            }
            self.current = self.next_ticket().await;
        }
    }

    /// The next ticket, of those that the session has or is given. None if there is no more work: then what was handed
    /// ahead and is not on its way goes back.
    async fn next_ticket(&mut self) -> Option<Current> {
        let connection = self.connection.as_mut()?;
        let is_sent = self.ahead.front().map(|next| next.sent.is_some());
        match is_sent {
            Some(true) => self.ahead.pop_front(),
            _ if self.work.is_closed() => None,
            Some(false) => {
                connection.look().await;
                self.ahead.pop_front()
            }
            None => connection.idle(&mut self.work).await.map(Current::new),
        }
    }

    /// Whether there is work for a further connection, and an address for that.
    async fn goes_on(&mut self) -> bool {
        if self.is_over || self.is_usable() {
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
        if !self.ahead.is_empty() {
            return self.ahead.pop_front();
        }
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
        let Deps { tls, metrics, hosts, clock, policing, claims, .. } = &self.deps;
        let domain = self.current.as_ref().map_or("", |current| current.ticket.queue.domain());
        let secure = Secure { tls, hosts, claims, now: clock.wall(), policing, domain };
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
        self.is_usable() && !self.is_over && self.carried < self.path.options.max_deliveries_per_connection
    }

    fn is_usable(&self) -> bool {
        self.connection.as_ref().is_some_and(|c| c.dialogue.is_usable())
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

    /// Tells what became of the ticket in hand; `None` if it was not tried and stays for `end`.
    pub(super) async fn settle(&mut self) -> Option<()> {
        if self.current.as_ref().is_none_or(Current::is_unsettled) {
            return None;
        }
        if let Some(current) = &self.current {
            let has_ordered = react(current, &self.path, &self.wire, &self.deps).await;
            self.is_over |= has_ordered && !(self.work.is_empty() && self.ahead.is_empty());
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
        let mut connection = self.connection.take();
        loop {
            if let Some(current) = self.current.as_mut().filter(|c| c.is_begun) {
                let stopped = connection.as_mut().map(|connection| {
                    if current.sent.take().is_some() {
                        connection.dialogue.advance();
                    }
                    connection.stopped()
                });
                self.stop_current(stopped);
                self.settle().await;
            }
            if self.ahead.front().is_none_or(|next| next.sent.is_none()) {
                return;
            }
            self.kept.extend(self.current.take());
            self.current = self.ahead.pop_front();
        }
    }

    /// Gives the ticket in hand its end, unless the destination has nothing of it that it could take.
    fn stop_current(&mut self, stopped: Option<Act>) {
        let Some(current) = &mut self.current else { return };
        if let Some(Act::Finished(finished)) = stopped {
            if finished.is_untouched && current.was_ahead {
                current.is_begun = false;
                return;
            }
            current.take(finished.decided, false, self.path.options.smtp.uncertain);
        }
        let words = Response::own(421, EnhancedCode::new(4, 3, 2), "this host is stopping");
        current.conclude_open(Verdict::Retry { counts: false }, &words);
    }

    /// Takes no more work, gives back what was not tried, says goodbye, and tells that it is over.
    async fn end(mut self, fault: Option<Fault>) {
        self.work.close();
        let Self { kept, current, ahead, .. } = &mut self;
        let left = kept.drain(..).chain(current.take()).chain(ahead.drain(..));
        let mut returned: Vec<Ticket> = left.map(|current| current.ticket).collect();
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

    pub(super) fn since(&self, started: Instant) -> Duration {
        self.deps.clock.now().saturating_duration_since(started)
    }
}

pub(super) fn tell_fault<R, E: Events>(deps: &Deps<R, E>, fault: &Fault, ticket: &Ticket, path: &Path, wire: &Wire) {
    deps.metrics.fault(fault.reason);
    deps.events.write(report::fault(fault, ticket, path, wire, deps.clock.wall()));
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
