//! `why`: what keeps mail back in a running MTA, in order, and when it can go. Floor 6.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::queue::{Admin, path, rough, when};
use egret_shared::clock::Clock;

/// `why`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  egret-mta why --message 019ab5e4c0007d3c8f00112233445566
  egret-mta why --domain example.com
  egret-mta why --tenant acme
  egret-mta why --source out-1")]
#[group(skip)]
pub(super) struct Question {
    /// About a message, by its id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["domain", "tenant", "source"])]
    message: Option<String>,
    /// About the mail of a domain.
    #[arg(long, conflicts_with = "source")]
    domain: Option<String>,
    /// About the mail of a tenant; an empty one is mail that has none.
    #[arg(long, conflicts_with = "source")]
    tenant: Option<String>,
    /// About a source and its paths.
    #[arg(long)]
    source: Option<String>,
    /// At most so many queues, the largest first.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    admin: Admin,
}

pub(super) fn run(asked: &Question) -> anyhow::Result<ExitCode> {
    let limit = Some(asked.limit.to_string());
    let given = [
        ("message", &asked.message),
        ("domain", &asked.domain),
        ("tenant", &asked.tenant),
        ("source", &asked.source),
        ("limit", &limit),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(asked.admin.get(&path("/v1/why", &given)))?;
    if asked.admin.json {
        println!("{told:#}");
    } else {
        print!("{}", text(&told, Clock::system().wall().0));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(told: &Value, now: u64) -> String {
    let all: Vec<&Value> = told.as_array().into_iter().flatten().collect();
    if all.is_empty() {
        return "nothing of it is queued; `egret-mta queue controls` lists what would keep it back\n".to_owned();
    }
    all.into_iter().map(|why| paragraph(why, now)).collect::<Vec<_>>().join("\n")
}

fn paragraph(why: &Value, now: u64) -> String {
    let about = why["about"].as_str().unwrap_or("?");
    let mut text = match why["part"].as_u64() {
        Some(part) => format!("part {part}, in queue {about}\n"),
        None => format!("{about}: {} queued, {} of them due\n", why["held"], why["due"]),
    };
    let blockers: Vec<&Value> = why["blockers"].as_array().into_iter().flatten().collect();
    for (n, blocker) in blockers.iter().enumerate() {
        let _ = writeln!(text, "  {}. {}", n + 1, line(blocker, now));
    }
    let earliest = match why["earliest"].as_u64() {
        Some(at) if at > now => format!("at {} (in {}) at the earliest", when(&why["earliest"]), rough(at - now)),
        Some(_) if blockers.is_empty() => "now: nothing blocks it".to_owned(),
        Some(_) => "now".to_owned(),
        None => "when what is above without an end has ended".to_owned(),
    };
    let _ = writeln!(text, "  can go: {earliest}");
    text
}

fn line(blocker: &Value, now: u64) -> String {
    let word = |key: &str| blocker[key].as_str().unwrap_or("?").replace('_', " ");
    let mut text = word("what");
    if let Some(source) = blocker["source"].as_str() {
        let _ = write!(text, " of source {source}");
    }
    let _ = write!(text, ", by the {}", if word("set_by") == "dns" { "DNS".to_owned() } else { word("set_by") });
    if let Some(since) = blocker["since"].as_u64() {
        let _ = write!(text, ", for {} now", rough(now.saturating_sub(since)));
    }
    if let Some(until) = blocker["until"].as_u64() {
        let _ = write!(text, ", until {} (in {})", when(&blocker["until"]), rough(until.saturating_sub(now)));
    }
    let _ = write!(text, ": {}", blocker["text"].as_str().unwrap_or("?"));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blockers_are_numbered_and_the_end_is_told() {
        let told = json!([{"about": "t@a.test", "part": 0, "held": 1, "due": 1, "earliest": 1_764_000_060_000_u64,
            "blockers": [{"what": "suspension", "set_by": "operator", "since": 1_763_999_990_000_u64,
                "until": 1_764_000_060_000_u64, "text": "control 1a over tenant=t: listed"}]}]);
        let shown = text(&told, 1_764_000_000_000);
        let want = "part 0, in queue t@a.test\n  1. suspension, by the operator, for 10s now, until 2025-11-24T16:01:00Z \
                    (in 1m): control 1a over tenant=t: listed\n  can go: at 2025-11-24T16:01:00Z (in 1m) at the earliest\n";
        assert_eq!(shown, want);
        assert!(text(&json!([]), 0).starts_with("nothing of it is queued"));
        let free = json!([{"about": "a.test, pool p", "held": 3, "due": 0, "earliest": 5, "blockers": []}]);
        assert!(text(&free, 9).ends_with("3 queued, 0 of them due\n  can go: now: nothing blocks it\n"));
    }
}
