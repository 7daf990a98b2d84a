//! `automation`: what rules over answers have set in force, and which rules an answer would fire. Floor 6.

use std::path::PathBuf;
use std::process::ExitCode;

use std::sync::Arc;

use clap::{Args, Subcommand};
use egret_shared::units::Span;
use serde_json::{Value, json};

use super::queue::{Admin, cell, kind, print, scope, span, until};
use crate::config::{self, Config};
use crate::dns::site::{HostPolicy, MxHost, Protocol, Site};
use crate::routing::route::Pattern;
use crate::shaping::automation::{Place, Rule, RuleSet, Scoped, Trigger};
use crate::shaping::per_site::SHAPED;
use crate::shaping::resolve::{Scope, provider_names};

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  egret-mta automation list
  egret-mta automation cancel 19aab5e4c00
  egret-mta automation test '421 4.7.0 [TS01] Messages temporarily deferred' --site mta.example.net")]
pub(super) enum AutomationCommand {
    /// List what rules have set in force in a running MTA.
    List(Listing),
    /// End it before its time; the path is open at once.
    Cancel(Cancel),
    /// Say which rules of the configuration an answer would fire; nothing is done.
    Test(Test),
}

/// `list`.
#[derive(Debug, Args)]
pub(super) struct Listing {
    #[command(flatten)]
    admin: Admin,
}

/// `cancel`.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The order's id, as `list` shows it.
    id: String,
    #[command(flatten)]
    admin: Admin,
}

/// `test`.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// The answer in one line: code, enhanced code if there is one, text.
    response: String,
    /// The domain of the recipient; the site is taken for its own.
    #[arg(long, default_value = "")]
    domain: String,
    /// The site that says it. Without it rules of providers that are known by their hosts are left out; without a
    /// domain, too, every rule of shaping files is tried.
    #[arg(long, default_value = "")]
    site: String,
    /// The source that it is said to.
    #[arg(long, default_value = "")]
    source: String,
    /// It is what this program says itself.
    #[arg(long)]
    internal: bool,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/mta.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: AutomationCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        AutomationCommand::List(asked) => runtime.block_on(list(&asked))?,
        AutomationCommand::Cancel(order) => runtime.block_on(cancel(&order))?,
        AutomationCommand::Test(asked) => test(&asked)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(asked: &Listing) -> anyhow::Result<()> {
    let controls = asked.admin.get("/v1/controls").await?;
    let is_ours = |row: &&Value| row["by"] == "automation";
    let rows: Vec<Value> = controls.as_array().into_iter().flatten().filter(is_ours).cloned().collect();
    if rows.is_empty() && !asked.admin.json {
        println!("no rule has set anything in force");
        return Ok(());
    }
    print(&asked.admin, &Value::from(rows), &["id", "does", "scope", "for", "ends", "why"], |row| {
        vec![
            cell(&row["id"]),
            kind(row),
            scope(&row["scope"]),
            span(&row["created"]),
            until(&row["expires"]),
            cell(&row["reason"]),
        ]
    })
}

async fn cancel(order: &Cancel) -> anyhow::Result<()> {
    let answer = order.admin.post("/v1/resume", &json!({ "id": order.id })).await?;
    if order.admin.json {
        println!("{answer:#}");
        return Ok(());
    }
    for control in answer["ended"].as_array().into_iter().flatten() {
        println!("ended: {} {} over {}", kind(control), cell(&control["id"]), scope(&control["scope"]));
    }
    Ok(())
}

fn test(asked: &Test) -> anyhow::Result<()> {
    let config = config::read(&asked.config)?;
    let found = found(asked, &config)?;
    if asked.json {
        let rows: Vec<Value> = found.iter().map(|(scoped, pattern)| row(scoped, pattern)).collect();
        println!("{:#}", Value::from(rows));
        return Ok(());
    }
    if found.is_empty() {
        println!("{}", none(&config.automation));
    }
    for (scoped, pattern) in found {
        println!("{}", line(scoped, pattern));
    }
    Ok(())
}

