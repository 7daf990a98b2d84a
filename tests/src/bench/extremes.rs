//! What a proxy does beyond everyday sessions: bulk, many idle sessions, very slow clients. Floor 1.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::Settings;
use super::process::Server;
use super::proxies::{Start, egret_proxy_v2, egret_socks5, haproxy};
use crate::harness::addresses;
use crate::peer::sessions::{self, Plan, Protocol, open};
use crate::peer::sink::{Behaviour, Sink};

const STREAMS: usize = 4;
/// What each stream carries.
const STREAM_BYTES: u64 = 1 << 30;
const IDLE_SESSIONS: usize = 5000;
/// As many as fit: a proxy lets in half as many sessions as it may have descriptors.
const SLOW_CLIENTS: (usize, usize) = (10_000, 500);
/// Enough for everything here on both sides.
const DESCRIPTORS: u64 = 65_536;

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Extremes {
    /// Bulk from the destination to the client.
    pub bulk: Vec<Bulk>,
    /// Sessions that do nothing.
    pub idle: Vec<Idle>,
    /// Clients that hardly speak.
    pub slow: Option<Slow>,
}

/// Four streams at full speed.
#[derive(Clone, Debug, Serialize)]
pub struct Bulk {
    /// What was measured.
    pub name: String,
    /// All streams together.
    pub gigabytes_per_s: f64,
    /// CPU time of the proxy.
    pub cpu_s_per_gigabyte: f64,
}

/// Many sessions that do nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// What was measured.
    pub name: String,
    /// How many.
    pub sessions: usize,
    /// Memory of the process that each of them adds.
    pub bytes_each: f64,
    /// Descriptors that each of them adds.
    pub descriptors_each: f64,
}

/// What slow clients cost the others.
#[derive(Clone, Debug, Serialize)]
pub struct Slow {
    /// How many.
    pub clients: usize,
    /// Sessions a second without them.
    pub without_per_s: f64,
    /// And with them.
    pub with_per_s: f64,
}

/// Measures all; what cannot run is told and left out.
pub async fn extremes(settings: Settings) -> anyhow::Result<Extremes> {
    // Root may; others stay with what they have.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS);
    let contenders: [(&str, Protocol, Start); 2] = [
        ("egret-proxy, PROXY v2", Protocol::ProxyV2, egret_proxy_v2),
        ("HAProxy, PROXY v2", Protocol::ProxyV2, haproxy),
    ];
    let mut all = Extremes { bulk: Vec::new(), idle: Vec::new(), slow: None };
    for contender in contenders {
        eprintln!("bulk and idle: {}", contender.0);
        match bulk(contender).await {
            Ok(bulk) => all.bulk.push(bulk),
            Err(error) => eprintln!("  left out: {error:#}"),
        }
        match idle(contender).await {
            Ok(idle) => all.idle.push(idle),
            Err(error) => eprintln!("  left out: {error:#}"),
        }
    }
    eprintln!("slow clients: egret-proxy");
    match slow(settings).await {
        Ok(slow) => all.slow = Some(slow),
        Err(error) => eprintln!("  left out: {error:#}"),
    }
    Ok(all)
}

/// A proxy, and where it is dialed.
struct Stage {
    _directory: TempDir,
    server: Server,
    plan: Plan,
}

fn stage(protocol: Protocol, start: Start) -> anyhow::Result<Stage> {
    let directory = TempDir::with_prefix("egret-bench-")?;
    let own = addresses(9);
    let to = SocketAddr::new(own[0].into(), 2525);
    let sources: Vec<IpAddr> = own[1..].iter().map(|ip| (*ip).into()).collect();
    let (server, proxy) = start(directory.path(), to, &sources)?;
    let plan = Plan { proxy, protocol, to, sources, concurrency: 50, time: Duration::ZERO };
    Ok(Stage { _directory: directory, server: server.context("no server")?, plan })
}

/// A destination that treats each connection so.
async fn destination<F>(at: SocketAddr, treat: fn(TcpStream) -> F) -> anyhow::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(at).await?;
    Ok(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(treat(stream));
        }
    }))
}

