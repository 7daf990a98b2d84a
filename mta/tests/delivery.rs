//! Sessions over real sockets: what becomes of each ticket when servers and proxies behave, and
//! when they do not.

#[path = "support/smtp.rs"]
mod smtp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use egret_mta::delivery::{Deps, Events, Metrics, Path, Reader, Seat, run};
use egret_mta::dns::site::{MxHost, Site};
use egret_mta::event::record::{Kind, Record};
use egret_mta::message::{
    Address, Content as Bytes, FromSession, Message, MessageId, Metadata, Part, QueueName, Ticket, Verdict,
};
use egret_mta::routing::source::{Credentials, Dialect, Proxy, Source, Way};
use egret_mta::shaping::options::{PathOptions, Timeouts, Tls as TlsMode};
use egret_shared::clock::{Clock, UnixMs};
use egret_shared::fault::{Fault, Party, Reason};
use egret_shared::net::tls_client::ClientTls;
use parking_lot::Mutex;
use smtp::{Content, Hear, Listen, Reached, Reset, Say, Step, Tls, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

const EHLO: &str = "250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000\r\n";
const FROM: [u8; 4] = [127, 0, 0, 7];

/// Messages in memory and events in a list.
#[derive(Clone, Default)]
struct Store {
    messages: Arc<Mutex<Vec<Arc<Message>>>>,
    forgotten: Arc<Mutex<Vec<MessageId>>>,
    events: Arc<Mutex<Vec<Record>>>,
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
    fn add(&self, recipients: &[&str], body: &str) -> Ticket {
        let id = MessageId::generate();
        let address = |text: &&str| Address::parse(text).expect("an address of the test");
        let queue = QueueName::of_domain("b.test");
        let recipients = recipients.iter().map(address).collect();
        let part = Part { queue: queue.clone(), pool: "pool".into(), recipients };
        let sender = Address::parse("me@a.test").ok();
        let received = UnixMs(1);
        let meta = Metadata { received, sender, eight_bit: !body.is_ascii(), smtputf8: false, parts: vec![part] };
        let content = Bytes { added: "Received: x\r\n".into(), body: body.to_owned().into() };
        self.messages.lock().push(Arc::new(Message { id, meta, content }));
        Ticket { id, part: 0, queue, attempts: 0, received, settled: vec![] }
    }

    fn kinds(&self) -> Vec<Kind> {
        self.events.lock().iter().map(|record| record.kind).collect()
    }
}

/// What a session came to.
#[derive(Default)]
struct End {
    settled: Vec<(MessageId, Vec<(u16, Verdict, String)>)>,
    returned: Vec<MessageId>,
    fault: Option<Fault>,
    connected: bool,
}

impl End {
    fn verdicts(&self) -> Vec<Verdict> {
        self.settled.iter().flat_map(|(_, results)| results.iter().map(|r| r.1)).collect()
    }

    fn words(&self) -> String {
        self.settled.iter().flat_map(|(_, results)| results.iter().map(|r| r.2.clone())).collect::<Vec<_>>().join("; ")
    }
}

struct Bench {
    store: Store,
    options: PathOptions,
    way: Way,
    source: IpAddr,
    hosts: Vec<SocketAddr>,
    tls: ClientTls,
    stop: CancellationToken,
}

fn bench(hosts: &[SocketAddr]) -> Bench {
    let timeouts = Timeouts { idle: Duration::from_secs(10), ..Timeouts::default() };
    Bench {
        store: Store::default(),
        options: PathOptions {
            connection_limit: 1,
            max_deliveries_per_connection: 10,
            max_recipients_per_batch: 100,
            tls: TlsMode::Opportunistic,
            pipelining: true,
            timeouts,
        },
        way: Way::Direct,
        source: FROM.into(),
        hosts: hosts.to_vec(),
        tls: ClientTls::new().expect("a provider"),
        stop: CancellationToken::new(),
    }
}

impl Bench {
    /// Runs one session over these tickets, each handed over when the one before is settled.
    async fn run(self, tickets: Vec<Ticket>) -> End {
        let (sender, work) = mpsc::channel(1);
        let (report, mut reports) = mpsc::channel(100);
        let name = |n: usize| format!("mx{n}.test").into();
        let host = |(n, at): (usize, &SocketAddr)| MxHost { name: name(n), addresses: vec![at.ip()], port: at.port() };
        let site = Site { name: "mx.test".into(), hosts: self.hosts.iter().enumerate().map(host).collect() };
        let source =
            Source { name: "s".into(), address: Some(self.source), ehlo_name: "out.a.test".into(), way: self.way };
        let path = Path { source: Arc::new(source), site: Arc::new(site), options: Arc::new(self.options) };
        let mut tickets = tickets.into_iter();
        let first = tickets.next().expect("a ticket");
        let seat = Seat { session: 1, path, first, work, report, stop: self.stop };
        let deps = Deps {
            messages: self.store.clone(),
            events: self.store.clone(),
            clock: Clock::system(),
            tls: Arc::new(self.tls),
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
                    match tickets.next() {
                        Some(ticket) => {
                            if let Some(sender) = &sender {
                                let _ = sender.try_send(ticket);
                            }
                        }
                        None => sender = None,
                    }
                }
                FromSession::Ended { fault, returned, .. } => {
                    end.returned = returned.iter().map(|t| t.id).collect();
                    end.fault = fault;
                    return end;
                }
            }
        }
        panic!("the session ended without a word");
    }
}