/// The rules that would fire, each with the pattern that is found.
fn found<'c>(asked: &Test, config: &'c Config) -> anyhow::Result<Vec<(&'c Scoped, &'c str)>> {
    let path = path(asked, config)?;
    let place = Place {
        domain: &path.domain,
        site: &path.site,
        providers: &path.providers,
        source: &asked.source,
        listed: &path.listed,
    };
    let mut found: Vec<(&Scoped, &str)> = Vec::new();
    for (scoped, pattern) in config.automation.found(&asked.response, asked.internal, &place) {
        // What says the same elsewhere is the same rule.
        if !found.iter().any(|(earlier, _)| earlier.key == scoped.key) {
            found.push((scoped, pattern));
        }
    }
    Ok(found)
}

/// What rules are asked of.
struct Path {
    domain: String,
    site: Arc<str>,
    providers: Vec<Arc<str>>,
    listed: Vec<(Scope, Arc<Rule>)>,
}

/// The path that is named, as shaping sees it. Nobody asks the DNS.
fn path(asked: &Test, config: &Config) -> anyhow::Result<Path> {
    let domain = match asked.domain.parse::<Pattern>() {
        _ if asked.domain.is_empty() => String::new(),
        Ok(Pattern::Domain(domain)) => domain,
        _ => anyhow::bail!("{:?} is no domain; write it like \"example.com\"", asked.domain),
    };
    let shaping = &config.shaping.shaping;
    if domain.is_empty() && asked.site.is_empty() {
        let listed = shaping.rules().map(|rule| (Scope::Default, Arc::new(rule.clone()))).collect();
        return Ok(Path { domain, site: "".into(), providers: provider_names(shaping), listed });
    }
    let shaper = config.shaper();
    let name = if asked.site.is_empty() { &domain } else { &asked.site };
    shaper.learn(&domain, Ok(name));
    let of = |name: Arc<str>| Site { name, hosts: hosts(&asked.site), protocol: Protocol::Smtp };
    let mut site = of(name.as_str().into());
    if let Some(marked) = shaper.name_for(&domain, &site).filter(|_| !name.contains(SHAPED)) {
        site = of(marked);
    }
    let found = shaper.effective(&asked.source, &site);
    let providers = found.providers.to_vec();
    let site = if asked.site.is_empty() { "".into() } else { site.name };
    Ok(Path { domain, site, providers, listed: found.automation.clone() })
}

/// The hosts that a site's name stands for: `(a|b)?.mx.test` is `a.mx.test`, `b.mx.test` and `mx.test`.
fn hosts(site: &str) -> Vec<MxHost> {
    let plain = site.split(['+', '!']).next().unwrap_or_default();
    let names = plain.split(',').filter(|name| !name.is_empty()).flat_map(each_host);
    let host = |name: String| MxHost { name: name.into(), addresses: Vec::new(), port: 0, policy: HostPolicy::None };
    names.map(host).collect()
}

fn each_host(name: &str) -> Vec<String> {
    let labels: Vec<&str> = name.split('.').collect();
    let Some(at) = labels.iter().position(|label| label.contains(['|', '?'])) else { return vec![name.to_owned()] };
    let (before, behind) = (&labels[..at], &labels[at + 1..]);
    let choices = labels[at].trim_matches(['(', ')', '?']).split('|');
    let mut all: Vec<String> = choices.map(|choice| [before, &[choice], behind].concat().join(".")).collect();
    if labels[at].ends_with('?') {
        all.push([before, behind].concat().join("."));
    }
    all
}

fn none(rules: &RuleSet) -> String {
    match rules.iter().count() {
        0 => "the configuration has no rules of automation".to_owned(),
        count => format!("none of {count} rules would fire"),
    }
}

