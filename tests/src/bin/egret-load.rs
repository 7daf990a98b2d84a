//! `egret-load`: load source, counting sink, comparison of their ledgers, short proxied sessions. Floor 2.

use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use egret_shared::lifecycle::on_terminate;
use egret_tests::ledger::{self, Ledger};
use egret_tests::peer::sessions::{self, Protocol};
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::{source, tls};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load for mail servers and proxies, counted.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send messages with an id each; note those that were acknowledged.
    Source(SourceArgs),
    /// Take messages, count them by id, source and domain; fail on demand.
    Sink(SinkArgs),
    /// Compare what was acknowledged with what was seen; fails if something is lost.
    Compare(CompareArgs),
    /// Open short sessions through a proxy as fast as they go.
    Sessions(SessionsArgs),
}

#[derive(Args)]
struct SourceArgs {
    /// The server.
    #[arg(long)]
    to: SocketAddr,
    /// Messages in all.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Bytes of a body.
    #[arg(long, default_value_t = 10_000)]
    size: usize,
    /// Sessions at once.
    #[arg(long, default_value_t = 10)]
    concurrency: usize,
    /// Recipient domains, d0.example and on.
    #[arg(long, default_value_t = 100)]
    domains: usize,
    /// Messages in a session.
    #[arg(long, default_value_t = 100)]
    per_connection: usize,
    /// Recipients of a message.
    #[arg(long, default_value_t = 1)]
    recipients: usize,
    /// Messages a second; unlimited if left out.
    #[arg(long)]
    rate: Option<f64>,
    /// File that takes a line for each acknowledged delivery.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Reverse-path of every message.
    #[arg(long, default_value = "source@load.example")]
    sender: String,
    /// What ids begin with.
    #[arg(long, default_value = "m")]
    prefix: String,
    /// Go on after 4xx answers, refused connections and dead sessions.
    #[arg(long)]
    keep_trying: bool,
    /// Show a progress bar even if standard error is no terminal.
    #[arg(long)]
    progress: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SinkArgs {
    /// Where to listen; several are possible.
    #[arg(long, required = true, num_args = 1..)]
    listen: Vec<SocketAddr>,
    /// File that takes a line for each delivery seen.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// Address of GET /stats and GET /messages.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Share of ids (0 to 1) whose first attempt is answered 451.
    #[arg(long, default_value_t = 0.0)]
    temp_fail: f64,
    /// Share of ids that are always answered 550.
    #[arg(long, default_value_t = 0.0)]
    perm_fail: f64,
    /// Share of ids whose first attempt ends in a closed connection.
    #[arg(long, default_value_t = 0.0)]
    drop: f64,
    /// Milliseconds before the answer to the final dot.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Offer STARTTLS with a certificate made on the spot.
    #[arg(long)]
    tls: bool,
    /// DOMAIN=CODE: RCPT to this domain gets this code; several are possible.
    #[arg(long, value_parser = fail_domain)]
    fail_domain: Vec<(String, u16)>,
    /// Offer CHUNKING.
    #[arg(long)]
    chunking: bool,
    /// Directory that takes every message, a file each.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Args)]
struct CompareArgs {
    /// The ledger of the source.
    #[arg(long)]
    offered: PathBuf,
    /// The ledger of the sink.
    #[arg(long)]
    seen: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SessionsArgs {
    /// The proxy.
    #[arg(long)]
    proxy: SocketAddr,
    /// How it is spoken to.
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// The destination: a sink.
    #[arg(long)]
    to: SocketAddr,
    /// Sources to name in turn.
    #[arg(long, num_args = 1..)]
    source: Vec<IpAddr>,
    /// Sessions at once.
    #[arg(long, default_value_t = 50)]
    concurrency: usize,
    /// How long.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn fail_domain(text: &str) -> Result<(String, u16), String> {
    let (domain, code) = text.split_once('=').ok_or("write DOMAIN=CODE")?;
    match code.parse() {
        Ok(code @ 400..=599) => Ok((domain.to_owned(), code)),
        _ => Err(format!("{code:?} is no code from 400 to 599")),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Source(args) => run_source(args).await,
        Command::Sink(args) => run_sink(args).await,
        Command::Compare(args) => run_compare(&args),
        Command::Sessions(args) => run_sessions(args).await,
    }
}

async fn run_source(args: SourceArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.recipients > 0, "--recipients must be at least 1");
    ensure!(args.rate.is_none_or(|r| r.is_finite() && r > 0.0), "--rate must be above 0");
    let file = args.ledger.as_deref().map(Ledger::create).transpose().context("the ledger cannot be created")?;
    let plan = source::Plan {
        to: args.to,
        count: args.count,
        size: args.size,
        concurrency: args.concurrency,
        domains: args.domains,
        per_connection: args.per_connection,
        recipients: args.recipients,
        rate: args.rate,
        keep_trying: args.keep_trying,
        sender: args.sender,
        prefix: args.prefix,
    };
    let progress = Arc::new(source::Progress::default());
    let bar = (args.progress || std::io::stderr().is_terminal()).then(|| show(args.count, progress.clone()));
    let summary = source::run(plan, file.map(Arc::new), progress).await?;
    if let Some(bar) = bar {
        bar.await?;
        eprintln!();
    }
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("accepted {} refused {} failed {}", summary.accepted, summary.refused, summary.failed);
        println!("{:.2} s, {:.0} messages/s, {} offers", summary.seconds, summary.per_second, summary.offers);
    }
    Ok(if summary.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Draws a bar until it is aborted. A plain line, so that it also shows where no terminal is.
fn show(count: usize, progress: Arc<source::Progress>) -> tokio::task::JoinHandle<()> {
    const WIDTH: usize = 40;
    tokio::spawn(async move {
        loop {
            let settled = usize::try_from(progress.settled()).unwrap_or(count);
            let full = (settled * WIDTH).checked_div(count).unwrap_or(WIDTH).min(WIDTH);
            eprint!("\r[{:<WIDTH$}] {settled}/{count}", "#".repeat(full));
            if settled >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

async fn run_sink(args: SinkArgs) -> anyhow::Result<ExitCode> {
    for share in [args.temp_fail, args.perm_fail, args.drop] {
        ensure!((0.0..=1.0).contains(&share), "{share} is no share from 0 to 1");
    }
    if let Some(dir) = &args.keep {
        std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    }
    let behaviour = Behaviour {
        temp_fail: args.temp_fail,
        perm_fail: args.perm_fail,
        drop: args.drop,
        delay: Duration::from_millis(args.delay),
        fail_domains: args.fail_domain,
        chunking: args.chunking,
        keep: args.keep,
    };
    let stop = on_terminate()?;
    let file = args.ledger.as_deref().map(Ledger::create).transpose().context("the ledger cannot be created")?;
    let acceptor = args.tls.then(tls::acceptor).transpose()?;
    let mut sink = Sink::start(&args.listen, behaviour, file, acceptor).await?;
    if let Some(admin) = args.admin {
        sink.serve_admin(admin).await.with_context(|| format!("admin address {admin} cannot be bound"))?;
    }
    eprintln!("sink listens on {:?}", sink.addresses);
    stop.drain.cancelled().await;
    sink.flush()?;
    println!("{}", serde_json::to_string(&sink.stats())?);
    Ok(ExitCode::SUCCESS)
}

fn run_compare(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let found = ledger::compare(&args.offered, &args.seen).context("a ledger cannot be read")?;
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!("accepted {}", found.accepted);
        println!("delivered {}", found.delivered);
        println!("lost {}", found.lost);
        println!("duplicated {}", found.duplicated);
    }
    for line in &found.examples {
        eprintln!("lost: {line}");
    }
    Ok(if found.lost > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn run_sessions(args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let plan = sessions::Plan {
        proxy: args.proxy,
        protocol: args.protocol,
        to: args.to,
        sources: args.source,
        concurrency: args.concurrency,
        time: Duration::from_secs(args.seconds),
    };
    let report = sessions::run(plan).await;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{:.0} sessions/s, p50 {:.2} ms, p99 {:.2} ms", report.per_second, report.p50_ms, report.p99_ms);
        println!("{} errors{}", report.errors, report.first_error.map_or(String::new(), |e| format!(", first: {e}")));
    }
    Ok(if report.sessions == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
