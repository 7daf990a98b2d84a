//! One dial for a person: every stage with its time, and the banner. Floor 5. Touches sockets and the
//! system's resolver. Dials by itself, or through a proxy as its client would.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use egret_shared::fault::{Fault, Reason};
use egret_shared::net::errno::{bind_reason, connect_reason};
use egret_shared::net::socket::bound_to;
use egret_shared::proxy_protocol::frame::write_v2;
use egret_shared::socks5::client::{Ask, Client, Progress};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

/// How the proxy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// SOCKS5: BIND chooses the source, CONNECT dials (KumoMTA, Egret).
    Socks5,
    /// SOCKS5 CONNECT alone: the proxy chooses the source.
    Connect,
    /// A PROXY protocol version 2 header.
    Proxy,
}

/// What is dialed and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The source address; may be absent where the proxy or the kernel chooses.
    pub source: Option<IpAddr>,
    /// `host:port`.
    pub to: String,
    /// A proxy, and how it is asked.
    pub via: Option<(SocketAddr, Dialect)>,
    /// User and password for the proxy.
    pub credentials: Option<(String, String)>,
    /// How long each stage may take.
    pub limit: Duration,
}

/// One stage that was passed, or at which it ended.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// `resolve`, `bind`, `connect`, `proxy`, `banner`.
    pub name: &'static str,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// What was found.
    pub detail: String,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The stages, the last of which failed if there is a fault.
    pub stages: Vec<Stage>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

struct Walk {
    stages: Vec<Stage>,
    limit: Duration,
}

impl Walk {
    /// Runs a stage within the limit. `told` says what was found.
    async fn stage<T>(
        &mut self,
        name: &'static str,
        late: Reason,
        work: impl Future<Output = Result<(T, String), Fault>>,
    ) -> Result<T, Fault> {
        let started = Instant::now();
        let done = timeout(self.limit, work).await;
        let late = || Err(Fault::new(late, format!("{name} took longer than {} s", self.limit.as_secs_f64())));
        let done = done.unwrap_or_else(|_| late());
        let detail = match &done {
            Ok((_, detail)) => detail.clone(),
            Err(fault) => fault.to_string(),
        };
        self.stages.push(Stage { name, took_ms: started.elapsed().as_secs_f64() * 1000.0, detail });
        done.map(|(value, _)| value)
    }
}

/// Walks through all stages.
pub async fn walk(plan: &Plan) -> Outcome {
    let mut walk = Walk { stages: Vec::new(), limit: plan.limit };
    let fault = stages(&mut walk, plan).await.err();
    Outcome { stages: walk.stages, fault }
}

async fn stages(walk: &mut Walk, plan: &Plan) -> Result<(), Fault> {
    let wants_v4 = plan.source.map(|ip| ip.is_ipv4());
    let to = walk.stage("resolve", Reason::DestinationUnroutable, resolve(&plan.to, wants_v4)).await?;
    let (mut stream, rest) = match plan.via {
        None => (direct(walk, plan.source, to).await?, BytesMut::new()),
        Some((proxy, dialect)) => through(walk, plan, proxy, dialect, to).await?,
    };
    walk.stage("banner", Reason::RemoteClosedPreBanner, banner(&mut stream, rest)).await?;
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(())
}

/// The first address of `name` that has the source's family.
async fn resolve(name: &str, wants_v4: Option<bool>) -> Result<(SocketAddr, String), Fault> {
    let failed = |why: String| Fault::new(Reason::DestinationUnroutable, why);
    let found = lookup_host(name).await.map_err(|error| failed(format!("{name}: {error}; write host:port")))?;
    let found: Vec<_> = found.collect();
    let fits = found.iter().find(|address| wants_v4.is_none_or(|v4| v4 == address.is_ipv4()));
    match fits {
        Some(address) => Ok((*address, address.to_string())),
        None => Err(Fault::new(Reason::FamilyMismatch, format!("{name} has no address of the source's family"))),
    }
}