fn greeting() -> Vec<Step> {
    vec![Say("220 mx.test\r\n"), Hear, Say(EHLO)]
}

/// A transaction of one recipient that is taken.
fn taken() -> Vec<Step> {
    vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n"), Content, Say("250 2.0.0 queued\r\n")]
}

fn script(pieces: &[Vec<Step>]) -> Vec<Step> {
    pieces.concat()
}

const COUNTED: Verdict = Verdict::Retry { counts: true };
const UNCOUNTED: Verdict = Verdict::Retry { counts: false };

#[tokio::test]
async fn one_connection_carries_message_after_message() {
    let script = script(&[greeting(), taken(), taken(), vec![Hear, Say("221 bye\r\n")]]);
    let (at, heard) = serve("127.0.0.1:0", vec![script]).await;
    let bench = bench(&[at]);
    let store = bench.store.clone();
    let tickets = vec![store.add(&["x@b.test"], "one\r\n.dot\r\n"), store.add(&["y@b.test"], "zwei ü\r\n")];
    let ids: Vec<MessageId> = tickets.iter().map(|t| t.id).collect();
    let end = bench.run(tickets).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered, Verdict::Delivered]);
    assert!(end.connected && end.fault.is_none() && end.returned.is_empty());
    assert_eq!(*store.forgotten.lock(), ids);
    assert_eq!(store.kinds(), [Kind::Delivery, Kind::Delivery]);
    let event = store.events.lock()[0].clone();
    assert_eq!((event.recipients, event.attempt, event.size), (vec!["x@b.test".to_owned()], 1, 24));
    assert_eq!(event.response.map(|r| r.to_string()), Some("250 2.0.0 queued".to_owned()));
    assert!(event.timing.connect_ms.is_some() && store.events.lock()[1].timing.connect_ms.is_none());
    assert_eq!(
        heard.lock()[0],
        [
            "EHLO out.a.test",
            "MAIL FROM:<me@a.test> SIZE=24",
            "RCPT TO:<x@b.test>",
            "DATA",
            "Received: x",
            "one",
            "..dot",
            "MAIL FROM:<me@a.test> SIZE=22 BODY=8BITMIME",
            "RCPT TO:<y@b.test>",
            "DATA",
            "Received: x",
            "zwei ü",
            "QUIT",
        ]
    );
}

#[tokio::test]
async fn each_recipient_has_its_own_end() {
    let answers = "250 a\r\n250 b\r\n550 5.1.1 nobody\r\n450 4.2.1 later\r\n354 go\r\n";
    let lines = vec![Hear, Hear, Hear, Hear, Hear, Say(answers), Content, Say("250 ok\r\n"), Listen];
    let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), lines])]).await;
    let bench = bench(&[at]);
    let store = bench.store.clone();
    let mut ticket = store.add(&["a@b.test", "b@b.test", "c@b.test", "d@b.test"], "x\r\n");
    ticket.settled = vec![1];
    let end = bench.run(vec![ticket]).await;
    let mut results = end.settled[0].1.clone();
    results.sort_by_key(|r| r.0);
    let results: Vec<_> = results.iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(results, [(0, Verdict::Delivered), (2, Verdict::Bounce), (3, COUNTED)]);
    assert_eq!(store.events.lock().len(), 3);
}

