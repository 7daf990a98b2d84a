//! Whether this proxy can do its work: configuration, listeners, sources, limits of the host. Floor 6.
//! Changes nothing; needs no running proxy, but looks at one that runs.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use egret_shared::check::{Finding, State as Good};
use egret_shared::http::client;
use egret_shared::net::kernel::clock_in_step;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::app::port_range;
use crate::config::{self, Config};
use crate::policy::Policy;
use crate::source::{Held, State, watch};
use crate::test_dial::{Plan, walk};

/// Sources that are dialed from, and how many at once.
const DIALED: (usize, usize) = (256, 16);
/// Fewer local ports than this are too few for one source and one busy destination.
const FEW_PORTS: u32 = 16_384;
/// A certificate that ends within this is told.
const EXPIRES_SOON_DAYS: i64 = 14;
/// How long a listener may take to accept.
const LISTENER_LIMIT: Duration = Duration::from_secs(2);

/// What is checked beside the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where each source dials; `None` dials nothing.
    pub target: Option<String>,
    /// How long a dial may take.
    pub limit: Duration,
}

/// Checks everything.
pub async fn check(file: &Path, options: &Options) -> Vec<Finding> {
    let config = match config::read(file) {
        Ok(config) => config,
        Err(complaints) => {
            let finding = Finding::new("config", Good::Failed, complaints.to_string());
            return vec![finding.advise("mend the lines above; nothing else was checked")];
        }
    };
    let mut findings = vec![Finding::new("config", Good::Ok, file.display().to_string())];
    findings.push(descriptors(&config));
    findings.push(ports());
    findings.push(clock());
    findings.push(admin(config.admin).await);
    let policy = config.served.into_policy(Held::default());
    for listener in &policy.listeners {
        findings.push(listener_answers(listener.address).await);
        if let Some(tls) = &listener.tls {
            findings.push(certificate(listener.address, tls.expires_unix_s));
        }
    }
    watch::look_once(&policy.sources).await;
    findings.extend(sources(&policy, options).await);
    findings
}

fn descriptors(config: &Config) -> Finding {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let needed = config.max_sessions as u64 * 2 + 256;
    let detail = format!("{limit} allowed, {needed} for limits.max_sessions = {}", config.max_sessions);
    if limit >= needed {
        return Finding::new("descriptors", Good::Ok, detail);
    }
    let advice = format!("a session takes two; set LimitNOFILE={needed} in the unit, or lower limits.max_sessions");
    Finding::new("descriptors", Good::Warning, detail).advise(advice)
}

fn ports() -> Finding {
    let Some((first, last)) = port_range() else {
        return Finding::new("local ports", Good::Skipped, "the kernel does not tell its range");
    };
    let count = u32::from(last - first) + 1;
    let detail = format!("{first} to {last}: {count} connections from one source to one destination address and port");
    if count >= FEW_PORTS {
        return Finding::new("local ports", Good::Ok, detail);
    }
    Finding::new("local ports", Good::Warning, detail)
        .advise("sysctl net.ipv4.ip_local_port_range=\"16384 65535\" gives more")
}

fn clock() -> Finding {
    match clock_in_step() {
        Ok(Some(off)) => Finding::new("clock", Good::Ok, format!("kept in step, {} ms off at most", off.as_millis())),
        Ok(None) => Finding::new("clock", Good::Warning, "nobody keeps the clock in step")
            .advise("run chrony or systemd-timesyncd: records and certificates depend on the time"),
        Err(error) => Finding::new("clock", Good::Skipped, error.to_string()),
    }
}

async fn admin(address: Option<SocketAddr>) -> Finding {
    let Some(address) = address else {
        return Finding::new("admin", Good::Warning, "admin.address is not set: no health, no metrics, no API");
    };
    let name = format!("admin {address}");
    match client::request(Method::GET, address, "/readyz").await {
        Ok((StatusCode::OK, _)) => Finding::new(name, Good::Ok, "the proxy runs and is ready"),
        Ok((_, text)) => {
            let failed: Vec<_> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
            Finding::new(name, Good::Failed, format!("not ready: {}", failed.join("; ")))
        }
        Err(error) => Finding::new(name, Good::Warning, error).advise("start the proxy, if it should run now"),
    }
}

