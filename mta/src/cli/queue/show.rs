//! What is shown of the queues: tables for people, JSON for programs. Floor 6.

use std::time::Duration;

use clap::Args;
use egret_shared::check::render::table;
use egret_shared::clock::Clock;
use egret_shared::lifecycle::write_out;
use egret_shared::units::Span;
use serde_json::Value;

use super::{Admin, path, pretty};

/// `list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Listing {
    /// Of this campaign; an empty one is mail that has none.
    #[arg(long)]
    campaign: Option<String>,
    /// Of this tenant; an empty one is mail that has none.
    #[arg(long)]
    tenant: Option<String>,
    /// To this domain.
    #[arg(long)]
    domain: Option<String>,
    /// Led by this route, or to this domain's hosts; an empty one is mail that is led by its own domain.
    #[arg(long, value_name = "ROUTE")]
    routing: Option<String>,
    /// To this site.
    #[arg(long)]
    site: Option<String>,
    /// Of this pool.
    #[arg(long)]
    pool: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    admin: Admin,
}

/// `ready`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Paths {
    /// From this source.
    #[arg(long)]
    source: Option<String>,
    /// To this site.
    #[arg(long)]
    site: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    admin: Admin,
}

/// `summary`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Counted {
    /// At most so many of each kind.
    #[arg(long, default_value_t = 10)]
    limit: usize,
    #[command(flatten)]
    admin: Admin,
}

/// `show`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Shown {
    /// The message's id, as events and replies show it.
    id: String,
    /// Print the message itself.
    #[arg(long, conflicts_with = "json")]
    content: bool,
    #[command(flatten)]
    admin: Admin,
}

/// `controls` and `jobs`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Plain {
    #[command(flatten)]
    admin: Admin,
}

/// A path with a limit, and those parameters that are given.
fn limited(base: &str, limit: usize, given: &[(&str, &Option<String>)]) -> String {
    path(base, &[&[("limit", &Some(limit.to_string()))], given].concat())
}

pub(super) async fn list(asked: Listing) -> anyhow::Result<()> {
    let given = [
        ("campaign", &asked.campaign),
        ("tenant", &asked.tenant),
        ("domain", &asked.domain),
        ("routing", &asked.routing),
        ("site", &asked.site),
        ("pool", &asked.pool),
    ];
    let rows = asked.admin.get(&limited("/v1/queues", asked.limit, &given)).await?;
    let header = ["queue", "pool", "priority", "held", "due", "oldest", "next due", "leads to", "suspended by"];
    print(&asked.admin, &rows, &header, |row| {
        let next = if row["next_due"].is_null() { "-".to_owned() } else { until(&row["next_due"]) };
        let cells = ["queue", "pool", "priority", "held", "due"].map(|key| cell(&row[key]));
        [&cells[..], &[span(&row["oldest"]), next, cell(&row["lead"]), cell(&row["suspended_by"])]].concat()
    })
}

pub(super) async fn ready(asked: Paths) -> anyhow::Result<()> {
    let given = [("source", &asked.source), ("site", &asked.site)];
    let rows = asked.admin.get(&limited("/v1/ready", asked.limit, &given)).await?;
    let header = ["source", "site", "waiting", "sessions", "idle", "failures", "held for", "suspended by", "why"];
    print(&asked.admin, &rows, &header, |row| {
        let cells = ["source", "site", "waiting", "sessions", "idle", "failures"].map(|key| cell(&row[key]));
        [&cells[..], &[until(&row["held_until"]), cell(&row["suspended_by"]), cell(&row["why"])]].concat()
    })
}

