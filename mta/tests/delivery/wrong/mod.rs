//! Everything that a server can do wrong, a row each: what it does, and what follows for the message, the session, the
//! events and the message behind it. The table is played here directly, and by the crate `tests` through a real proxy.

mod ahead;
mod content;
mod greeting;
mod offers;
mod replies;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use egret_mta::delivery::HostMemory;
use egret_mta::event::record::Kind;
use egret_mta::message::{MessageId, Ticket, Verdict};
use egret_mta::routing::source::Way;
use egret_mta::shaping::options::{PathOptions, Timeouts};
use egret_shared::fault::{Party, Reason};
use egret_shared::net::tls_client::ClientTls;
use rustls::pki_types::CertificateDer;

pub use greeting::nobody_listens;

use crate::bench::{Store, Told, bench, greeting, script, taken};
use crate::smtp::{Behave, Step, serve_then};

/// How long is waited for what never comes.
const BRIEF: Duration = Duration::from_millis(100);
/// After so long something hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sessions after which each message must have its end.
const SESSIONS: usize = 4;

/// What a server does, and what follows.
pub struct Row {
    /// The number in the catalogue of faults, and what is done.
    pub name: &'static str,
    /// What it does on one connection after the other; on further ones it behaves.
    scripts: Vec<Vec<Step>>,
    /// Options of the first session; later ones have the defaults.
    set: fn(&mut PathOptions),
    recipients: &'static [&'static str],
    /// Messages before the first, by which the server shows how it answers: then two go out together.
    proofs: usize,
    body: String,
    /// The certificate that is known.
    root: Option<CertificateDer<'static>>,
    want: Want,
}

/// What follows for the first message. The second one is delivered, unless it was on its way behind it.
struct Want {
    verdicts: Vec<Verdict>,
    /// What the words of the first recipient hold.
    words: &'static str,
    faults: &'static [Reason],
    uncertain: bool,
    /// What follows for the second one, if that was on its way behind the first.
    next: Verdict,
    /// Connections for both messages: one is used again only if it is in step.
    connections: usize,
}

fn row(name: &'static str, first: Vec<Step>, verdict: Verdict, words: &'static str) -> Row {
    let want = Want {
        verdicts: vec![verdict],
        words,
        faults: &[],
        uncertain: false,
        next: Verdict::Delivered,
        connections: 2,
    };
    Row {
        name,
        scripts: vec![first],
        set: |_| {},
        recipients: &["a@b.test"],
        proofs: 0,
        body: "x\r\n".to_owned(),
        root: None,
        want,
    }
}

impl Row {
    fn set(mut self, set: fn(&mut PathOptions)) -> Self {
        self.set = set;
        self
    }

    fn then(mut self, script: Vec<Step>) -> Self {
        self.scripts.push(script);
        self
    }

    fn to(mut self, recipients: &'static [&'static str], verdicts: &[Verdict]) -> Self {
        (self.recipients, self.want.verdicts) = (recipients, verdicts.to_vec());
        self
    }

    fn large(mut self) -> Self {
        self.body = "0123456789abcde\r\n".repeat(2_000_000);
        self
    }

    fn fault(mut self, faults: &'static [Reason]) -> Self {
        self.want.faults = faults;
        self
    }

    fn proven(mut self) -> Self {
        self.proofs = 2;
        self
    }

    fn next(mut self, verdict: Verdict) -> Self {
        self.want.next = verdict;
        self
    }

    fn uncertain(mut self) -> Self {
        self.want.uncertain = true;
        self
    }

    fn connections(mut self, connections: usize) -> Self {
        self.want.connections = connections;
        self
    }

    /// The connection carries the next message, too.
    fn goes_on(self) -> Self {
        self.connections(1)
    }
}

/// The table.
pub fn rows() -> Vec<Row> {
    let all = [greeting::rows(), replies::rows(), content::rows(), offers::rows(), tls::rows(), ahead::rows()];
    all.into_iter().flatten().collect()
}

/// A greeted session, then this.
fn greeted(steps: &[Step]) -> Vec<Step> {
    script(&[greeting(), steps.to_vec()])
}

/// The tickets' ends, in the order in which they came.
type Settled = Vec<(MessageId, Vec<Told>)>;

/// Sessions until each ticket has an end, as the queues would open them.
async fn carry(row: &Row, way: &Way, at: SocketAddr, store: &Store, mut left: Vec<Ticket>) -> Settled {
    let known = HostMemory::default();
    let mut settled = Settled::new();
    for number in 0..SESSIONS {
        let mut bench = bench(&[at]);
        (bench.store, bench.way, bench.known) = (store.clone(), way.clone(), known.clone());
        if number == 0 {
            (row.set)(&mut bench.options);
            bench.ahead = row.proofs;
        } else {
            bench.options.smtp.timeouts = Timeouts { idle: BRIEF, ..Timeouts::default() };
        }
        if let Some(root) = &row.root {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(root.clone()).expect("a root");
            bench.tls = ClientTls::with_roots(roots).expect("a provider");
        }
        let end = bench.run(left.clone()).await;
        settled.extend(end.settled);
        left.retain(|ticket| settled.iter().all(|(id, _)| *id != ticket.id));
        if left.is_empty() {
            return settled;
        }
    }
    panic!("{}: {} messages have no end after {SESSIONS} sessions: {settled:?}", row.name, left.len());
}

