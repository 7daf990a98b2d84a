//! `trace`: shows live sessions of a running MTA, line by line. Floor 6.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use egret_shared::http::client;
use serde_json::Value;

use super::queue::{Admin, answer, path};

/// `trace`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  egret-mta trace --to example.com
  egret-mta trace --source out-1 --content
  egret-mta trace --queue spring:acme@example.com --json

Each line: time (UTC), session, source, destination, and what happened:
  > to the destination   < from it   * dial, TLS, end   | content   ! fault")]
pub(super) struct Trace {
    /// While messages of this scheduled queue are carried, campaign:tenant@domain.
    #[arg(long)]
    queue: Option<String>,
    /// From this source.
    #[arg(long)]
    source: Option<String>,
    /// To this domain, site, host or address.
    #[arg(long)]
    to: Option<String>,
    /// Every session.
    #[arg(long, conflicts_with_all = ["queue", "source", "to"])]
    everything: bool,
    /// Show the content of messages, too.
    #[arg(long)]
    content: bool,
    /// End after so many lines.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    admin: Admin,
}

pub(super) fn run(asked: &Trace) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(listen(asked))?;
    Ok(ExitCode::SUCCESS)
}

async fn listen(asked: &Trace) -> anyhow::Result<()> {
    let yes = |wanted: bool| wanted.then(|| "true".to_owned());
    let (everything, content) = (yes(asked.everything), yes(asked.content));
    let given = [
        ("queue", &asked.queue),
        ("source", &asked.source),
        ("to", &asked.to),
        ("everything", &everything),
        ("content", &content),
    ];
    let (address, path) = (asked.admin.address()?, path("/v1/trace", &given));
    let (mut left, mut out) = (asked.count, io::stdout());
    let ended = client::listen(address, &path, |line| {
        if line.is_empty() {
            eprintln!("tracing; Ctrl-C ends it");
            return ControlFlow::Continue(());
        }
        let shown = if asked.admin.json { line.to_owned() } else { text(line) };
        left = left.map(|left| left.saturating_sub(1));
        // Nobody reads any more, as with `| head`: that is an end.
        let written = writeln!(out, "{shown}").and_then(|()| out.flush());
        if written.is_err() || left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let (status, words) = ended.await.map_err(|error| asked.admin.unreachable(address, error))?;
    if status.is_success() { Ok(()) } else { answer(status, words).map(drop) }
}

fn text(line: &str) -> String {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let word = |key: &str| line[key].as_str().unwrap_or_default();
    let mark = match word("what") {
        "sent" => ">",
        "received" => "<",
        "content" => "|",
        "fault" => "!",
        _ => "*",
    };
    let what = match word("what") {
        "sent" | "received" | "content" | "fault" => String::new(),
        other => format!("{other} "),
    };
    if word("what") == "missed" {
        return format!("{mark} {what}{}: the trace is slower than the mail; name less", word("text"));
    }
    let time = line["time_ms"].as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let time = time.map_or_else(String::new, |time| format!("{time:.3}"));
    let time = time.split_once('T').map_or("", |(_, time)| time.trim_end_matches('Z'));
    let to = match line["address"].as_str() {
        Some(address) => format!("{} [{address}]", word("host")),
        None => word("site").to_owned(),
    };
    let shown = format!("{time} #{} {} {to} {mark} {what}{}", line["session"], word("source"), word("text"));
    shown.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_from_where_to_where_and_what() {
        let line = r#"{"time_ms":1764000000123,"session":4,"source":"a1","site":"s","host":"mx.b.test",
            "address":"192.0.2.1:25","queue":"@b.test","id":null,"what":"sent","text":"DATA"}"#;
        assert_eq!(text(line), "16:00:00.123 #4 a1 mx.b.test [192.0.2.1:25] > DATA");
        let missed = text(r#"{"what":"missed","text":"5 lines"}"#);
        assert!(missed.starts_with("* missed 5 lines"), "{missed}");
    }
}