#[tokio::test]
async fn recipients_beyond_a_batch_and_beyond_the_servers_limit_go_in_further_transactions() {
    let first = "250 a\r\n250 b\r\n452 4.5.3 too many\r\n354 go\r\n";
    let two = vec![Hear, Hear, Hear, Hear, Say(first), Content, Say("250 ok\r\n")];
    let both = vec![Hear, Hear, Hear, Hear, Say("250 a\r\n250 b\r\n250 c\r\n354 go\r\n"), Content, Say("250 ok\r\n")];
    let (at, heard) = serve("127.0.0.1:0", vec![script(&[greeting(), two, both, vec![Listen]])]).await;
    let mut bench = bench(&[at]);
    bench.options.max_recipients_per_batch = 2;
    let ticket = bench.store.add(&["a@b.test", "b@b.test", "c@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered; 3]);
    let rcpts: Vec<String> = heard.lock()[0].iter().filter(|l| l.starts_with("RCPT")).cloned().collect();
    assert_eq!(rcpts, ["a", "b", "c", "b"].map(|n| format!("RCPT TO:<{n}@b.test>")));
}

#[tokio::test]
async fn what_a_misbehaving_server_means() {
    let mail = |answer: &'static str| vec![Hear, Hear, Hear, Say(answer)];
    let content =
        |answer: &'static str| vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n"), Content, Say(answer)];
    for (steps, want, words) in [
        (mail("421 4.3.2 leaving\r\n"), COUNTED, "421 4.3.2 leaving"),
        (mail("550 5.7.1 no\r\n503 x\r\n503 x\r\n"), Verdict::Bounce, "550 5.7.1 no"),
        (mail("250 a\r\n450 4.7.1 greylisted\r\n554 none\r\n"), COUNTED, "450 4.7.1 greylisted"),
        (mail("250 a\r\n250 b\r\n451 disk\r\n"), COUNTED, "451 disk"),
        (mail("250 a\r\n250 b\r\n250 what\r\n"), COUNTED, "250 what"),
        (mail("250 a\r\n250 b\r\n"), COUNTED, "421 4.4.2 connection closed by the other side at DATA"),
        (mail("250 a\r\n25"), COUNTED, "421 4.4.2 connection closed by the other side at RCPT"),
        (mail("250 a\r\nhello\r\n"), COUNTED, "421 4.5.0 protocol error: \"hello\" is not an SMTP reply at RCPT"),
        (content("554 5.7.1 spam\r\n"), Verdict::Bounce, "554 5.7.1 spam"),
        (content("451 4.0.0 busy\r\n"), COUNTED, "451 4.0.0 busy"),
        (content(""), COUNTED, "421 4.4.2 connection closed by the other side at ."),
    ] {
        let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), steps])]).await;
        let bench = bench(&[at]);
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!((end.verdicts(), end.words()), (vec![want], words.to_owned()));
        assert_eq!(store.events.lock()[0].uncertain, words.ends_with(" at ."), "{words}");
        assert!(end.fault.is_none() && end.returned.is_empty());
    }
}

#[tokio::test]
async fn a_server_that_leaves_between_messages_harms_neither() {
    for farewell in [vec![], vec![Hear, Hear, Hear, Say("421 4.7.0 enough\r\n")], vec![Hear, Reset]] {
        let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), farewell])]).await;
        let bench = bench(&[at]);
        let store = bench.store.clone();
        let tickets = vec![store.add(&["a@b.test"], "x\r\n"), store.add(&["b@b.test"], "x\r\n")];
        let (first, second) = (tickets[0].id, tickets[1].id);
        let end = bench.run(tickets).await;
        assert_eq!((end.settled[0].0, end.verdicts()), (first, vec![Verdict::Delivered]));
        // Returned, unless the session ended before it was handed over.
        assert!(end.returned.is_empty() || end.returned == [second]);
        assert_eq!(store.kinds(), [Kind::Delivery]);
    }
}

#[tokio::test]
async fn a_message_that_the_server_cannot_take_is_bounced_unsent() {
    let plain = "250-mx.test\r\n250 SIZE 20\r\n";
    for (recipient, body, words) in [
        ("a@b.test", "1234567890\r\n", "552 5.3.4"),
        ("a@b.test", "ü\r\n", "554 5.6.3"),
        ("ü@b.test", "x\r\n", "553 5.6.7"),
    ] {
        let (at, heard) = serve("127.0.0.1:0", vec![vec![Say("220 x\r\n"), Hear, Say(plain), Listen]]).await;
        let bench = bench(&[at]);
        let ticket = bench.store.add(&[recipient], body);
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [Verdict::Bounce]);
        assert!(end.words().starts_with(words), "{}", end.words());
        assert_eq!(heard.lock()[0].get(1).map_or("QUIT", String::as_str), "QUIT");
    }
}

