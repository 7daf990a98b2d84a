//! Several MTA nodes and proxies that send from one source, under limits that Redis holds: what the destination sees.
//! Floor 1.
//! Always: every run begins with an empty Redis, and mail waits at each node until the end, so that only the limits
//! decide.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use tempfile::TempDir;
use tokio::time::sleep;

use super::figures::{Figures, Goal};
use super::mtas::{egret_command, home};
use super::process::Server;
use crate::harness::{addresses, ask, binary};
use crate::peer::sink::{Behaviour, Sink};
use crate::peer::source::{self, Plan};

/// Messages a second, and how many at once.
const RATE: u64 = 500;
const BURST: u64 = 100;
/// Sessions at once.
const SESSIONS: u64 = 10;
const NODES: usize = 4;
/// A run has three parts: something happens after the first, and what can end ends after the second.
const PART: Duration = Duration::from_secs(20);
const RUN: Duration = Duration::from_secs(60);
/// The windows that are looked at, in seconds.
const WINDOWS: [u64; 3] = [1, 5, 30];
/// The share of the limit that should be used.
const USED: f64 = 0.95;
/// Waiting mail of each node: more than it could send.
const WAITING: usize = 16_000;
const BYTES: usize = 1_000;
/// How long an answer may take.
const ORDER: Duration = Duration::from_secs(5);

/// What happens in the middle of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    RedisAway,
    NodeKilled,
    NodeAdded,
}

/// Runs all troubles, one after the other.
pub async fn fleet() -> anyhow::Result<Figures> {
    let mut figures = Figures::new(format!(
        "{NODES} MTA nodes, 2 proxies, one source, {RATE}/s with {BURST} at once, {SESSIONS} sessions, {} s each",
        RUN.as_secs()
    ));
    let all = [
        ("nothing happens", Trouble::Nothing),
        ("Redis away for 20 s", Trouble::RedisAway),
        ("a node is killed", Trouble::NodeKilled),
        ("a node is added", Trouble::NodeAdded),
    ];
    for (name, trouble) in all {
        eprintln!("fleet: {name}");
        run(name, trouble, &mut figures).await?;
    }
    Ok(figures)
}

async fn run(name: &str, trouble: Trouble, figures: &mut Figures) -> anyhow::Result<()> {
    let directory = home()?;
    let own = addresses(8);
    let at = |n: usize, port| SocketAddr::new(own[n].into(), port);
    let (source, sink_at, redis_at) = (own[1], at(2, 2526), at(3, 6379));
    let sink = Sink::start(&[sink_at], Behaviour { chunking: true, ..Behaviour::default() }, None, None).await?;
    let mut redis = Some(start_redis(directory.path(), redis_at)?);
    let proxies = [at(0, 1081), at(0, 1082)];
    let _proxies =
        [start_proxy(&directory, proxies[0], source, sink_at)?, start_proxy(&directory, proxies[1], source, sink_at)?];
    let node = |n: usize| Node { at: at(4, 2525 + n as u16), admin: at(4, 9181 + n as u16) };
    let count = if trouble == Trouble::NodeAdded { NODES - 1 } else { NODES };
    let mut nodes = Vec::new();
    for n in 0..count {
        nodes.push(node(n).start(&directory, n, &proxies, source, sink_at, redis_at).await?);
    }
    for n in 0..count {
        node(n).go()?;
    }
    let started = clock();
    sleep(PART).await;
    match trouble {
        Trouble::Nothing => {}
        Trouble::RedisAway => drop(redis.take()),
        Trouble::NodeKilled => nodes[0].kill(),
        Trouble::NodeAdded => {
            nodes.push(node(count).start(&directory, count, &proxies, source, sink_at, redis_at).await?);
            node(count).go()?;
        }
    }
    sleep(PART).await;
    if trouble == Trouble::RedisAway {
        redis = Some(start_redis(directory.path(), redis_at)?);
    }
    sleep(PART).await;
    let (peak, arrivals) = sink.pace();
    judge(name, trouble, peak, &arrivals, started, figures);
    if let Some(operations) = operations(redis_at).filter(|_| trouble == Trouble::Nothing) {
        figures.tell(format!("{name}: scripts that Redis carried out, a message"), operations / arrivals.len() as f64);
    }
    let degraded: usize = (0..=NODES).map(|n| went_by_share(&directory.path().join(format!("node{n}/mta.log")))).sum();
    figures.tell(format!("{name}: times that a node began to go by its share"), degraded as f64);
    for figure in figures.figures.iter().filter(|figure| figure.name.starts_with(name)) {
        eprintln!("  {}: {:.2}", figure.name, figure.value);
    }
    drop((nodes, redis));
    Ok(())
}

fn clock() -> UnixMs {
    egret_shared::clock::Clock::system().wall()
}

