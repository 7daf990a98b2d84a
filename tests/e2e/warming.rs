//! Addresses that proxies announce are warmed up: two nodes keep to one plan, an address begins when the fleet saw it
//! first, and a node that has known it for longer is believed.

use std::process::Command;

use egret_shared::clock::Clock;
use egret_tests::harness::{Fleet, Options, Redis, addresses, binary, eventually};
use egret_tests::peer::sink::Behaviour;
use serde_json::Value;

use crate::support::{get, nothing_counted, offer, sink};

const DAY_MS: u64 = 86_400_000;
/// A story that begins shortly before midnight would see two days.
const TOO_LATE_MS: u64 = 300_000;

const PLAN: &str = "[pool.found.discover]\ntag = \"new\"\n[pool.found.discover.warmup]\nmessages = [3, 500]\n";

fn node(redis: &Redis, tables: &str, announces: bool) -> Fleet {
    let announce = format!("[announce]\nname = \"north\"\ntags = [\"new\"]\n{}", redis.table());
    let sources = Some(vec![addresses(1)[0].into()]);
    Fleet::start(&Options {
        dialect: Some("socks5"),
        tables: format!("{PLAN}{tables}{}", redis.table()),
        proxy_toml: if announces { announce } else { String::new() },
        sources,
        ..Options::default()
    })
}

fn shown(fleet: &Fleet) -> Value {
    let (_, answer) = get(fleet.mta_admin, "/v1/fleet");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

/// Waits until a node has the source, on that day of its plan.
fn is_on_day(fleet: &Fleet, source: &str, day: u64) -> Value {
    eventually("the day of the plan", || {
        let shown = shown(fleet);
        let found = shown["sources"].as_array().into_iter().flatten().find(|view| view["source"] == source);
        match found.map(|view| view["warmup"][0].clone()) {
            Some(warmup) if warmup["day"] == day => Ok(warmup),
            other => Err(format!("{other:?}\n{}", fleet.mta.log())),
        }
    })
}

fn told(fleet: &Fleet, asked: &[&str]) -> String {
    let admin = fleet.mta_admin.to_string();
    let told = Command::new(binary("egret-mta")).args(asked).args(["--admin", &admin]).output().expect("runs");
    String::from_utf8_lossy(&told.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_found_is_warmed_up_by_all_nodes_together_from_the_day_it_was_seen_first() {
    let now = Clock::system().wall().0;
    if now % DAY_MS > DAY_MS - TOO_LATE_MS {
        eprintln!("skipped: it is midnight soon");
        return;
    }
    let Some(mut redis) = Redis::start() else { return };
    let first = node(&redis, "", true);
    let sink = sink(&first, Behaviour::default()).await;
    let route = format!("[[route]]\ndomains = [\"*\"]\nhosts = [\"{}\"]\n", first.sink);
    let mut second = node(&redis, &route, false);
    let source = first.sources[0].to_string();
    let began = is_on_day(&first, &source, 1);
    assert_eq!(is_on_day(&second, &source, 1), began, "the same day");
    assert_eq!((began["days"].as_u64(), began["messages"].as_u64()), (Some(2), Some(3)));
    for fleet in [&first, &second] {
        for _ in 0..10 {
            assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
        }
    }
    eventually("the three of today", || match sink.stats().messages {
        3 => Ok(()),
        other => Err(format!("{other}\n{}\n{}", first.mta.log(), second.mta.log())),
    });
    let quota = format!("warmup {source}->");
    for fleet in [&first, &second] {
        eventually("the reason", || {
            let why = told(fleet, &["why", "--domain", "good.example"]);
            if why.contains(&quota) && why.contains("and they are used") { Ok(()) } else { Err(why) }
        });
    }
    let screen = told(&second, &["fleet"]);
    for part in ["ok; day 1 of 2 of its warm-up, 3 messages to a site", &quota, "3 of 3 on 20"] {
        assert!(screen.contains(part), "{part} in\n{screen}");
    }

    // Redis loses its memory, and a node is started again meanwhile: nothing begins anew.
    redis.stop();
    second.restart_mta();
    redis.run();
    let key = format!("egret:{{registry}}:first-day:{source}");
    eventually("Redis to learn of it", || match redis.say(&format!("EXISTS {key}")) {
        answer if answer == ":1" => Ok(()),
        answer => Err(format!("{answer}\n{}", second.mta.log())),
    });
    assert_eq!(is_on_day(&second, &source, 1), began);

    // The second has known the address since yesterday, which neither Redis nor the other knew.
    second.mta.crash();
    let file = second.file("spool/first-days.json");
    let kept = std::fs::read_to_string(&file).expect("kept");
    let today = now / DAY_MS;
    let older = kept.replace(&format!("\"first\":{today}"), &format!("\"first\":{}", today - 1));
    assert_ne!(older, kept);
    std::fs::write(&file, older).expect("written");
    second.restart_mta();
    for fleet in [&first, &second] {
        is_on_day(fleet, &source, 2);
    }
    eventually("all of them", || match sink.stats().messages {
        20 => Ok(()),
        other => Err(format!("{other}\n{}\n{}", first.mta.log(), second.mta.log())),
    });
    for fleet in [&first, &second] {
        nothing_counted(fleet, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_redis_does_not_begin_the_day_anew() {
    let now = Clock::system().wall().0;
    if now % DAY_MS > DAY_MS - TOO_LATE_MS {
        eprintln!("skipped: it is midnight soon");
        return;
    }
    // So many days that today is one of them.
    let plan = vec!["3"; 10_000].join(", ");
    let keys = format!("proxy = \"p\"\nwarmup = {{ start = \"2026-01-01\", messages = [{plan}] }}");
    let mut fleet = Fleet::start(&Options {
        dialect: Some("socks5"),
        source_keys: Some(keys.leak()),
        sources: Some(vec![addresses(1)[0].into()]),
        ..Options::default()
    });
    let sink = sink(&fleet, Behaviour::default()).await;
    for _ in 0..10 {
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    }
    for _ in 0..2 {
        eventually("the three of today", || match sink.stats().messages {
            3 => Ok(()),
            other => Err(format!("{other}\n{}", fleet.mta.log())),
        });
        eventually("the reason", || {
            let why = told(&fleet, &["why", "--domain", "good.example"]);
            if why.contains("and they are used") { Ok(()) } else { Err(why) }
        });
        eventually("what is kept of it", || {
            let kept = std::fs::read_to_string(fleet.file("spool/used-quotas.json")).unwrap_or_default();
            if kept.contains("\"used\":3") { Ok(()) } else { Err(kept) }
        });
        fleet.restart_mta();
    }
}
