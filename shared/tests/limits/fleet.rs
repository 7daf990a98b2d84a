//! What a fleet does while all is well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use egret_shared::limits::store::{Place, survey};
use egret_shared::redis::Redis;

use super::server::{Node, Server, count, throttle, until};

#[tokio::test]
async fn nodes_share_rates_places_and_quotas() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let (a, b) = (Node::start("a", &server.options()), Node::start("b", &server.options()));
    let rate = [throttle("rate", "100/h")];
    let taken = (a.drain(&rate).await, b.drain(&rate).await);
    assert_eq!(taken.0 + taken.1, 100, "{taken:?}");
    let places = [count("places", 3)];
    let held = [a.hold(&places).await, a.hold(&places).await, b.hold(&places).await];
    for _ in 0..20 {
        assert!(a.try_hold(&places).is_err() && b.try_hold(&places).is_err());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let name: Arc<str> = "ramp".into();
    let mut used = 0;
    until("the end of the quota", || {
        let mut full = 0;
        for node in [&a, &b] {
            match node.limits.take_quota(&name, 20_000, 40, Instant::now()) {
                Ok(()) => used += 1,
                Err(refusal) => full += u32::from(refusal.when != egret_shared::limits::When::Woken),
            }
        }
        (full == 2).then_some(())
    })
    .await;
    assert!((38..=40).contains(&used), "{used} of 40; a node may have one in hand");
    let seen = survey(&Redis::new(server.options()), 100).await.expect("an answer");
    assert_eq!(seen.nodes, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    let names: Vec<&str> = seen.limits.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, ["places", "ramp", "rate"]);
    assert!(matches!(seen.limits[1].place, Place::Quota { most: Some(40), .. }), "{seen:?}");
    let Place::Count { nodes, most: Some(_) } = &seen.limits[0].place else { panic!("{seen:?}") };
    let held_by: Vec<(&str, u32)> = nodes.iter().map(|(node, held, _)| (node.as_str(), *held)).collect();
    assert_eq!(held_by, [("a", 2), ("b", 1)]);
    let few = survey(&Redis::new(server.options()), 1).await.expect("an answer");
    assert!(few.is_cut && few.limits.len() == 1);
    drop(held);
}

#[tokio::test]
async fn a_freed_place_wakes_the_one_who_waits_longest() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let nodes: Vec<Node> = ["a", "b", "c"].iter().map(|name| Node::start(name, &server.options())).collect();
    let one = [count("one", 1)];
    let held = nodes[0].hold(&one).await;
    let redis = Redis::new(server.options());
    for node in &nodes[1..] {
        assert!(node.try_hold(&one).is_err());
        let waiting = nodes.iter().position(|other| std::ptr::eq(other, node)).expect("it is one");
        // It stands in the store's line before the next one does.
        while survey(&redis, 10).await.expect("an answer").limits.iter().all(|limit| match &limit.place {
            Place::Count { nodes, .. } => nodes.len() <= waiting,
            _ => true,
        }) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    drop(held);
    assert_eq!(nodes[1].limits.woken().await, [Arc::<str>::from("one")]);
    let held = nodes[1].try_hold(&one).expect("it is its turn");
    drop(held);
    assert_eq!(nodes[2].limits.woken().await, [Arc::<str>::from("one")]);
    assert!(nodes[2].try_hold(&one).is_ok());
}

#[tokio::test]
async fn who_has_more_than_its_part_is_told_to_yield() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let (a, b) = (Node::start("a", &server.options()), Node::start("b", &server.options()));
    let four = [count("four", 4)];
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(a.hold(&four).await);
    }
    assert!(!a.limits.yields("four"));
    assert!(b.try_hold(&four).is_err());
    until("a wish to yield", || a.limits.yields("four").then_some(())).await;
    held.truncate(2);
    let others = [b.hold(&four).await, b.hold(&four).await];
    until("peace", || (!a.limits.yields("four")).then_some(())).await;
    assert!(!b.limits.yields("four"));
    drop(others);
}

#[tokio::test]
async fn a_node_that_ends_frees_its_places_at_once_and_one_that_dies_in_fifteen_seconds() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let (a, b, c) =
        (Node::start("a", &server.options()), Node::start("b", &server.options()), Node::start("c", &server.options()));
    let two = [count("two", 2)];
    let kept = (a.hold(&two).await, b.hold(&two).await);
    assert!(c.try_hold(&two).is_err());
    a.stop().await;
    let first = c.hold(&two).await;
    assert!(c.try_hold(&two).is_err());
    b.kill();
    let second = c.hold(&two).await;
    drop((kept, first, second));
}

#[tokio::test]
async fn to_obtain_waits_for_the_answer_and_not_for_room() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let (a, b) = (Node::start("a", &server.options()), Node::start("b", &server.options()));
    let clock = Clock::system();
    let (counts, rates) = ([count("c", 1)], [throttle("r", "3/h")]);
    let deadline = || clock.now() + Duration::from_secs(20);
    let lease = a.limits.obtain(&counts, &rates, &clock, deadline()).await.expect("room");
    let denied = b.limits.obtain(&counts, &rates, &clock, deadline()).await.expect_err("no room");
    assert_eq!(&*denied.name, "c");
    drop(lease);
    until("room", || b.try_hold(&counts).ok()).await;
    for _ in 0..2 {
        until("room", || b.try_hold(&counts).ok()).await;
        while b.limits.obtain(&counts, &rates, &clock, deadline()).await.is_err_and(|denied| &*denied.name == "c") {}
    }
    let denied = b.limits.obtain(&[], &rates, &clock, deadline()).await.expect_err("three an hour");
    assert!(denied.retry_after > Some(Duration::from_secs(1000)), "{denied:?}");
}

#[tokio::test]
async fn a_name_may_be_anything() {
    if !Server::is_installed() {
        return;
    }
    let server = Server::start(&[]);
    let (a, b) = (Node::start("a", &server.options()), Node::start("b", &server.options()));
    for name in ["{x}{07}", "a\r\nFLUSHALL\r\n", "\0", "*", "ü", &"long".repeat(16_384)] {
        let one = [count(name, 1)];
        let rate = [throttle(name, "5/h")];
        let held = a.hold(&one).await;
        assert_eq!(a.drain(&rate).await + b.drain(&rate).await, 5, "{:?}", name.get(..20));
        assert!(b.try_hold(&one).is_err());
        drop(held);
        drop(b.hold(&one).await);
    }
}
