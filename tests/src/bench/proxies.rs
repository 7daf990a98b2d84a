//! Short sessions through proxies: egret-proxy, HAProxy, Dante, microsocks. Floor 1.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::bail;
use serde::Serialize;
use tempfile::TempDir;

use super::Settings;
use super::process::Server;
use super::turns::middle;
use crate::harness::{addresses, binary};
use crate::peer::sessions::{self, Plan, Protocol};
use crate::peer::sink::{Behaviour, Sink};

/// Sessions at once; the slower peers are measured with the first number only.
const CONCURRENCIES: [usize; 2] = [50, 500];
/// The share of `Settings::time` that warms a proxy up.
const WARM_UP: u32 = 5;

/// One proxy.
#[derive(Clone, Debug, Serialize)]
pub struct ProxyResult {
    /// What was measured.
    pub name: String,
    /// Sessions at once.
    pub concurrency: usize,
    /// Sessions a second.
    pub sessions_per_s: f64,
    /// CPU time of a session over all processes, in microseconds.
    pub cpu_us: f64,
    /// Milliseconds of a session: half are faster.
    pub p50_ms: f64,
    /// Milliseconds of a session: 99 % are faster.
    pub p99_ms: f64,
    /// Memory at the end.
    pub memory_bytes: u64,
}

pub(super) type Start = fn(&Path, SocketAddr, &[IpAddr]) -> anyhow::Result<(Option<Server>, SocketAddr)>;

/// Measures all proxies; those that cannot run are told and left out.
pub async fn proxies(settings: Settings) -> anyhow::Result<Vec<ProxyResult>> {
    let contenders: [(&str, Protocol, Start, bool); 7] = [
        ("no proxy", Protocol::Direct, |_, sink, _| Ok((None, sink)), true),
        ("egret-proxy, SOCKS5 BIND + CONNECT", Protocol::Socks5Bind, egret_socks5, true),
        ("egret-proxy, SOCKS5 CONNECT", Protocol::Socks5, egret_socks5, true),
        ("egret-proxy, PROXY v2", Protocol::ProxyV2, egret_proxy_v2, true),
        ("HAProxy, PROXY v2", Protocol::ProxyV2, haproxy, true),
        ("Dante, SOCKS5 CONNECT", Protocol::Socks5, dante, false),
        ("microsocks, SOCKS5 CONNECT", Protocol::Socks5, microsocks, false),
    ];
    let at = |concurrency| contenders.iter().map(move |contender| (*contender, concurrency));
    let contenders: Vec<_> = at(CONCURRENCIES[0]).chain(at(CONCURRENCIES[1]).filter(|(c, _)| c.3)).collect();
    let mut runs: Vec<Vec<ProxyResult>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 1..=settings.rounds {
        for (((name, protocol, start, _), concurrency), runs) in contenders.iter().zip(&mut runs) {
            eprintln!("round {round}: {name}, {concurrency} at once");
            match run((name, *protocol, *start), *concurrency, settings).await {
                Ok(result) => runs.push(result),
                Err(error) => eprintln!("  left out: {error:#}"),
            }
        }
    }
    Ok(runs.iter().filter_map(|runs| result(runs)).collect())
}

fn result(runs: &[ProxyResult]) -> Option<ProxyResult> {
    let first = runs.first()?.clone();
    let of = |pick: fn(&ProxyResult) -> f64| middle(runs, pick);
    Some(ProxyResult {
        sessions_per_s: of(|run| run.sessions_per_s),
        cpu_us: of(|run| run.cpu_us),
        p50_ms: of(|run| run.p50_ms),
        p99_ms: of(|run| run.p99_ms),
        memory_bytes: runs.iter().map(|run| run.memory_bytes).max().unwrap_or(0),
        ..first
    })
}

