//! Commands that ask a running proxy by its admin address. Floor 6.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use axum::http::Method;
use clap::Subcommand;
use egret_shared::http::client;
use serde_json::Value;

use super::print::rows;
use crate::config;

/// Where the running proxy is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Admin {
    /// Its admin address; that of the configuration if absent.
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/proxy.toml")]
    config: PathBuf,
}

impl Admin {
    fn address(&self) -> anyhow::Result<SocketAddr> {
        if let Some(address) = self.admin {
            return Ok(address);
        }
        let config = config::read(&self.config).map_err(|complaints| anyhow::anyhow!("{complaints}"))?;
        config.admin.with_context(|| {
            format!("{} has no admin.address; add it and restart, or give --admin", self.config.display())
        })
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let (status, text) = client::request(method, self.address()?, path).await.map_err(anyhow::Error::msg)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        if status.is_success() {
            return Ok(answer);
        }
        match answer.get("error").and_then(Value::as_str).or(answer.as_str()) {
            Some(error) => bail!("{error}"),
            None => bail!("the proxy answers {status}"),
        }
    }
}

/// `sources`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  egret-proxy sources
  egret-proxy sources drain 192.0.2.11"
)]
pub(super) struct SourcesCommand {
    #[command(subcommand)]
    change: Option<SourceChange>,
    #[command(flatten)]
    admin: Admin,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SourceChange {
    /// Let no session begin from an address; those that run may finish.
    Drain {
        /// The address.
        address: IpAddr,
        #[command(flatten)]
        admin: Admin,
    },
    /// Take an address back into service.
    Undrain {
        /// The address.
        address: IpAddr,
        #[command(flatten)]
        admin: Admin,
    },
}

pub(super) async fn sources(command: SourcesCommand) -> anyhow::Result<ExitCode> {
    let (address, verb, admin) = match command.change {
        None => {
            let list = command.admin.ask(Method::GET, "/v1/sources").await?;
            show(&list, command.json, &["address", "state", "sessions"])?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(SourceChange::Drain { address, admin }) => (address, "drain", admin),
        Some(SourceChange::Undrain { address, admin }) => (address, "undrain", admin),
    };
    let answer = admin.ask(Method::POST, &format!("/v1/sources/{address}/{verb}")).await?;
    let now = if answer["draining"] == true { "draining" } else { "in service" };
    let was = if answer["changed"] == true { "" } else { ", as before" };
    println!("{address}: {now}{was}");
    Ok(ExitCode::SUCCESS)
}

/// `sessions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  egret-proxy sessions
  egret-proxy sessions --state ended --reason connection_timeout
  egret-proxy sessions 10.0.0.7:51234")]
pub(super) struct SessionsCommand {
    /// One session, by its id or its client's address:port; all of it is shown.
    key: Option<String>,
    /// `running`, `ended` or `all`.
    #[arg(long, default_value = "running")]
    state: String,
    /// From this source.
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// To this destination.
    #[arg(long, value_name = "IP")]
    destination: Option<IpAddr>,
    /// Of this client.
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Failed for this reason.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    admin: Admin,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn sessions(command: SessionsCommand) -> anyhow::Result<ExitCode> {
    if let Some(key) = &command.key {
        let record = command.admin.ask(Method::GET, &format!("/v1/sessions/{key}")).await?;
        println!("{}", serde_json::to_string_pretty(&record)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut path = format!("/v1/sessions?state={}", command.state);
    let ips = [("source", command.source), ("destination", command.destination), ("client", command.client)];
    for (key, ip) in ips.into_iter().filter_map(|(key, ip)| Some((key, ip?))) {
        let _ = write!(path, "&{key}={ip}");
    }
    if let Some(reason) = &command.reason {
        let _ = write!(path, "&reason={reason}");
    }
    let list = command.admin.ask(Method::GET, &path).await?;
    let fields = [
        "id",
        "client",
        "source",
        "destination",
        "duration_ms",
        "bytes_up",
        "bytes_down",
        "end",
        "closed_by",
        "reason",
    ];
    show(&list, command.json, &fields)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn reload(admin: Admin) -> anyhow::Result<ExitCode> {
    let answer = admin.ask(Method::POST, "/v1/reload").await?;
    println!("reloaded");
    for key in answer["wants_restart"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("{key} has changed and wants a restart");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(list: &Value, json: bool, fields: &[&str]) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(list)?);
    } else {
        print!("{}", rows(list, fields));
    }
    Ok(())
}
