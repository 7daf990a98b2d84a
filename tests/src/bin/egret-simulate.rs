//! A simulated fleet over a day: limits kept, shares fair, questions counted. Floor 5.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use egret_shared::units::Span;
use egret_tests::bench::print_figures;
use egret_tests::bench::simulation::{Model, RealStore, Setup, costs, simulate};

/// Simulates a fleet in one process, with real limits on a clock of its own. Ends with 1 if a goal is missed.
#[derive(Parser)]
struct Arguments {
    /// MTA nodes.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// Sources that all of them use.
    #[arg(long, default_value_t = 500)]
    sources: usize,
    /// Sites.
    #[arg(long, default_value_t = 1_000)]
    sites: usize,
    /// Millions of messages a day, beside those of saturated sites.
    #[arg(long, default_value_t = 20.0)]
    millions: f64,
    /// How long the day takes on its own clock: its curve is compressed into that.
    #[arg(long, default_value = "24h")]
    day: Span,
    /// Nothing goes wrong.
    #[arg(long)]
    calm: bool,
    /// Who decides for the fleet.
    #[arg(long, value_enum, default_value = "redis")]
    store: Kind,
    /// Measures instead what a question costs Redis, and a limit in memory.
    #[arg(long)]
    costs: bool,
    /// Of chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the results go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A Redis that is started for it, with the real scripts.
    Redis,
    /// The same in memory: a day takes minutes.
    Memory,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let setup = Setup {
        nodes: arguments.nodes,
        sources: arguments.sources,
        sites: arguments.sites,
        messages: arguments.millions * 1e6,
        day: Duration::from(arguments.day),
        faults: !arguments.calm,
        seed: arguments.seed,
        ..Setup::default()
    };
    let figures = match arguments.store {
        _ if arguments.costs => costs()?,
        Kind::Redis => simulate(&setup, &mut RealStore::start()?)?,
        Kind::Memory => simulate(&setup, &mut Model::default())?,
    };
    print_figures(&figures);
    if let Some(json) = arguments.json {
        std::fs::write(json, serde_json::to_vec_pretty(&figures)?)?;
    }
    Ok(if figures.are_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
