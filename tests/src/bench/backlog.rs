//! An egret-mta with very many messages queued: its memory, its start, and how fast it takes more. Floor 1.
//! Always: what is on the disk goes with the measurement, and there is room for it before it begins.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use super::figures::{Figures, Goal};
use super::mtas::{Accepted, CONCURRENCY, Relay, egret, egret_command, home, nowhere, suspend};
use super::process::Server;
use super::restart::{drop_page_cache, is_greeted, queued};
use super::turns::{middle, take_turns};
use super::{ACCEPTED_FOR_DELIVERED, Settings};
use crate::peer::source::Plan;

/// The size of each message, and their domains.
const SIZE: usize = 2_000;
const DOMAINS: usize = 10_000;
/// What a message takes on the disk beside its size: headers, metadata, and its events.
const OVERHEAD_BYTES: u64 = 1_000;
/// What must be free beside that.
const SPARE_BYTES: u64 = 1 << 30;
/// Fresh bodies are kept in memory up to a budget that does not grow with their number. Here it is as good as
/// none: it would hide what a message takes, and favour an MTA whose budget is spent.
const SPOOL: &str = "body_cache = \"1MiB\"\n";
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(120);
/// Between work and a look at the memory: an allocator gives back late.
const REST: Duration = Duration::from_secs(10);

const GREETED_S: Goal = Goal::AtMost(1.0);
const QUEUED_S: Goal = Goal::AtMost(10.0);
const MEMORY_BYTES: Goal = Goal::AtMost(400.0);
const LOADED_SHARE: Goal = Goal::AtLeast(0.8);

/// What is looked at once the messages are queued.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// A stop and a start.
    pub restart: bool,
    /// Taking more mail, beside an MTA that has nothing queued.
    pub loaded: bool,
    /// Memory of a message.
    pub memory: bool,
}

/// An MTA that delivers nothing.
struct Held {
    // The first field goes first: the process before its directory.
    relay: Relay,
    home: TempDir,
}

impl Held {
    fn start() -> anyhow::Result<Self> {
        let home = home()?;
        Ok(Self { relay: suspend(egret(home.path(), nowhere(), SPOOL, "")?)?, home })
    }

    fn server(&mut self) -> anyhow::Result<&mut Server> {
        self.relay.servers.first_mut().context("no server")
    }

    async fn accept(&self, count: usize) -> anyhow::Result<Accepted> {
        let plan = Plan::new(self.relay.smtp, count);
        self.relay.accept(&Plan { size: SIZE, concurrency: CONCURRENCY, domains: DOMAINS, ..plan }).await
    }
}

/// Queues `settings.queued` messages and measures what is `wanted`; what cannot be is told and left out.
pub async fn backlog(settings: Settings, wanted: Wanted) -> Figures {
    let count = settings.queued;
    let mut figures = Figures::new(format!("{count} messages of {SIZE} bytes in {DOMAINS} domains are queued"));
    eprintln!("{count} messages are queued");
    if let Err(error) = look(settings, wanted, &mut figures).await {
        eprintln!("  the rest is left out: {error:#}");
    }
    figures
}

async fn look(settings: Settings, wanted: Wanted, figures: &mut Figures) -> anyhow::Result<()> {
    let count = settings.queued;
    let sample = settings.count * ACCEPTED_FOR_DELIVERED;
    let mut held = Held::start()?;
    // Each round adds a sample to this spool, and one more lies in that of the other.
    ensure_room(held.home.path(), count + (sample + DOMAINS) * (settings.rounds + 1))?;
    let empty = held.relay.memory_bytes() as f64;
    let each = |held: &Held| (held.relay.memory_bytes() as f64 - empty) / count as f64;
    figures.tell("fill, messages/s", held.accept(count).await?.per_s);
    let admin = held.relay.admin();
    let found = queued(admin, held.server()?, count).await?.count;
    figures.judge("queued after the fill", found as f64, Goal::Exactly(count as f64));
    if wanted.memory {
        tokio::time::sleep(REST).await;
        figures.judge("memory after the fill, bytes a message", each(&held), MEMORY_BYTES);
    }
    if wanted.restart || wanted.memory {
        eprintln!("stop and start");
        restart(&mut held, count, figures).await?;
    }
    if wanted.memory {
        tokio::time::sleep(REST).await;
        figures
            .tell("memory at its peak since the start, MiB", held.server()?.peak_bytes() as f64 / f64::from(1 << 20));
        figures.judge("memory after the start, bytes a message", each(&held), MEMORY_BYTES);
    }
    if wanted.loaded {
        loaded(&held, sample, settings.rounds, figures).await;
    }
    Ok(())
}

/// Fails if the disk is too small for so many messages.
fn ensure_room(path: &Path, count: usize) -> anyhow::Result<()> {
    let needed = count as u64 * (SIZE as u64 + OVERHEAD_BYTES) + SPARE_BYTES;
    let disk = statvfs(path)?;
    let free = disk.blocks_available() * disk.fragment_size();
    if free < needed {
        let [free, needed] = [free, needed].map(|bytes| bytes as f64 / 1e9);
        bail!("{needed:.1} GB must be free for this, and {free:.1} GB are at {}", path.display());
    }
    Ok(())
}

async fn restart(held: &mut Held, count: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let status = held.server()?.terminate(STOP).with_context(|| format!("it did not stop in {STOP:?}"))?;
    if !status.success() {
        bail!("it stopped with {status}");
    }
    figures.tell("stop, s", started.elapsed().as_secs_f64());
    let cache = if drop_page_cache() { "page cache dropped" } else { "page cache NOT dropped: not allowed" };
    let (home, smtp, admin) = (held.home.path(), held.relay.smtp, held.relay.admin());
    let started = std::time::Instant::now();
    let mut server = Server::spawn(&mut egret_command(home), &home.join("mta.log"))?;
    is_greeted(smtp, &mut server).await?;
    figures.judge(format!("start to SMTP's 220, s ({cache})"), started.elapsed().as_secs_f64(), GREETED_S);
    let found = queued(admin, &mut server, count).await?;
    figures.judge(format!("start to all queued, s ({cache})"), (found.at - started).as_secs_f64(), QUEUED_S);
    figures.judge("queued after the start, of all acknowledged", found.count as f64, Goal::Exactly(count as f64));
    held.relay.servers = vec![server];
    Ok(())
}

/// Takes more mail in turns with an MTA that has nothing queued.
async fn loaded(full: &Held, sample: usize, rounds: usize, figures: &mut Figures) {
    let contenders = [("accepting with an empty spool", None), ("accepting with a full spool", Some(full))];
    let run = async |full: Option<&Held>| match full {
        None => one(&Held::start()?, sample).await,
        Some(full) => one(full, sample).await,
    };
    let all = take_turns(&contenders, rounds, run).await;
    for (name, runs) in &all {
        figures.tell(format!("{name}, messages/s"), middle(runs, |run| run.per_s));
        figures.tell(format!("{name}, CPU µs a message"), middle(runs, |run| run.cpu_us));
    }
    if let [(_, empty), (_, full)] = &all[..] {
        let per_s = |run: &Accepted| run.per_s;
        figures.judge("accepting with a full spool, share", middle(full, per_s) / middle(empty, per_s), LOADED_SHARE);
    }
}

async fn one(held: &Held, sample: usize) -> anyhow::Result<Accepted> {
    // What the first message of a domain costs is not measured.
    held.accept(DOMAINS).await?;
    held.accept(sample).await
}
