//! Two MTAs and a Redis: what a destination tells one of them holds for both, and both come back by one probe.

use std::net::{IpAddr, SocketAddr};

use egret_tests::harness::{Fleet, Options, addresses, eventually};
use serde_json::Value;

use crate::automation::{Destination, asked, automation_events, controls, offer_some, rule};
use egret_tests::harness::Redis;

/// Nodes with the same sources and the same destination.
struct Nodes {
    redis: Redis,
    source: IpAddr,
    sink: SocketAddr,
    duration: &'static str,
}

impl Nodes {
    /// `None` where there is no Redis.
    fn new(duration: &'static str) -> Option<Self> {
        let redis = Redis::start()?;
        let [source, sink] = [addresses(1), addresses(1)].map(|own| IpAddr::from(own[0]));
        Some(Self { redis, source, sink: SocketAddr::new(sink, 2525), duration })
    }

    fn start(&self) -> Fleet {
        let route = format!("[[route]]\ndomains = [\"*\"]\nhosts = [\"{}\"]\n", self.sink);
        let tables = rule("\"Suspend\"", self.duration) + &route + &self.redis.table();
        let sources = Some(vec![self.source]);
        Fleet::start(&Options { dialect: Some("socks5"), tables, sources, ..Options::default() })
    }

    fn destination(&self) -> Destination {
        let destination = Destination::start(self.sink);
        destination.seen(|seen| seen.refuses.insert(self.source));
        destination
    }
}

/// Waits until so many orders are in force at a node.
fn has(fleet: &Fleet, count: usize) -> Vec<Value> {
    eventually("orders", || match controls(fleet) {
        found if found.len() == count => Ok(found),
        found => Err(format!("{found:?}\n{}", fleet.mta.log())),
    })
}

#[test]
fn what_one_node_is_told_holds_for_all_and_so_does_its_end() {
    let Some(mut nodes) = Nodes::new("1h") else { return };
    let (a, b) = (nodes.start(), nodes.start());
    let destination = nodes.destination();
    offer_some(&a, 1);
    a.event("the automation", |event| event["type"] == "automation");
    let (at_a, at_b) = (has(&a, 1), has(&b, 1));
    for key in ["scope", "reason", "expires"] {
        assert_eq!(at_a[0][key], at_b[0][key], "{key}");
    }
    let refused = destination.seen(|seen| seen.refused);
    offer_some(&b, 5);
    eventually("the reason", || {
        let told = asked(&b, &["why", "--domain", "a.example"]);
        if told.contains("[TS01]") { Ok(()) } else { Err(told) }
    });
    assert_eq!(destination.seen(|seen| seen.refused), refused, "the other node did not try");
    let late = nodes.start();
    has(&late, 1);

    // Without Redis each node goes on with what it knows; what was ended meanwhile is told later.
    nodes.redis.stop();
    eventually("the news", || match a.mta.log() {
        log if log.contains("orders of automation are of this node alone for now") => Ok(()),
        log => Err(log),
    });
    assert_eq!(has(&a, 1), at_a);
    destination.seen(|seen| seen.refuses.clear());
    let told = asked(&b, &["automation", "cancel", at_b[0]["id"].as_str().expect("an id")]);
    assert!(told.starts_with("ended: suspend"), "{told}");
    destination.takes(&b, 5);
    assert_eq!(has(&a, 1), at_a);
    nodes.redis.run();
    has(&a, 0);
    has(&late, 0);
    destination.takes(&a, 6);
    assert_eq!(a.mta.log().matches("are of this node alone for now").count(), 1, "told once\n{}", a.mta.log());
    assert!(automation_events(&b).is_empty() && automation_events(&a).len() == 1);
}

#[test]
fn one_probe_is_for_all_nodes() {
    let Some(nodes) = Nodes::new("2s") else { return };
    let both = [nodes.start(), nodes.start()];
    let destination = nodes.destination();
    offer_some(&both[0], 1);
    for node in &both {
        has(node, 1);
        offer_some(node, 20);
    }
    let fired = || both.iter().map(|node| automation_events(node).len()).sum::<usize>();
    eventually("two relapses", || match fired() {
        0..3 => Err(both[0].mta.log() + &both[1].mta.log()),
        _ => Ok(()),
    });
    destination.seen(|seen| seen.refuses.clear());
    eventually("delivery", || match destination.seen(|seen| seen.taken.len()) {
        41 => Ok(()),
        found => Err(format!("{found} of 41\n{}\n{}", both[0].mta.log(), both[1].mta.log())),
    });
    let (refused, most) = destination.seen(|seen| (seen.refused, seen.most_before));
    assert_eq!(refused, fired(), "each probe is one message of one node");
    assert_eq!(most, 1, "and so is the one that was taken");
    let taken_by = |node: &Fleet| node.events().iter().filter(|event| event["type"] == "delivery").count();
    eventually("their events", || match both.iter().map(taken_by).collect::<Vec<_>>() {
        found if found == [21, 20] => Ok(()),
        found => Err(format!("{found:?}")),
    });
}