fn row(scoped: &Scoped, pattern: &str) -> Value {
    let rule = &scoped.rule;
    let actions: Vec<String> = rule.actions.iter().map(ToString::to_string).collect();
    json!({
        "rule": rule.at, "pattern": pattern, "actions": actions, "trigger": trigger(&rule.trigger),
        "duration": Span(rule.duration).to_string(),
    })
}

fn line(scoped: &Scoped, pattern: &str) -> String {
    let rule = &scoped.rule;
    let actions: Vec<String> = rule.actions.iter().map(ToString::to_string).collect();
    let (actions, duration) = (actions.join(", "), Span(rule.duration));
    format!("{}: /{pattern}/ fits: {actions} for {duration}, {}", rule.at, trigger(&rule.trigger))
}

fn trigger(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Immediate => "at once".to_owned(),
        Trigger::Threshold(rate) => format!("at {} within {}", rate.count, Span(rate.period)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "hostname = \"mail.example.com\"\n[spool]\npath = \"spool\"\n[event_log]\npath = \"events\"\n\
         [shaping]\nfiles = [\"shaping.toml\"]\n[source.s1]\n[source.s2]\n\
         [[automation]]\nregex = \"busy\"\naction = \"Suspend\"\nduration = \"1h\"\nsource = \"s1\"\n\
         [[automation]]\nregex = \"busy\"\naction = \"Suspend\"\nduration = \"2h\"\nprovider = \"google\"\n";

    /// The lines of the shaping file, or of the main one, whose rules would fire.
    fn lines(domain: &str, site: &str, source: &str) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("mta.toml");
        let rule = |of: &str| {
            format!("[[{of}.automation]]\nregex = \"busy\"\naction = \"Bounce\"\nduration = \"{}h\"\n", of.len())
        };
        let shaping = [
            rule("default"),
            "[provider.google]\nmatch = [{ HostName = \"a.google.test\" }, { HostName = \"google.test\" }]\n"
                .to_owned(),
            rule("provider.google"),
            rule("\"a.test\""),
            format!("[\"sub.b.test\"]\nmx_rollup = false\n{}", rule("\"sub.b.test\"")),
            "[provider.wide]\nmatch = [{ MXSuffix = \"google.test\" }]\n".to_owned(),
        ];
        std::fs::write(&config, MAIN).expect("written");
        std::fs::write(directory.path().join("shaping.toml"), shaping.concat()).expect("written");
        let [domain, site, source] = [domain, site, source].map(str::to_owned);
        let response = "421 busy".to_owned();
        let asked = Test { response, domain, site, source, internal: false, config, json: false };
        let config = config::read(&asked.config).unwrap_or_else(|complaints| panic!("{complaints}"));
        let found = found(&asked, &config).expect("a domain");
        let place = |at: &str| at.rsplit('/').next().unwrap_or(at).to_owned();
        found.iter().map(|(scoped, _)| place(&scoped.rule.at)).collect()
    }

    #[test]
    fn only_rules_of_the_path_that_is_named_would_fire() {
        let [of_s1, by_google, of_all, of_google, of_a, of_b] =
            ["mta.toml:10", "mta.toml:15", "shaping.toml:1", "shaping.toml:7", "shaping.toml:11", "shaping.toml:17"];
        assert_eq!(lines("", "", ""), [by_google, of_all, of_google, of_a, of_b], "all of shaping files");
        assert_eq!(lines("a.test", "mx.a.test", "s1"), [of_s1, of_all, of_a]);
        assert_eq!(lines("A.Test", "", "s2"), [of_all, of_a]);
        let of_both = [by_google, of_all, of_google];
        assert_eq!(lines("c.test", "(a)?.google.test", "s2"), of_both, "also if another provider fits it besides");
        assert_eq!(lines("", "(a|b)?.google.test", "s2"), [of_all], "each host must be the provider's");
        assert_eq!(lines("sub.b.test", "mx.b.test", "s2"), [of_all, of_b]);
    }
}