async fn run(
    (name, protocol, start): (&str, Protocol, Start),
    concurrency: usize,
    settings: Settings,
) -> anyhow::Result<ProxyResult> {
    let directory = TempDir::with_prefix("egret-bench-")?;
    let own = addresses(9);
    let (sink_address, sources) = (SocketAddr::new(own[0].into(), 2525), &own[1..]);
    let sources: Vec<IpAddr> = sources.iter().map(|ip| (*ip).into()).collect();
    let _sink = Sink::start(&[sink_address], Behaviour::default(), None, None).await?;
    let (server, proxy) = start(directory.path(), sink_address, &sources)?;
    let plan = Plan { proxy, protocol, to: sink_address, sources, concurrency, time: settings.time / WARM_UP };
    sessions::run(plan.clone()).await;
    let usage = || server.as_ref().map(Server::usage).unwrap_or_default();
    let before = usage();
    let report = sessions::run(Plan { time: settings.time, ..plan }).await;
    let after = usage();
    if report.sessions == 0 || report.errors > report.sessions / 100 {
        bail!("{} sessions, {} errors: {}", report.sessions, report.errors, report.first_error.unwrap_or_default());
    }
    Ok(ProxyResult {
        name: name.to_owned(),
        concurrency,
        sessions_per_s: report.per_second,
        cpu_us: (after.cpu_s - before.cpu_s) * 1e6 / report.sessions as f64,
        p50_ms: report.p50_ms,
        p99_ms: report.p99_ms,
        memory_bytes: after.memory_bytes,
    })
}

fn egret(
    directory: &Path,
    sink: SocketAddr,
    sources: &[IpAddr],
    protocol: &str,
) -> anyhow::Result<(Option<Server>, SocketAddr)> {
    let proxy = SocketAddr::new(addresses(1)[0].into(), 1080);
    let quoted = sources.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
    let config = format!(
        "[[listener]]\naddress = \"{proxy}\"\nprotocol = \"{protocol}\"\n[sources]\naddresses = [{quoted}]\n\
         [access]\ndestination_ports = [{}]\nallow_special_destinations = [\"127.0.0.0/8\"]\n",
        sink.port()
    );
    let file = directory.join("proxy.toml");
    fs::write(&file, config)?;
    let mut command = Command::new(binary("egret-proxy"));
    command.args(["serve", "--config"]).arg(&file);
    Ok((Some(Server::start(&mut command, proxy, &directory.join("log"))?), proxy))
}

pub(super) fn egret_socks5(
    directory: &Path,
    sink: SocketAddr,
    sources: &[IpAddr],
) -> anyhow::Result<(Option<Server>, SocketAddr)> {
    egret(directory, sink, sources, "socks5")
}

pub(super) fn egret_proxy_v2(
    directory: &Path,
    sink: SocketAddr,
    sources: &[IpAddr],
) -> anyhow::Result<(Option<Server>, SocketAddr)> {
    egret(directory, sink, sources, "proxy")
}

/// With the client's address as source, which needs root; threads as by default, one for each core.
pub(super) fn haproxy(
    directory: &Path,
    _sink: SocketAddr,
    _sources: &[IpAddr],
) -> anyhow::Result<(Option<Server>, SocketAddr)> {
    let proxy = SocketAddr::new(addresses(1)[0].into(), 1090);
    let config = format!(
        "global\n maxconn 9000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         listen egress\n bind {proxy} accept-proxy\n source 0.0.0.0 usesrc clientip\n server mx 0.0.0.0:0\n"
    );
    let file = directory.join("haproxy.cfg");
    fs::write(&file, config)?;
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(&file);
    Ok((Some(Server::start(&mut command, proxy, &directory.join("log"))?), proxy))
}

fn dante(directory: &Path, _sink: SocketAddr, sources: &[IpAddr]) -> anyhow::Result<(Option<Server>, SocketAddr)> {
    let proxy = SocketAddr::new(addresses(1)[0].into(), 1091);
    let config = format!(
        "logoutput: /dev/null\ninternal: {} port = {}\nexternal: {}\nsocksmethod: none\nclientmethod: none\n\
         user.privileged: root\nuser.unprivileged: nobody\n\
         client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\nsocks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n",
        proxy.ip(),
        proxy.port(),
        sources.first().copied().unwrap_or(proxy.ip())
    );
    let file = directory.join("danted.conf");
    fs::write(&file, config)?;
    let mut command = Command::new("/usr/sbin/danted");
    command.arg("-f").arg(&file);
    Ok((Some(Server::start(&mut command, proxy, &directory.join("log"))?), proxy))
}

fn microsocks(directory: &Path, _sink: SocketAddr, sources: &[IpAddr]) -> anyhow::Result<(Option<Server>, SocketAddr)> {
    let proxy = SocketAddr::new(addresses(1)[0].into(), 1092);
    let mut command = Command::new("/usr/bin/microsocks");
    command.args(["-i", &proxy.ip().to_string(), "-p", &proxy.port().to_string()]);
    command.args(["-b", &sources.first().copied().unwrap_or(proxy.ip()).to_string()]);
    Ok((Some(Server::start(&mut command, proxy, &directory.join("log"))?), proxy))
}
