//! `automation`: what rules over answers have set in force, and which rules an answer would fire. Floor 6.

use std::path::PathBuf;
use std::process::ExitCode;

use std::sync::Arc;

use clap::{Args, Subcommand};
use egret_shared::units::Span;
use serde_json::{Value, json};

use super::queue::{Admin, cell, kind, print, scope, span, until};
use crate::config;
use crate::shaping::automation::{Place, RuleSet, Scoped, Trigger};
use crate::shaping::resolve::Scope;

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
    /// The domain of the recipient.
    #[arg(long, default_value = "")]
    domain: String,
    /// The site that says it.
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
    let rules = &config.automation;
    // Where no site is named, every rule of the shaping files is tried.
    let all: Vec<_> = config.shaping.shaping.rules().map(|rule| (Scope::Default, Arc::new(rule.clone()))).collect();
    let providers: Vec<Arc<str>> = config.shaping.shaping.providers.iter().map(|one| one.name.clone()).collect();
    let (domain, site, source) = (&*asked.domain, &*asked.site, &*asked.source);
    let place = Place { domain, site, providers: &providers, source, listed: &all };
    let found: Vec<(&Scoped, &str)> =
        rules.found(&asked.response, asked.internal, &place).map(|(scoped, pattern)| (&**scoped, pattern)).collect();
    if asked.json {
        let rows: Vec<Value> = found.iter().map(|(scoped, pattern)| row(scoped, pattern)).collect();
        println!("{:#}", Value::from(rows));
        return Ok(());
    }
    if found.is_empty() {
        println!("{}", none(rules));
    }
    for (scoped, pattern) in found {
        println!("{}", line(scoped, pattern));
    }
    Ok(())
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