pub(super) async fn summary(asked: Counted) -> anyhow::Result<()> {
    let sums = asked.admin.get(&limited("/v1/summary", asked.limit, &[])).await?;
    if asked.admin.json {
        return pretty(&sums);
    }
    println!("{} parts are queued", sums["held"]);
    for (key, title) in [("tenants", "tenant"), ("campaigns", "campaign"), ("domains", "domain"), ("pools", "pool")] {
        println!();
        print(&asked.admin, &sums[key], &[title, "queues", "held", "due"], |row| {
            let name = row["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("(none)");
            vec![name.to_owned(), cell(&row["queues"]), cell(&row["held"]), cell(&row["due"])]
        })?;
    }
    Ok(())
}

pub(super) async fn message(asked: Shown) -> anyhow::Result<()> {
    let path = path_of_message(&asked.id)?;
    if asked.content {
        let text = asked.admin.get_text(&format!("{path}?content=true")).await?;
        write_out(text.as_bytes());
        return Ok(());
    }
    let message = asked.admin.get(&path).await?;
    if asked.admin.json {
        return pretty(&message);
    }
    let sender = message["sender"].as_str().filter(|sender| !sender.is_empty()).unwrap_or("<>");
    println!(
        "{} from {sender}, {} bytes, accepted {} ago",
        cell(&message["id"]),
        message["size"],
        span(&message["received"])
    );
    for (at, part) in message["parts"].as_array().into_iter().flatten().enumerate() {
        let recipients: Vec<String> = part["recipients"].as_array().into_iter().flatten().map(cell).collect();
        println!("\npart {at}: {}", recipients.join(", "));
        let queued = message["queued"].as_array().into_iter().flatten().find(|queued| queued["part"] == at);
        let Some(queued) = queued else {
            println!("  is not queued: done with, or about to be queued");
            continue;
        };
        let place =
            [("queue", cell(&queued["queue"])), ("pool", cell(&queued["pool"])), ("place", cell(&queued["place"]))];
        let times = [
            ("attempts", cell(&queued["attempts"])),
            ("due", when(&queued["due"])),
            ("expires", when(&queued["expires"])),
        ];
        for (key, value) in place.iter().chain(&times) {
            println!("  {key:<9} {value}");
        }
        for why in queued["waits_for"].as_array().into_iter().flatten() {
            println!("  waits: {}", cell(why));
        }
    }
    Ok(())
}

fn path_of_message(id: &str) -> anyhow::Result<String> {
    let id: crate::message::MessageId = id.parse().map_err(anyhow::Error::msg)?;
    Ok(format!("/v1/messages/{id}"))
}

pub(super) async fn controls(asked: Plain) -> anyhow::Result<()> {
    let rows = asked.admin.get("/v1/controls").await?;
    print(&asked.admin, &rows, &["id", "kind", "scope", "by", "given", "ends", "reason"], |row| {
        let given = format!("{} ago", span(&row["created"]));
        vec![
            cell(&row["id"]),
            kind(row),
            scope(&row["scope"]),
            cell(&row["by"]),
            given,
            until(&row["expires"]),
            cell(&row["reason"]),
        ]
    })
}

/// What an order does, with the option that it sets.
pub(in crate::cli) fn kind(row: &Value) -> String {
    let setting = &row["setting"];
    match setting["name"].as_str() {
        Some(name) => format!("{} {name} = {}", cell(&row["kind"]), cell(&setting["value"])),
        None => cell(&row["kind"]),
    }
}

pub(super) async fn jobs(asked: Plain) -> anyhow::Result<()> {
    let rows = asked.admin.get("/v1/jobs").await?;
    print(&asked.admin, &rows, &["id", "kind", "scope", "matched", "done", "skipped", "state"], |row| {
        let state = match (&row["ended"], row["running"] == true, &row["until"]) {
            (Value::Null, false, Value::Number(_)) => format!("lasts for {}", until(&row["until"])),
            (Value::Null, _, _) => "running".to_owned(),
            (ended, ..) => format!("ended {} ago", span(ended)),
        };
        let cells = ["matched", "done", "skipped"].map(|key| cell(&row[key]));
        [&[cell(&row["id"]), cell(&row["kind"]), scope(&row["scope"])], &cells[..], &[state]].concat()
    })
}

pub(in crate::cli) fn print(
    admin: &Admin,
    rows: &Value,
    header: &[&str],
    cells: impl Fn(&Value) -> Vec<String>,
) -> anyhow::Result<()> {
    if admin.json {
        return pretty(rows);
    }
    let rows: Vec<Vec<String>> = rows.as_array().into_iter().flatten().map(cells).collect();
    print!("{}", table(header, &rows));
    Ok(())
}

pub(in crate::cli) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(in crate::cli) fn scope(value: &Value) -> String {
    let given: Vec<String> =
        value.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", cell(value))).collect();
    if given.is_empty() { "everything".to_owned() } else { given.join(" ") }
}

/// How long ago a time was.
pub(in crate::cli) fn span(ms: &Value) -> String {
    let now = Clock::system().wall().0;
    ms.as_u64().map_or_else(|| "-".to_owned(), |ms| rough(now.saturating_sub(ms)))
}

/// How far off a time is.
pub(in crate::cli) fn until(ms: &Value) -> String {
    let now = Clock::system().wall().0;
    ms.as_u64().map_or_else(|| "-".to_owned(), |ms| rough(ms.saturating_sub(now)))
}

/// In whole seconds, and of no more than two units.
pub(in crate::cli) fn rough(ms: u64) -> String {
    let secs = ms / 1_000;
    let unit = [(172_800, 3_600), (7_200, 60)].into_iter().find(|(from, _)| secs >= *from).map_or(1, |(_, unit)| unit);
    Span(Duration::from_secs(secs / unit * unit)).to_string()
}

/// A time in UTC, to the second, as logs write it.
pub(in crate::cli) fn when(ms: &Value) -> String {
    let time = ms.as_i64().and_then(|ms| jiff::Timestamp::from_second(ms / 1_000).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_cannot_break_out_of_it() {
        let given = [("tenant", &Some("a&b=c d".to_owned())), ("site", &None)];
        assert_eq!(limited("/v1/queues", 5, &given), "/v1/queues?limit=5&tenant=a%26b%3Dc%20d");
    }

    #[test]
    fn spans_are_short_enough_to_read() {
        assert_eq!(
            (rough(59_999), rough(7_261_000), rough(200_000_000)),
            ("59s".into(), "2h 1m".into(), "2days 7h".into())
        );
    }
}
