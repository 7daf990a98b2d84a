//! The load tools against each other: what the source says and what the sink says must agree.

use std::sync::Arc;
use std::time::Duration;

use egret_tests::ledger::{Comparison, Ledger, compare};
use egret_tests::peer::sessions::{self, Protocol};
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::source::{self, Plan, Progress, Summary};
use egret_tests::peer::{Stats, tls};

const LOOPBACK: &str = "127.0.0.1:0";

async fn run(behaviour: Behaviour, change: impl FnOnce(&mut Plan)) -> (Summary, Stats, Comparison) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (offered, seen) = (dir.path().join("offered"), dir.path().join("seen"));
    let ledger = Ledger::create(&seen).expect("created");
    let listen = LOOPBACK.parse().expect("an address");
    let sink = Sink::start(&[listen], behaviour, Some(ledger), None).await.expect("bound");
    let mut plan = Plan::new(sink.addresses[0], 500);
    plan.size = 1000;
    change(&mut plan);
    let ledger = Arc::new(Ledger::create(&offered).expect("created"));
    let summary = source::run(plan, Some(ledger), Arc::new(Progress::default())).await.expect("the ledger holds");
    sink.flush().expect("flushed");
    (summary, sink.stats(), compare(&offered, &seen).expect("both are there"))
}

#[tokio::test]
async fn everything_offered_arrives_once() {
    let (summary, stats, found) = run(Behaviour::default(), |plan| plan.per_connection = 7).await;
    assert_eq!((summary.accepted, summary.refused, summary.failed, summary.offers), (500, 0, 0, 500));
    assert_eq!((stats.received, stats.unique, stats.duplicates), (500, 500, 0));
    assert_eq!((stats.by_domain.len(), stats.by_domain["d0.example"]), (100, 5));
    assert_eq!(stats.by_source.values().sum::<u64>(), 500);
    assert!(stats.connections > 50, "seven messages a session: {}", stats.connections);
    assert_eq!((found.accepted, found.delivered, found.lost, found.duplicated), (500, 500, 0, 0));
}

#[tokio::test]
async fn first_attempts_that_fail_succeed_when_made_again() {
    let behaviour = Behaviour { temp_fail: 0.2, drop: 0.1, ..Behaviour::default() };
    let (summary, stats, found) = run(behaviour, |plan| plan.keep_trying = true).await;
    assert_eq!((summary.accepted, stats.unique, stats.duplicates), (500, 500, 0));
    assert_eq!(summary.offers, 500 + stats.refused);
    assert!((80..=200).contains(&stats.refused), "about 28 % of 500: {}", stats.refused);
    assert_eq!((found.lost, found.duplicated), (0, 0));
}

#[tokio::test]
async fn permanent_failures_are_not_offered_again() {
    let behaviour = Behaviour { perm_fail: 0.5, ..Behaviour::default() };
    let (summary, stats, found) = run(behaviour, |plan| plan.keep_trying = true).await;
    assert!((150..=350).contains(&summary.refused), "about half: {}", summary.refused);
    assert_eq!(summary.accepted + summary.refused, 500);
    assert_eq!((stats.unique, stats.refused), (summary.accepted, summary.refused));
    assert_eq!(found.lost, 0);
}

#[tokio::test]
async fn recipients_count_each() {
    let (summary, stats, found) = run(Behaviour::default(), |plan| plan.recipients = 3).await;
    assert_eq!((summary.accepted, stats.messages, stats.unique), (500, 500, 1500));
    assert_eq!((found.accepted, found.delivered), (1500, 1500));
}

#[tokio::test]
async fn a_failing_domain_gets_its_code() {
    let behaviour = Behaviour { fail_domains: vec![("d1.example".to_owned(), 550)], ..Behaviour::default() };
    let (summary, stats, _) = run(behaviour, |plan| plan.domains = 10).await;
    assert_eq!((summary.accepted, summary.refused), (450, 50));
    assert!(!stats.by_domain.contains_key("d1.example"));
}

#[tokio::test]
async fn without_keep_trying_a_closed_port_is_told() {
    let closed = {
        let listener = std::net::TcpListener::bind(LOOPBACK).expect("bound");
        listener.local_addr().expect("bound")
    };
    let summary = source::run(Plan::new(closed, 5), None, Arc::default()).await.expect("no ledger");
    assert_eq!((summary.accepted, summary.failed, summary.offers), (0, 5, 0));
}

#[tokio::test]
async fn sessions_reach_the_sink_and_are_counted_by_it() {
    let listen = LOOPBACK.parse().expect("an address");
    let acceptor = tls::acceptor().expect("a certificate");
    let sink = Sink::start(&[listen], Behaviour::default(), None, Some(acceptor)).await.expect("bound");
    let to = sink.addresses[0];
    let time = Duration::from_millis(100);
    let plan = sessions::Plan { proxy: to, protocol: Protocol::Direct, to, sources: vec![], concurrency: 4, time };
    let report = sessions::run(plan).await;
    assert_eq!((report.errors, report.sessions), (0, sink.stats().connections));
    assert!(report.sessions > 0 && report.p99_ms >= report.p50_ms);
}