async fn listener_answers(address: SocketAddr) -> Finding {
    let name = format!("listener {address}");
    match timeout(LISTENER_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::new(name, Good::Ok, "accepts connections"),
        Ok(Err(error)) => match std::net::TcpListener::bind(address) {
            Ok(_) => Finding::new(name, Good::Warning, "free: the proxy does not run").advise("start it"),
            Err(bind) => Finding::new(name, Good::Failed, format!("{error}; and it cannot be bound: {bind}"))
                .advise("is the address on this host, and the port above 1023 or CAP_NET_BIND_SERVICE given?"),
        },
        Err(_) => Finding::new(name, Good::Failed, "does not accept within 2 s").advise("look at /livez and the log"),
    }
}

fn certificate(listener: SocketAddr, expires_unix_s: i64) -> Finding {
    let now = egret_shared::clock::Clock::system().wall().0 / 1000;
    let days = (expires_unix_s - i64::try_from(now).unwrap_or(0)).div_euclid(86_400);
    let name = format!("certificate {listener}");
    match days {
        ..0 => Finding::new(name, Good::Failed, format!("ended {} days ago", -days)).advise("renew it, then reload"),
        0..EXPIRES_SOON_DAYS => Finding::new(name, Good::Warning, format!("ends in {days} days")).advise("renew it"),
        _ => Finding::new(name, Good::Ok, format!("good for {days} days")),
    }
}

async fn sources(policy: &Policy, options: &Options) -> Vec<Finding> {
    let all = policy.sources.held().all();
    let mut findings = Vec::new();
    if all.is_empty() {
        let count = policy.sources.set().count();
        let detail = format!("{count} addresses, too many to look at one by one");
        let (state, detail) = if count == 0 {
            (Good::Failed, "this host has no address of global scope".to_owned())
        } else {
            (Good::Skipped, detail)
        };
        findings.push(Finding::new("sources", state, detail));
    }
    let (mut tasks, turns) = (JoinSet::new(), Arc::new(Semaphore::new(DIALED.1)));
    let mut dialed = Vec::new();
    for (at, (ip, state)) in all.into_iter().enumerate() {
        let name = format!("source {ip}");
        match (state, &options.target) {
            (State::Held, Some(target)) if at < DIALED.0 => {
                let (plan, turns) = (plan(ip, target, options.limit), turns.clone());
                tasks.spawn(async move {
                    let _turn = turns.acquire().await;
                    (ip, reaches(name, &plan).await)
                });
            }
            (State::Held, _) => findings.push(Finding::new(name, Good::Ok, "on this host, can be bound")),
            (State::Tentative, _) => findings.push(
                Finding::new(name, Good::Failed, "tentative: duplicate address detection has not passed")
                    .advise("another host may have it; look at ip -6 address show"),
            ),
            (state, _) => findings.push(
                Finding::new(name, Good::Failed, state.as_str())
                    .advise(format!("ip address add {ip} dev …, or take it out of sources.addresses")),
            ),
        }
    }
    while let Some(done) = tasks.join_next().await {
        dialed.extend(done.ok());
    }
    dialed.sort_by_key(|(ip, _)| *ip);
    findings.extend(dialed.into_iter().map(|(_, finding)| finding));
    findings
}

fn plan(ip: IpAddr, target: &str, limit: Duration) -> Plan {
    Plan { source: Some(ip), to: target.to_owned(), via: None, credentials: None, limit }
}

async fn reaches(name: String, plan: &Plan) -> Finding {
    let outcome = walk(plan).await;
    let took: f64 = outcome.stages.iter().map(|stage| stage.took_ms).sum();
    match (outcome.fault, outcome.stages.last()) {
        (None, Some(last)) => Finding::new(name, Good::Ok, format!("{took:.0} ms to {}: {}", plan.to, last.detail)),
        (Some(fault), last) => {
            let stage = last.map_or("resolve", |stage| stage.name);
            let advice = match stage {
                "resolve" => "give --target HOST:PORT that can be resolved here",
                _ => "is port 25 open outward, and the address routed? compare with egret-proxy test-dial",
            };
            Finding::new(name, Good::Failed, format!("{stage}: {fault}")).advise(advice)
        }
        (None, None) => Finding::new(name, Good::Skipped, "nothing was tried"),
    }
}
