//! Messages a second and CPU time a message of the spool alone: a measurement, no test.
//! `cargo run --release -p egret-mta --example spool_bench -- DIRECTORY [messages] [bytes] [at once]`
//! Floor 6.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use egret_mta::message::{Content, Mark, Message, MessageId, Metadata, Part, Priority, QueueName, Wishes};
use egret_mta::spool::{Options, Spool};
use egret_shared::clock::{Clock, UnixMs};

fn message(body: &Bytes) -> Message {
    let recipients = vec![egret_mta::message::Address::parse("someone@example.com").expect("an address")];
    let part = Part {
        queue: QueueName::of_domain("example.com"),
        pool: "p".into(),
        priority: Priority::Normal,
        recipients,
        wishes: Wishes::default(),
    };
    let meta = Metadata {
        received: UnixMs(0),
        sender: None,
        eight_bit: false,
        smtputf8: false,
        not_before: None,
        wish: egret_mta::message::MessageWish::default(),
        parts: vec![part],
    };
    let content = Content { added: Bytes::from_static(b"Received: from a by b\r\n"), body: body.clone() };
    Message { id: MessageId::generate(), meta, content }
}

/// CPU time of this process in microseconds (proc_pid_stat(5), ticks of 10 ms).
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10_000
}

#[tokio::main]
async fn main() {
    let argument = |n: usize, default: usize| std::env::args().nth(n).and_then(|a| a.parse().ok()).unwrap_or(default);
    let directory = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "target/spool-bench".to_owned()));
    let (messages, bytes, at_once) = (argument(2, 100_000), argument(3, 10_000), argument(4, 100));
    let (spool, found) = Spool::open(Options::in_path(directory), Clock::system()).expect("opens");
    found.run(|_| ControlFlow::Continue(())).expect("readable");
    let (body, left) = (Bytes::from(vec![b'x'; bytes]), Arc::new(AtomicUsize::new(messages)));
    let (started, cpu) = (Instant::now(), cpu_us());
    let client = |spool: Spool, body: Bytes, left: Arc<AtomicUsize>| async move {
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            let durable = spool.store(Arc::new(message(&body))).await.expect("stored");
            spool.forget_body(durable.id());
            spool.mark(durable.id(), 0, Mark::Done);
        }
    };
    let clients: Vec<_> =
        (0..at_once).map(|_| tokio::spawn(client(spool.clone(), body.clone(), left.clone()))).collect();
    for client in clients {
        client.await.expect("no panic");
    }
    spool.close().await;
    let (seconds, each) = (started.elapsed().as_secs_f64(), (cpu_us() - cpu) as f64 / messages as f64);
    println!("{:.0} messages/s, {each:.1} µs of CPU each", messages as f64 / seconds);
}
