//! Egret and its peers side by side. Floor 3.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Parser, ValueEnum};
use egret_shared::lifecycle::on_terminate;
use egret_tests::bench::{
    Settings, Wanted, acceptance, backlog, extremes, fleet, large, print_extremes, print_figures, print_proxies,
    print_relays, proxies, relays, sites,
};

/// Measures Egret and its peers under the same load, and prints the ratios.
#[derive(Parser)]
struct Arguments {
    /// Only these measurements, separated by commas; all if left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Messages of one relay run; where mail is only accepted, five times as many.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// Messages that are queued for restart, loaded and memory; each takes about 2.5 kB of disk.
    #[arg(long, default_value_t = 1_000_000)]
    queued: usize,
    /// Seconds of one proxy run.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the results go as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Accepting and delivering, with Postfix.
    Relay,
    /// Accepting and delivering messages of 200 kB, with Postfix.
    Large,
    /// One message to each of 10,000 sites, all at once.
    Sites,
    /// Short sessions through proxies, with HAProxy and others.
    Proxy,
    /// Bulk, idle and slow sessions through proxies.
    Extremes,
    /// Accepting without delivering, with Postfix.
    Acceptance,
    /// A start with many messages queued.
    Restart,
    /// Accepting with many messages queued.
    Loaded,
    /// Memory of a message that is queued.
    Memory,
    /// Limits that several nodes keep together; takes five minutes, and only if it is named.
    Fleet,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stop = on_terminate()?;
    tokio::select! {
        done = measure(Arguments::parse()) => done,
        // Servers and directories go with what is measured.
        () = stop.drain.cancelled() => bail!("interrupted"),
    }
}

async fn measure(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { only, count, queued, seconds, rounds, json } = arguments;
    let settings = Settings { count, queued, time: Duration::from_secs(seconds), rounds };
    let wants = |part| only.is_empty() || only.contains(&part);
    let proxies = if wants(Part::Proxy) { proxies(settings).await? } else { Vec::new() };
    let extremes = if wants(Part::Extremes) { Some(extremes(settings).await?) } else { None };
    let relays = if wants(Part::Relay) { relays(settings).await } else { Vec::new() };
    let mut figures = Vec::new();
    if wants(Part::Acceptance) {
        figures.push(acceptance(settings).await);
    }
    if wants(Part::Large) {
        figures.push(large(settings).await);
    }
    if wants(Part::Sites) {
        figures.push(sites().await?);
    }
    let wanted = Wanted { restart: wants(Part::Restart), loaded: wants(Part::Loaded), memory: wants(Part::Memory) };
    if wanted.restart || wanted.loaded || wanted.memory {
        figures.push(backlog(settings, wanted).await);
    }
    if only.contains(&Part::Fleet) {
        figures.push(fleet().await?);
    }
    if !relays.is_empty() {
        print_relays(&relays);
    }
    if !proxies.is_empty() {
        print_proxies(&proxies);
    }
    if let Some(extremes) = &extremes {
        print_extremes(extremes);
    }
    figures.iter().for_each(print_figures);
    let all = serde_json::json!({ "relays": relays, "proxies": proxies, "extremes": extremes, "figures": figures });
    std::fs::write(&json, serde_json::to_vec_pretty(&all)?)?;
    println!("\nalso in {}", json.display());
    Ok(())
}
