//! `explain`: what would become of a message, by the configuration alone and the DNS. Floor 6.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use egret_shared::text::Line;
use serde_json::{Value, json};

use crate::config::{self, Config};
use crate::dns::resolver::{Failure, Resolver};
use crate::dns::site::{Protocol, Site};
use crate::intake::Ways;
use crate::message::{Address, Part, Wishes};
use crate::routing::pool::Pool;
use crate::routing::rule::{Assigned, Facts};
use crate::routing::source::Way;

/// `explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  egret-mta explain --from news@acme.example --to bob@example.com --header 'X-Tenant: acme'
  egret-mta explain --from '<>' --to bob@example.com --message mail.eml --no-dns --json")]
pub(super) struct Explain {
    /// The reverse-path; `<>` is the null sender.
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// A forward-path; may be given several times.
    #[arg(long, value_name = "ADDRESS", required = true)]
    to: Vec<String>,
    /// A header, `Name: value`; may be given several times.
    #[arg(long, value_name = "HEADER", conflicts_with = "message")]
    header: Vec<String>,
    /// A file that holds the message.
    #[arg(long, value_name = "FILE")]
    message: Option<PathBuf>,
    /// The listener that it would come in by; the first if absent.
    #[arg(long, value_name = "IP:PORT")]
    listener: Option<SocketAddr>,
    /// The address that it would come from; this host's own if absent.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    client: IpAddr,
    /// Do not ask the DNS.
    #[arg(long)]
    no_dns: bool,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/mta.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(asked: &Explain) -> anyhow::Result<ExitCode> {
    let config = config::read(&asked.config).map_err(|complaints| anyhow::anyhow!("{complaints}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(explain(asked, &config))?;
    if asked.json {
        println!("{told:#}");
    } else {
        print!("{}", text(&told));
    }
    Ok(ExitCode::SUCCESS)
}

async fn explain(asked: &Explain, config: &Config) -> anyhow::Result<Value> {
    let sender = match asked.from.as_str() {
        "<>" | "" => None,
        from => Some(address(from)?),
    };
    let recipients = asked.to.iter().map(|to| address(to)).collect::<anyhow::Result<Vec<_>>>()?;
    let (labels, message) = config.labels.take(message(asked)?).map_err(|bad| anyhow::anyhow!("refused: {bad}"))?;
    let listener = asked.listener.or_else(|| config.listeners.first().map(|listener| listener.address));
    let facts = Facts { message: &message, sender: sender.as_ref(), listener, client: Some(asked.client) };
    let assigned: Vec<Assigned> = recipients.iter().map(|to| config.rules.assign(&facts, to, &labels)).collect();
    let (message, added) = config.rules.edit(message.clone(), &assigned);
    let ways = Ways { routes: config.routes.clone(), default_pool: config.default_pool.clone() };
    let resolver = Resolver::new(config.dns.clone())?;
    let mut told = Vec::new();
    for (recipient, assigned) in recipients.into_iter().zip(&assigned) {
        let parts = ways.split(vec![recipient.clone()], std::slice::from_ref(assigned), &Wishes::default());
        let Some(part) = parts.first() else { continue };
        told.push(json!({
            "recipient": recipient.as_str(),
            "rules": rules(config, assigned),
            "tenant": assigned.labels.texts().1,
            "campaign": assigned.labels.texts().0,
            "queue": part.queue,
            "pool": pool(config, part),
            "destination": destination(asked, &ways, &resolver, &recipient).await,
        }));
    }
    let options = &config.path;
    Ok(json!({
        "recipients": told,
        "added_headers": added.iter().map(Line::as_str).collect::<Vec<_>>(),
        "signatures": config.signers.of_message(&message),
        "path": {
            "connection_limit": options.connection_limit,
            "max_deliveries_per_connection": options.max_deliveries_per_connection,
            "max_recipients_per_batch": options.max_recipients_per_batch,
            "enable_tls": format!("{:?}", options.tls.enable_tls),
        },
    }))
}

fn address(text: &str) -> anyhow::Result<Address> {
    Address::parse(text.trim_start_matches('<').trim_end_matches('>'))
        .map_err(|error| anyhow::anyhow!("{text:?} is no address: {error}"))
}

/// The message, with lines that end as SMTP ends them.
fn message(asked: &Explain) -> anyhow::Result<Bytes> {
    let Some(file) = &asked.message else {
        if let Some(bad) = asked.header.iter().find(|header| !header.contains(':') || header.contains(['\r', '\n'])) {
            bail!("--header {bad:?} is no header; write it like \"X-Class: bulk\"");
        }
        let headers = asked.header.iter().map(|header| header.clone() + "\r\n").collect::<String>();
        return Ok((headers + "\r\n").into());
    };
    let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines.collect::<Vec<_>>().join(&b"\r\n"[..]).into())
}

fn rules(config: &Config, assigned: &Assigned) -> Vec<Value> {
    let told = |place: &usize| {
        let rule = config.rules.get(*place)?;
        Some(json!({ "place": place + 1, "name": rule.name, "stop": rule.then.stop }))
    };
    assigned.rules.iter().filter_map(told).collect()
}

fn pool(config: &Config, part: &Part) -> Value {
    let Some(pool) = config.pools.iter().find(|pool: &&Pool| pool.name == part.pool) else { return Value::Null };
    let total: u32 = pool.members.iter().map(|(_, weight)| weight).sum();
    let source = |(source, weight): &(std::sync::Arc<crate::routing::source::Source>, u32)| {
        let proxies: Vec<&str> = source.ways.iter().filter_map(Way::proxy).map(|proxy| &*proxy.name).collect();
        json!({ "source": source.name, "address": source.address, "proxies": proxies, "weight": weight, "of": total })
    };
    json!({ "name": pool.name, "sources": pool.members.iter().map(source).collect::<Vec<_>>() })
}

async fn destination(asked: &Explain, ways: &Ways, resolver: &Resolver, recipient: &Address) -> Value {
    let domain = recipient.canonical_domain();
    let (by, found) = match ways.routes.find(&domain).filter(|route| !route.hosts.is_empty()) {
        Some(route) => ("route", Some(resolver.fixed_site(&route.hosts, route.protocol).await)),
        None if asked.no_dns => ("DNS, not asked", None),
        None => ("DNS", Some(resolver.site(&domain).await)),
    };
    match found {
        None => json!({ "by": by }),
        Some(Ok(resolved)) => json!({ "by": by, "site": resolved.site.name, "hosts": hosts(&resolved.site) }),
        Some(Err(Failure::Permanent { response })) => json!({ "by": by, "bounces": response.to_string() }),
        Some(Err(Failure::Temporary { response })) => json!({ "by": by, "waits": response.to_string() }),
    }
}

fn hosts(site: &Site) -> Vec<Value> {
    let protocol = if site.protocol == Protocol::Lmtp { "lmtp" } else { "smtp" };
    let host = |host: &crate::dns::site::MxHost| json!({ "host": host.name, "addresses": host.addresses, "port": host.port, "protocol": protocol });
    site.hosts.iter().map(host).collect()
}

fn text(told: &Value) -> String {
    let mut text = String::new();
    let words = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    for one in told["recipients"].as_array().into_iter().flatten() {
        let list = |value: &Value, key: &str| {
            let each = value.as_array().into_iter().flatten();
            let all: Vec<String> = each.map(|item| item[key].as_str().unwrap_or("?").to_owned()).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        let _ = writeln!(text, "{}", words(&one["recipient"]));
        for (key, value) in [
            ("rules", list(&one["rules"], "name")),
            ("tenant", words(&one["tenant"])),
            ("campaign", words(&one["campaign"])),
            ("queue", words(&one["queue"])),
            ("pool", words(&one["pool"]["name"])),
        ] {
            let _ = writeln!(text, "  {key:<9} {value}");
        }
        for source in one["pool"]["sources"].as_array().into_iter().flatten() {
            let _ = writeln!(text, "  source    {}", source_line(source));
        }
        let _ = writeln!(text, "  goes to   {}", destination_line(&one["destination"]));
    }
    let plain = |value: &Value| {
        let all: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    let path = &told["path"];
    let _ = writeln!(text, "headers added: {}", plain(&told["added_headers"]));
    let _ = writeln!(text, "signed by: {}", plain(&told["signatures"]));
    let _ = writeln!(
        text,
        "each path: {} sessions, {} messages a session, {} recipients at once, TLS {}",
        path["connection_limit"],
        path["max_deliveries_per_connection"],
        path["max_recipients_per_batch"],
        words(&path["enable_tls"])
    );
    text
}

fn source_line(source: &Value) -> String {
    let proxies: Vec<&str> = source["proxies"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let way = if proxies.is_empty() { "directly".to_owned() } else { format!("by {}", proxies.join(", then ")) };
    let address = source["address"].as_str().unwrap_or("any address");
    format!("{} ({address}) {way}: {} of {}", source["source"].as_str().unwrap_or("?"), source["weight"], source["of"])
}

fn destination_line(destination: &Value) -> String {
    let by = destination["by"].as_str().unwrap_or("?");
    for (key, what) in [("bounces", "bounces"), ("waits", "waits")] {
        if let Some(words) = destination[key].as_str() {
            return format!("nowhere, it {what}: {words} (by {by})");
        }
    }
    let host = |host: &Value| {
        let addresses: Vec<&str> =
            host["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let protocol = if host["protocol"] == "lmtp" { " by LMTP" } else { "" };
        format!("{} [{}] port {}{protocol}", host["host"].as_str().unwrap_or("?"), addresses.join(" "), host["port"])
    };
    let hosts: Vec<String> = destination["hosts"].as_array().into_iter().flatten().map(host).collect();
    if hosts.is_empty() { format!("(by {by})") } else { format!("{} (by {by})", hosts.join(", then ")) }
}
