//! Single cases of both machines; `world` lets them run against each other in disorder.

mod world;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claim::{Claim, Report};
use super::ledger::{Announced, Key, Ledger};
use super::watch::{Open, Orphan, Watch, Why};
use super::{BEAT, LIFE};

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], port))
}

/// A run of a proxy, and the ports that it does not have.
type Run<'a> = (u64, &'a [u16]);

/// A ledger with one endpoint, its proxies, and a clock.
struct Node {
    ledger: Ledger,
    announced: Announced,
    now: Instant,
}

impl Node {
    fn new(proxies: &[&str]) -> Self {
        let announced = [(at(9, 1080), proxies.iter().map(|name| Arc::from(*name)).collect())].into();
        Self { ledger: Ledger::default(), announced, now: Instant::now() }
    }

    fn open(&mut self, port: u16) -> Key {
        self.ledger.opened(at(9, 1080), at(1, port))
    }

    /// A beat: each proxy's runs answer the last claim but one, as they do, without the ports that are missing. Returns
    /// what is lost.
    fn beat(&mut self, told: &[(&str, &[Run<'_>])]) -> Vec<Key> {
        self.now += BEAT;
        let drafts = self.ledger.claims(&self.announced, self.now);
        let number = drafts.first().map_or(0, |draft| draft.number.saturating_sub(1));
        let report = |(run, missing): &Run<'_>| Report {
            run: *run,
            number,
            missing: missing.iter().map(|port| at(1, *port)).collect(),
        };
        let answers = told.iter().map(|(name, runs)| (Arc::from(*name), runs.iter().map(report).collect()));
        self.ledger.heard(&answers.collect())
    }
}

#[test]
fn a_session_that_a_proxy_had_and_has_no_more_is_lost_at_the_second_report() {
    let mut node = Node::new(&["p"]);
    let (lost, kept) = (node.open(1), node.open(2));
    assert_eq!(node.beat(&[("p", &[(7, &[])])]), [], "of a claim before");
    assert_eq!(node.beat(&[("p", &[(7, &[])])]), []);
    assert_eq!(node.ledger.seen(), 2);
    assert_eq!(node.beat(&[("p", &[(7, &[1])])]), [], "its last words may be on their way");
    assert_eq!(node.beat(&[]), [], "no answer is no news");
    assert_eq!(node.beat(&[("p", &[])]), [], "and neither is no report");
    assert_eq!(node.beat(&[("p", &[(7, &[1])])]), [lost]);
    node.ledger.closed(lost);
    assert_eq!(node.beat(&[("p", &[(7, &[])])]), []);
    assert_eq!(node.ledger.through(kept.endpoint), [kept]);
}

#[test]
fn a_session_that_no_proxy_has_ever_had_stays() {
    let mut node = Node::new(&["p"]);
    node.open(1);
    for _ in 0..10 {
        assert_eq!(node.beat(&[("p", &[(7, &[1])])]), [], "addresses are translated on the way");
    }
}

#[test]
fn a_session_is_had_by_one_run_and_others_of_the_same_name_say_nothing_of_it() {
    let mut node = Node::new(&["p"]);
    let session = node.open(1);
    for _ in 0..5 {
        assert_eq!(node.beat(&[("p", &[(7, &[]), (8, &[1])])]), []);
    }
    // The first run is gone, and with it what it had.
    assert_eq!(node.beat(&[("p", &[(8, &[1])])]), []);
    assert_eq!(node.beat(&[("p", &[(8, &[1])])]), [session]);
    // Two proxies at one endpoint.
    let mut node = Node::new(&["p", "q"]);
    node.open(1);
    for _ in 0..5 {
        assert_eq!(node.beat(&[("p", &[(7, &[1])]), ("q", &[(8, &[])])]), []);
        assert_eq!(node.beat(&[("p", &[(7, &[1])])]), [], "the one that has it was not heard");
    }
}

#[test]
fn a_session_on_a_port_that_was_used_before_is_another_one() {
    let mut node = Node::new(&["p"]);
    let first = node.open(1);
    node.beat(&[]);
    node.beat(&[("p", &[(7, &[])])]);
    node.beat(&[("p", &[(7, &[1])])]);
    node.ledger.closed(first);
    node.open(1);
    assert_eq!(node.beat(&[("p", &[(7, &[1])])]), []);
    assert_eq!(node.beat(&[("p", &[(7, &[1])])]), [], "the proxy does not know of it yet");
}

#[test]
fn a_proxy_that_is_not_announced_any_more_is_claimed_on_and_asked_for() {
    let mut node = Node::new(&["p"]);
    let session = node.open(1);
    node.beat(&[]);
    let announced = std::mem::take(&mut node.announced);
    for beat in 0..5 {
        assert!(node.ledger.gone(node.now).is_empty(), "{beat}");
        node.now += BEAT;
        assert_eq!(node.ledger.claims(&node.announced, node.now).len(), 1);
    }
    node.beat(&[]);
    assert_eq!(node.ledger.gone(node.now), [session.endpoint]);
    node.ledger.answered(session.endpoint, node.now);
    assert!(node.ledger.gone(node.now + BEAT).is_empty());
    node.announced = announced;
    node.beat(&[]);
    assert!(node.ledger.gone(node.now + LIFE).is_empty(), "it is back");
    let foreign = node.ledger.opened(at(8, 1080), at(1, 1));
    node.beat(&[]);
    assert!(!node.ledger.gone(node.now + LIFE).contains(&foreign.endpoint), "it was never announced");
}

#[test]
fn a_proxy_hears_that_the_last_session_is_over() {
    let mut node = Node::new(&["p"]);
    let session = node.open(1);
    node.beat(&[]);
    node.ledger.closed(session);
    let empty = |node: &mut Node| {
        node.now += BEAT;
        node.ledger.claims(&node.announced, node.now)
    };
    assert!(empty(&mut node).iter().all(|draft| draft.ends.is_empty() && &*draft.proxy == "p"));
    node.now += LIFE;
    assert_eq!(empty(&mut node), []);
}

#[test]
fn a_node_that_stood_still_has_forfeited_what_proxies_knew_of() {
    let mut node = Node::new(&["p"]);
    let session = node.open(1);
    node.beat(&[]);
    node.beat(&[("p", &[(7, &[])])]);
    let foreign = node.ledger.opened(at(8, 1080), at(1, 1));
    assert!(!node.ledger.is_forfeited(session, node.now + Duration::from_secs(5)));
    node.now += LIFE;
    assert!(node.ledger.is_forfeited(session, node.now) && !node.ledger.is_forfeited(foreign, node.now));
    node.beat(&[("p", &[(7, &[])])]);
    assert!(node.ledger.is_forfeited(session, node.now), "what was said of a claim before says nothing of now");
    node.beat(&[("p", &[(7, &[])])]);
    assert!(!node.ledger.is_forfeited(session, node.now));
}

/// A proxy's watch over clients `at(1, port)`, and a clock.
struct Proxy {
    watch: Watch,
    now: Instant,
    number: u64,
    open: Vec<Open>,
}

impl Proxy {
    fn new(ports: &[u16]) -> Self {
        let open = ports.iter().map(|port| Open { session: u64::from(*port), client: at(1, *port), sent: 0 });
        Self { watch: Watch::default(), now: Instant::now(), number: 0, open: open.collect() }
    }

    /// A beat with these claims.
    fn beat(&mut self, claims: &[(&str, &[u16])]) -> Vec<Orphan> {
        self.now += BEAT;
        self.number += 1;
        let number = self.number;
        let ends = |ports: &[u16]| ports.iter().map(|port| at(1, *port)).collect::<HashSet<_>>();
        let claim = |(node, ports): &(&str, &[u16])| Claim { node: (*node).to_owned(), number, ends: ends(ports) };
        self.watch.heard("e", claims.iter().map(claim).collect(), &self.open, self.now)
    }
}

fn orphan(session: u64, why: Why) -> Orphan {
    Orphan { session, node: "n".into(), why }
}

#[test]
fn a_socket_whose_node_has_it_no_more_is_ended_at_the_second_claim_and_one_that_nobody_claimed_never() {
    let mut proxy = Proxy::new(&[1, 2, 3]);
    assert_eq!(proxy.beat(&[("n", &[1, 2, 4])]), []);
    assert_eq!(proxy.watch.claimed(), 2);
    let answers = proxy.watch.answers(&proxy.open);
    assert_eq!((answers.len(), answers[0].number, &answers[0].missing[..]), (1, 1, &[at(1, 4)][..]));
    assert_eq!(proxy.beat(&[("n", &[2])]), []);
    assert_eq!(proxy.beat(&[("n", &[2])]), [orphan(1, Why::Disowned)]);
    for _ in 0..40 {
        assert_eq!(proxy.beat(&[("n", &[2])]), []);
    }
}

#[test]
fn a_node_that_is_silent_for_its_life_loses_its_sockets_unless_redis_was_away_or_bytes_came() {
    let beats = |proxy: &mut Proxy, count: u64| (0..count).flat_map(|_| proxy.beat(&[])).collect::<Vec<_>>();
    let mut proxy = Proxy::new(&[1]);
    proxy.beat(&[("n", &[1])]);
    assert_eq!(beats(&mut proxy, LIFE.as_secs() - 1), []);
    assert_eq!(beats(&mut proxy, 1), [orphan(1, Why::Silent)]);

    let mut proxy = Proxy::new(&[1]);
    proxy.beat(&[("n", &[1])]);
    for _ in 0..4 {
        assert_eq!(beats(&mut proxy, LIFE.as_secs() - 2), []);
        proxy.watch.away();
        // Another epoch: Redis has lost its data.
        assert_eq!(beats(&mut proxy, LIFE.as_secs() - 2), []);
        proxy.now += BEAT;
        assert_eq!(proxy.watch.heard("f", Vec::new(), &proxy.open, proxy.now), []);
        assert_eq!(beats(&mut proxy, LIFE.as_secs() - 2), []);
        // This proxy itself stood still.
        proxy.now += LIFE;
    }
    assert_eq!(beats(&mut proxy, LIFE.as_secs() + 1).len(), 1);

    let mut proxy = Proxy::new(&[1, 2]);
    proxy.beat(&[("n", &[1, 2])]);
    for sent in 1..40 {
        proxy.open[1].sent = sent / 10;
        assert_eq!(proxy.beat(&[]), [], "one session's bytes speak for its node");
    }
}

#[test]
fn an_end_that_two_nodes_claim_is_nobodys() {
    let mut proxy = Proxy::new(&[1]);
    proxy.beat(&[("n", &[1])]);
    for _ in 0..5 {
        assert_eq!(proxy.beat(&[("n", &[1]), ("m", &[1])]), []);
    }
    for _ in 0..40 {
        assert_eq!(proxy.beat(&[("n", &[]), ("m", &[])]), []);
    }
}

#[test]
fn a_claim_that_is_older_than_one_that_was_heard_says_nothing() {
    let mut proxy = Proxy::new(&[1]);
    proxy.number = 9;
    proxy.beat(&[("n", &[1])]);
    for _ in 0..5 {
        proxy.number = 3;
        assert_eq!(proxy.beat(&[("n", &[])]), [], "a replica that lags has become the master");
    }
    assert_eq!(proxy.watch.claimed(), 1);
}
