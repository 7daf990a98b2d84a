//! Measures the limits: what a decision costs here, and how often four nodes ask the store at 1,000 messages a second.
//! `cargo run --release -p egret-shared --example limits -- 127.0.0.1:6379` (a Redis that may be written to).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use egret_shared::limits::{Count, FleetOptions, Limits, Manner, Throttle, When};
use egret_shared::redis::{Redis, RedisOptions};
use tokio_util::sync::CancellationToken;

const NODES: u32 = 4;
const SECONDS: u64 = 8;

fn throttle(rate: &str) -> (Arc<str>, Throttle) {
    ("max_message_rate:a-source->mx.example.com@smtp".into(), rate.parse().expect("a rate"))
}

fn per_decision(what: &str, mut decide: impl FnMut(Instant)) {
    const TIMES: u32 = 1_000_000;
    let start = Instant::now();
    for _ in 0..TIMES {
        decide(start);
    }
    println!("{what}: {} ns", start.elapsed().as_nanos() / u128::from(TIMES));
}

fn memory() {
    let limits = Limits::memory();
    let (fast, slow) = ([throttle("100000000/s")], [(Arc::from("slow"), "1/d".parse().expect("a rate"))]);
    per_decision("take, one throttle, let through", |now| drop(limits.take(&fast, now)));
    per_decision("take, one throttle, refused", |now| drop(limits.take(&slow, now)));
    let counts: [(Arc<str>, Count); 2] = [("a path".into(), 32.into()), ("a provider".into(), 500.into())];
    per_decision("hold and free, two counts", |now| drop(limits.hold(&counts, now)));
}

/// One node that sends as fast as it may; how many it sent.
async fn send(limits: Limits, until: Instant) -> u64 {
    let (rate, mut sent) = ([throttle("1000/s,max_burst=100")], 0);
    while Instant::now() < until {
        match limits.take(&rate, Instant::now()) {
            Ok(()) => sent += 1,
            Err(refusal) => match refusal.when {
                When::At(at) => tokio::time::sleep_until(at.into()).await,
                When::Woken => drop(limits.woken().await),
            },
        }
    }
    sent
}

#[tokio::main]
async fn main() {
    memory();
    let Some(address) = std::env::args().nth(1) else { return };
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let options = RedisOptions { prefix: "bench".to_owned(), ..RedisOptions::one(host, port.parse().expect("a port")) };
    let (stop, mut drivers, mut nodes, mut asked) = (CancellationToken::new(), Vec::new(), Vec::new(), Vec::new());
    let until = Instant::now() + Duration::from_secs(SECONDS);
    for node in 0..NODES {
        let fleet = FleetOptions {
            node: format!("node {node}"),
            manner: Manner::default(),
            server_time: true,
            degraded_metric: "bench_degraded",
        };
        let (limits, driver) = Limits::fleet(Redis::new(options.clone()), fleet, Clock::system());
        asked.push(driver.asked());
        drivers.push(tokio::spawn(driver.run(stop.clone())));
        nodes.push(tokio::spawn(send(limits, until)));
    }
    let mut sent = Vec::new();
    for node in nodes {
        sent.push(node.await.expect("it sends"));
    }
    stop.cancel();
    for driver in drivers {
        driver.await.expect("it ends");
    }
    let all: u64 = sent.iter().sum();
    let asks: u64 = asked.iter().map(|asked| asked.asks.load(Ordering::Relaxed)).sum();
    let exchanges: u64 = asked.iter().map(|asked| asked.exchanges.load(Ordering::Relaxed)).sum();
    println!("{NODES} nodes at 1000/s for {SECONDS} s sent {sent:?}, {} a second", all / SECONDS);
    println!("{asks} questions in {exchanges} exchanges: {:.3} questions a message", asks as f64 / all as f64);
}
