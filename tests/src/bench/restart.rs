//! Probes of an egret-mta that starts with much in its spool. Floor 1.
//! Always: they hold whether it reads its spool before it answers or meanwhile.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::process::Server;
use crate::harness::ask;
use crate::peer::reply::read_code;

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long one question may take. An MTA that reads its spool first may leave it without an answer.
const QUESTION: Duration = Duration::from_secs(1);
/// How long a start may take, and how long the number of parts may stand still below its goal.
const PATIENCE: Duration = Duration::from_secs(600);
const STANDSTILL: Duration = Duration::from_secs(30);
/// The gauge of what is queued; each message of the load has one part.
const PARTS: &str = "egret_mta_queue_parts ";

/// What is queued.
pub(super) struct Queued {
    pub count: u64,
    /// Since when.
    pub at: Instant,
}

/// Lets what was written reach the disk and what was read leave the memory; false if that is not allowed.
pub(super) fn drop_page_cache() -> bool {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Waits until a client is greeted with 220.
pub(super) async fn is_greeted(smtp: SocketAddr, server: &mut Server) -> anyhow::Result<()> {
    let greeting = async {
        loop {
            // The address may be bound before anything is served: one connection waits for its greeting.
            if let Ok(stream) = TcpStream::connect(smtp).await
                && let Ok(220) = read_code(&mut BufReader::new(stream), &mut Vec::new()).await
            {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = greeting => Ok(()),
        failed = ending(server) => failed,
    }
}

/// Waits until `count` messages are queued, or until their number stands still below that.
pub(super) async fn queued(admin: SocketAddr, server: &mut Server, count: usize) -> anyhow::Result<Queued> {
    let counting = async {
        let mut seen = Queued { count: 0, at: Instant::now() };
        loop {
            if let Some(now) = spawn_blocking(move || parts(admin)).await?
                && now != seen.count
            {
                seen = Queued { count: now, at: Instant::now() };
            }
            if seen.count >= count as u64 || (seen.count > 0 && seen.at.elapsed() > STANDSTILL) {
                return Ok(seen);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        seen = counting => seen,
        failed = ending(server) => failed.and_then(|()| bail!("nothing is queued")),
    }
}

/// What the MTA tells of its queues, if it answers.
fn parts(admin: SocketAddr) -> Option<u64> {
    let (_, answer) = ask(admin, "GET /metrics", "", QUESTION).ok()?;
    answer.lines().find_map(|line| line.strip_prefix(PARTS)).and_then(|value| value.parse().ok())
}

/// Fails when the server ends, or patience does.
async fn ending(server: &mut Server) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = server.ended() {
            bail!("it ended with {status}");
        }
        tokio::time::sleep(QUESTION).await;
    }
    bail!("it took longer than {PATIENCE:?}")
}
