//! Weighted pools: each source sends its share, what one that rests cannot send the others do, and sources of both
//! families meet hosts of theirs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use egret_tests::harness::{Fleet, Namespace, Options, ask};
use egret_tests::ledger::Ledger;
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::source::Plan;

use crate::support::{all_delivered, count, is_used_again, offer, send, sink};

/// What each source sent of `total` messages more than `before`, in order.
fn sent(fleet: &Fleet, sink: &Sink, before: &BTreeMap<IpAddr, u64>) -> Vec<u64> {
    let now = sink.stats().by_source;
    let of = |all: &BTreeMap<IpAddr, u64>, ip| all.get(ip).copied().unwrap_or_default();
    fleet.sources[..4].iter().map(|ip| of(&now, ip) - of(before, ip)).collect()
}

/// Sends so many messages, and compares what each source sent with its weight, to one in a hundred.
async fn shares_of(fleet: &Fleet, sink: &Sink, total: usize, prefix: &str, weights: [u64; 4]) {
    let before = sink.stats().by_source;
    let plan = Plan { size: 500, prefix: prefix.to_owned(), ..Plan::new(fleet.smtp, total) };
    assert_eq!(send(fleet, plan).await.accepted, total as u64);
    assert_eq!(all_delivered(fleet, sink).accepted, total);
    let (sent, all): (_, u64) = (sent(fleet, sink, &before), weights.iter().sum());
    for (sent, weight) in sent.iter().zip(weights) {
        let share = total as u64 * weight / all;
        assert!(sent.abs_diff(share) <= share / 100, "{sent} of {share}, weights {weights:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_source_sends_its_share_of_ten_thousand_and_one_that_rests_leaves_it_to_the_others() {
    let pool = "[pool.weighted]\nsources = { s0 = 1, s1 = 2, s2 = 3, s3 = 4 }\n[delivery]\nidle_timeout = \"20ms\"\n";
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), tables: pool.to_owned(), ..Options::default() });
    let sink = sink(&fleet, Behaviour::default()).await;
    shares_of(&fleet, &sink, 10_000, "all", [1, 2, 3, 4]).await;
    let order = |what: &str| {
        let order = format!("POST /v1/sources/{}/{what}", fleet.sources[3]);
        assert_eq!(ask(fleet.proxy_admin, &order, "", Duration::from_secs(30)).expect("an answer").0, 200);
    };
    order("drain");
    // Sessions that stand may finish: its last has ended when one could not be opened.
    while count(&fleet, |event| event["type"] == "fault") == 0 {
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    }
    shares_of(&fleet, &sink, 3_000, "rest", [1, 2, 3, 0]).await;
    order("undrain");
    is_used_again(&fleet, "use of the source", |event| event["source"] == "s3");
    shares_of(&fleet, &sink, 3_000, "back", [1, 2, 3, 4]).await;
    let counted = count(&fleet, |event| event["type"] == "transient_failure");
    assert_eq!(counted, 0, "a source that rests costs no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_of_both_families_meet_hosts_of_theirs() {
    let Some(space) = Namespace::new(2).map(Arc::new) else { return };
    let sources = [space.sources.clone(), space.sources6.clone()].concat();
    let hosts = [space.here6, space.here].map(|host| SocketAddr::new(host, 2525));
    let tables = format!(
        "[[route]]\ndomains = [\"*\"]\nhosts = [\"{}\", \"{}\"]\n[[route]]\ndomains = [\"four.test\"]\nhosts = [\"{}\"]\n\
         [[route]]\ndomains = [\"six.test\"]\nhosts = [\"{}\"]\n",
        hosts[0], hosts[1], hosts[1], hosts[0]
    );
    let fleet = Fleet::start(&Options {
        dialect: Some("socks5"),
        proxy_allows: Some("10.0.0.0/8\", \"fd00::/8"),
        space: Some(space.clone()),
        sources: Some(sources.clone()),
        tables,
        ..Options::default()
    });
    let ledger = Ledger::create(&fleet.file("seen")).expect("a ledger");
    let sink = Sink::start(&hosts, Behaviour::default(), Some(ledger), None).await.expect("a sink");
    assert_eq!(send(&fleet, Plan { size: 500, ..Plan::new(fleet.smtp, 400) }).await.accepted, 400);
    all_delivered(&fleet, &sink);
    assert_eq!(sink.stats().by_source, sources.iter().map(|ip| (*ip, 100)).collect());
    // Where there are hosts of one family only, the sources of the other are passed over, without a fault.
    for (domain, family) in [("four.test", &sources[..2]), ("six.test", &sources[2..])] {
        for _ in 0..8 {
            assert!(offer(fleet.smtp, "s@good.example", &format!("r@{domain}")).starts_with("250 "));
        }
        let of_domain =
            |event: &serde_json::Value| event["type"] == "delivery" && event["recipients"][0] == format!("r@{domain}");
        fleet.event("eight deliveries", |_| count(&fleet, of_domain) == 8);
        let is_of_family =
            |event: &serde_json::Value| family.iter().any(|ip| event["source_address"] == ip.to_string());
        assert_eq!(count(&fleet, |event| of_domain(event) && is_of_family(event)), 8, "{domain}");
    }
    assert_eq!(count(&fleet, |event| event["type"] == "fault"), 0);
}

/// Directly, from ::1 to ::1.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_in_ipv6_sends_without_a_proxy() {
    let host = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 20_000 + (std::process::id() % 10_000) as u16);
    if std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("skipped: this host has no IPv6");
        return;
    }
    let tables = format!("[source.six]\naddress = \"::1\"\n[[route]]\ndomains = [\"*\"]\nhosts = [\"{host}\"]\n");
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let ledger = Ledger::create(&fleet.file("seen")).expect("a ledger");
    let sink = Sink::start(&[host], Behaviour::default(), Some(ledger), None).await.expect("a sink");
    send(&fleet, Plan { size: 500, ..Plan::new(fleet.smtp, 20) }).await;
    all_delivered(&fleet, &sink);
    assert_eq!(sink.stats().by_source, BTreeMap::from([(host.ip(), 20)]));
}
