//! A Redis that is loading, a place where nobody answers, and a whole fleet that comes back at once.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use egret_shared::limits::Manner;
use egret_shared::redis::RedisOptions;

use super::server::{Node, Server, count, free_port, throttle, until};

#[tokio::test]
async fn while_redis_is_loading_each_goes_by_its_share() {
    if !Server::is_installed() {
        return;
    }
    let mut server = Server::start(&[]);
    let nodes = [Node::start("a", &server.options()), Node::start("b", &server.options())];
    let (two, four) = ([count("two", 2)], [count("four", 4)]);
    let held = (nodes[0].hold(&two).await, nodes[1].hold(&two).await);
    until("both to know of each other", || nodes.iter().all(|node| node.limits.nodes() == 2).then_some(())).await;
    let fill = "for at = 1, 4000 do redis.call('SET', 'other:' .. at, string.rep('x', 100)) end";
    server.say(&["EVAL", fill, "0"]).await;
    server.say(&["SAVE"]).await;
    server.kill();
    // A big dump: it takes seconds to load, and says so to whoever asks meanwhile.
    server.again_with(&["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]);
    let why = Node::start("c", &server.options()).is_degraded().await;
    assert!(why.contains("LOADING"), "{why}");
    let mut shares = Vec::new();
    for node in &nodes {
        node.is_degraded().await;
        assert!(node.try_hold(&two).is_err(), "its share is one of two, and held");
        shares.extend([node.hold(&four).await, node.hold(&four).await]);
        assert!(node.try_hold(&four).is_err(), "its share is two of four");
    }
    for node in &nodes {
        node.is_well().await;
        assert!(node.try_hold(&two).is_err() && node.try_hold(&four).is_err(), "all places are held");
    }
    drop((held, shares));
    for node in &nodes {
        drop(node.hold(&two).await);
    }
}

#[tokio::test]
async fn where_nobody_answers_each_goes_by_its_share_until_somebody_does() {
    if !Server::is_installed() {
        return;
    }
    let port = free_port();
    // The kernel takes connections, and nobody reads what comes.
    let hole = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let node = Node::with("a", &RedisOptions::one("127.0.0.1", port), Manner { nodes: 2, ..Manner::default() });
    let (four, rate) = ([count("four", 4)], [throttle("rate", "1000/s")]);
    let why = node.is_degraded().await;
    assert!(["timed out", "no connection within", "no answer within"].iter().any(|text| why.contains(text)), "{why}");
    let held = [node.hold(&four).await, node.hold(&four).await];
    assert!(node.try_hold(&four).is_err(), "two of four, for two nodes");
    until("a message by the share", || node.limits.take(&rate, node.clock.now()).ok()).await;
    drop(hole);
    let server = Server::start_at(port, &[]);
    node.is_well().await;
    let more = [node.hold(&four).await, node.hold(&four).await];
    assert!(node.try_hold(&four).is_err());
    drop((held, more, server));
}

#[tokio::test]
async fn twenty_nodes_that_come_back_at_once_bring_no_burst() {
    const NODES: usize = 20;
    const RATE: f64 = 50.0;
    const BURST: f64 = 200.0;
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let nodes: Vec<Node> = (0..NODES).map(|at| Node::start(&format!("node {at}"), &server.options())).collect();
    until("all to know of each other", || nodes.iter().all(|node| node.limits.nodes() as usize == NODES).then_some(()))
        .await;
    let rate = [throttle("rate", "50/s,max_burst=200")];
    // How much of the burst is used: the most over all windows of what went beyond the rate.
    let (mut level, mut most, mut last, mut taken) = (0.0f64, 0.0f64, Instant::now(), 0);
    let start = Instant::now();
    let mut steps = [(3, "-STOP"), (8, "-CONT")].iter().peekable();
    while start.elapsed() < Duration::from_secs(14) {
        if let Some((_, signal)) = steps.next_if(|(after, _)| start.elapsed() >= Duration::from_secs(*after)) {
            server.signal(signal);
        }
        for node in &nodes {
            let now = Instant::now();
            while node.limits.take(&rate, now).is_ok() {
                level = (level - (now - last).as_secs_f64() * RATE).max(0.0) + 1.0;
                (most, last, taken) = (most.max(level), now, taken + 1);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // At hand is at most what the rate allows in a second and a quarter of the burst, and of its share each has one.
    let slack = RATE.max(BURST / 4.0) + NODES as f64;
    assert!(most <= BURST + slack, "{most} beyond the rate, of {BURST} and {slack}");
    assert!(f64::from(taken) >= BURST + 8.0 * RATE, "{taken} went in 14 s");
    for node in &nodes {
        node.is_well().await;
    }
}
