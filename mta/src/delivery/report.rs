//! What a session tells the world: events of what became of recipients, faults of dials, metrics.
//! Floor 4. Touches nothing but the values that it is given.
//! Always: recipients that share kind and words share one event.

use std::net::SocketAddr;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Reason};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::current::Owing;
use super::outcome_rule::{OutcomeRules, Said};
use super::session::Path;
use crate::dns::site::Protocol;
use crate::event::record::{Kind, Peer, Reaction, Record, Timing};
use crate::event::tls::{Posture, TlsResult};
use crate::message::{Message, Notify, RecipientResult, Response, Ticket, Verdict, Witness};
use crate::shaping::automation::Fired;

/// The metrics of delivery. Make it once, after the recorder is installed. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    opened: Counter,
    active: Gauge,
    faults: Vec<Counter>,
    delivered: Counter,
    transient: Counter,
    bounced: Counter,
    uncertain: Counter,
    bytes: Counter,
    dial: Histogram,
    tls: Counter,
    tls_failed: Counter,
    tls_skipped: Counter,
    pipelining_broken: Counter,
    chunking_broken: Counter,
    ahead: Counter,
    ahead_broken: Counter,
}

impl Metrics {
    /// The handles of the installed recorder.
    pub fn new() -> Self {
        let disposition = |kind: &'static str| counter!("egret_mta_delivery_dispositions_total", "disposition" => kind);
        let fault = |reason: &Reason| {
            let (party, reason) = (reason.party().as_str(), reason.token());
            counter!("egret_mta_delivery_dial_faults_total", "party" => party, "reason" => reason)
        };
        Self {
            opened: counter!("egret_mta_delivery_sessions_total"),
            active: gauge!("egret_mta_delivery_sessions_active"),
            faults: Reason::ALL.iter().map(fault).collect(),
            delivered: disposition("delivered"),
            transient: disposition("transient"),
            bounced: disposition("bounced"),
            uncertain: counter!("egret_mta_delivery_uncertain_total"),
            bytes: counter!("egret_mta_delivery_bytes_total"),
            dial: histogram!("egret_mta_delivery_dial_seconds"),
            tls: counter!("egret_mta_delivery_tls_sessions_total"),
            tls_failed: counter!("egret_mta_delivery_tls_failures_total"),
            tls_skipped: counter!("egret_mta_delivery_tls_skipped_total"),
            pipelining_broken: counter!("egret_mta_delivery_pipelining_broken_total"),
            chunking_broken: counter!("egret_mta_delivery_chunking_broken_total"),
            ahead: counter!("egret_mta_delivery_transactions_ahead_total"),
            ahead_broken: counter!("egret_mta_delivery_ahead_broken_total"),
        }
    }

    /// A session runs until the guard is dropped.
    pub(super) fn session(&self) -> Active {
        self.active.increment(1.0);
        Active(self.active.clone())
    }

    /// A session is connected and greeted after `took`.
    pub(super) fn opened(&self, took: Duration, is_tls: bool) {
        self.opened.increment(1);
        self.dial.record(took.as_secs_f64());
        if is_tls {
            self.tls.increment(1);
        }
    }

    pub(super) fn tls_failed(&self) {
        self.tls_failed.increment(1);
    }

    /// A session goes in clear because TLS was broken there of late.
    pub(super) fn tls_skipped(&self) {
        self.tls_skipped.increment(1);
    }

    /// A host is spoken to in lock-step for a time.
    pub(super) fn pipelining_broken(&self) {
        self.pipelining_broken.increment(1);
    }

    /// A host gets DATA for a time.
    pub(super) fn chunking_broken(&self) {
        self.chunking_broken.increment(1);
    }

    /// Transactions were written behind another.
    pub(super) fn went_ahead(&self, transactions: usize) {
        self.ahead.increment(transactions as u64);
    }

    /// A host gets no transaction behind another for a time.
    pub(super) fn ahead_broken(&self) {
        self.ahead_broken.increment(1);
    }