fn judge(name: &str, trouble: Trouble, peak: u64, arrivals: &[UnixMs], started: UnixMs, figures: &mut Figures) {
    figures.judge(format!("{name}: most sessions at once"), peak as f64, Goal::AtMost(SESSIONS as f64));
    for seconds in WINDOWS {
        let most = busiest(arrivals, seconds * 1_000);
        let goal = (RATE * seconds + BURST) as f64;
        figures.judge(format!("{name}: most messages in {seconds} s"), most as f64, Goal::AtMost(goal));
    }
    let until = started.plus(RUN);
    let inside = arrivals.iter().filter(|at| **at >= started && **at < until).count();
    let used = inside as f64 / (RATE * RUN.as_secs()) as f64;
    // Of a dead node its share is missing until its places are free again; of an added one nothing is.
    let goal = if trouble == Trouble::NodeKilled { USED - 0.05 } else { USED };
    figures.judge(format!("{name}: part of the rate that was used"), used, Goal::AtLeast(goal));
}

/// The most messages in any window of so many milliseconds.
fn busiest(arrivals: &[UnixMs], window_ms: u64) -> usize {
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable();
    let mut from = 0;
    let mut most = 0;
    for (at, time) in sorted.iter().enumerate() {
        while sorted[from].0 + window_ms <= time.0 {
            from += 1;
        }
        most = most.max(at + 1 - from);
    }
    most
}

/// A node of the fleet.
#[derive(Clone, Copy)]
struct Node {
    at: SocketAddr,
    admin: SocketAddr,
}

impl Node {
    /// Starts it, and lets mail wait at it.
    async fn start(
        self,
        directory: &TempDir,
        n: usize,
        proxies: &[SocketAddr; 2],
        source: std::net::Ipv4Addr,
        sink: SocketAddr,
        redis: SocketAddr,
    ) -> anyhow::Result<Server> {
        let home = directory.path().join(format!("node{n}"));
        fs::create_dir_all(&home)?;
        let (path, Self { at, admin }) = (home.display(), self);
        let config = format!(
            "hostname = \"node{n}.egret.test\"\n[spool]\npath = \"{path}/spool\"\n[event_log]\npath = \"{path}/events\"\n\
             [admin]\naddress = \"{admin}\"\n[redis]\naddress = [\"{redis}\"]\n[[listener]]\naddress = \"{at}\"\n\
             [delivery]\nconnection_limit = {SESSIONS}\nmax_message_rate = \"{RATE}/s,max_burst={BURST}\"\n\
             [[route]]\ndomains = [\"*\"]\nhosts = [\"{sink}\"]\n\
             [proxy.p1]\naddress = \"{}\"\n[proxy.p2]\naddress = \"{}\"\n\
             [source.a1]\naddress = \"{source}\"\nproxies = [\"p1\", \"p2\"]\n",
            proxies[0], proxies[1]
        );
        fs::write(home.join("mta.toml"), config)?;
        let server = Server::start(&mut egret_command(&home), at, &home.join("mta.log"))?;
        let suspend = r#"{"everything": true, "reason": "the others are not there yet", "lasts": "7d"}"#;
        ask(admin, "POST /v1/suspend", suspend, ORDER)?;
        let plan = Plan { size: BYTES, prefix: format!("n{n}"), concurrency: 20, ..Plan::new(at, WAITING) };
        source::run(plan, None, Arc::default()).await?;
        Ok(server)
    }

    /// Lets its mail go.
    fn go(self) -> anyhow::Result<()> {
        ask(self.admin, "POST /v1/resume", r#"{"everything": true}"#, ORDER)?;
        Ok(())
    }
}

/// How often a node's log says that it goes on without Redis.
fn went_by_share(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().matches("limits are degraded").count()
}

fn start_proxy(
    directory: &TempDir,
    at: SocketAddr,
    source: std::net::Ipv4Addr,
    sink: SocketAddr,
) -> anyhow::Result<Server> {
    let config = format!(
        "[[listener]]\naddress = \"{at}\"\n[sources]\naddresses = [\"{source}\"]\n\
         [access]\ndestination_ports = [{}]\nallow_special_destinations = [\"127.0.0.0/8\"]\n",
        sink.port()
    );
    let file = directory.path().join(format!("proxy{}.toml", at.port()));
    fs::write(&file, config)?;
    let mut command = Command::new(binary("egret-proxy"));
    command.args(["serve", "--config"]).arg(&file);
    Server::start(&mut command, at, &directory.path().join("proxy.log"))
}

fn start_redis(directory: &Path, at: SocketAddr) -> anyhow::Result<Server> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", &at.ip().to_string(), "--port", &at.port().to_string(), "--save", ""]);
    command.args(["--appendonly", "no", "--protected-mode", "no", "--dir"]).arg(directory);
    Server::start(&mut command, at, &directory.join("redis.log"))
}

/// Scripts that a Redis was asked to carry out: each is one decision of the store.
fn operations(at: SocketAddr) -> Option<f64> {
    let output = Command::new("redis-cli")
        .args(["-h", &at.ip().to_string(), "-p", &at.port().to_string(), "info", "commandstats"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let calls = |command: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0.0)
    };
    Some(calls("evalsha") + calls("eval"))
}
