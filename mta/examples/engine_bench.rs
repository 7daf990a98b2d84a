//! CPU time of the queue engine for each message, without sockets, disk or DNS: a measurement, no test.
//! `cargo run --release -p egret-mta --example engine_bench -- [messages] [domains]`
//! Floor 6.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_mta::dns::site::{HostPolicy, MxHost, Protocol, Site};
use egret_mta::message::{
    FromSession, MessageId, PartResult, Priority, QueueName, RecipientResult, Response, Ticket, Verdict,
};
use egret_mta::queue::{Act, Admit, DelayNotice, Engine, Meter, QueueOptions};
use egret_mta::routing::pool::Pool;
use egret_mta::routing::source::{Source, Way};
use egret_shared::clock::UnixMs;
use egret_shared::limits::Limits;

/// Messages that are told in one wake, as they come from a busy reception.
const BATCH: usize = 100;

fn engine() -> Engine {
    let source = |n: u8| {
        let name: Arc<str> = format!("s{n}").into();
        Arc::new(Source {
            name: name.clone(),
            address: None,
            ehlo_name: name,
            names_itself: true,
            warmup: Vec::new(),
            ways: vec![Way::Direct],
        })
    };
    let pool = Pool { name: "p".into(), members: (1..=8).map(|n| (source(n), 1)).collect() };
    let options = QueueOptions {
        retry_interval: Duration::from_secs(60),
        max_retry_interval: Duration::from_secs(3600),
        max_age: Duration::from_secs(86_400),
        max_ready: 1000,
        delay_notice: DelayNotice::default(),
    };
    let meter = Meter::new(Limits::memory(), false, UnixMs(0), Instant::now());
    Engine::new(options, 32, meter, vec![pool], "p".into(), 7)
}

fn admit(n: usize, queues: &[QueueName]) -> Admit {
    Admit {
        id: MessageId::from_bytes((n as u128).to_be_bytes()),
        part: 0,
        queue: queues[n % queues.len()].clone(),
        pool: "p".into(),
        priority: Priority::Normal,
        recipients: 1,
        received: UnixMs(0),
        attempts: 0,
        due: None,
        settled: Vec::new(),
        hears_of_delay: false,
    }
}

fn settled(session: u64, ticket: Ticket) -> FromSession {
    let response = Response::own(250, egret_mta::message::EnhancedCode::new(2, 0, 0), "ok");
    let results = vec![RecipientResult { recipient: 0, verdict: Verdict::Delivered, response }];
    FromSession::Settled { session, result: PartResult { ticket, results, witness: None } }
}

fn main() {
    let argument = |n: usize, default: usize| std::env::args().nth(n).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (messages, domains) = (argument(1, 1_000_000), argument(2, 1000));
    let queues: Vec<_> = (0..domains).map(|n| QueueName::of_domain(&format!("d{n}.test"))).collect();
    let host = MxHost { name: "mx".into(), addresses: vec![[127, 0, 0, 1].into()], port: 25, policy: HostPolicy::None };
    let site = Arc::new(Site { name: "mx".into(), hosts: vec![host], protocol: Protocol::Smtp });
    let (mut engine, mut acts, mut told, mut done) = (engine(), Vec::new(), Vec::new(), 0usize);
    let started = Instant::now();
    for first in (0..messages).step_by(BATCH) {
        let now = UnixMs(first as u64 / 100);
        for n in first..(first + BATCH).min(messages) {
            engine.admit(admit(n, &queues), now, &mut acts);
        }
        while !acts.is_empty() || !told.is_empty() {
            for act in acts.drain(..) {
                match act {
                    Act::Resolve(key) => told.push(Err(key)),
                    Act::Open { session, first, .. } => {
                        told.extend([Ok(FromSession::Connected { session }), Ok(settled(session, first))]);
                    }
                    Act::Hand { session, ticket } => told.push(Ok(settled(session, ticket))),
                    Act::Mark { .. } => done += 1,
                    Act::Release { session } => {
                        told.push(Ok(FromSession::Ended { session, fault: None, returned: Vec::new() }));
                    }
                    Act::Report(_) | Act::Keep(_) => {}
                }
            }
            for word in told.drain(..) {
                match word {
                    Ok(report) => engine.session(report, now, &mut acts),
                    Err(key) => engine.resolved(&key, Ok((site.clone(), Duration::from_secs(3600))), now, &mut acts),
                }
            }
        }
        engine.tick(now, &mut acts);
    }
    let each = started.elapsed().as_nanos() as f64 / messages as f64 / 1000.0;
    println!("{done} of {messages} messages to {domains} domains: {each:.2} µs each");
    let before = resident_bytes();
    for n in 0..messages {
        engine.admit(Admit { due: Some(UnixMs(u64::MAX / 2)), ..admit(n, &queues) }, UnixMs(0), &mut acts);
        acts.clear();
    }
    let each = resident_bytes().saturating_sub(before) / messages as u64;
    println!("{} waiting: {each} bytes of memory each", engine.len());
}

/// Memory of this process (proc_pid_statm(5)); 0 where it cannot be told.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}
