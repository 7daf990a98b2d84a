//! Chaos under load: an address is taken away and given back, firewalls close, proxies stop, die and come back. All mail
//! arrives through what is left, no attempt is counted for what the destination did not do, the party at fault is named,
//! and what comes back is used again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use egret_tests::harness::{Block, Fleet, Namespace, Options, addresses, ask, eventually};
use egret_tests::ledger::Ledger;
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::source::Plan;
use serde_json::Value;

use crate::peers::{Second, haproxy};
use crate::support::{Load, all_delivered, count, is_used_again, nothing_counted, sink};

const COUNT: usize = 2_000;
const RATE: f64 = 1_000.0;
/// What is accepted before something breaks, and while it is broken, at least.
const BETWEEN: u64 = 300;

/// Short limits, so that silence is noticed; connecting by a proxy may take longer than the proxy's own 2 s. Sessions
/// end soon: one that stands would find work for ever under this load, and nobody would dial.
fn delivery() -> String {
    let timeouts = ["banner", "ehlo", "mail_from", "rcpt_to", "data", "data_dot", "starttls"];
    let timeouts: String = timeouts.map(|name| format!("{name}_timeout = \"3s\"\n")).concat();
    format!(
        "[delivery]\nmax_deliveries_per_connection = 20\nidle_timeout = \"20ms\"\nconnect_timeout = \"4s\"\n{timeouts}"
    )
}

fn options(space: &Arc<Namespace>, tables: String) -> Options {
    Options {
        dialect: Some("socks5"),
        proxy_allows: Some("10.0.0.0/8"),
        space: Some(space.clone()),
        tables,
        ..Options::default()
    }
}

fn load(fleet: &Fleet) -> Load {
    let plan = Plan { size: 2_000, rate: Some(RATE), ..Plan::new(fleet.smtp, COUNT) };
    Load::start(fleet, plan)
}

/// Waits for the end of the load, of its deliveries, and until the MTA knows of each: none hangs in a dead session.
async fn all_arrives(fleet: &Fleet, load: Load, sink: &Sink) {
    let summary = load.end().await;
    assert_eq!((summary.accepted, summary.failed), (COUNT as u64, 0));
    all_delivered(fleet, sink);
    eventually("an event for each delivery", || {
        let events = fleet.events();
        let delivered = events.iter().filter(|event| event["type"] == "delivery");
        let known: BTreeSet<&str> = delivered.map(|event| text(event, "id")).collect();
        if known.len() >= COUNT { Ok(()) } else { Err(format!("{} of {COUNT}\n{}", known.len(), fleet.mta.log())) }
    });
}

fn text<'e>(event: &'e Value, key: &str) -> &'e str {
    event[key].as_str().unwrap_or_default()
}

