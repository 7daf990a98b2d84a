//! `queue`: asks a running MTA by its admin address what is queued, and gives it orders. Floor 6.

mod order;
mod show;

pub(super) use show::{cell, kind, print, rough, scope, span, until, when};

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use clap::{Args, Subcommand};
use egret_shared::config::values;
use egret_shared::http::client;
use serde_json::{Value, json};

/// Between two looks at a job that is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// Where the running MTA is asked.
#[derive(Debug, Args)]
pub(super) struct Admin {
    /// Its admin address; that of the configuration if absent.
    #[arg(long = "admin", value_name = "IP:PORT")]
    address: Option<SocketAddr>,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/mta.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  egret-mta queue list --tenant acme
  egret-mta queue show 019ab5e4c0007d3c8f00112233445566
  egret-mta queue suspend --domain example.com --for 2h --reason 'listed there'
  egret-mta queue resume --domain example.com
  egret-mta queue bounce --queue spring:acme@example.com --reason 'cancelled' --wait
  egret-mta queue rebind --tenant acme --to-pool warm --wait
  egret-mta queue requeue --everything")]
pub(super) enum QueueCommand {
    /// List scheduled queues, the largest first.
    List(show::Listing),
    /// List ready queues: what waits for a session on each path, and why a path is held.
    Ready(show::Paths),
    /// Count by tenant, campaign, domain and pool.
    Summary(show::Counted),
    /// Show a message: where each part is and what it waits for.
    Show(show::Shown),
    /// List suspensions, bounces and settings that last, and who gave them.
    Controls(show::Plain),
    /// List bounces, moves and requeues that run or ended of late.
    Jobs(show::Plain),
    /// Let nothing that matches go out, for a time; schedules stay as they are.
    Suspend(order::Suspend),
    /// End a suspension or a lasting bounce.
    Resume(order::Resume),
    /// Fail what matches and tell its senders.
    Bounce(order::Bounce),
    /// Move what matches to another queue or pool.
    Rebind(order::Rebind),
    /// Make what matches due now.
    Requeue(order::Requeue),
}

pub(super) fn run(command: QueueCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            QueueCommand::List(listing) => show::list(listing).await,
            QueueCommand::Ready(paths) => show::ready(paths).await,
            QueueCommand::Summary(counted) => show::summary(counted).await,
            QueueCommand::Show(shown) => show::message(shown).await,
            QueueCommand::Controls(plain) => show::controls(plain).await,
            QueueCommand::Jobs(plain) => show::jobs(plain).await,
            QueueCommand::Suspend(order) => order::suspend(order).await,
            QueueCommand::Resume(order) => order::resume(order).await,
            QueueCommand::Bounce(order) => order::bounce(order).await,
            QueueCommand::Rebind(order) => order::rebind(order).await,
            QueueCommand::Requeue(order) => order::requeue(order).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `reload`.
pub(super) fn reload(admin: &Admin) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(admin.post("/v1/reload", &json!({})))?;
    if admin.json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("reloaded");
    for (field, what) in
        [("applied", "holds now"), ("wants_restart", "has changed and wants a restart"), ("warnings", "")]
    {
        for key in answer[field].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("{}", format!("{key} {what}").trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Admin {
    /// Where it is asked.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        if let Some(address) = self.address {
            return Ok(address);
        }
        // Only this key: what the file names besides may be readable by the MTA alone.
        let text = std::fs::read_to_string(&self.config)
            .map_err(|error| anyhow::anyhow!("{}: {error}\n(or give --admin IP:PORT)", self.config.display()))?;
        let address = values(&text).remove("admin.address");
        let address =
            address.map(|text| text.parse().with_context(|| format!("admin.address: {text:?}"))).transpose()?;
        address.with_context(|| {
            format!("{} has no admin.address; add it and restart the MTA, or give --admin", self.config.display())
        })
    }

    /// Asks for a path; its JSON.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, text) = self.exchange(Method::GET, path, Bytes::new()).await?;
        answer(status, text)
    }

    /// The answer as it is.
    async fn get_text(&self, path: &str) -> anyhow::Result<String> {
        let (status, text) = self.exchange(Method::GET, path, Bytes::new()).await?;
        if status.is_success() { Ok(text) } else { answer(status, text).map(|value| value.to_string()) }
    }

    /// Gives an order; its JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, text) = self.exchange(Method::POST, path, body.to_string().into()).await?;
        answer(status, text)
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, String)> {
        let address = self.address()?;
        client::send(method, address, path, body).await.map_err(|error| self.unreachable(address, error))
    }

    /// That nobody answers at the address, and what may be the cause.
    pub fn unreachable(&self, address: SocketAddr, error: String) -> anyhow::Error {
        let hint = if self.address.is_some() { "--admin" } else { "admin.address" };
        let words = format!("the MTA cannot be asked at {address}: does it run, with this {hint}?");
        anyhow::Error::msg(error).context(words)
    }

    /// Waits until a job has nothing left to do.
    async fn job(&self, id: &str) -> anyhow::Result<Value> {
        loop {
            let jobs = self.get("/v1/jobs").await?;
            let found = jobs.as_array().into_iter().flatten().find(|job| job["id"] == id);
            match found {
                None => bail!("job {id} is not known any more: the MTA was started anew, or other jobs came since"),
                Some(job) if job["running"] == false => return Ok(job.clone()),
                Some(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// The JSON of an answer, or what its error says.
pub(super) fn answer(status: StatusCode, text: String) -> anyhow::Result<Value> {
    let answer: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if status.is_success() {
        return Ok(answer);
    }
    match answer.get("error").and_then(Value::as_str).or(answer.as_str()).filter(|text| !text.is_empty()) {
        Some(error) => bail!("{error}"),
        None => bail!("the MTA answers {status}; is it of this version?"),
    }
}

/// A path with those parameters that are given, their values escaped.
pub(super) fn path(base: &str, given: &[(&str, &Option<String>)]) -> String {
    let mut path = base.to_owned();
    let given = given.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    for (mark, (key, value)) in std::iter::once('?').chain(std::iter::repeat('&')).zip(given) {
        let _ = write!(path, "{mark}{key}=");
        for byte in value.bytes() {
            let _ = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => write!(path, "{}", char::from(byte)),
                other => write!(path, "%{other:02X}"),
            };
        }
    }
    path
}

/// Which mail, for orders.
#[derive(Debug, Args)]
struct Scope {
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
    /// To this site, by its name as `queue ready` shows it.
    #[arg(long)]
    site: Option<String>,
    /// One queue by its name, campaign:tenant@domain!routing.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["campaign", "tenant", "domain", "routing", "site"])]
    queue: Option<String>,
    /// Everything that is queued.
    #[arg(long)]
    everything: bool,
}

impl Scope {
    /// The body of an order about it.
    fn body(&self) -> Value {
        let mut body = json!({ "scope": {} });
        let given = [
            ("campaign", &self.campaign),
            ("tenant", &self.tenant),
            ("domain", &self.domain),
            ("routing", &self.routing),
            ("site", &self.site),
        ];
        for (key, value) in given.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            body["scope"][key] = json!(value);
        }
        if let Some(queue) = &self.queue {
            body["queue"] = json!(queue);
        }
        if self.everything {
            body["everything"] = json!(true);
        }
        body
    }
}

fn pretty(value: &Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
