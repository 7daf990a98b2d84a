//! The MTAs under measurement, and how each is started. Floor 1.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use super::process::Server;
use crate::harness::{addresses, ask, binary};
use crate::peer::postfix;
use crate::peer::source::{self, Plan};

/// The size of each message, and sessions of the source, wherever MTAs are compared.
pub(super) const SIZE: usize = 10_000;
pub(super) const CONCURRENCY: usize = 50;
/// Messages before a measurement.
pub(super) const WARM_UP: usize = 500;
/// How long an order to an MTA may take.
const ORDER: Duration = Duration::from_secs(10);
/// Lasts longer than any run, and over a restart.
const SUSPEND: &str = r#"{"everything": true, "reason": "benchmark", "lasts": "7d"}"#;
/// What Postfix needs to put all mail on hold as it comes: it never reaches the queue manager.
const HOLD: &str = "smtpd_data_restrictions = check_client_access static:HOLD\n";

/// An MTA that runs: its processes, and where it takes mail.
pub(super) struct Relay {
    pub servers: Vec<Server>,
    pub smtp: SocketAddr,
}

/// How messages were accepted.
pub(super) struct Accepted {
    /// Messages a second.
    pub per_s: f64,
    /// CPU time of a message over all processes, in microseconds.
    pub cpu_us: f64,
}

/// Starts an MTA with a directory of its own, which delivers to an address.
pub(super) type Start = fn(&Path, SocketAddr) -> anyhow::Result<Relay>;

impl Relay {
    /// CPU time of all its processes so far.
    pub fn cpu_s(&self) -> f64 {
        self.servers.iter().map(|server| server.usage().cpu_s).sum()
    }

    /// Memory of all its processes.
    pub fn memory_bytes(&self) -> u64 {
        self.servers.iter().map(|server| server.usage().memory_bytes).sum()
    }

    /// Where an egret-mta is asked and told things.
    pub fn admin(&self) -> SocketAddr {
        admin(self.smtp)
    }

    /// Offers what `plan` says; all must be accepted.
    pub async fn accept(&self, plan: &Plan) -> anyhow::Result<Accepted> {
        let (before, started) = (self.cpu_s(), Instant::now());
        let summary = source::run(plan.clone(), None, Arc::default()).await?;
        let seconds = started.elapsed().as_secs_f64();
        let count = plan.count as f64;
        if summary.accepted != plan.count as u64 {
            bail!("only {} of {count} messages were accepted", summary.accepted);
        }
        Ok(Accepted { per_s: count / seconds, cpu_us: (self.cpu_s() - before) * 1e6 / count })
    }
}

fn admin(smtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(smtp.ip(), 9181)
}

/// A directory for an MTA. Not in /tmp, which may be memory: a sync must reach the disk.
pub(super) fn home() -> anyhow::Result<TempDir> {
    let folder = binary("egret-mta").parent().context("no target folder")?.to_owned();
    Ok(TempDir::with_prefix_in("bench-", folder)?)
}

/// A destination where nobody listens.
pub(super) fn nowhere() -> SocketAddr {
    SocketAddr::new(addresses(1)[0].into(), 2526)
}

pub(super) fn egret_direct(directory: &Path, sink: SocketAddr) -> anyhow::Result<Relay> {
    egret(directory, sink, "", "")
}

pub(super) fn egret_proxied(directory: &Path, sink: SocketAddr) -> anyhow::Result<Relay> {
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
    let mut relay = egret(directory, sink, "", &tables)?;
    relay.servers.push(server);
    Ok(relay)
}

/// egret-mta with defaults, but for more lines in its section of the spool, and more tables.
pub(super) fn egret(directory: &Path, sink: SocketAddr, spool: &str, tables: &str) -> anyhow::Result<Relay> {
    let smtp = SocketAddr::new(addresses(1)[0].into(), 2525);
    let (path, admin) = (directory.display(), admin(smtp));
    let config = format!(
        "hostname = \"egret.test\"\n[spool]\npath = \"{path}/spool\"\n{spool}[event_log]\npath = \"{path}/events\"\n\
         [admin]\naddress = \"{admin}\"\n[[listener]]\naddress = \"{smtp}\"\n\
         [[route]]\ndomains = [\"*\"]\nhosts = [\"{sink}\"]\n{tables}"
    );
    fs::write(directory.join("mta.toml"), config)?;
    let server = Server::start(&mut egret_command(directory), smtp, &directory.join("mta.log"))?;
    Ok(Relay { servers: vec![server], smtp })
}

/// Starts the egret-mta that is configured in `directory`.
pub(super) fn egret_command(directory: &Path) -> Command {
    let mut command = Command::new(binary("egret-mta"));
    command.args(["serve", "--config"]).arg(directory.join("mta.toml"));
    command
}

/// All mail suspended.
pub(super) fn egret_held(directory: &Path, sink: SocketAddr) -> anyhow::Result<Relay> {
    suspend(egret_direct(directory, sink)?)
}

/// Suspends all mail of an egret-mta.
pub(super) fn suspend(relay: Relay) -> anyhow::Result<Relay> {
    match ask(relay.admin(), "POST /v1/suspend", SUSPEND, ORDER)? {
        (200, _) => Ok(relay),
        (_, answer) => bail!("the queues cannot be suspended: {answer}"),
    }
}

pub(super) fn postfix(directory: &Path, sink: SocketAddr) -> anyhow::Result<Relay> {
    start_postfix(directory, sink, "")
}

/// All mail on hold.
pub(super) fn postfix_held(directory: &Path, sink: SocketAddr) -> anyhow::Result<Relay> {
    start_postfix(directory, sink, HOLD)
}

/// Debian's Postfix with a queue of its own: the limits that would slow it down are raised, look-ups
/// that the load does not need are off.
fn start_postfix(directory: &Path, sink: SocketAddr, more: &str) -> anyhow::Result<Relay> {
    let smtp = SocketAddr::new(addresses(1)[0].into(), 2525);
    let relayhost = format!("[{}]:{}", sink.ip(), sink.port());
    let settings = include_str!("postfix-main.cf").replace("@SINK@", &relayhost) + more;
    let mut command = postfix::configure(directory, smtp, &settings)?;
    let server = Server::start(&mut command, smtp, &directory.join("postfix.log"))?;
    Ok(Relay { servers: vec![server], smtp })
}
