//! A session on its own: messages and events in memory, the queues' side of its channels.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use egret_mta::delivery::trace::Tracer;
use egret_mta::delivery::{Claims, Deps, Events, HostMemory, Metrics, OutcomeRules, Path, Policing, Reader, Seat, run};
use egret_mta::dns::site::{HostPolicy, MxHost, Protocol, Site};
use egret_mta::dns::sts::cache::PolicyCache;
use egret_mta::event::record::{Kind, Record};
use egret_mta::message::{
    Address, Content as Bytes, FromSession, Message, MessageId, MessageWish, Metadata, Part, Priority, QueueName,
    Ticket, Verdict, Wishes, Witness,
};
use egret_mta::routing::source::{Source, Way};
use egret_mta::shaping::automation::Automation;
use egret_mta::shaping::options::{MOST_AHEAD, PathOptions, SmtpOptions, Timeouts};
use egret_mta::tls_report::TlsReports;
use egret_shared::clock::{Clock, UnixMs};
use egret_shared::fault::Fault;
use egret_shared::net::tls_client::ClientTls;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::smtp::{Content, Hear, Say, Step};

pub const EHLO: &str = "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000\r\n";
pub const FROM: [u8; 4] = [127, 0, 0, 7];

/// Messages in memory and events in a list.
#[derive(Clone, Default)]
pub struct Store {
    pub messages: Arc<Mutex<Vec<Arc<Message>>>>,
    pub forgotten: Arc<Mutex<Vec<MessageId>>>,
    pub events: Arc<Mutex<Vec<Record>>>,
}

impl Reader for Store {
    async fn read(&self, id: MessageId) -> Result<Arc<Message>, String> {
        self.messages.lock().iter().find(|m| m.id == id).cloned().ok_or_else(|| "it is gone".to_owned())
    }

    fn forget_body(&self, id: MessageId) {
        self.forgotten.lock().push(id);
    }
}

impl Events for Store {
    fn write(&self, record: Record) {
        self.events.lock().push(record);
    }
}

impl Store {
    /// Adds a message for these recipients; gives its ticket.
    pub fn add(&self, recipients: &[&str], body: &str) -> Ticket {
        let id = MessageId::generate();
        let address = |text: &&str| Address::parse(text).expect("an address of the test");
        let queue = QueueName::of_domain("b.test");
        let recipients = recipients.iter().map(address).collect();
        let (priority, wishes) = (Priority::Normal, Wishes::default());
        let part = Part { queue: queue.clone(), pool: "pool".into(), priority, recipients, wishes };
        let sender = Address::parse("me@a.test").ok();
        let received = UnixMs(1);
        let meta = Metadata {
            received,
            sender,
            eight_bit: !body.is_ascii(),
            smtputf8: false,
            not_before: None,
            wish: MessageWish::default(),
            parts: vec![part],
        };
        let content = Bytes { added: "Received: x\r\n".into(), body: body.to_owned().into() };
        self.messages.lock().push(Arc::new(Message { id, meta, content }));
        Ticket { id, part: 0, queue, attempts: 0, received, settled: vec![] }
    }

    pub fn kinds(&self) -> Vec<Kind> {
        self.events.lock().iter().map(|record| record.kind).collect()
    }
}

/// Recipient, verdict, words.
pub type Told = (u16, Verdict, String);

/// What a session came to.
#[derive(Default)]
pub struct End {
    pub settled: Vec<(MessageId, Vec<Told>)>,
    pub returned: Vec<MessageId>,
    pub fault: Option<Fault>,
    pub connected: bool,
    /// Tickets that the session did not take from the queues.
    pub unreceived: usize,
    /// What reports need to know, of each ticket.
    pub witnesses: Vec<Option<Box<Witness>>>,
}

impl End {
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.settled.iter().flat_map(|(_, results)| results.iter().map(|r| r.1)).collect()
    }

    pub fn words(&self) -> String {
        self.settled.iter().flat_map(|(_, results)| results.iter().map(|r| r.2.clone())).collect::<Vec<_>>().join("; ")
    }
}

pub struct Bench {
    pub store: Store,
    pub options: PathOptions,
    pub way: Way,
    pub source: IpAddr,
    pub names_itself: bool,
    pub hosts: Vec<SocketAddr>,
    pub protocol: Protocol,
    pub tls: ClientTls,
    pub known: HostMemory,
    pub outcomes: OutcomeRules,
    pub automation: Automation,
    pub host_policy: HostPolicy,
    pub policing: Policing,
    pub claims: Claims,
    pub stop: CancellationToken,
    /// Tickets that are handed ahead of time.
    pub ahead: usize,
}

