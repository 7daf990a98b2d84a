//! Taking mail and delivering it: egret-mta directly and through egret-proxy, and Postfix. Floor 1.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tempfile::TempDir;

use super::process::Server;
use super::{Settings, median};
use crate::harness::{addresses, binary};
use crate::peer::sink::{Behaviour, Sink};
use crate::peer::source::{self, Plan};

/// The size of each message, and sessions of the source.
const SIZE: usize = 10_000;
const CONCURRENCY: usize = 50;
/// Messages before the measurement.
const WARM_UP: usize = 500;
/// How long all deliveries of one run may take.
const PATIENCE: Duration = Duration::from_secs(300);

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

struct Run {
    relayed: f64,
    accepted: f64,
    cpu_us: f64,
    memory: u64,
}

/// Measures all relays; those that cannot run are told and left out.
pub async fn relays(settings: Settings) -> anyhow::Result<Vec<RelayResult>> {
    let contenders: [(&str, Start); 3] =
        [("egret-mta through egret-proxy", egret_proxied), ("egret-mta directly", egret_direct), ("Postfix", postfix)];
    let mut runs: Vec<Vec<Run>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 1..=settings.rounds {
        for ((name, start), runs) in contenders.iter().zip(&mut runs) {
            eprintln!("round {round}: {name}");
            match run(*start, settings.count).await {
                Ok(run) => runs.push(run),
                Err(error) => eprintln!("  left out: {error:#}"),
            }
        }
    }
    let results = contenders.iter().zip(runs).filter(|(_, runs)| !runs.is_empty()).map(|((name, _), runs)| {
        let of = |pick: fn(&Run) -> f64| median(runs.iter().map(pick).collect());
        RelayResult {
            name: (*name).to_owned(),
            relayed_per_s: of(|run| run.relayed),
            accepted_per_s: of(|run| run.accepted),
            cpu_us: of(|run| run.cpu_us),
            memory_bytes: runs.iter().map(|run| run.memory).max().unwrap_or(0),
        }
    });
    Ok(results.collect())
}

/// A relay that runs: its processes, and where it takes mail.
struct Relay {
    servers: Vec<Server>,
    smtp: SocketAddr,
}

type Start = fn(&Path, SocketAddr) -> anyhow::Result<Relay>;

async fn run(start: Start, count: usize) -> anyhow::Result<Run> {
    // Not /tmp, which may be memory: a sync must reach the disk.
    let directory = TempDir::with_prefix_in("bench-", binary("egret-mta").parent().context("no target folder")?)?;
    let sink_address = SocketAddr::new(addresses(1)[0].into(), 2526);
    let sink = Sink::start(&[sink_address], Behaviour::default(), None, None).await?;
    let relay = start(directory.path(), sink_address)?;
    load(&relay, &sink, WARM_UP).await?;
    let (before, started) = (cpu(&relay), Instant::now());
    let accepted = load(&relay, &sink, count).await?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_us = (cpu(&relay) - before) * 1e6 / count as f64;
    let memory = relay.servers.iter().map(|server| server.usage().memory_bytes).sum();
    Ok(Run { relayed: count as f64 / seconds, accepted, cpu_us, memory })
}

fn cpu(relay: &Relay) -> f64 {
    relay.servers.iter().map(|server| server.usage().cpu_s).sum()
}

