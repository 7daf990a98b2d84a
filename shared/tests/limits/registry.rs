//! Who is there: what is announced is found, read once, and forgotten; two of one name are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use egret_shared::redis::{Redis, RedisOptions, Value};
use egret_shared::registry::record::NodeRecord;
use egret_shared::registry::store::{Registry, Watch};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::server::{Server, cluster};

/// Announces a node, until the task is aborted as if it had been killed, or `stop`.
fn announce(
    redis: &RedisOptions,
    name: &'static str,
    sessions: &Arc<AtomicU64>,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    let (registry, sessions, stop) = (Registry::new(Redis::new(redis.clone())), sessions.clone(), stop.clone());
    let say = move || {
        let (name, version) = (name.to_owned(), "x".repeat(1_000));
        NodeRecord { name, version, sessions: sessions.load(Ordering::Relaxed), ..NodeRecord::default() }
    };
    tokio::spawn(async move { registry.announce(say, &Notify::new(), stop).await })
}

/// Looks until what is found fits. What cannot be asked is asked again.
async fn until(watch: &mut Watch<NodeRecord>, what: &str, fits: impl Fn(&[NodeRecord], &[String]) -> bool) -> u64 {
    for looks in 1..2_000 {
        if let Ok((found, wrong)) = watch.look().await
            && fits(&found, &wrong)
        {
            return looks;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{what} did not come");
}

async fn reads(server: &Server) -> u64 {
    let stats = format!("{:?}", server.say(&["INFO", "commandstats"]).await);
    let (_, after) = stats.split_once("cmdstat_mget:calls=").expect("reads were counted");
    after.split_once(',').and_then(|(calls, _)| calls.parse().ok()).expect("a number")
}

#[tokio::test]
async fn what_is_announced_is_read_once_and_its_figures_with_every_look() {
    if !Server::is_installed() {
        return;
    }
    let (server, stop) = (Server::start(&[]), CancellationToken::new());
    let sessions = Arc::new(AtomicU64::new(1));
    let (a, b) =
        (announce(&server.options(), "a", &sessions, &stop), announce(&server.options(), "b", &sessions, &stop));
    let mut watch = Registry::new(Redis::new(server.options())).watch::<NodeRecord>();
    until(&mut watch, "both", |found, _| found.len() == 2 && found.iter().all(|node| node.sessions == 1)).await;
    let before = reads(&server).await;
    sessions.store(2, Ordering::Relaxed);
    let all_new = |found: &[NodeRecord], _: &[String]| found.len() == 2 && found.iter().all(|node| node.sessions == 2);
    let looks = until(&mut watch, "other figures", all_new).await;
    assert_eq!(reads(&server).await - before, looks, "a look reads the short words, and no text a second time");

    // One that is killed is forgotten by itself, one that ends at once; a Redis that forgot is told anew.
    a.abort();
    until(&mut watch, "one", |found, _| found.iter().map(|node| &*node.name).eq(["b"])).await;
    server.say(&["FLUSHALL"]).await;
    until(&mut watch, "the other again", |found, _| found.iter().map(|node| &*node.name).eq(["b"])).await;
    stop.cancel();
    b.await.expect("it ended");
    let (found, wrong) = watch.look().await.expect("an answer");
    assert!(found.is_empty() && wrong.is_empty(), "{found:?} {wrong:?}");
}

#[tokio::test]
async fn two_of_one_name_are_told_and_one_that_was_restarted_is_not() {
    if !Server::is_installed() {
        return;
    }
    let (server, stop) = (Server::start(&[]), CancellationToken::new());
    let sessions = Arc::new(AtomicU64::new(1));
    let mut watch = Registry::new(Redis::new(server.options())).watch::<NodeRecord>();
    let first = announce(&server.options(), "a", &sessions, &stop);
    until(&mut watch, "the first", |found, _| found.len() == 1).await;
    first.abort();
    let _second = announce(&server.options(), "a", &sessions, &stop);
    for _ in 0..50 {
        let (_, wrong) = watch.look().await.expect("an answer");
        assert!(wrong.is_empty(), "{wrong:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let _third = announce(&server.options(), "a", &sessions, &stop);
    until(&mut watch, "the alarm", |_, wrong| wrong.iter().any(|why| why.contains("two announce themselves"))).await;
}

#[tokio::test]
async fn a_cluster_knows_who_is_there_also_after_the_server_that_did_has_died_and_forgotten() {
    if !Server::is_installed() {
        return;
    }
    let (mut servers, options) = cluster().await;
    let (sessions, stop) = (Arc::new(AtomicU64::new(1)), CancellationToken::new());
    let (a, _b) = (announce(&options, "a", &sessions, &stop), announce(&options, "b", &sessions, &stop));
    let mut watch = Registry::new(Redis::new(options.clone())).watch::<NodeRecord>();
    let is = |found: &[NodeRecord], names: &[&str]| found.iter().map(|node| &*node.name).eq(names.iter().copied());
    until(&mut watch, "both", |found, wrong| is(found, &["a", "b"]) && wrong.is_empty()).await;
    let mut keeper = None;
    for (at, server) in servers.iter().enumerate() {
        if server.say(&["DBSIZE"]).await != Value::Int(0) {
            assert_eq!(keeper.replace(at), None, "all keys share a slot");
        }
    }
    let mut keeper = servers.swap_remove(keeper.expect("a server has the records"));
    keeper.kill();
    while watch.look().await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    keeper.again();
    until(&mut watch, "both again", |found, wrong| is(found, &["a", "b"]) && wrong.is_empty()).await;
    a.abort();
    until(&mut watch, "the other", |found, _| is(found, &["b"])).await;
}
