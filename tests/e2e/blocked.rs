//! A host of the destination is closed in the middle of the run, and then resets whoever comes: all mail arrives by the
//! other one, and nobody but the destination is blamed.

use std::net::{SocketAddr, TcpListener};

use egret_shared::net::socket::reset_on_close;
use egret_tests::harness::{Fleet, Options, addresses, eventually};
use egret_tests::ledger::{Ledger, compare};
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::source::Plan;
use serde_json::Value;

use crate::support::{Load, sink};

const COUNT: usize = 3_000;
const RATE: f64 = 1_000.0;
const BETWEEN: u64 = 300;

/// Resets every connection to `at`, for as long as the runtime lives.
fn reset_all(at: SocketAddr) {
    let listener = eventually("a free port", || TcpListener::bind(at).map_err(|error| error.to_string()));
    listener.set_nonblocking(true).expect("set");
    let listener = tokio::net::TcpListener::from_std(listener).expect("registered");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            reset_on_close(&stream);
        }
    });
}

fn received(sink: &Sink, goal: u64, fleet: &Fleet) {
    eventually("deliveries by the other host", || match sink.stats().received {
        n if n >= goal => Ok(()),
        n => Err(format!("{n} of {goal}\n{}", fleet.mta.log())),
    });
}

/// Everything that was taken is at one of the two.
fn nothing_is_lost(fleet: &Fleet, other: &Sink) {
    eventually("delivery of all that was acknowledged", || {
        other.flush().expect("written");
        let seen = ["seen", "other"].map(|name| std::fs::read(fleet.file(name)).unwrap_or_default()).concat();
        std::fs::write(fleet.file("all"), seen).expect("written");
        let found = compare(&fleet.file("offered"), &fleet.file("all")).map_err(|error| error.to_string())?;
        if found.lost == 0 { Ok(()) } else { Err(format!("{found:?}\n{}", fleet.mta.log())) }
    });
}

/// The faults and failures that are told, and by whom they are said to be.
fn only_the_destination_is_blamed(events: &[Value]) {
    let of = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    let reasons: Vec<&str> = of("fault").filter_map(|event| event["reason"].as_str()).collect();
    assert!(of("fault").all(|event| event["party"] == "remote"), "{reasons:?}");
    for reason in ["connection_refused", "remote_reset_pre_banner"] {
        assert!(reasons.contains(&reason), "{reason} is not told: {reasons:?}");
    }
    // What was in the middle of a transaction is all that was tried in vain: the rest went on to the other host.
    let failed: Vec<_> = of("transient_failure").collect();
    let said = |event: &Value| event["response"]["text"].as_str().unwrap_or_default().to_owned();
    let broken = |text: &str| text.starts_with("connection ");
    assert!(failed.iter().all(|event| broken(&said(event))), "{failed:?}");
    let later = of("delivery").filter(|event| event["attempt"].as_u64().is_some_and(|attempt| attempt > 1)).count();
    assert!(later <= failed.len(), "{later} deliveries at a later attempt, {} attempts in vain", failed.len());
    assert_eq!(of("bounce").count() + of("expiry").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_blocked_in_the_middle_costs_nothing_but_its_own_sessions() {
    for dialect in ["socks5", "proxy-v2"] {
        let other_at = SocketAddr::new(addresses(1)[0].into(), 2525);
        let mut options = Options { dialect: Some(dialect), ..Options::default() };
        let own = SocketAddr::new(addresses(1)[0].into(), 2525);
        // Sessions end often, so that new ones begin at the first host all the time.
        options.tables = format!(
            "[[route]]\ndomains = [\"*\"]\nhosts = [\"{own}\", \"{other_at}\"]\nmax_deliveries_per_connection = 10\n"
        );
        let mut fleet = Fleet::start(&options);
        fleet.sink = own;
        let first = sink(&fleet, Behaviour::default()).await;
        let ledger = Ledger::create(&fleet.file("other")).expect("a ledger");
        let other = Sink::start(&[other_at], Behaviour::default(), Some(ledger), None).await.expect("listens");
        let load = Load::start(&fleet, Plan { rate: Some(RATE), ..Plan::new(fleet.smtp, COUNT) });
        load.goes_on(BETWEEN);
        received(&first, 1, &fleet);
        first.flush().expect("written");
        drop(first);
        received(&other, BETWEEN, &fleet);
        reset_all(own);
        let goal = other.stats().received + BETWEEN;
        received(&other, goal, &fleet);
        let summary = load.end().await;
        assert_eq!((summary.accepted, summary.failed), (COUNT as u64, 0));
        nothing_is_lost(&fleet, &other);
        only_the_destination_is_blamed(&fleet.events());
    }
}