#[tokio::test]
async fn an_old_server_is_spoken_to_in_helo_and_lock_step() {
    let steps = vec![
        Say("220 old\r\n"),
        Hear,
        Say("502 what\r\n"),
        Hear,
        Say("250 old\r\n"),
        Hear,
        Say("250 a\r\n"),
        Hear,
        Say("250 b\r\n"),
        Hear,
        Say("354 c\r\n"),
        Content,
        Say("250 d\r\n"),
        Hear,
    ];
    let (at, heard) = serve("127.0.0.1:0", vec![steps]).await;
    let bench = bench(&[at]);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered]);
    assert_eq!(heard.lock()[0][1..3], ["HELO out.a.test", "MAIL FROM:<me@a.test>"]);
}

#[tokio::test]
async fn the_next_host_is_tried_and_the_last_words_count() {
    let (busy, _) = serve("127.0.0.1:0", vec![vec![Say("554 5.7.1 not you\r\n")]]).await;
    let dead = SocketAddr::from(([127, 0, 0, 1], 1));
    let (good, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), vec![Listen]])]).await;
    let bench1 = bench(&[busy, dead, good]);
    let store = bench1.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench1.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered]);
    assert_eq!(store.kinds(), [Kind::Fault, Kind::Fault, Kind::Delivery]);

    let (busy, _) = serve("127.0.0.1:0", vec![vec![Say("554 5.7.1 not you\r\n")]]).await;
    let bench2 = bench(&[dead, busy]);
    let store = bench2.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench2.run(vec![ticket]).await;
    assert_eq!((end.verdicts(), end.words()), (vec![COUNTED], "554 5.7.1 not you".to_owned()));
    assert_eq!(end.fault.map(|f| f.party()), Some(Party::Remote));
    assert_eq!(store.kinds(), [Kind::Fault, Kind::Fault, Kind::TransientFailure]);
}

#[tokio::test]
async fn a_source_that_is_not_here_returns_the_ticket() {
    let (at, heard) = serve("127.0.0.1:0", vec![]).await;
    let mut bench = bench(&[at, at]);
    bench.source = [192, 0, 2, 77].into();
    let store = bench.store.clone();
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let id = ticket.id;
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.fault.map(|f| f.reason), Some(Reason::SourceNotPlumbed));
    assert_eq!((end.returned, end.settled.len()), (vec![id], 0));
    assert_eq!((store.kinds(), heard.lock().len()), (vec![Kind::Fault], 0));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_stays_without_penalty() {
    let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), vec![Listen]])]).await;
    let bench = bench(&[at]);
    let lost = bench.store.add(&["a@b.test"], "x\r\n");
    bench.store.messages.lock().clear();
    let good = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![lost, good]).await;
    assert_eq!(end.verdicts(), [UNCOUNTED, Verdict::Delivered]);
}

#[tokio::test]
async fn a_session_cut_short_says_where_each_recipient_stands() {
    for (answers, want, uncertain) in [
        (vec![Hear, Hear, Hear, Say("250 a\r\n")], UNCOUNTED, false),
        (vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 c\r\n"), Content], COUNTED, true),
    ] {
        let reached = Arc::new(tokio::sync::Notify::new());
        let steps = script(&[greeting(), answers, vec![Reached(reached.clone()), Listen]]);
        let (at, _) = serve("127.0.0.1:0", vec![steps]).await;
        let bench = bench(&[at]);
        let (store, stop) = (bench.store.clone(), bench.stop.clone());
        let ticket = store.add(&["a@b.test"], "x\r\n");
        tokio::spawn(async move {
            reached.notified().await;
            stop.cancel();
        });
        let end = bench.run(vec![ticket]).await;
        assert_eq!((end.verdicts(), end.returned.len()), (vec![want], 0));
        assert_eq!(store.events.lock()[0].uncertain, uncertain);
    }
}

#[tokio::test]
async fn a_session_cut_short_before_its_first_command_returns_the_ticket() {
    let reached = Arc::new(tokio::sync::Notify::new());
    let (at, _) = serve("127.0.0.1:0", vec![vec![Reached(reached.clone()), Listen]]).await;
    let bench = bench(&[at]);
    let stop = bench.stop.clone();
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let id = ticket.id;
    tokio::spawn(async move {
        reached.notified().await;
        stop.cancel();
    });
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.returned, end.settled.len(), end.fault), (vec![id], 0, None));
}

