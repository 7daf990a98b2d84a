//! `shaping check`: mistakes and doubts in shaping files. Floor 6.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use egret_shared::check::{Finding, State, exit_code, render};
use serde_json::json;

use crate::app::rollup;
use crate::config::{self, Config, ShapingRead};
use crate::dns::resolver::{DnsOptions, Failure, Resolved, Resolver};
use crate::shaping::blocks::{DomainBlock, Shaping};
use crate::shaping::lint::lint;
use crate::shaping::patch::Patch;

/// `shaping check`.
#[derive(Debug, Args)]
#[command(after_help = "The exit code is 0 if all is well, 1 with a warning, 2 with an error.

Examples:
  egret-mta shaping check /etc/egret/shaping.toml
  egret-mta shaping check --config /etc/egret/mta.toml
  egret-mta shaping check --no-dns --json community.toml own.toml")]
pub(in crate::cli) struct Check {
    /// The files, in the order in which they are merged; those of the configuration if none is named.
    #[arg(value_name = "FILE", required_unless_present = "config")]
    files: Vec<PathBuf>,
    /// A configuration file, for its sources, routes, DNS servers and limits, and its `shaping.ignore_unknown`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keys that may be unknown; may be given several times.
    #[arg(long, value_name = "KEY")]
    ignore_unknown: Vec<String>,
    /// Do not ask the DNS.
    #[arg(long)]
    no_dns: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(asked: &Check) -> anyhow::Result<ExitCode> {
    let findings = findings(asked)?;
    if asked.json {
        println!("{:#}", json!({ "exit_code": exit_code(&findings), "findings": findings }));
    } else {
        print!("{}", render::findings(&findings, std::io::stdout().is_terminal()));
    }
    Ok(ExitCode::from(exit_code(&findings)))
}

fn findings(asked: &Check) -> anyhow::Result<Vec<Finding>> {
    let failed = |complaints: egret_shared::config::Complaints| -> Vec<Finding> {
        let told = |one: egret_shared::config::Complaint| {
            let place = if one.line > 0 { format!("{}:{}", one.file, one.line) } else { one.file };
            let key = if one.key.is_empty() { String::new() } else { format!("{}: ", one.key) };
            Finding::new(place, State::Failed, key + &one.message)
        };
        complaints.0.into_iter().map(told).collect()
    };
    let config = match asked.config.as_deref().map(config::read).transpose() {
        Ok(config) => config,
        Err(complaints) => return Ok(failed(complaints)),
    };
    let read = match &config {
        Some(config) if asked.files.is_empty() => Ok(config.shaping.clone()),
        _ => config::read_shaping(asked.files.iter().cloned(), &ignored(asked, config.as_ref())),
    };
    let read = match read {
        Ok(read) => read,
        Err(complaints) => return Ok(failed(complaints)),
    };
    let mut found = by_themselves(&read, config.as_ref());
    found.extend(config::unused_keys(&read.notes, &asked.ignore_unknown).into_iter().map(|key| {
        let text = format!("does nothing here for {key:?}: no file holds that key, or it is a known one");
        Finding::new("--ignore-unknown", State::Ok, text)
    }));
    if let Some(config) = &config {
        found.extend(routed(&read.shaping, config));
    }
    found.extend(by_dns(asked, &read.shaping, config.as_ref())?);
    if found.iter().all(|one| one.state < State::Warning) {
        let shaping = &read.shaping;
        let rules: usize = shaping.blocks().map(|block| block.rules.len()).sum();
        let text = format!(
            "good: {} providers, {} blocks for domains, {rules} rules",
            shaping.providers.len(),
            shaping.domains.len()
        );
        found.push(Finding::new("shaping", State::Ok, text));
    }
    Ok(found)
}

/// The keys that may be unknown, here or in the configuration.
fn ignored(asked: &Check, config: Option<&Config>) -> Vec<String> {
    let of_config = config.into_iter().flat_map(|config| &config.shaping.ignored);
    asked.ignore_unknown.iter().chain(of_config).cloned().collect()
}

/// Blocks for the sites that the DNS gives to domains whose mail goes to the hosts of a route.
fn routed(shaping: &Shaping, config: &Config) -> Vec<Finding> {
    let is_led =
        |one: &&DomainBlock| one.rollup && config.routes.find(&one.domain).is_some_and(|route| !route.hosts.is_empty());
    let finding = |one: &DomainBlock| {
        let text = format!(
            "{}: does not hold for mail to {}, which a [[route]] leads to hosts of its own: it is for the site that the DNS gives the domain",
            one.block.title, one.domain
        );
        let advice = "write the options into that [[route]], or mx_rollup = false into the block, which ties it to the domain itself";
        Finding::new(one.block.place.to_string(), State::Warning, text).advise(advice)
    };
    shaping.domains.iter().filter(is_led).map(finding).collect()
}

/// What is seen without the DNS.
fn by_themselves(read: &ShapingRead, config: Option<&Config>) -> Vec<Finding> {
    let notes = read.notes.iter().map(|note| {
        // A key that does nothing here was meant for another program.
        let state = if note.message.starts_with("does nothing") { State::Ok } else { State::Warning };
        Finding::new(format!("{}:{}", note.file, note.line), state, format!("{}: {}", note.key, note.message))
    });
    let sources = config.map(|config| sources(&read.shaping, config));
    let nothing = Patch::default();
    let delivery = config.map_or(&nothing, |config| &config.delivery);
    let doubts = lint(&read.shaping, delivery, sources.as_deref());
    notes.chain(doubts.into_iter().map(|one| Finding::new(one.place.to_string(), State::Warning, one.text))).collect()
}

/// The sources of the configuration; with them the addresses that blocks name, if there are pools that find some.
fn sources(shaping: &Shaping, config: &Config) -> Vec<Arc<str>> {
    let members = config.pools.iter().flat_map(|pool| &pool.members).map(|(source, _)| source.name.clone());
    let named = shaping.blocks().flat_map(|block| block.sources.keys()).cloned();
    let found = named.filter(|name| config.discovery.finds(name));
    members.chain(found).collect()
}

/// What is seen of the sites of the domains.
fn by_dns(asked: &Check, shaping: &Shaping, config: Option<&Config>) -> anyhow::Result<Vec<Finding>> {
    if shaping.rolled().is_empty() {
        return Ok(Vec::new());
    }
    if asked.no_dns {
        let text = "the sites of the domains are not looked up (--no-dns)";
        return Ok(vec![Finding::new("dns", State::Skipped, text)]);
    }
    let options = config.map_or_else(DnsOptions::default, |config| config.dns.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let looked_up = runtime.block_on(async {
        let resolver = Resolver::new(options)?;
        anyhow::Ok(rollup::look_up(&resolver, shaping.rolled()).await)
    })?;
    Ok(sites(shaping, &looked_up))
}

/// What the sites say of the blocks.
fn sites(shaping: &Shaping, looked_up: &[(Arc<str>, Result<Resolved, Failure>)]) -> Vec<Finding> {
    let mut blocks: HashMap<&str, &DomainBlock> = HashMap::new();
    for one in shaping.domains.iter().filter(|one| one.rollup) {
        blocks.entry(&one.domain).or_insert(one);
    }
    let mut found = Vec::new();
    let mut by_site: BTreeMap<Arc<str>, Vec<&Arc<str>>> = BTreeMap::new();
    for (domain, resolved) in looked_up {
        let Some(block) = blocks.get(&**domain).map(|one| &one.block) else { continue };
        let place = block.place.to_string();
        match resolved {
            Ok(resolved) => {
                by_site.entry(resolved.site.name.clone()).or_default().push(domain);
                let hosts: Vec<&str> = resolved.names.iter().map(AsRef::as_ref).collect();
                for provider in shaping.providers.iter().filter(|one| one.fits_hosts(&hosts) || one.fits_domain(domain))
                {
                    let text = format!(
                        "{}: provider {:?} holds for {domain}, too; where both say something, the domain's block counts",
                        block.title, provider.name
                    );
                    found.push(Finding::new(&place, State::Warning, text));
                }
            }
            Err(failure) => {
                let advice = "the block holds for nothing until the look-up succeeds; mx_rollup = false ties it to the domain itself";
                let text = format!("{}: the site of {domain} is not found: {}", block.title, rollup::words(failure));
                found.push(Finding::new(&place, State::Warning, text).advise(advice));
            }
        }
    }
    for (site, domains) in by_site.iter().filter(|(_, domains)| domains.len() > 1) {
        for domain in &domains[1..] {
            let Some(one) = blocks.get(&***domain) else { continue };
            let text = format!(
                "{}: has the site of {}, {site}: the blocks are one, and where both say something the later counts",
                one.block.title, domains[0]
            );
            found.push(Finding::new(one.block.place.to_string(), State::Warning, text));
        }
    }
    found
}