/// Plays a row by `way`, the server at `at`, and checks all that follows.
pub async fn play(row: Row, way: Way, at: &str) {
    let name = row.name;
    assert!(tokio::time::timeout(PATIENCE, check(row, way, at)).await.is_ok(), "{name}: it does not end");
}

async fn check(row: Row, way: Way, at: &str) {
    let (at, heard) = serve_then(at, row.scripts.clone(), vec![Behave]).await;
    let store = Store::default();
    let mut tickets: Vec<Ticket> = (0..row.proofs).map(|_| store.add(&["proof@b.test"], "x\r\n")).collect();
    tickets.extend([store.add(row.recipients, &row.body), store.add(&["next@b.test"], "x\r\n")]);
    let ids = [tickets[row.proofs].id, tickets[row.proofs + 1].id];
    let settled = carry(&row, &way, at, &store, tickets).await;
    let (name, want) = (row.name, &row.want);
    let of = |id| {
        let mut ends: Vec<_> = settled.iter().filter(|(of, _)| *of == id).collect();
        assert_eq!(ends.len(), 1, "{name}: one end for each message: {settled:?}");
        let mut told = ends.remove(0).1.clone();
        told.sort_by_key(|(recipient, ..)| *recipient);
        told
    };
    let first = of(ids[0]);
    let verdicts: Vec<Verdict> = first.iter().map(|told| told.1).collect();
    assert_eq!(verdicts, want.verdicts, "{name}: {first:?}\n{:?}", heard.lock());
    assert!(first[0].2.contains(want.words), "{name}: {first:?}");
    let next: Vec<Verdict> = of(ids[1]).iter().map(|told| told.1).collect();
    assert_eq!(next, [want.next], "{name}: the next message: {:?}\n{:?}", of(ids[1]), heard.lock());
    let events = store.events.lock().clone();
    let faults: Vec<Reason> = events.iter().filter(|e| e.kind == Kind::Fault).filter_map(|e| e.reason).collect();
    assert_eq!(faults, want.faults, "{name}: {events:?}");
    let blamed = |e: &&egret_mta::event::record::Record| e.party.is_some_and(|party| party != Party::Remote);
    assert!(!events.iter().any(|e| blamed(&e)), "{name}: another than the destination is blamed: {events:?}");
    let mut disposed: Vec<_> = events.iter().filter(|e| e.kind != Kind::Fault).flat_map(|e| &e.recipients).collect();
    disposed.sort();
    let mut all: Vec<String> = row.recipients.iter().map(|r| (*r).to_owned()).collect();
    all.push("next@b.test".to_owned());
    all.extend((0..row.proofs).map(|_| "proof@b.test".to_owned()));
    all.sort();
    assert_eq!(disposed, all.iter().collect::<Vec<_>>(), "{name}: one event for each recipient");
    assert_eq!(events.iter().any(|e| e.uncertain), want.uncertain, "{name}: {events:?}");
    let proxied = events.iter().all(|e| e.proxy.is_some() == way.proxy().is_some());
    assert!(proxied, "{name}: {events:?}");
    assert_eq!(heard.lock().len(), want.connections, "{name}: connections; heard {:?}", heard.lock());
}

/// A connection of a server whose commands must come one by one.
fn one_by_one(recipients: usize) -> Vec<Step> {
    use crate::smtp::{Content, Hear, Quiet, Say};
    let mut steps = greeting();
    for _ in 0..=recipients {
        steps.extend([Hear, Quiet, Say("250 ok\r\n")]);
    }
    steps.extend([Hear, Quiet, Say("354 go\r\n"), Content, Say("250 taken\r\n")]);
    let next = [Hear, Quiet, Say("250 a\r\n"), Hear, Quiet, Say("250 b\r\n"), Hear, Quiet, Say("354 c\r\n")];
    steps.extend(next);
    steps.extend([Content, Say("250 taken\r\n"), crate::smtp::Listen]);
    steps
}

/// Another message, behind a transaction that was given up.
fn after_reset() -> Vec<Step> {
    use crate::smtp::{Content, Hear, Listen, Say};
    vec![Hear, Hear, Hear, Hear, Say("250 r\r\n250 a\r\n250 b\r\n354 go\r\n"), Content, Say("250 2.0.0 ok\r\n"), Listen]
}

/// Another message, and the end.
fn after_end() -> Vec<Step> {
    script(&[taken(), vec![crate::smtp::Listen]])
}