/// Sends `count` messages and waits until the sink has them; returns the rate of acceptance.
async fn load(relay: &Relay, sink: &Sink, count: usize) -> anyhow::Result<f64> {
    let goal = sink.stats().received + count as u64;
    let plan = Plan { size: SIZE, concurrency: CONCURRENCY, ..Plan::new(relay.smtp, count) };
    let summary = source::run(plan, None, Arc::default()).await?;
    if summary.accepted != count as u64 {
        bail!("only {} of {count} messages were accepted", summary.accepted);
    }
    let started = Instant::now();
    while sink.stats().received < goal {
        if started.elapsed() > PATIENCE {
            bail!("only {} of {goal} messages arrived", sink.stats().received);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(summary.per_second)
}

fn egret_direct(directory: &Path, sink: SocketAddr) -> anyhow::Result<Relay> {
    egret(directory, sink, "")
}

fn egret_proxied(directory: &Path, sink: SocketAddr) -> anyhow::Result<Relay> {
    let own = addresses(9);
    let proxy = SocketAddr::new(own[0].into(), 1080);
    let sources: Vec<IpAddr> = own[1..].iter().map(|ip| (*ip).into()).collect();
    let quoted = sources.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
    let config = format!(
        "[[listener]]\naddress = \"{proxy}\"\n[sources]\naddresses = [{quoted}]\n\
         [access]\ndestination_ports = [{}]\nallow_special_destinations = [\"127.0.0.0/8\"]\n",
        sink.port()
    );
    let mut tables = format!("[proxy.p]\naddress = \"{proxy}\"\n");
    for (n, source) in sources.iter().enumerate() {
        let _ = write!(tables, "[source.s{n}]\naddress = \"{source}\"\nproxy = \"p\"\n");
    }
    let file = directory.join("proxy.toml");
    fs::write(&file, config)?;
    let mut command = Command::new(binary("egret-proxy"));
    command.args(["serve", "--config"]).arg(&file);
    let server = Server::start(&mut command, proxy, &directory.join("proxy.log"))?;
    let mut relay = egret(directory, sink, &tables)?;
    relay.servers.push(server);
    Ok(relay)
}

fn egret(directory: &Path, sink: SocketAddr, tables: &str) -> anyhow::Result<Relay> {
    let smtp = SocketAddr::new(addresses(1)[0].into(), 2525);
    let path = directory.display();
    let config = format!(
        "hostname = \"egret.test\"\n[spool]\npath = \"{path}/spool\"\n[event_log]\npath = \"{path}/events\"\n\
         [[listener]]\naddress = \"{smtp}\"\n[[route]]\ndomains = [\"*\"]\nhosts = [\"{sink}\"]\n{tables}"
    );
    let file = directory.join("mta.toml");
    fs::write(&file, config)?;
    let mut command = Command::new(binary("egret-mta"));
    command.args(["serve", "--config"]).arg(&file);
    let server = Server::start(&mut command, smtp, &directory.join("mta.log"))?;
    Ok(Relay { servers: vec![server], smtp })
}

/// Debian's Postfix with a queue of its own: the limits that would slow it down are raised, look-ups
/// that the load does not need are off.
fn postfix(directory: &Path, sink: SocketAddr) -> anyhow::Result<Relay> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can start Postfix");
    }
    let smtp = SocketAddr::new(addresses(1)[0].into(), 2525);
    let path = directory.display();
    for folder in ["queue", "data", "conf"] {
        fs::create_dir(directory.join(folder))?;
    }
    let owner = Command::new("chown").arg("postfix").arg(directory.join("data")).status()?;
    if !owner.success() {
        bail!("the user postfix is missing; install the package postfix");
    }
    let main = include_str!("postfix-main.cf")
        .replace("@PATH@", &path.to_string())
        .replace("@SINK@", &format!("[{}]:{}", sink.ip(), sink.port()));
    fs::write(directory.join("conf/main.cf"), main)?;
    let master = include_str!("postfix-master.cf").replace("@SMTP@", &smtp.to_string());
    fs::write(directory.join("conf/master.cf"), master)?;
    // The temporary folder is private; Postfix's own user must get through it.
    Command::new("chmod").arg("755").arg(directory).status()?;
    let mut command = Command::new("/usr/sbin/postfix");
    command.arg("-c").arg(directory.join("conf")).arg("start-fg");
    let server = Server::start(&mut command, smtp, &directory.join("postfix.log"))?;
    Ok(Relay { servers: vec![server], smtp })
}
