//! Nodes whose clocks are wrong by a minute.

use std::time::{Duration, Instant};

use egret_shared::clock::{Clock, UnixMs};
use egret_shared::limits::{Health, Lease, Manner};

use super::server::{Node, Server, count, throttle};

/// A clock that runs as others do, and is wrong by so many seconds.
fn clock(wrong_by: i64) -> Clock {
    let wall = Clock::system().wall().0.saturating_add_signed(wrong_by * 1_000);
    let clock = Clock::moved(UnixMs(wall));
    let (moved, mut last) = (clock.clone(), Instant::now());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = Instant::now();
            moved.advance(now - last);
            last = now;
        }
    });
    clock
}

fn nodes(server: &Server, server_time: bool) -> Vec<Node> {
    let wrong = [("late", -60), ("right", 0), ("early", 60)];
    let node = |(name, by)| Node::at(name, &server.options(), Manner::default(), server_time, clock(by));
    wrong.map(node).into()
}

/// All try for seconds, in which each says more than once that it lives. What they got.
async fn try_all(nodes: &[Node]) -> (Vec<Vec<Lease>>, usize) {
    let (four, rate) = ([count("four", 4)], [throttle("rate", "20/h")]);
    let mut held: Vec<Vec<Lease>> = nodes.iter().map(|_| Vec::new()).collect();
    let (mut taken, end) = (0, Instant::now() + Duration::from_secs(5));
    while Instant::now() < end {
        for (node, held) in nodes.iter().zip(&mut held) {
            held.extend(node.try_hold(&four));
            taken += usize::from(node.limits.take(&rate, node.clock.now()).is_ok());
            assert_eq!(node.limits.health(), Health::Ok);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (held, taken)
}

#[tokio::test]
async fn where_time_is_that_of_redis_no_clock_matters() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let nodes = nodes(&server, true);
    let (held, taken) = try_all(&nodes).await;
    assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 4, "{held:?}");
    assert_eq!(taken, 20);
    assert!(nodes.iter().all(|node| node.limits.nodes() == 3));
    drop(held);
    for node in &nodes {
        drop(node.hold(&[count("four", 4)]).await);
    }
}

#[tokio::test]
async fn where_it_is_that_of_nodes_whose_clocks_differ_each_keeps_its_limits_for_itself() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let nodes = nodes(&server, false);
    let (held, taken) = try_all(&nodes).await;
    // To the one that is early the others are long dead, and what they hold is free.
    assert!(held.iter().all(|held| held.len() <= 4), "{held:?}");
    assert!(held.iter().map(Vec::len).sum::<usize>() >= 4, "{held:?}");
    // In the two minutes that clocks differ the rate allows less than one: so much more may go, or the last one may be kept
    // for a node whose clock says that its time is two minutes off.
    assert!((19..=22).contains(&taken), "{taken} of 20");
    drop(held);
    for node in &nodes {
        drop(node.hold(&[count("four", 4)]).await);
    }
}
