//! `shaping explain`: the options of a path, and where each comes from. Floor 6.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::app::{policed, rollup};
use crate::config::{self, Config};
use crate::dns::lead::lead;
use crate::dns::site::{Protocol, Site};
use crate::message::QueueName;
use crate::routing::route::Pattern;
use crate::shaping::ceiling::{self, Ceiling};
use crate::shaping::resolve::{Effective, Scope};

/// What stands for a source where none is named.
pub(in crate::cli) const ANY_SOURCE: &str = "SOURCE";

/// `shaping explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  egret-mta shaping explain gmail.com
  egret-mta shaping explain example.com --source out-1 --json")]
pub(in crate::cli) struct Explain {
    /// The domain.
    domain: String,
    /// The source; without it, what holds for all of them.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Do not ask the DNS: only what hangs on the domain itself is told.
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
    let Ok(Pattern::Domain(domain)) = asked.domain.parse::<Pattern>() else {
        anyhow::bail!("{:?} is no domain", asked.domain);
    };
    let known = config.pools.iter().flat_map(|pool| &pool.members).map(|(source, _)| &*source.name);
    let known: Vec<&str> = known.collect();
    let is_found = |source: &str| config.discovery.finds(source);
    if let Some(source) = asked.source.as_deref().filter(|source| !known.contains(source) && !is_found(source)) {
        anyhow::bail!("there is no source {source:?} in {}; known: {}", asked.config.display(), known.join(", "));
    }
    let (shaper, ways) = (config.shaper(), config.ways());
    let queue = QueueName::new(None, None, &domain);
    let mut unknown = None;
    let by_domain = || Site { name: domain.as_str().into(), hosts: Vec::new(), protocol: Protocol::Smtp };
    let site = if asked.no_dns {
        unknown = Some("the DNS was not asked (--no-dns)".to_owned());
        None
    } else {
        let policed = policed(config).context("the DNS cannot be asked")?;
        for (domain, found) in rollup::look_up(policed.resolver(), shaper.shaping().rolled()).await {
            let found = found.as_ref().map(|found| &*found.site.name).map_err(rollup::words);
            shaper.learn(&domain, found);
        }
        match lead(&ways, &policed, &shaper, &queue).await {
            Ok(found) => Some(found.site),
            Err(failure) => {
                unknown = Some(rollup::words(&failure));
                None
            }
        }
    };
    let site = site.unwrap_or_else(|| {
        let site = by_domain();
        Arc::new(Site { name: shaper.name_for(&domain, &site).unwrap_or(site.name), ..by_domain() })
    });
    let found = shaper.effective(asked.source.as_deref().unwrap_or(ANY_SOURCE), &site);
    Ok(told(&domain, asked.source.as_deref(), &site, unknown.as_deref(), &found))
}

fn told(domain: &str, source: Option<&str>, site: &Site, unknown: Option<&str>, found: &Effective) -> Value {
    let option = |one: &crate::shaping::resolve::Origin| {
        let setting = &one.setting;
        json!({ "option": setting.key, "value": setting.told(), "place": setting.place.to_string(), "block": one.block })
    };
    let rule = |(scope, rule): &(Scope, Arc<crate::shaping::automation::Rule>)| {
        let of = match scope {
            Scope::Default => "default".to_owned(),
            Scope::Provider(name) => format!("provider {name}"),
            Scope::Site(domain) => format!("site of {domain}"),
            Scope::Domain(domain) => format!("domain {domain}"),
        };
        json!({ "place": rule.at, "of": of, "regex": rule.regex })
    };
    let ceiling = |one: Ceiling| json!({ "value": one.value, "by": one.by });
    json!({
        "domain": domain,
        "source": source,
        "site": unknown.is_none().then_some(&site.name),
        "site_unknown": unknown,
        "provider": found.provider,
        "providers": found.providers,
        "ceilings": {
            "sessions": ceiling(ceiling::sessions(&found.options.limits)),
            "messages": ceiling::messages(&found.options).map(ceiling),
        },
        "options": found.from.iter().map(option).collect::<Vec<_>>(),
        "automation": found.automation.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn text(told: &Value) -> String {
    let words = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let each = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let mut text = format!("{}\n", words(&told["domain"]));
    let site = match told["site_unknown"].as_str() {
        Some(why) => format!("unknown: {why}; what follows hangs on the domain alone"),
        None => words(&told["site"]),
    };
    let source = told["source"].as_str().map_or_else(|| "any (--source names one)".to_owned(), str::to_owned);
    let providers: Vec<_> = each(&told["providers"]).iter().map(&words).collect();
    let providers = if providers.is_empty() { "-".to_owned() } else { providers.join(", ") };
    let ceiling = |one: &Value, nothing: &str| match one["value"].as_str() {
        Some(value) => format!("{value}, by {}", words(&one["by"])),
        None => nothing.to_owned(),
    };
    for (key, value) in [
        ("site", site),
        ("source", source),
        ("provider", providers),
        ("sessions", ceiling(&told["ceilings"]["sessions"], "-")),
        ("messages", ceiling(&told["ceilings"]["messages"], "no limit")),
    ] {
        let _ = writeln!(text, "  {key:<9} {value}");
    }
    for one in each(&told["options"]) {
        let (key, value) = (words(&one["option"]), words(&one["value"]));
        let _ = writeln!(text, "  option    {key} = {value} (by {}, {})", words(&one["place"]), words(&one["block"]));
    }
    for one in each(&told["automation"]) {
        let regex: Vec<String> = each(&one["regex"]).iter().map(words).collect();
        let _ = writeln!(
            text,
            "  rule      {} (by {}, of {})",
            regex.join(" or "),
            words(&one["place"]),
            words(&one["of"])
        );
    }
    text
}