/// An address is taken away from a proxy of this dialect, and given back.
async fn address_taken_away(dialect: &'static str, proxy_keys: &str) {
    let Some(space) = Namespace::new(4).map(Arc::new) else { return };
    // Nobody waits for an answer that cannot come: with the usual limits, minutes long, this would not end in time.
    let fleet = Fleet::start(&Options {
        dialect: Some(dialect),
        proxy_keys: proxy_keys.to_owned(),
        ..options(&space, "[delivery]\nidle_timeout = \"20ms\"\n".to_owned())
    });
    let sink = sink(&fleet, Behaviour { delay: Duration::from_millis(20), ..Behaviour::default() }).await;
    let load = load(&fleet);
    load.goes_on(BETWEEN);
    space.take(fleet.sources[0]);
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    let told = ["party", "reason", "source"].map(|key| text(&fault, key));
    assert_eq!(told, ["source", "source_not_plumbed", "s0"]);
    // It stays away: what was said to it while it was gone would come again, and hide that sessions hung.
    all_arrives(&fleet, load, &sink).await;
    nothing_counted(&fleet, &["source"]);
    space.give(fleet.sources[0]);
    assert_eq!(count(&fleet, |event| event["type"] == "fault" && event["source"] != "s0"), 0);
    is_used_again(&fleet, "use of the address", |event| event["source"] == "s0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_away_is_left_at_once_and_used_again() {
    address_taken_away("socks5", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_header_the_record_of_a_session_says_that_its_address_was_taken_away() {
    address_taken_away("proxy-v2", "admin = \"ADMIN\"").await;
}

/// All faults have one of these reasons.
fn has_only(events: &[Value], reasons: &[&str]) {
    let mut faults = events.iter().filter(|event| event["type"] == "fault");
    let other = faults.find(|event| !reasons.contains(&text(event, "reason")));
    assert!(other.is_none(), "none of {reasons:?}: {other:?}");
}

/// The first of two hosts is cut off.
async fn host_cut_off(how: Block, reasons: &[&str]) {
    let Some(space) = Namespace::new(4).map(Arc::new) else { return };
    let hosts = [0, 1].map(|nth| SocketAddr::new(space.more_here(nth), 2525));
    let route = format!("[[route]]\ndomains = [\"*\"]\nhosts = [\"{}\", \"{}\"]\n", hosts[0], hosts[1]);
    let fleet = Fleet::start(&options(&space, delivery() + &route));
    let ledger = Ledger::create(&fleet.file("seen")).expect("a ledger");
    let sink = Sink::start(&hosts, Behaviour::default(), Some(ledger), None).await.expect("a sink");
    let load = load(&fleet);
    load.goes_on(BETWEEN);
    let by = |event: &Value, host: SocketAddr| event["peer"]["address"] == host.to_string();
    assert_eq!(count(&fleet, |event| event["type"] == "delivery" && by(event, hosts[1])), 0, "the second stands by");
    space.block("output", &format!("ip daddr {} tcp dport 2525", hosts[0].ip()), how);
    fleet.event("the fault", |event| event["type"] == "fault");
    fleet.event("delivery by the second", |event| event["type"] == "delivery" && by(event, hosts[1]));
    load.goes_on(BETWEEN);
    all_arrives(&fleet, load, &sink).await;
    let events = fleet.events();
    let faults = || events.iter().filter(|event| event["type"] == "fault");
    let is_of_first = |event: &&Value| event["party"] == "remote" && by(event, hosts[0]);
    let other = faults().find(|event| !is_of_first(event));
    assert!(faults().count() > 0 && other.is_none(), "{other:?}\nbesides {:?}", faults().find(is_of_first));
    has_only(&events, reasons);
    space.free();
    is_used_again(&fleet, "use of the first host", |event| by(event, hosts[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_port_answers_with_resets_is_passed_over_and_used_again() {
    // Who was in the middle of a session then is reset, before the greeting or behind it.
    let reasons = ["connection_refused", "remote_reset_pre_banner", "remote_closed_pre_banner", "remote_closed"];
    host_cut_off(Block::Reset, &reasons).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_port_is_silent_is_passed_over_and_used_again() {
    host_cut_off(Block::Drop, &["connection_timeout"]).await;
}

/// The way to the first of two proxies is cut off.
async fn proxy_cut_off(how: Block, reasons: &[&str]) {
    let Some(space) = Namespace::new(4).map(Arc::new) else { return };
    let second = Second::in_space(&space);
    let fleet = Fleet::start(&Options {
        source_keys: Some("proxies = [\"p\", \"q\"]"),
        ..options(&space, delivery() + &second.table("socks5"))
    });
    let _q = second.start(&fleet);
    let sink = sink(&fleet, Behaviour::default()).await;
    let load = load(&fleet);
    load.goes_on(BETWEEN);
    space.block("input", &format!("ip daddr {} tcp dport 1080", fleet.socks5.ip()), how);
    fleet.event("delivery by the second", |event| event["type"] == "delivery" && event["proxy"] == "q");
    load.goes_on(BETWEEN);
    all_arrives(&fleet, load, &sink).await;
    nothing_counted(&fleet, &["proxy"]);
    let events = fleet.events();
    let faults = || events.iter().filter(|event| event["type"] == "fault");
    assert!(faults().count() > 0 && faults().all(|event| event["proxy"] == "p"));
    has_only(&events, reasons);
    space.free();
    is_used_again(&fleet, "use of the first proxy", |event| event["proxy"] == "p");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_behind_a_firewall_that_resets_is_left_and_used_again() {
    // A session that is reset in its handshake with the proxy is told as that: the proxy gave no reason.
    proxy_cut_off(Block::Reset, &["proxy_unreachable", "proxy_unspecified"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_behind_a_firewall_that_is_silent_is_left_and_used_again() {
    proxy_cut_off(Block::Drop, &["proxy_timeout"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_drained_or_stopped_under_load_doubles_nothing() {
    let second = Second::new();
    let mut fleet = Fleet::start(&Options {
        dialect: Some("socks5"),
        source_keys: Some("proxies = [\"p\", \"q\"]"),
        tables: delivery() + &second.table("socks5"),
        ..Options::default()
    });
    let _q = second.start(&fleet);
    let sink = sink(&fleet, Behaviour { delay: Duration::from_millis(5), ..Behaviour::default() }).await;
    let load = load(&fleet);
    load.goes_on(BETWEEN);
    let all = |fleet: &Fleet, order: &str| {
        for source in &fleet.sources {
            let order = format!("POST /v1/sources/{source}/{order}");
            let (status, answer) = ask(fleet.proxy_admin, &order, "", Duration::from_secs(30)).expect("an answer");
            assert_eq!(status, 200, "{answer}");
        }
    };
    all(&fleet, "drain");
    fleet.event("the fault", |event| event["type"] == "fault" && event["reason"] == "source_draining");
    fleet.event("delivery by the second", |event| event["type"] == "delivery" && event["proxy"] == "q");
    all(&fleet, "undrain");
    is_used_again(&fleet, "use of the drained proxy", |event| event["proxy"] == "p");
    let status = fleet.proxy.as_mut().map(egret_tests::harness::Program::terminate);
    assert!(status.is_some_and(|status| status.success()));
    load.goes_on(BETWEEN);
    fleet.restart_proxy();
    all_arrives(&fleet, load, &sink).await;
    is_used_again(&fleet, "use of the proxy that stopped", |event| event["proxy"] == "p");
    nothing_counted(&fleet, &["source", "proxy"]);
    assert_eq!(sink.stats().duplicates, 0, "sessions were let finish");
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_dies_under_load_and_mail_goes_by_the_next() {
    let directory = tempfile::tempdir().expect("a directory");
    let via = SocketAddr::new(addresses(1)[0].into(), 1090);
    let Some(first) = haproxy(directory.path(), via) else { return };
    let second = Second::new();
    let fleet = Fleet::start(&Options {
        dialect: Some("proxy-v2"),
        via: Some(via),
        source_keys: Some("proxies = [\"p\", \"q\"]"),
        tables: delivery() + &second.table("proxy-v2"),
        ..Options::default()
    });
    let _q = second.start(&fleet);
    let sink = sink(&fleet, Behaviour::default()).await;
    let load = load(&fleet);
    load.goes_on(BETWEEN);
    drop(first);
    fleet.event("delivery by the second", |event| event["type"] == "delivery" && event["proxy"] == "q");
    load.goes_on(BETWEEN);
    let _again = haproxy(directory.path(), via).expect("it did start");
    all_arrives(&fleet, load, &sink).await;
    nothing_counted(&fleet, &["proxy"]);
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    assert_eq!((text(&fault, "proxy"), text(&fault, "reason")), ("p", "proxy_unreachable"));
    is_used_again(&fleet, "use of haproxy", |event| event["proxy"] == "p");
}