#[tokio::test]
async fn an_early_refusal_of_a_large_message_is_heard() {
    let steps = vec![Hear, Hear, Hear, Say("250 a\r\n250 b\r\n354 go\r\n552 5.3.4 too large\r\n")];
    let reached = Arc::new(tokio::sync::Notify::new());
    let wait = Reached(reached.clone());
    let ehlo = vec![Say("220 mx.test\r\n"), Hear, Say("250-x\r\n250 PIPELINING\r\n")];
    // The server reads nothing more: only a client that listens while it writes can end.
    let (at, _) = serve_and_hold(script(&[ehlo, steps, vec![wait]])).await;
    let bench = bench(&[at]);
    let ticket = bench.store.add(&["a@b.test"], &"0123456789abcde\r\n".repeat(2_000_000));
    let end = bench.run(vec![ticket]).await;
    assert_eq!((end.verdicts(), end.words()), (vec![Verdict::Bounce], "552 5.3.4 too large".to_owned()));
}

/// Plays one script and keeps the connection open, unread.
async fn serve_and_hold(script: Vec<Step>) -> (SocketAddr, ()) {
    let (hold, at) = (Arc::new(tokio::sync::Notify::new()), "127.0.0.1:0");
    let listener = TcpListener::bind(at).await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let std = stream.into_std().expect("a socket");
        let kept = std.try_clone().expect("a second handle");
        let stream = TcpStream::from_std(std).expect("registered");
        let heard = smtp::Heard::default();
        heard.lock().push(Vec::new());
        smtp::play(stream, script, heard, 0).await;
        hold.notified().await;
        drop(kept);
    });
    (at, ())
}

fn acceptor() -> (TlsAcceptor, rustls::pki_types::CertificateDer<'static>) {
    let key = rcgen::generate_simple_self_signed(vec!["mx0.test".to_owned()]).expect("a certificate");
    let certificate = key.cert.der().clone();
    let secret = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], secret)
        .expect("a pair");
    (Arc::new(config).into(), certificate)
}

fn starttls(acceptor: TlsAcceptor) -> Vec<Step> {
    let offer = "250-mx.test\r\n250 STARTTLS\r\n";
    vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("220 go\r\n"), Tls(acceptor), Hear, Say(EHLO)]
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered_and_checked_where_it_is_required() {
    let (acceptor, certificate) = acceptor();
    for (mode, knows_root, want) in [
        (TlsMode::Opportunistic, false, Verdict::Delivered),
        (TlsMode::RequiredInsecure, false, Verdict::Delivered),
        (TlsMode::Required, true, Verdict::Delivered),
        (TlsMode::Required, false, COUNTED),
    ] {
        let steps = script(&[starttls(acceptor.clone()), taken(), vec![Listen]]);
        let (at, _) = serve("127.0.0.1:0", vec![steps]).await;
        let mut bench = bench(&[at]);
        bench.options.tls = mode;
        if knows_root {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificate.clone()).expect("a root");
            bench.tls = ClientTls::with_roots(roots).expect("a provider");
        }
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [want], "{mode:?}: {}", end.words());
        let tls = store.events.lock().last().and_then(|e| e.tls.clone());
        assert_eq!(tls.is_some_and(|tls| tls.starts_with("TLSv1_3 ")), want == Verdict::Delivered);
    }
}

#[tokio::test]
async fn a_failed_handshake_is_followed_by_clear_text_only_if_tls_is_not_required() {
    let broken = || {
        let offer = "250-mx.test\r\n250 STARTTLS\r\n";
        vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("220 go\r\n"), Hear]
    };
    for (mode, want) in [(TlsMode::Opportunistic, Verdict::Delivered), (TlsMode::RequiredInsecure, COUNTED)] {
        let again = script(&[greeting(), taken(), vec![Listen]]);
        let (at, heard) = serve("127.0.0.1:0", vec![script(&[broken(), vec![Say("garbage\r\n")]]), again]).await;
        let mut bench = bench(&[at]);
        bench.options.tls = mode;
        let ticket = bench.store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [want], "{mode:?}: {}", end.words());
        assert_eq!(heard.lock().len(), if want == COUNTED { 1 } else { 2 });
    }
}

