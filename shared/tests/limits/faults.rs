//! What a fleet does when Redis is away, slow, wrong or empty.

use std::time::{Duration, Instant};

use egret_shared::limits::{Health, Manner};
use egret_shared::redis::RedisOptions;

use super::server::{Node, Server, count, free_port, throttle, until};

#[tokio::test]
async fn without_a_store_at_the_start_each_has_its_share_until_it_comes() {
    if !Server::is_installed() {
        return;
    }
    let port = free_port();
    let options = RedisOptions::one("127.0.0.1", port);
    let node = Node::with("a", &options, Manner { nodes: 4, ..Manner::default() });
    let eight = [count("eight", 8)];
    let held = [node.hold(&eight).await, node.hold(&eight).await];
    assert!(node.try_hold(&eight).is_err(), "two of eight, for four nodes are expected");
    let why = node.is_degraded().await;
    assert!(why.starts_with(&format!("redis at 127.0.0.1:{port}: ")) && why.contains("refused"), "{why}");
    let server = Server::start_at(port, &[]);
    node.is_well().await;
    let more = [node.hold(&eight).await, node.hold(&eight).await];
    drop((held, more, server));
}

#[tokio::test]
async fn a_store_that_dies_and_comes_back_empty_learns_what_is_held() {
    if !Server::is_installed() {
        return;
    }
    let mut server = Server::start(&[]);
    let nodes = [Node::start("a", &server.options()), Node::start("b", &server.options())];
    let (four, rate) = ([count("four", 4)], [throttle("rate", "20/h")]);
    let mut held = Vec::new();
    for node in &nodes {
        held.extend([node.hold(&four).await, node.hold(&four).await]);
    }
    assert_eq!(nodes[0].drain(&rate).await + nodes[1].drain(&rate).await, 20);
    until("both to know of each other", || nodes.iter().all(|node| node.limits.nodes() == 2).then_some(())).await;
    server.kill();
    for node in &nodes {
        node.is_degraded().await;
        assert!(node.try_hold(&four).is_err(), "it has its share");
        assert!(node.limits.take(&rate, Instant::now()).is_err(), "the share starts empty");
    }
    drop(held.pop());
    held.push(nodes[1].hold(&four).await);
    server.again();
    for node in &nodes {
        node.is_well().await;
    }
    let quiet = Instant::now() + Duration::from_secs(4);
    while Instant::now() < quiet {
        assert!(nodes.iter().all(|node| node.try_hold(&four).is_err()), "all places are held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    held.clear();
    for _ in 0..4 {
        held.push(nodes[0].hold(&four).await);
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_away_until_it_goes_on() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let node = Node::start("a", &server.options());
    let rate = [throttle("rate", "1000/s")];
    drop(node.hold(&[count("c", 1)]).await);
    server.signal("-STOP");
    until("shares", || {
        let _ = node.limits.take(&rate, Instant::now());
        matches!(node.limits.health(), Health::Degraded { .. }).then_some(())
    })
    .await;
    until("a message by the share", || node.limits.take(&rate, Instant::now()).ok()).await;
    server.signal("-CONT");
    node.is_well().await;
    // A slow one is as bad as one that hangs.
    server.say(&["CLIENT", "PAUSE", "3000", "WRITE"]).await;
    until("shares", || {
        let _ = node.limits.take(&rate, Instant::now());
        matches!(node.limits.health(), Health::Degraded { .. }).then_some(())
    })
    .await;
    node.is_well().await;
}

#[tokio::test]
async fn a_flush_is_noticed_and_what_is_held_stays_held() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let nodes = [Node::start("a", &server.options()), Node::start("b", &server.options())];
    let (two, rate) = ([count("two", 2)], [throttle("rate", "30/h")]);
    let held = (nodes[0].hold(&two).await, nodes[1].hold(&two).await);
    assert_eq!(nodes[0].drain(&rate).await + nodes[1].drain(&rate).await, 30);
    until("both to know of each other", || nodes.iter().all(|node| node.limits.nodes() == 2).then_some(())).await;
    server.say(&["SCRIPT", "FLUSH"]).await;
    server.say(&["FLUSHALL"]).await;
    // Each tells what it holds and what it used within a heartbeat or two.
    let quiet = Instant::now() + Duration::from_secs(5);
    let mut more = 0;
    while Instant::now() < quiet {
        assert!(nodes.iter().all(|node| node.try_hold(&two).is_err()), "both places are held");
        more += nodes.iter().filter(|node| node.limits.take(&rate, Instant::now()).is_ok()).count();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(more <= 30, "{more} beyond 30: more than twice the rate");
    assert!(nodes.iter().all(|node| node.limits.health() == Health::Ok), "nobody was degraded");
    drop(held);
    drop(nodes[0].hold(&two).await);
}

/// A node is degraded for a reason that is told, and well again when it is cured.
async fn is_told(server: &Server, options: &RedisOptions, break_it: &[&str], reason: &[&str], cure_it: &[&str]) {
    if !break_it.is_empty() {
        server.say(break_it).await;
    }
    let node = Node::start("a", options);
    let _ = node.try_hold(&[count("told", 1)]);
    let why = node.is_degraded().await;
    assert!(reason.iter().all(|part| why.contains(part)), "{why}");
    let held = node.hold(&[count("told", 1)]).await;
    server.say(cure_it).await;
    node.is_well().await;
    drop(held);
    drop(node.hold(&[count("told", 1)]).await);
    node.stop().await;
}

#[tokio::test]
async fn what_the_store_refuses_is_told_as_it_says_it() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let open = server.options();
    let user = |password: &str| RedisOptions {
        username: Some("egret".to_owned()),
        password: Some(password.to_owned()),
        ..open.clone()
    };
    let wrong = ["ACL", "SETUSER", "egret", "on", ">other", "~egret:*", "&egret:*", "+@all"];
    // As the guide has it.
    let right: Vec<&str> =
        "ACL SETUSER egret reset on >right ~egret:* &egret:* +@read +@write +@scripting +@pubsub +@connection +time"
            .split(' ')
            .collect();
    is_told(&server, &user("right"), &wrong, &["redis.username and redis.password"], &right).await;
    let less = ["ACL", "SETUSER", "egret", "-evalsha", "-eval"];
    is_told(&server, &user("right"), &less, &["NOPERM", "guide on limits"], &right).await;
    let shard = egret_shared::limits::words::shard("told");
    let key = format!("egret:{{{shard:02}}}:p:told");
    is_told(&server, &open, &["SET", &key, "x"], &["WRONGTYPE", "redis.prefix"], &["DEL", &key]).await;
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    is_told(&server, &open, &full, &["OOM", "maxmemory"], &["CONFIG", "SET", "maxmemory", "0"]).await;
    let replica = ["REPLICAOF", "127.0.0.1", "1"];
    is_told(&server, &open, &replica, &["READONLY"], &["REPLICAOF", "NO", "ONE"]).await;
}