async fn direct(walk: &mut Walk, source: Option<IpAddr>, to: SocketAddr) -> Result<TcpStream, Fault> {
    let socket = walk.stage("bind", Reason::Internal, async { bound(source, to) }).await?;
    walk.stage("connect", Reason::ConnectionTimeout, async {
        let failed =
            |error: io::Error| Fault::new(connect_reason(&error), to.to_string()).with_errno(error.raw_os_error());
        let stream = socket.connect(to).await.map_err(failed)?;
        let local = stream.local_addr().map_err(failed)?;
        Ok((stream, format!("{local} to {to}")))
    })
    .await
}

fn bound(source: Option<IpAddr>, to: SocketAddr) -> Result<(TcpSocket, String), Fault> {
    let failed = |error: io::Error| {
        let what = source.map_or("any source".to_owned(), |ip| format!("source {ip}"));
        Fault::new(bind_reason(&error), what).with_errno(error.raw_os_error())
    };
    match source {
        Some(ip) => {
            let socket = bound_to(ip).map_err(failed)?;
            Ok((TcpSocket::from_std_stream(socket.into()), ip.to_string()))
        }
        None => {
            let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            Ok((socket.map_err(failed)?, "chosen by the kernel".to_owned()))
        }
    }
}

async fn through(
    walk: &mut Walk,
    plan: &Plan,
    proxy: SocketAddr,
    dialect: Dialect,
    to: SocketAddr,
) -> Result<(TcpStream, BytesMut), Fault> {
    let mut stream = walk
        .stage("proxy", Reason::ProxyTimeout, async {
            let failed = |error: io::Error| Fault::new(Reason::ProxyUnreachable, format!("proxy {proxy}: {error}"));
            let stream = TcpStream::connect(proxy).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Ok((stream, proxy.to_string()))
        })
        .await?;
    let rest = walk.stage("connect", Reason::ProxyTimeout, ask(&mut stream, plan, dialect, to)).await?;
    Ok((stream, rest))
}

async fn ask(
    stream: &mut TcpStream,
    plan: &Plan,
    dialect: Dialect,
    to: SocketAddr,
) -> Result<(BytesMut, String), Fault> {
    let broken = |error: io::Error| Fault::new(Reason::ProxyUnspecified, format!("the proxy's connection: {error}"));
    let (mut out, mut input) = (Vec::new(), BytesMut::new());
    if dialect == Dialect::Proxy {
        let missing = || Fault::new(Reason::FamilyMismatch, "the PROXY protocol needs a source; give --source");
        write_v2(SocketAddr::new(plan.source.ok_or_else(missing)?, 0), to, &mut out);
        stream.write_all(&out).await.map_err(broken)?;
        return Ok((input, "PROXY header sent; what follows is the destination, or the proxy's 421".to_owned()));
    }
    let credentials = plan.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
    let source = plan.source.filter(|_| dialect == Dialect::Socks5);
    let mut client = Client::new(Ask { credentials, source, destination: to }, &mut out);
    loop {
        stream.write_all(&out).await.map_err(broken)?;
        out.clear();
        if stream.read_buf(&mut input).await.map_err(broken)? == 0 {
            return Err(client.closed());
        }
        let (used, progress) = client.step(&input, &mut out)?;
        input.advance(used);
        if let Progress::Done { bound } = progress {
            let from = bound.map_or("an address it does not tell".to_owned(), |address| address.to_string());
            return Ok((input, format!("from {from} to {to}")));
        }
    }
}

/// The first line that the destination says, without what cannot be printed.
async fn banner(stream: &mut TcpStream, mut input: BytesMut) -> Result<((), String), Fault> {
    /// The longest line that is looked at.
    const MAX_BANNER_BYTES: usize = 2048;
    while !input.contains(&b'\n') && input.len() < MAX_BANNER_BYTES {
        match stream.read_buf(&mut input).await {
            Ok(0) if input.is_empty() => {
                return Err(Fault::new(Reason::RemoteClosedPreBanner, "closed before it said anything"));
            }
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                let fault = Fault::new(Reason::RemoteResetPreBanner, "reset before it said anything");
                return Err(fault.with_errno(error.raw_os_error()));
            }
        }
    }
    let text = String::from_utf8_lossy(&input);
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    match Fault::from_smtp_line(&line) {
        Some(fault) => Err(fault),
        None => Ok(((), line)),
    }
}
