//! Two nodes and a Redis: what waits for a place that another node has goes by another source, and each knows how many
//! nodes there are, also when it is started without Redis.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use egret_tests::harness::{Fleet, Options, Redis, addresses, eventually};
use egret_tests::peer::sink::{Behaviour, Sink};
use serde_json::Value;

use crate::support::{count, get, smtp};

/// A node that sends everything to `sink`, with one session from each source.
fn node(redis: &Redis, sources: &[IpAddr], sink: SocketAddr) -> Fleet {
    let tables = format!(
        "[[route]]\ndomains = [\"*\"]\nhosts = [\"{sink}\"]\n[delivery]\nconnection_limit = 1\nidle_timeout = \"1h\"\n{}",
        redis.table()
    );
    Fleet::start(&Options { dialect: Some("socks5"), tables, sources: Some(sources.to_vec()), ..Options::default() })
}

fn offer(fleet: &Fleet, domain: &str, many: usize) {
    let rcpt = format!("RCPT TO:<r@{domain}>");
    for _ in 0..many {
        let lines = ["EHLO test.example", "MAIL FROM:<>", &rcpt, "DATA", "Subject: a\r\n\r\nb\r\n.", "QUIT"];
        let answer = smtp(fleet.smtp, &lines)[5].clone();
        assert!(answer.starts_with("250 "), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_does_not_stay_with_a_source_whose_only_place_another_node_has() {
    let Some(redis) = Redis::start() else { return };
    let [sources, sink] = [addresses(2), addresses(1)].map(|own| own.into_iter().map(IpAddr::from).collect::<Vec<_>>());
    let at = SocketAddr::new(sink[0], 2525);
    // Content is answered when all is over; recipients of one domain are refused at once.
    let fail_domains = vec![("fast.example".to_owned(), 550)];
    let behaviour = Behaviour { delay: Duration::from_secs(3_600), fail_domains, ..Behaviour::default() };
    let sink = Sink::start(&[at], behaviour, None, None).await.expect("listens");
    let first = node(&redis, &sources[..1], at);
    offer(&first, "slow.example", 1);
    eventually("the session that holds the place", || match sink.stats().connections {
        1 => Ok(()),
        found => Err(format!("{found}\n{}", first.mta.log())),
    });
    let second = node(&redis, &sources, at);
    offer(&second, "fast.example", 10);
    let is_answered = |event: &Value| event["type"] == "bounce";
    eventually("all answers", || match count(&second, is_answered) {
        10 => Ok(()),
        found => Err(format!("{found}\n{}", second.mta.log())),
    });
    let other = sources[1].to_string();
    assert_eq!(count(&second, |event| is_answered(event) && event["source_address"] == other), 10, "all by {other}");
    assert_eq!(sink.stats().connections, 2, "one of each source");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_redis_takes_its_part_of_the_limits() {
    let Some(mut redis) = Redis::start() else { return };
    let sources = addresses(1).into_iter().map(IpAddr::from).collect::<Vec<_>>();
    let mut both = [(); 2].map(|()| node(&redis, &sources, "127.0.0.1:1".parse().expect("an address")));
    eventually("two nodes", || {
        let known = std::fs::read_to_string(both[0].file("spool/fleet-nodes.json")).unwrap_or_default();
        if known.contains("\"nodes\":2") { Ok(()) } else { Err(format!("{known}\n{}", both[0].mta.log())) }
    });
    redis.stop();
    both[0].restart_mta();
    eventually("its share", || {
        let (_, told) = get(both[0].mta_admin, "/readyz");
        if told.contains("its share, 1 of 2: ") { Ok(()) } else { Err(told) }
    });
}
