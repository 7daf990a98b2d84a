//! A thousand messages from eight addresses, by each dialect.

use std::time::Duration;

use egret_tests::harness::{Fleet, Options, addresses, eventually};
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::Plan;

use crate::peers::haproxy;
use crate::support::{all_delivered, send, sink};

const COUNT: usize = 1000;

/// Who says which source a session leaves from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chooser {
    /// The MTA, which gives each of the eight its exact share of messages.
    Mta,
    /// The proxy, which gives each of the eight its turn, session by session.
    Proxy,
    /// There are no sources.
    Nobody,
}

/// Sends through `fleet`.
async fn thousand_messages(fleet: &Fleet, chooser: Chooser) {
    thousand_messages_to(fleet, chooser, Behaviour::default()).await;
}

async fn thousand_messages_to(fleet: &Fleet, chooser: Chooser, behaviour: Behaviour) {
    let sink = sink(fleet, behaviour).await;
    let summary = send(fleet, Plan::new(fleet.smtp, COUNT)).await;
    assert_eq!((summary.accepted, summary.refused, summary.failed), (COUNT as u64, 0, 0));
    let found = all_delivered(fleet, &sink);
    assert_eq!((found.accepted, found.duplicated), (COUNT, 0));
    let stats = sink.stats().by_source;
    if chooser != Chooser::Nobody {
        assert_eq!(stats.keys().copied().collect::<Vec<_>>(), fleet.sources, "{stats:?}");
    }
    if chooser == Chooser::Mta {
        assert!(stats.values().all(|share| *share == (COUNT / fleet.sources.len()) as u64), "{stats:?}");
    }
    eventually("a record of each message", || {
        let events = fleet.events();
        let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
        let counts = (count("reception"), count("delivery"), events.len());
        if counts == (COUNT, COUNT, 2 * COUNT) { Ok(()) } else { Err(format!("{counts:?}")) }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn by_socks5_from_eight_addresses() {
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    thousand_messages(&fleet, Chooser::Mta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_proxy_protocol_from_eight_addresses() {
    let fleet = Fleet::start(&Options { dialect: Some("proxy-v2"), ..Options::default() });
    thousand_messages(&fleet, Chooser::Mta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_first_proxy_protocol_from_eight_addresses() {
    let fleet = Fleet::start(&Options { dialect: Some("proxy-v1"), ..Options::default() });
    thousand_messages(&fleet, Chooser::Mta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_plain_connect_with_user_and_password() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "tall grass\n").expect("written");
    let fleet = Fleet::start(&Options {
        dialect: Some("socks5-connect"),
        proxy_keys: format!("username = \"mta\"\npassword_file = \"{}\"", secret.path().display()),
        proxy_toml: "auth = \"password\"\n[user.mta]\npassword = \"tall grass\"".to_owned(),
        ..Options::default()
    });
    thousand_messages(&fleet, Chooser::Proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_bdat_where_that_is_offered() {
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    thousand_messages_to(&fleet, Chooser::Mta, Behaviour { chunking: true, ..Behaviour::default() }).await;
    let log = crate::support::get(fleet.mta_admin, "/metrics").1;
    assert!(log.contains("egret_mta_delivery_uncertain_total 0"), "{log}");
}

/// A destination that takes its time, says "later" to some, and now and then leaves instead of an answer: what is on its
/// way behind such a message is neither lost nor doubled.
#[tokio::test(flavor = "multi_thread")]
async fn behind_one_another_while_some_are_put_off_and_connections_break() {
    let tables = "[delivery]\nconnection_limit = 1\nmax_transactions_ahead = 1\nremember_broken_pipelining = \"0s\"\n\
                  [queue]\nretry_interval = \"1s\"\nmax_retry_interval = \"1s\"\n";
    // Eight sources have eight connections, and are as slow together as one.
    for (dialect, delay) in [(None, 2), (Some("socks5"), 16)] {
        let fleet = Fleet::start(&Options { dialect, tables: tables.to_owned(), ..Options::default() });
        let behaviour = Behaviour { chunking: true, temp_fail: 0.1, drop: 0.01, ..Behaviour::default() };
        let sink = sink(&fleet, Behaviour { delay: Duration::from_millis(delay), ..behaviour }).await;
        let summary = send(&fleet, Plan::new(fleet.smtp, COUNT)).await;
        assert_eq!((summary.accepted, summary.failed), (COUNT as u64, 0));
        let found = all_delivered(&fleet, &sink);
        assert_eq!((found.accepted, found.duplicated), (COUNT, 0), "{dialect:?}");
        let metrics = crate::support::get(fleet.mta_admin, "/metrics").1;
        let none = "egret_mta_delivery_transactions_ahead_total 0\n";
        assert!(
            metrics.contains("egret_mta_delivery_transactions_ahead_total") && !metrics.contains(none),
            "{dialect:?} {metrics}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directly() {
    let fleet = Fleet::start(&Options::default());
    thousand_messages(&fleet, Chooser::Nobody).await;
}

/// HAProxy dials what the header names, from the source that it names, if it may bind foreign addresses.
#[tokio::test(flavor = "multi_thread")]
async fn by_the_proxy_protocol_through_haproxy() {
    let via = std::net::SocketAddr::new(addresses(1)[0].into(), 1090);
    let directory = tempfile::tempdir().expect("a directory");
    let Some(_haproxy) = haproxy(directory.path(), via) else { return };
    let fleet = Fleet::start(&Options { dialect: Some("proxy-v2"), via: Some(via), ..Options::default() });
    thousand_messages(&fleet, Chooser::Mta).await;
}