    pub(super) fn fault(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|known| *known == reason);
        if let Some(counter) = index.and_then(|index| self.faults.get(index)) {
            counter.increment(1);
        }
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.bytes.increment(bytes);
    }

    fn disposed(&self, record: &Record) {
        let recipients = record.recipients.len() as u64;
        match record.kind {
            Kind::Delivery => self.delivered.increment(recipients),
            Kind::Bounce => self.bounced.increment(recipients),
            _ => self.transient.increment(recipients),
        }
        if record.uncertain {
            self.uncertain.increment(recipients);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts a session as long as it lives.
pub(super) struct Active(Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The connection as events name it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire {
    pub peer: Option<Peer>,
    pub tls: Option<String>,
    pub tls_policy: Option<Posture>,
    pub tls_result: Option<TlsResult>,
}

impl Wire {
    pub fn to(name: &str, address: SocketAddr) -> Self {
        Self { peer: Some(Peer { name: name.to_owned(), address: Some(address) }), ..Self::default() }
    }
}

/// What an attempt at a ticket came to.
pub(super) struct Attempt<'a> {
    pub ticket: &'a Ticket,
    pub message: &'a Message,
    pub results: &'a [RecipientResult],
    /// Recipients whose outcome is not known for certain.
    pub uncertain: &'a [u16],
    pub timing: Timing,
    pub now: UnixMs,
    pub outcomes: &'a OutcomeRules,
}

/// Makes the events of an attempt, counts them, and gives each to `write`.
pub(super) fn tell(attempt: &Attempt<'_>, path: &Path, wire: &Wire, metrics: &Metrics, write: impl Fn(Record)) {
    let mut groups: Vec<(Kind, bool, &Response, Vec<String>)> = Vec::new();
    let part = attempt.message.meta.parts.get(usize::from(attempt.ticket.part));
    for result in attempt.results {
        let kind = match result.verdict {
            Verdict::Delivered => Kind::Delivery,
            Verdict::Retry { .. } | Verdict::Hold => Kind::TransientFailure,
            Verdict::Bounce => Kind::Bounce,
        };
        let uncertain = attempt.uncertain.contains(&result.recipient);
        let recipient = part.and_then(|part| part.recipients.get(usize::from(result.recipient)));
        let recipient = recipient.map(ToString::to_string).unwrap_or_default();
        let same =
            |g: &&mut (Kind, bool, &Response, Vec<String>)| g.0 == kind && g.1 == uncertain && *g.2 == result.response;
        match groups.iter_mut().find(same) {
            Some(group) => group.3.push(recipient),
            None => groups.push((kind, uncertain, &result.response, vec![recipient])),
        }
    }
    for (kind, uncertain, response, recipients) in groups {
        let meta = &attempt.message.meta;
        let (site, domain) = (&*path.site.name, attempt.ticket.queue.domain());
        let is_failure = kind != Kind::Delivery;
        let class = attempt.outcomes.class(Said { response, site, domain }).filter(|_| is_failure);
        let record = Record {
            kind,
            uncertain,
            recipients,
            class: class.map(|class| class.to_string()),
            response: Some(response.clone()),
            sender: meta.sender.as_ref().map(ToString::to_string).unwrap_or_default(),
            size: attempt.message.content.len() as u64,
            attempt: attempt.ticket.attempts.saturating_add(1),
            timing: attempt.timing,
            ..blank(kind, attempt.ticket, path, wire, attempt.now)
        };
        metrics.disposed(&record);
        write(record);
    }
}

/// What reports to the sender need to know of an attempt, if any can be due. Success that is not certain is none.
pub(super) fn witness(attempt: &Attempt<'_>, owing: &Owing, path: &Path, wire: &Wire) -> Option<Box<Witness>> {
    let meta = &attempt.message.meta;
    let wishes = meta.parts.get(usize::from(attempt.ticket.part)).map(|part| &part.wishes);
    let wants = |recipient: &&u16| wishes.is_some_and(|wishes| wishes.want(**recipient, Notify::SUCCESS));
    let untold: &[u16] = if meta.sender.is_some() { &owing.untold } else { &[] };
    let owed: Vec<u16> = untold.iter().filter(wants).copied().collect();
    if owed.is_empty() && attempt.results.iter().all(|r| r.verdict == Verdict::Delivered) {
        return None;
    }
    let remote = wire.peer.as_ref().filter(|_| !owing.is_mixed).map(|peer| peer.name.as_str().into());
    Some(Box::new(Witness { remote, owed, is_final: path.site.protocol == Protocol::Lmtp }))
}

/// The event of a failed dial.
pub(super) fn fault(fault: &Fault, ticket: &Ticket, path: &Path, wire: &Wire, now: UnixMs) -> Record {
    let status = crate::message::EnhancedCode::parse(fault.reason.enhanced_status());
    let status = status.unwrap_or(crate::message::EnhancedCode::new(4, 4, 1));
    Record {
        response: Some(Response::own(421, status, &fault.to_string())),
        party: Some(fault.party()),
        reason: Some(fault.reason),
        ..blank(Kind::Fault, ticket, path, wire, now)
    }
}

/// The event of a rule that has fired, on one of `results`.
pub(super) fn reaction(
    fired: &Fired,
    results: &[RecipientResult],
    ticket: &Ticket,
    message: Option<&Message>,
    (path, wire): (&Path, &Wire),
    now: UnixMs,
) -> Record {
    let result = results.get(fired.result);
    let part = message.and_then(|message| message.meta.parts.get(usize::from(ticket.part)));
    let recipient = part.zip(result).and_then(|(part, result)| part.recipients.get(usize::from(result.recipient)));
    let sender = message.and_then(|message| message.meta.sender.as_ref());
    let control = &fired.control;
    Record {
        sender: sender.map(ToString::to_string).unwrap_or_default(),
        recipients: recipient.map(ToString::to_string).into_iter().collect(),
        attempt: ticket.attempts.saturating_add(1),
        response: result.map(|result| result.response.clone()),
        automation: Some(Reaction {
            rule: fired.rule.clone(),
            action: fired.action.clone(),
            control: control.id.to_string(),
            scope: control.scope.to_string(),
            until_ms: control.expires,
        }),
        ..blank(Kind::Automation, ticket, path, wire, now)
    }
}

fn blank(kind: Kind, ticket: &Ticket, path: &Path, wire: &Wire, now: UnixMs) -> Record {
    let source = &path.source;
    let proxy = path.way.proxy().map(|proxy| proxy.name.to_string());
    Record {
        kind,
        time_ms: now,
        id: ticket.id,
        sender: String::new(),
        recipients: Vec::new(),
        queue: Some(ticket.queue.to_string()),
        tenant: ticket.queue.tenant().map(str::to_owned),
        campaign: ticket.queue.campaign().map(str::to_owned),
        site: Some(path.site.name.to_string()),
        size: 0,
        attempt: 0,
        source: Some(source.name.to_string()),
        source_address: source.address,
        proxy,
        user: None,
        peer: wire.peer.clone(),
        response: None,
        class: None,
        party: None,
        reason: None,
        tls: wire.tls.clone(),
        tls_policy: wire.tls_policy,
        tls_result: wire.tls_result,
        uncertain: false,
        automation: None,
        timing: Timing::default(),
    }
}