async fn bulk((name, protocol, start): (&str, Protocol, Start)) -> anyhow::Result<Bulk> {
    let stage = stage(protocol, start)?;
    let serving = destination(stage.plan.to, |mut stream| async move {
        let room = vec![b'x'; 256 << 10];
        let mut left = STREAM_BYTES;
        while left > 0 && stream.write_all(&room).await.is_ok() {
            left = left.saturating_sub(room.len() as u64);
        }
    })
    .await?;
    let (before, started) = (stage.server.usage(), Instant::now());
    let mut streams = JoinSet::new();
    for source in stage.plan.sources.iter().take(STREAMS).copied() {
        let plan = stage.plan.clone();
        streams.spawn(async move {
            let mut stream = open(&plan, Some(source)).await?;
            let (mut room, mut bytes) = (vec![0; 256 << 10], 0u64);
            loop {
                match stream.read(&mut room).await? {
                    0 => return std::io::Result::Ok(bytes),
                    read => bytes += read as u64,
                }
            }
        });
    }
    let mut bytes = 0;
    while let Some(done) = streams.join_next().await {
        bytes += done??;
    }
    let seconds = started.elapsed().as_secs_f64();
    serving.abort();
    if bytes != STREAM_BYTES * STREAMS as u64 {
        bail!("only {bytes} bytes came through");
    }
    let gigabytes = bytes as f64 / 1e9;
    let cpu_s_per_gigabyte = (stage.server.usage().cpu_s - before.cpu_s) / gigabytes;
    Ok(Bulk { name: name.to_owned(), gigabytes_per_s: gigabytes / seconds, cpu_s_per_gigabyte })
}

async fn idle((name, protocol, start): (&str, Protocol, Start)) -> anyhow::Result<Idle> {
    let stage = stage(protocol, start)?;
    let serving = destination(stage.plan.to, |mut stream| async move {
        let _ = stream.write_all(b"220 hi\r\n").await;
        let _ = stream.read(&mut [0]).await;
    })
    .await?;
    // What the process allocates for the first sessions is not theirs alone.
    let mut held = hold(&stage.plan, 500).await?;
    let before = (stage.server.usage().memory_bytes, stage.server.descriptors());
    held.extend(hold(&stage.plan, IDLE_SESSIONS).await?);
    let after = (stage.server.usage().memory_bytes, stage.server.descriptors());
    serving.abort();
    Ok(Idle {
        name: name.to_owned(),
        sessions: IDLE_SESSIONS,
        bytes_each: after.0.saturating_sub(before.0) as f64 / IDLE_SESSIONS as f64,
        descriptors_each: after.1.saturating_sub(before.1) as f64 / IDLE_SESSIONS as f64,
    })
}

/// Opens sessions and hears each banner.
async fn hold(plan: &Plan, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    for n in 0..count {
        let source = plan.sources.get(n % plan.sources.len().max(1)).copied();
        let mut stream = open(plan, source).await?;
        stream.read_exact(&mut [0; 8]).await?;
        held.push(stream);
    }
    Ok(held)
}

async fn slow(settings: Settings) -> anyhow::Result<Slow> {
    let stage = stage(Protocol::Socks5Bind, egret_socks5)?;
    let _sink = Sink::start(&[stage.plan.to], Behaviour::default(), None, None).await?;
    let plan = Plan { time: settings.time, ..stage.plan.clone() };
    sessions::run(Plan { time: settings.time / 4, ..plan.clone() }).await;
    let without = sessions::run(plan.clone()).await;
    let mut clients = JoinSet::new();
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let fit = usize::try_from(descriptors / 2).unwrap_or(0).saturating_sub(SLOW_CLIENTS.1);
    let count = SLOW_CLIENTS.0.min(fit);
    for _ in 0..count {
        let mut stream = TcpStream::connect(plan.proxy).await?;
        clients.spawn(async move {
            for byte in [5, 100].into_iter().chain(std::iter::repeat(7)) {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    let with = sessions::run(plan).await;
    clients.shutdown().await;
    if with.errors > with.sessions / 100 {
        bail!("{} of {} sessions failed: {}", with.errors, with.sessions, with.first_error.unwrap_or_default());
    }
    Ok(Slow { clients: count, without_per_s: without.per_second, with_per_s: with.per_second })
}