pub fn bench(hosts: &[SocketAddr]) -> Bench {
    let timeouts = Timeouts { idle: Duration::from_secs(10), ..Timeouts::default() };
    Bench {
        store: Store::default(),
        options: PathOptions {
            max_deliveries_per_connection: 10,
            max_recipients_per_batch: 100,
            smtp: SmtpOptions { timeouts, ..SmtpOptions::default() },
            ..PathOptions::default()
        },
        way: Way::Direct,
        source: FROM.into(),
        names_itself: true,
        hosts: hosts.to_vec(),
        protocol: Protocol::Smtp,
        tls: ClientTls::new().expect("a provider"),
        known: HostMemory::default(),
        outcomes: OutcomeRules::default(),
        automation: Automation::default(),
        host_policy: HostPolicy::None,
        policing: Policing { policies: PolicyCache::default(), reports: TlsReports::new(Clock::system()) },
        claims: Claims::default(),
        stop: CancellationToken::new(),
        ahead: 0,
    }
}

impl Bench {
    /// Runs one session over these tickets, each handed over when the one before is settled, or so many of them ahead.
    pub async fn run(self, tickets: Vec<Ticket>) -> End {
        let (sender, work) = mpsc::channel(1 + self.ahead);
        let mut options = self.options;
        options.smtp.max_transactions_ahead = MOST_AHEAD;
        let (report, mut reports) = mpsc::channel(100);
        let name = |n: usize| format!("mx{n}.test").into();
        let host = |(n, at): (usize, &SocketAddr)| MxHost {
            name: name(n),
            addresses: vec![at.ip()],
            port: at.port(),
            policy: self.host_policy.clone(),
        };
        let hosts = self.hosts.iter().enumerate().map(host).collect();
        let site = Site { name: "mx.test".into(), hosts, protocol: self.protocol };
        let source = Source {
            name: "s".into(),
            address: Some(self.source),
            ehlo_name: "out.a.test".into(),
            names_itself: self.names_itself,
            warmup: Vec::new(),
            ways: Vec::new(),
        };
        let path = Path {
            source: Arc::new(source),
            way: self.way,
            site: Arc::new(site),
            options: Arc::new(options),
            shaped: Arc::default(),
        };
        let mut tickets = tickets.into_iter();
        let first = tickets.next().expect("a ticket");
        let mut handed = 1;
        for ticket in tickets.by_ref().take(self.ahead) {
            handed += 1;
            sender.try_send(ticket).expect("room");
        }
        let seat = Seat { session: 1, path, first, work, report, stop: self.stop };
        let deps = Deps {
            messages: self.store.clone(),
            events: self.store.clone(),
            clock: Clock::system(),
            tls: Arc::new(self.tls),
            tracer: Tracer::default(),
            hosts: self.known,
            outcomes: self.outcomes,
            automation: self.automation,
            policing: self.policing,
            claims: self.claims,
            metrics: Metrics::new(),
        };
        tokio::spawn(run(seat, deps));
        let (mut end, mut sender) = (End::default(), Some(sender));
        while let Some(word) = reports.recv().await {
            match word {
                FromSession::Connected { .. } => end.connected = true,
                FromSession::Settled { result, .. } => {
                    let told = result.results.iter().map(|r| (r.recipient, r.verdict, r.response.to_string()));
                    end.settled.push((result.ticket.id, told.collect()));
                    end.witnesses.push(result.witness.clone());
                    match tickets.next() {
                        Some(ticket) => {
                            let refused = sender.as_ref().is_none_or(|sender| sender.try_send(ticket).is_err());
                            end.unreceived += usize::from(refused);
                            handed += usize::from(!refused);
                        }
                        None if end.settled.len() == handed => sender = None,
                        None => {}
                    }
                }
                FromSession::Ended { fault, returned, .. } => {
                    end.returned = returned.iter().map(|t| t.id).collect();
                    end.fault = fault;
                    end.unreceived += tickets.count();
                    return end;
                }
            }
        }
        panic!("the session ended without a word");
    }
}

pub fn greeting() -> Vec<Step> {
    vec![Say("220 mx.test\r\n"), Hear, Say(EHLO)]
}

/// A transaction of one recipient that is taken.
pub fn taken() -> Vec<Step> {
    vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n"), Content, Say("250 2.0.0 queued\r\n")]
}

pub fn script(pieces: &[Vec<Step>]) -> Vec<Step> {
    pieces.concat()
}

pub const COUNTED: Verdict = Verdict::Retry { counts: true };
pub const UNCOUNTED: Verdict = Verdict::Retry { counts: false };
