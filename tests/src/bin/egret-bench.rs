//! Egret and its peers side by side. Floor 3.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use egret_tests::bench::{Settings, extremes, print_extremes, print_proxies, print_relays, proxies, relays};

/// Measures Egret and its peers under the same load, and prints the ratios.
#[derive(Parser)]
struct Arguments {
    /// Only one of the comparisons.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Messages of one relay run.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
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
    Relay,
    Proxy,
    Extremes,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { only, count, seconds, rounds, json } = Arguments::parse();
    let settings = Settings { count, time: Duration::from_secs(seconds), rounds };
    let wants = |part| only.is_none_or(|only| only == part);
    let proxies = if wants(Part::Proxy) { proxies(settings).await? } else { Vec::new() };
    let extremes = if wants(Part::Extremes) { Some(extremes(settings).await?) } else { None };
    let relays = if wants(Part::Relay) { relays(settings).await? } else { Vec::new() };
    if !relays.is_empty() {
        print_relays(&relays);
    }
    if !proxies.is_empty() {
        print_proxies(&proxies);
    }
    if let Some(extremes) = &extremes {
        print_extremes(extremes);
    }
    let all = serde_json::json!({ "relays": relays, "proxies": proxies, "extremes": extremes });
    std::fs::write(&json, serde_json::to_vec_pretty(&all)?)?;
    println!("\nalso in {}", json.display());
    Ok(())
}
