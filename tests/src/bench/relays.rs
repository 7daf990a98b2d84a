//! Taking mail and delivering it: egret-mta directly and through egret-proxy, and Postfix. Floor 1.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::Settings;
use super::mtas::{CONCURRENCY, Relay, SIZE, Start, WARM_UP, egret_direct, egret_proxied, home, postfix};
use super::turns::{middle, take_turns};
use crate::harness::addresses;
use crate::peer::sink::{Behaviour, Sink};
use crate::peer::source::Plan;

/// How long all deliveries of one run may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// One relay.
#[derive(Clone, Debug, Serialize)]
pub struct RelayResult {
    /// What was measured.
    pub name: String,
    /// Messages a second, from the first offer to the last delivery.
    pub relayed_per_s: f64,
    /// Messages a second that were accepted, while deliveries went on.
    pub accepted_per_s: f64,
    /// CPU time of a message over all processes, in microseconds.
    pub cpu_us: f64,
    /// Memory at the end.
    pub memory_bytes: u64,
}

/// One run of a relay.
pub(super) struct Run {
    pub relayed: f64,
    pub accepted: f64,
    pub cpu_us: f64,
    pub memory: u64,
}

/// Measures all relays; those that cannot run are told and left out.
pub async fn relays(settings: Settings) -> Vec<RelayResult> {
    let contenders: [(&str, Start); 3] =
        [("egret-mta through egret-proxy", egret_proxied), ("egret-mta directly", egret_direct), ("Postfix", postfix)];
    let all = take_turns(&contenders, settings.rounds, async |start| measure(start, settings.count, SIZE).await).await;
    let results = all.into_iter().map(|(name, runs)| RelayResult {
        name: name.to_owned(),
        relayed_per_s: middle(&runs, |run| run.relayed),
        accepted_per_s: middle(&runs, |run| run.accepted),
        cpu_us: middle(&runs, |run| run.cpu_us),
        memory_bytes: runs.iter().map(|run| run.memory).max().unwrap_or(0),
    });
    results.collect()
}

/// Relays `count` messages of `size` bytes.
pub(super) async fn measure(start: Start, count: usize, size: usize) -> anyhow::Result<Run> {
    let directory = home()?;
    let sink_address = SocketAddr::new(addresses(1)[0].into(), 2526);
    // As the large receivers do; a peer that knows no BDAT sends by DATA.
    let behaviour = Behaviour { chunking: true, ..Behaviour::default() };
    let sink = Sink::start(&[sink_address], behaviour, None, None).await?;
    let relay = start(directory.path(), sink_address)?;
    load(&relay, &sink, WARM_UP.min(count), size).await?;
    let (before, started) = (relay.cpu_s(), Instant::now());
    let accepted = load(&relay, &sink, count, size).await?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_us = (relay.cpu_s() - before) * 1e6 / count as f64;
    Ok(Run { relayed: count as f64 / seconds, accepted, cpu_us, memory: relay.memory_bytes() })
}

/// Sends `count` messages and waits until the sink has them; returns the rate of acceptance.
async fn load(relay: &Relay, sink: &Sink, count: usize, size: usize) -> anyhow::Result<f64> {
    let goal = sink.stats().received + count as u64;
    let plan = Plan { size, concurrency: CONCURRENCY, ..Plan::new(relay.smtp, count) };
    let accepted = relay.accept(&plan).await?;
    let started = Instant::now();
    while sink.stats().received < goal {
        if started.elapsed() > PATIENCE {
            bail!("only {} of {goal} messages arrived", sink.stats().received);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(accepted.per_s)
}
