//! Large messages, and very many sites at once. Floor 1.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::resource::{Resource, setrlimit};

use super::Settings;
use super::figures::{Figures, Goal};
use super::mtas::{Relay, Start, egret, egret_direct, egret_proxied, home, postfix};
use super::relays::{PATIENCE, measure};
use super::turns::{middle, take_turns};
use crate::harness::ask;
use crate::peer::sink::{Behaviour, Sink};
use crate::peer::source::Plan;

/// The size of a large message.
const LARGE_BYTES: usize = 200_000;
/// A run of large messages has fewer of them.
const LARGE_SHARE: usize = 10;
const LARGE_GOAL: f64 = 3.0;

const SITES: usize = 10_000;
const SITE_GOAL_BYTES: f64 = 30_000.0;
/// Where all sites listen.
const SITE_PORT: u16 = 2527;
/// How long each site takes to answer a message: longer than all sessions take to open.
const SITE_DELAY: Duration = Duration::from_secs(120);
/// Enough for all sessions, on both sides.
const DESCRIPTORS: u64 = 65_536;

/// Relays large messages, with Postfix.
pub async fn large(settings: Settings) -> Figures {
    let contenders: [(&str, Start); 3] =
        [("egret-mta through egret-proxy", egret_proxied), ("egret-mta directly", egret_direct), ("Postfix", postfix)];
    let count = settings.count / LARGE_SHARE;
    let all = take_turns(&contenders, settings.rounds, async |start| measure(start, count, LARGE_BYTES).await).await;
    let mut figures = Figures::new(format!("relay of {count} messages of 200 kB, 50 sessions"));
    let of = |name: &str| all.iter().find(|(other, _)| *other == name).map(|(_, runs)| runs);
    for (name, runs) in &all {
        figures.tell(format!("{name}, messages/s"), middle(runs, |run| run.relayed));
        figures.tell(format!("{name}, CPU µs a message"), middle(runs, |run| run.cpu_us));
    }
    if let Some(postfix) = of("Postfix") {
        let peer = middle(postfix, |run| run.relayed);
        for name in ["egret-mta through egret-proxy", "egret-mta directly"] {
            if let Some(runs) = of(name) {
                let ratio = middle(runs, |run| run.relayed) / peer;
                figures.judge(format!("{name}, times Postfix"), ratio, Goal::AtLeast(LARGE_GOAL));
            }
        }
    }
    figures
}

/// One message to each of very many sites, all of them at once: what a session takes.
pub async fn sites() -> anyhow::Result<Figures> {
    // Root may; others stay with what they have.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS);
    let directory = home()?;
    let listen = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), SITE_PORT);
    let behaviour = Behaviour { delay: SITE_DELAY, chunking: true, ..Behaviour::default() };
    let _sink = Sink::start(&[listen], behaviour, None, None).await?;
    let mut routes = String::new();
    for n in 0..SITES {
        let host = Ipv4Addr::new(127, 210, (n / 250) as u8, (n % 250 + 1) as u8);
        let _ = write!(routes, "[[route]]\ndomains = [\"d{n}.example\"]\nhosts = [\"{host}:{SITE_PORT}\"]\n");
    }
    let relay = egret(directory.path(), listen, "", &routes)?;
    let before = relay.memory_bytes();
    let plan = Plan { size: 2_000, domains: SITES, ..Plan::new(relay.smtp, SITES) };
    relay.accept(&plan).await?;
    let started = Instant::now();
    let open = loop {
        match sessions(&relay)? {
            open if open >= SITES as f64 => break open,
            open if started.elapsed() > PATIENCE => bail!("only {open} of {SITES} sessions are open"),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let each = relay.memory_bytes().saturating_sub(before) as f64 / open;
    let mut figures = Figures::new(format!("{SITES} sites at once, one message of 2 kB each"));
    figures.tell("sessions open at once", open);
    figures.judge("memory a session, its message included, bytes", each, Goal::AtMost(SITE_GOAL_BYTES));
    Ok(figures)
}

/// Sessions that are open, as the MTA counts them.
fn sessions(relay: &Relay) -> anyhow::Result<f64> {
    let (_, metrics) = ask(relay.admin(), "GET /metrics", "", Duration::from_secs(10))?;
    let value = metrics.lines().find_map(|line| line.strip_prefix("egret_mta_delivery_sessions_active "));
    Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
}
