//! SIGTERM finishes or parks what is in flight.

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::ledger::Ledger;
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::{self, Plan};
use std::sync::Arc;
use std::time::Duration;

use crate::support::{all_delivered, sink};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_and_doubles_nothing() {
    let mut fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    let sink = sink(&fleet, Behaviour { delay: Duration::from_millis(5), ..Behaviour::default() }).await;
    let ledger = Arc::new(Ledger::create(&fleet.file("offered")).expect("a ledger"));
    let plan = Plan { size: 1_000, keep_trying: true, ..Plan::new(fleet.smtp, 3_000) };
    let sending = tokio::spawn(source::run(plan, Some(ledger.clone()), Arc::default()));
    eventually("traffic", || if sink.stats().received > 500 { Ok(()) } else { Err(fleet.mta.log()) });
    let status = fleet.mta.terminate();
    assert!(status.success(), "{status}: {}", fleet.mta.log());
    fleet.restart_mta();
    let summary = sending.await.expect("no panic").expect("sent");
    ledger.flush().expect("written");
    assert_eq!(summary.accepted, 3_000);
    let found = all_delivered(&fleet, &sink);
    assert_eq!((found.lost, found.duplicated), (0, 0));
    let status = fleet.proxy.as_mut().map(egret_tests::harness::Program::terminate);
    assert!(status.is_some_and(|status| status.success()));
}