#[tokio::test]
async fn bytes_before_the_handshake_are_not_taken_for_replies_in_it() {
    let offer = "250-mx.test\r\n250 STARTTLS\r\n";
    let injected = vec![Say("220 mx.test\r\n"), Hear, Say(offer), Hear, Say("220 go\r\n250 evil\r\n"), Listen];
    let (at, _) = serve("127.0.0.1:0", vec![injected]).await;
    let bench = bench(&[at]);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(
        (end.verdicts(), end.words()),
        (vec![COUNTED], "421 4.5.0 data before the TLS handshake at STARTTLS".to_owned())
    );
}

/// A proxy that reads `reads` bytes and answers, step by step, then relays to `to`, if it is to.
async fn proxy(steps: Vec<(usize, Vec<u8>)>, to: Option<SocketAddr>) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("loopback");
    let at = listener.local_addr().expect("bound");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let noted = heard.clone();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        for (length, answer) in steps {
            let mut bytes = vec![0; length];
            client.read_exact(&mut bytes).await.expect("the request");
            noted.lock().extend_from_slice(&bytes);
            client.write_all(&answer).await.expect("answered");
        }
        if let Some(to) = to {
            let mut server = TcpStream::connect(to).await.expect("the server");
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    (at, heard)
}

fn through(address: SocketAddr, dialect: Dialect, credentials: Option<(&str, &str)>) -> Way {
    let credentials = credentials.map(|(u, p)| Credentials { username: u.to_owned(), password: p.to_owned() });
    Way::Proxy(Arc::new(Proxy { name: "p".into(), address, dialect, credentials }))
}

fn success(from: [u8; 4]) -> Vec<u8> {
    [&[5, 0, 0, 1][..], &from, &[0, 9]].concat()
}

#[tokio::test]
async fn mail_leaves_through_each_kind_of_proxy() {
    let user = "from-127.0.0.7";
    let auth = 3 + user.len() + 2;
    for (dialect, credentials, steps) in [
        (Dialect::Socks5, None, vec![(3, vec![5, 0]), (10, success(FROM)), (10, success(FROM))]),
        (
            Dialect::Connect,
            Some(("from-{source}", "pw")),
            vec![(4, vec![5, 2]), (auth, vec![1, 0]), (10, success([0, 0, 0, 0]))],
        ),
        (Dialect::ProxyV2, None, vec![(28, vec![])]),
    ] {
        let (at, _) = serve("127.0.0.1:0", vec![script(&[greeting(), taken(), vec![Listen]])]).await;
        let (proxy, heard) = proxy(steps, Some(at)).await;
        let mut bench = bench(&[at]);
        bench.way = through(proxy, dialect, credentials);
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.verdicts(), [Verdict::Delivered], "{dialect:?} {:?}", end.fault);
        let event = store.events.lock()[0].clone();
        assert_eq!((event.proxy, event.source_address), (Some("p".to_owned()), Some(FROM.into())));
        let chooses_by = if dialect == Dialect::Connect { user.as_bytes().to_vec() } else { FROM.to_vec() };
        assert!(heard.lock().windows(chooses_by.len()).any(|w| w == chooses_by), "{dialect:?}");
    }
}

#[tokio::test]
async fn a_fault_on_the_way_names_its_party_and_burns_no_attempt() {
    let to = SocketAddr::from(([127, 0, 0, 1], 2525));
    let line = Fault::new(Reason::SourceNotPlumbed, "127.0.0.7 to x").smtp_line("s-1").into_bytes();
    let refused = vec![5, 1, 0, 1, 0, 0, 0, 10, 0, 99];
    for (dialect, steps, want) in [
        (Dialect::Socks5, vec![(3, vec![5, 0]), (10, refused)], Reason::SourceNotPlumbed),
        (Dialect::Socks5, vec![(3, vec![5, 0]), (10, success([9, 9, 9, 9]))], Reason::ProxyDialect),
        (Dialect::Socks5, vec![(3, vec![])], Reason::ProxyUnspecified),
        (Dialect::ProxyV2, vec![(28, line)], Reason::SourceNotPlumbed),
    ] {
        let (proxy, _) = proxy(steps, None).await;
        let mut bench = bench(&[to, to]);
        bench.way = through(proxy, dialect, None);
        let store = bench.store.clone();
        let ticket = store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.fault.map(|f| f.reason), Some(want));
        assert_eq!((end.settled.len(), end.returned.len()), (0, 1));
        assert_eq!(store.kinds(), [Kind::Fault]);
    }
}
