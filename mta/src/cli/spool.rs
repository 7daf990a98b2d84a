//! `spool`: looks into a stopped or copied spool. Floor 6.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use egret_shared::check::render::table;
use egret_shared::lifecycle::write_out;
use serde_json::{Value, json};

use crate::config;
use crate::message::{Message, MessageId};
use crate::spool::{Inspected, Recovered};

/// Exit code where damage was found, as monitoring plugins use it.
const DAMAGED: u8 = 2;
/// Queues that are listed, those with most messages first.
const LISTED_QUEUES: usize = 20;

/// Where the spool is.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The spool's directory; that of the configuration if absent.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/mta.toml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum SpoolCommand {
    /// Read everything and tell what is damaged, with file and offset; exit 2 if anything is.
    Verify {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Count messages, bytes, segments and queues.
    Stat {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print one message as it would be sent.
    Dump {
        /// The message's id, as events and replies show it.
        id: String,
        #[command(flatten)]
        place: Place,
        /// Print what is stored beside it instead, as JSON: sender, recipients, queues, attempts.
        #[arg(long)]
        meta: bool,
    },
    /// Write each message that is not done into a folder: ID.eml, and ID.json with what is stored beside it.
    Export {
        /// The folder; it is made if it is not there.
        directory: PathBuf,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) fn run(command: SpoolCommand) -> anyhow::Result<ExitCode> {
    match command {
        SpoolCommand::Verify { place, json } => verify(&place.open()?, json),
        SpoolCommand::Stat { place, json } => stat(&place.open()?, json),
        SpoolCommand::Dump { id, place, meta } => dump(&place.open()?, &id, meta),
        SpoolCommand::Export { directory, place } => export(&place.open()?, &directory),
    }
}

impl Place {
    fn open(&self) -> anyhow::Result<Inspected> {
        let path = match &self.path {
            Some(path) => path.clone(),
            None => {
                let config = config::read(&self.config).map_err(|complaints| anyhow::anyhow!("{complaints}"))?;
                config.spool.path.clone()
            }
        };
        Inspected::open(&path).with_context(|| "looking at a running MTA's spool? Copy it, or stop the MTA")
    }
}

fn verify(spool: &Inspected, is_json: bool) -> anyhow::Result<ExitCode> {
    let damaged = spool.damaged();
    if is_json {
        let list: Vec<Value> =
            damaged.iter().map(|d| json!({ "file": d.file, "offset": d.offset, "why": d.why })).collect();
        let all = json!({ "messages": spool.messages(), "parts": spool.parts.len(), "damaged": list });
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        for damage in damaged {
            println!("{}: byte {}: {}", damage.file.display(), damage.offset, damage.why);
        }
        println!("{} messages are good, {} places are damaged", spool.messages(), damaged.len());
    }
    Ok(if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn stat(spool: &Inspected, is_json: bool) -> anyhow::Result<ExitCode> {
    let segments = spool.segments();
    let mut queues = BTreeMap::<&str, (usize, u64)>::new();
    for part in &spool.parts {
        let name = part.meta.parts.get(usize::from(part.part)).map_or("?", |part| part.queue.as_str());
        let entry = queues.entry(name).or_default();
        *entry = (entry.0 + 1, entry.1 + part.size);
    }
    let oldest = spool.parts.iter().map(|part| part.meta.received).min();
    let (total, live): (u64, u64) =
        segments.iter().fold((0, 0), |(total, live), s| (total + s.total_bytes, live + s.live_bytes));
    if is_json {
        let queues: BTreeMap<_, _> =
            queues.iter().map(|(name, (parts, bytes))| (*name, json!({ "parts": parts, "bytes": bytes }))).collect();
        let all = json!({
            "messages": spool.messages(), "parts": spool.parts.len(), "oldest_ms": oldest, "disk_bytes": total,
            "live_bytes": live, "segments": segments, "queues": queues, "damaged": spool.damaged().len(),
        });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} messages, {} parts, {} damaged places", spool.messages(), spool.parts.len(), spool.damaged().len());
    println!("{live} bytes live of {total} in {} segments", segments.len());
    let mut by_size: Vec<_> = queues.into_iter().collect();
    by_size.sort_by_key(|(name, (parts, _))| (std::cmp::Reverse(*parts), *name));
    let rows: Vec<_> = by_size
        .iter()
        .take(LISTED_QUEUES)
        .map(|(name, (parts, bytes))| vec![(*name).to_owned(), parts.to_string(), bytes.to_string()])
        .collect();
    print!("{}", table(&["queue", "parts", "bytes"], &rows));
    if by_size.len() > rows.len() {
        println!("and {} more queues", by_size.len() - rows.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn dump(spool: &Inspected, id: &str, is_meta: bool) -> anyhow::Result<ExitCode> {
    let id: MessageId = id.parse().map_err(anyhow::Error::msg)?;
    let message = spool.message(id)?;
    if is_meta {
        println!("{}", serde_json::to_string_pretty(&beside(spool, &message))?);
    } else {
        write_out(&message.content.added);
        write_out(&message.content.body);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is stored beside a message's bytes, with where each part stands.
fn beside(spool: &Inspected, message: &Message) -> Value {
    // They are in the order of their ids.
    let first = spool.parts.partition_point(|part| part.id < message.id);
    let open = |part: &&Recovered| part.id == message.id;
    let parts: Vec<Value> = spool.parts[first..]
        .iter()
        .take_while(open)
        .map(|p| json!({ "part": p.part, "attempts": p.attempts, "due_ms": p.due, "settled": p.settled }))
        .collect();
    json!({ "id": message.id, "meta": message.meta, "size": message.content.len(), "open": parts })
}

fn export(spool: &Inspected, directory: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    let mut ids: Vec<_> = spool.parts.iter().map(|part| part.id).collect();
    ids.dedup();
    let mut failed = 0;
    for id in &ids {
        match spool.message(*id) {
            Ok(message) => write(spool, directory, &message)?,
            Err(error) => {
                failed += 1;
                eprintln!("egret-mta: {error}");
            }
        }
    }
    println!("{} messages in {}", ids.len() - failed, directory.display());
    for damage in spool.damaged() {
        eprintln!("{}: byte {}: {}", damage.file.display(), damage.offset, damage.why);
    }
    if failed > 0 {
        bail!("{failed} messages could not be read");
    }
    Ok(if spool.damaged().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn write(spool: &Inspected, directory: &Path, message: &Message) -> anyhow::Result<()> {
    let file = |kind: &str| directory.join(format!("{}.{kind}", message.id));
    let content = [&message.content.added[..], &message.content.body[..]].concat();
    fs::write(file("eml"), content).with_context(|| format!("{}", file("eml").display()))?;
    let beside = serde_json::to_vec_pretty(&beside(spool, message))?;
    fs::write(file("json"), beside).with_context(|| format!("{}", file("json").display()))
}
