//! Claims of nodes and reports of proxies, in real servers.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use egret_shared::redis::{Redis, RedisOptions, Value};
use egret_shared::sockets::claim::Report;
use egret_shared::sockets::ledger::Draft;
use egret_shared::sockets::store::Store;
use egret_shared::sockets::watch::Answer;

use crate::server::{Server, cluster, say};

fn ends(ports: std::ops::Range<u16>) -> Vec<SocketAddr> {
    ports.map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect()
}

fn draft(proxy: &str, number: u64, ports: std::ops::Range<u16>) -> Draft {
    Draft { proxy: proxy.into(), number, ends: ends(ports) }
}

/// What the runs of a proxy say to a node that claims.
async fn said(store: &Store, node: &str, draft: Draft) -> Vec<Report> {
    let proxy = draft.proxy.clone();
    let answers = store.claim(node, vec![draft]).await.expect("Redis");
    let mut reports = answers[&proxy].clone();
    reports.sort_by_key(|report| report.run);
    reports
}

/// A proxy hears claims and answers them; the node hears the answer.
async fn speak(options: &RedisOptions, proxy: &str) {
    let (store, all) = (Store::new(Redis::new(options.clone())), ends(1..4));
    let first = store.report(proxy, 7, Vec::new()).await.expect("Redis");
    assert!(first.claims.is_empty() && !first.epoch.is_empty());
    assert_eq!(said(&store, "a/1", draft(proxy, 1, 1..4)).await, []);
    assert_eq!(said(&store, "b/2", draft(proxy, 5, 9..9)).await, []);
    let heard = store.report(proxy, 7, Vec::new()).await.expect("Redis");
    assert_eq!(heard.epoch, first.epoch);
    let mut claims: Vec<_> = heard.claims.iter().map(|c| (c.node.as_str(), c.number, c.ends.len())).collect();
    claims.sort_unstable();
    assert_eq!(claims, [("a/1", 1, 3), ("b/2", 5, 0)]);
    assert_eq!(
        heard.claims.iter().flat_map(|claim| claim.ends.clone()).collect::<HashSet<_>>(),
        all.into_iter().collect()
    );
    // Two runs of one name, as after a start, each say what they have.
    let answer = |missing| vec![Answer { node: "a/1".into(), number: 1, missing }];
    store.report(proxy, 7, answer(ends(2..3))).await.expect("Redis");
    store.report(proxy, 8, answer(ends(1..4))).await.expect("Redis");
    let reports = said(&store, "a/1", draft(proxy, 2, 1..4)).await;
    let told: Vec<_> = reports.iter().map(|report| (report.run, report.number, report.missing.len())).collect();
    assert_eq!(told, [(7, 1, 1), (8, 1, 3)]);
    assert_eq!(said(&store, "b/2", draft(proxy, 6, 9..9)).await, [], "it was told nothing");
    store.leave(proxy, 8, &[Arc::from("a/1")]).await;
    assert_eq!(said(&store, "a/1", draft(proxy, 3, 1..4)).await.len(), 1);
}

#[tokio::test]
async fn nodes_and_a_proxy_hear_each_other() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    speak(&server.options(), "north").await;
    let store = Store::new(Redis::new(server.options()));
    let both = vec![draft("north", 4, 1..2), draft("south", 4, 2..3)];
    assert_eq!(store.claim("a/1", both).await.expect("Redis").len(), 2, "all in one go");
    let before = store.report("north", 7, Vec::new()).await.expect("Redis");
    server.say(&["FLUSHALL"]).await;
    let after = store.report("north", 7, Vec::new()).await.expect("Redis");
    assert!(after.claims.is_empty() && after.epoch != before.epoch, "whoever counts silence counts anew");
    // What is there expires by itself.
    let Value::Array(keys) = server.say(&["KEYS", "*"]).await else { panic!("keys") };
    assert!(!keys.is_empty());
    for key in keys {
        let Value::BulkString(key) = key else { panic!("{key:?}") };
        let left = say(&server.options(), &["PTTL", std::str::from_utf8(&key).expect("a key")]).await;
        assert!(matches!(left, Value::Int(1..=60_000)), "{left:?}");
    }
}

#[tokio::test]
async fn a_claim_that_is_old_or_rubbish_is_not_heard() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let store = Store::new(Redis::new(server.options()));
    said(&store, "a/1", draft("north", 1, 1..2)).await;
    let (claims, to_a) = ("egret:{sockets:north}:claims", "egret:{sockets:north}:to:a/1");
    // Times of long ago, and what is no time, no number, no set.
    for (node, text) in [("old", "1 1 "), ("b", "x"), ("c", "9e9 1 "), ("d d", "99999999999999999 1 ")] {
        server.say(&["HSET", claims, node, text]).await;
    }
    server.say(&["HSET", claims, "e", "99999999999999999 1 nonsense"]).await;
    server.say(&["HSET", to_a, "0007", "1 1 ", "zz", "99999999999999999 1 ", "0008", "99999999999999999 x "]).await;
    let heard = store.report("north", 7, Vec::new()).await.expect("Redis");
    assert_eq!(heard.claims.iter().map(|claim| claim.node.as_str()).collect::<Vec<_>>(), ["a/1"]);
    assert_eq!(said(&store, "a/1", draft("north", 2, 1..2)).await, []);
    assert_eq!(server.say(&["HEXISTS", claims, "old"]).await, Value::Int(0), "it is taken away");
}

#[tokio::test]
async fn the_claims_on_a_proxy_lie_in_one_slot_of_a_cluster() {
    if !Server::is_installed() {
        return;
    }
    let (_servers, options) = cluster().await;
    for proxy in ["north", "south", "p-1.eu_x"] {
        speak(&options, proxy).await;
    }
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_and_no_answer() {
    if !Server::is_installed() {
        return;
    }
    let mut server = Server::start(&[]);
    let store = Store::new(Redis::new(server.options()));
    said(&store, "a/1", draft("north", 1, 1..2)).await;
    server.kill();
    assert!(store.claim("a/1", vec![draft("north", 2, 1..2)]).await.is_err());
    assert!(store.report("north", 7, Vec::new()).await.is_err());
    server.again();
    let answer = Answer { node: "a/1".into(), number: 2, missing: Vec::new() };
    while store.report("north", 7, vec![answer.clone()]).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(said(&store, "a/1", draft("north", 3, 1..2)).await.len(), 1);
}
