//! Short sessions through a proxy: handshake, banner, QUIT, close; as many as go. Floor 1. Touches sockets.
//! Always: a session counts only if the banner came through and the QUIT was answered.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::proxy_protocol::frame::write_v2;
use egret_shared::socks5::frame::{Command, Scan, scan_reply, write_request};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::reply::read_code;

/// The longest a session may take.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How a session reaches its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// SOCKS5 CONNECT; the proxy chooses the source.
    Socks5,
    /// SOCKS5 BIND to choose the source, then CONNECT.
    Socks5Bind,
    /// A PROXY protocol version 2 header.
    ProxyV2,
    /// Whatever is dialed forwards by itself, or is the destination.
    Direct,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is dialed.
    pub proxy: SocketAddr,
    /// How the destination is named to it.
    pub protocol: Protocol,
    /// The destination.
    pub to: SocketAddr,
    /// Sources, taken in turn; for the protocols that name one.
    pub sources: Vec<IpAddr>,
    /// Sessions at once.
    pub concurrency: usize,
    /// How long new sessions begin.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Sessions that went through.
    pub sessions: u64,
    /// Sessions that did not.
    pub errors: u64,
    /// The first error, as text.
    pub first_error: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Sessions a second.
    pub per_second: f64,
    /// Milliseconds of a session: half are faster.
    pub p50_ms: f64,
    /// Milliseconds of a session: 99 % are faster.
    pub p99_ms: f64,
}

#[derive(Default)]
struct Share {
    micros: Vec<u32>,
    errors: u64,
    first_error: Option<String>,
}

/// Opens sessions until the time is over.
pub async fn run(plan: Plan) -> Report {
    let start = Instant::now();
    let plan = Arc::new(plan);
    let mut workers = JoinSet::new();
    for number in 0..plan.concurrency.max(1) {
        workers.spawn(work(plan.clone(), number, start + plan.time));
    }
    let mut all = Share::default();
    while let Some(ended) = workers.join_next().await {
        let Ok(share) = ended else { continue };
        all.micros.extend(share.micros);
        all.errors += share.errors;
        all.first_error = all.first_error.or(share.first_error);
    }
    report(all, start.elapsed().as_secs_f64())
}

fn report(mut all: Share, seconds: f64) -> Report {
    all.micros.sort_unstable();
    let rank = |share: usize| all.micros.get(all.micros.len() * share / 100).map_or(0.0, |us| f64::from(*us) / 1e3);
    Report {
        sessions: all.micros.len() as u64,
        errors: all.errors,
        seconds,
        per_second: all.micros.len() as f64 / seconds.max(f64::MIN_POSITIVE),
        p50_ms: rank(50),
        p99_ms: rank(99),
        first_error: all.first_error,
    }
}

async fn work(plan: Arc<Plan>, number: usize, until: Instant) -> Share {
    let mut share = Share::default();
    let mut turn = number;
    while Instant::now() < until {
        let source = plan.sources.get(turn % plan.sources.len().max(1)).copied();
        turn += 1;
        let began = Instant::now();
        let ended = tokio::time::timeout(SESSION_TIMEOUT, session(&plan, source)).await;
        match ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => share.micros.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Err(error) => {
                share.errors += 1;
                share.first_error.get_or_insert_with(|| error.to_string());
                // A proxy that refuses must not be hammered by the whole processor.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    share
}

/// Opens one session as `plan` says and does nothing with it.
///
/// # Errors
/// What the proxy refuses, or the system.
pub async fn open(plan: &Plan, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(plan.proxy).await?;
    stream.set_nodelay(true)?;
    handshake(&mut stream, plan, source).await?;
    Ok(stream)
}

async fn session(plan: &Plan, source: Option<IpAddr>) -> io::Result<()> {
    let stream = open(plan, source).await?;
    let (mut stream, mut line) = (BufReader::with_capacity(512, stream), Vec::new());
    let banner = read_code(&mut stream, &mut line).await?;
    if banner != 220 {
        return Err(io::Error::other(format!("banner: {}", String::from_utf8_lossy(&line).trim_end())));
    }
    stream.write_all(b"QUIT\r\n").await?;
    read_code(&mut stream, &mut line).await.map(drop)
}

async fn handshake(stream: &mut TcpStream, plan: &Plan, source: Option<IpAddr>) -> io::Result<()> {
    let named = || source.ok_or_else(|| io::Error::other("this protocol needs a --source"));
    let mut out = Vec::with_capacity(64);
    match plan.protocol {
        Protocol::Direct => Ok(()),
        Protocol::ProxyV2 => {
            write_v2((named()?, 0).into(), plan.to, &mut out);
            stream.write_all(&out).await
        }
        Protocol::Socks5 => {
            greet(stream).await?;
            request(stream, Command::Connect, plan.to).await
        }
        Protocol::Socks5Bind => {
            greet(stream).await?;
            request(stream, Command::Bind, (named()?, 0).into()).await?;
            request(stream, Command::Connect, plan.to).await
        }
    }
}

async fn greet(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[5, 1, 0]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen == [5, 0] { Ok(()) } else { Err(io::Error::other("the proxy wants authentication")) }
}

/// Sends a request and reads exactly its reply: what follows belongs to the destination.
async fn request(stream: &mut TcpStream, command: Command, to: SocketAddr) -> io::Result<()> {
    let mut out = Vec::with_capacity(32);
    write_request(command, to, &mut out);
    stream.write_all(&out).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let rest = if head[3] == 4 { 18 } else { 6 };
    let mut reply = head.to_vec();
    reply.resize(4 + rest, 0);
    stream.read_exact(&mut reply[4..]).await?;
    match scan_reply(&reply).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
        Scan::Got(reply, _) if reply.code == 0 => Ok(()),
        Scan::Got(reply, _) => Err(io::Error::other(format!("reply {} reason {:?}", reply.code, reply.reason()))),
        Scan::More => Err(io::Error::new(io::ErrorKind::InvalidData, "a reply with a domain name")),
    }
}
