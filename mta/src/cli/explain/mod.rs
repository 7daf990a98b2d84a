//! `explain`: what would become of a message, by the configuration alone and the DNS. Floor 6.

mod floors;
mod text;
mod warmup;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use egret_shared::text::Line;
use serde_json::{Value, json};

use super::shaping::ANY_SOURCE;
use crate::app::{policed, rollup};
use crate::config::{self, Config};
use crate::dns::lead::lead;
use crate::dns::policed::Policed;
use crate::dns::resolver::Failure;
use crate::dns::site::{HostPolicy, MxHost, Protocol, Site};
use crate::message::{Address, Part, Wishes, is_domain};
use crate::routing::pool::Pool;
use crate::routing::route::Route;
use crate::routing::rule::{Assigned, Facts};
use crate::routing::source::{Source, Way};
use crate::routing::ways::Ways;
use crate::shaping::Shaper;
use crate::shaping::per_site::marked;
use crate::shaping::resolve::Origin;

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
    /// The user that the client would log in as; none if absent.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
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
        print!("{}", text::of(&told));
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
    let facts = Facts {
        message: &message,
        sender: sender.as_ref(),
        listener,
        client: Some(asked.client),
        user: asked.user.as_deref(),
    };
    let assigned: Vec<Assigned> = recipients.iter().map(|to| config.rules.assign(&facts, to, &labels)).collect();
    let (edited, added) = config.rules.edit(message.clone(), &assigned);
    let (ways, policed, shaper) = (config.ways(), policed(config)?, config.shaper());
    if !asked.no_dns {
        for (domain, found) in rollup::look_up(policed.resolver(), shaper.shaping().rolled()).await {
            shaper.learn(&domain, found.as_ref().map(|found| &*found.site.name).map_err(rollup::words));
        }
    }
    let mut told = Vec::new();
    for (recipient, assigned) in recipients.into_iter().zip(&assigned) {
        let parts = ways.split(vec![recipient.clone()], std::slice::from_ref(assigned), &Wishes::default());
        let Some(part) = parts.first() else { continue };
        let way = way(asked, &ways, &policed, &shaper, part).await;
        let members = config.pools.iter().filter(|pool| pool.name == part.pool).flat_map(|pool| &pool.members);
        let mut sources: Vec<_> = members.map(|(source, _)| source.name.clone()).collect();
        if sources.is_empty() {
            // They are found at run time.
            sources.push(ANY_SOURCE.into());
        }
        told.push(json!({
            "recipient": recipient.as_str(),
            "rules": rules(config, assigned),
            "tenant": assigned.labels.texts().1,
            "campaign": assigned.labels.texts().0,
            "queue": part.queue,
            "queue_options": queue_options(config, part),
            "priority": part.priority,
            "route": way.route.map(|route| json!({
                "name": route.name,
                "place": route.place + 1,
                "by": if part.queue.routing().is_some() { "rule" } else { "domain" },
            })),
            "routing_domain": part.queue.routing().filter(|routing| is_domain(routing)),
            "pool": pool(config, part, way.site.as_deref(), (&*way.shaped(&shaper), &shaper)),
            "destination": way.told,
            "options": options(&shaper, &sources, &way.shaped(&shaper)),
            "floors": floors::of(&config.floors, &shaper, &sources, &way.shaped(&shaper), part),
        }));
    }
    Ok(json!({
        "recipients": told,
        "removed_headers": removed(config, &assigned),
        "added_headers": added.iter().map(Line::as_str).collect::<Vec<_>>(),
        "signatures": config.signers.of_message(&edited),
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

/// The headers that rules, and the reading of labels, take out.
fn removed(config: &Config, assigned: &[Assigned]) -> Vec<String> {
    let labels = [&config.labels.tenant, &config.labels.campaign];
    let labels = labels.into_iter().flatten().filter(|_| config.labels.remove);
    let applied = assigned.iter().flat_map(|one| &one.rules).filter_map(|place| config.rules.get(*place));
    let all = labels.chain(applied.flat_map(|rule| &rule.then.remove_headers)).map(ToString::to_string);
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The sources of the part's pool, and whether each can reach an address of the site.
fn pool(config: &Config, part: &Part, site: Option<&Site>, (shaped, shaper): (&Site, &Shaper)) -> Value {
    let Some(pool) = config.pools.iter().find(|pool: &&Pool| pool.name == part.pool) else { return Value::Null };
    let total: u32 = pool.members.iter().map(|(_, weight)| weight).sum();
    let fits = |source: &Source| site.map(|site| source.address.is_none_or(|from| site.has_family_of(from)));
    let source = |(source, weight): &(Arc<Source>, u32)| {
        let proxies: Vec<&str> = source.ways.iter().filter_map(Way::proxy).map(|proxy| &*proxy.name).collect();
        json!({
            "source": source.name, "address": source.address, "proxies": proxies,
            "weight": weight, "of": total, "fits": fits(source), "warmup": warmup::of(source, shaped, shaper),
        })
    };
    let sources: Vec<_> = pool.members.iter().map(source).collect();
    json!({ "name": pool.name, "sources": sources, "found": warmup::found(config, part) })
}

/// Where a part would go.
struct Led<'w> {
    /// The domain that the DNS would be asked about.
    domain: &'w str,
    route: Option<&'w Route>,
    site: Option<Arc<Site>>,
    told: Value,
}

impl Led<'_> {
    /// The site; where it is not known, one that is known by the domain alone.
    fn shaped(&self, shaper: &Shaper) -> Arc<Site> {
        self.site.clone().unwrap_or_else(|| {
            let mut name: Arc<str> = self.domain.into();
            if let Some(route) = self.route.and_then(|route| route.name.as_deref()) {
                name = marked(&name, route);
            }
            let site = Site { name, hosts: Vec::new(), protocol: Protocol::Smtp };
            let name = shaper.name_for(self.domain, &site).unwrap_or_else(|| site.name.clone());
            Arc::new(Site { name, ..site })
        })
    }
}

async fn way<'w>(asked: &Explain, ways: &'w Ways, policed: &Policed, shaper: &Shaper, part: &'w Part) -> Led<'w> {
    let (domain, route) = match ways.lead(&part.queue) {
        Ok(led) => led,
        // Rules name routes that are there.
        Err(unknown) => {
            return Led {
                domain: part.queue.domain(),
                route: None,
                site: None,
                told: json!({ "waits": unknown.to_string() }),
            };
        }
    };
    let by = if route.is_some_and(|route| !route.hosts.is_empty()) { "route" } else { "DNS" };
    if by == "DNS" && asked.no_dns {
        return Led { domain, route, site: None, told: json!({ "by": format!("DNS, not asked about {domain}") }) };
    }
    let (site, told) = match lead(ways, policed, shaper, &part.queue).await {
        Ok(resolved) => {
            let told = json!({ "by": by, "site": resolved.site.name, "hosts": hosts(&resolved.site) });
            (Some(resolved.site), told)
        }
        Err(Failure::Permanent { response }) => (None, json!({ "by": by, "bounces": response.to_string() })),
        Err(Failure::Temporary { response }) => (None, json!({ "by": by, "waits": response.to_string() })),
    };
    Led { domain, route, site, told }
}

/// What rules TLS towards a host, but for the options of the path.
fn policy(host: &MxHost) -> Option<String> {
    match &host.policy {
        HostPolicy::None => None,
        HostPolicy::Sts => Some("sts-enforce".to_owned()),
        HostPolicy::Dane(dane) => {
            let records: Vec<_> = dane.records.iter().map(ToString::to_string).collect();
            Some(format!("dane: TLSA of {}: {}", dane.base, records.join(" or ")))
        }
    }
}

fn hosts(site: &Site) -> Vec<Value> {
    let protocol = if site.protocol == Protocol::Lmtp { "lmtp" } else { "smtp" };
    let host = |host: &MxHost| json!({ "host": host.name, "addresses": host.addresses, "port": host.port, "protocol": protocol, "tls_policy": policy(host) });
    site.hosts.iter().map(host).collect()
}

/// What is said of the part's queue in files of queues, and where.
fn queue_options(config: &Config, part: &Part) -> Vec<Value> {
    let (rules, patch) = (&config.queues.rules, config.queues.rules.of(&part.queue));
    let overall = rules.overall(&part.queue).map(|said| ("overall_max_message_rate", &*said.words, &*said.place));
    let all = patch.told().into_iter().chain(overall);
    all.map(|(option, value, by)| json!({ "option": option, "value": value, "by": by })).collect()
}

/// The options of the path that are said, other than by default, and where; of one source alone with its name.
fn options(shaper: &Shaper, sources: &[Arc<str>], site: &Site) -> Vec<Value> {
    let defaults: BTreeMap<&str, &str> =
        config::path_keys().iter().map(|key| (key.key, key.default.unwrap_or_default().trim_matches('"'))).collect();
    let mut found: Vec<(Origin, Vec<&str>)> = Vec::new();
    for source in sources {
        for origin in &shaper.effective(source, site).from {
            match found.iter_mut().find(|(one, _)| one == origin) {
                Some((_, of)) => of.push(source),
                None => found.push((origin.clone(), vec![source])),
            }
        }
    }
    let is_told = |(origin, _): &&(Origin, Vec<&str>)| {
        &*origin.block != "[delivery]" || defaults.get(&*origin.setting.key) != Some(&&*origin.setting.value)
    };
    let told = |(origin, of): &(Origin, Vec<&str>)| {
        let setting = &origin.setting;
        let by = match &*origin.block {
            "[delivery]" => "delivery".to_owned(),
            "[[route]]" => "route".to_owned(),
            _ => setting.place.to_string(),
        };
        let of = (of.len() < sources.len()).then_some(of);
        json!({ "option": setting.key, "value": setting.told(), "by": by, "sources": of })
    };
    found.iter().filter(is_told).map(told).collect()
}
