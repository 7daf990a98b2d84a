//! Orders from the command line. Floor 6.

use clap::Args;
use egret_shared::units::Span;
use serde_json::{Value, json};

use super::show::{span, when};
use super::{Admin, Scope, pretty};

/// `suspend`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Suspend {
    #[command(flatten)]
    scope: Scope,
    /// From this source.
    #[arg(long)]
    source: Option<String>,
    /// Why; it is shown wherever the suspension is.
    #[arg(long, default_value = "")]
    reason: String,
    /// How long; it goes on by itself then.
    #[arg(long = "for", value_name = "SPAN", default_value = "1h")]
    lasts: Span,
    #[command(flatten)]
    admin: Admin,
}

/// `resume`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Resume {
    /// The control's id, as `queue controls` shows it; or give a scope.
    id: Option<String>,
    #[command(flatten)]
    scope: Scope,
    /// From this source.
    #[arg(long)]
    source: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

/// `bounce`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Bounce {
    #[command(flatten)]
    scope: Scope,
    /// Why; senders are told.
    #[arg(long, default_value = "")]
    reason: String,
    /// For so long, fail what comes, too.
    #[arg(long = "for", value_name = "SPAN")]
    lasts: Option<Span>,
    /// Tell no sender.
    #[arg(long)]
    silent: bool,
    #[command(flatten)]
    job: Job,
}

/// `rebind`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rebind {
    #[command(flatten)]
    scope: Scope,
    /// The campaign from now on; an empty one takes it away.
    #[arg(long, value_name = "CAMPAIGN")]
    to_campaign: Option<String>,
    /// The tenant from now on; an empty one takes it away.
    #[arg(long, value_name = "TENANT")]
    to_tenant: Option<String>,
    /// The domain that it is routed to; recipients stay as they are.
    #[arg(long, value_name = "DOMAIN")]
    to_domain: Option<String>,
    /// The route or the domain that leads it from now on; an empty one takes it away.
    #[arg(long, value_name = "ROUTE")]
    to_routing: Option<String>,
    /// The pool from now on.
    #[arg(long, value_name = "POOL")]
    to_pool: Option<String>,
    /// Make it due now as well.
    #[arg(long)]
    requeue: bool,
    #[command(flatten)]
    job: Job,
}

/// `requeue`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Requeue {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    job: Job,
}

/// An order that works on entries.
#[derive(Debug, Args)]
struct Job {
    /// Wait until it has nothing left to do, and print what it did.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    admin: Admin,
}

impl Job {
    async fn give(&self, verb: &str, body: &Value) -> anyhow::Result<()> {
        let given = self.admin.post(&format!("/v1/{verb}"), body).await?;
        let id = given["job"].as_str().unwrap_or_default();
        if !self.wait {
            if self.admin.json {
                return pretty(&given);
            }
            println!("{verb}: job {id} has begun; `egret-mta queue jobs` shows how far it is");
            return Ok(());
        }
        let job = self.admin.job(id).await?;
        if self.admin.json {
            return pretty(&job);
        }
        println!("{verb}: {} of {} parts, {} were gone or needed nothing", job["done"], job["matched"], job["skipped"]);
        Ok(())
    }
}

fn with_source(scope: &Scope, source: Option<&String>) -> Value {
    let mut body = scope.body();
    if let Some(source) = source {
        body["scope"]["source"] = json!(source);
    }
    body
}

pub(super) async fn suspend(order: Suspend) -> anyhow::Result<()> {
    let mut body = with_source(&order.scope, order.source.as_ref());
    body["reason"] = json!(order.reason);
    body["lasts"] = json!(order.lasts.to_string());
    let control = order.admin.post("/v1/suspend", &body).await?;
    if order.admin.json {
        return pretty(&control);
    }
    let id = control["id"].as_str().unwrap_or_default();
    println!("suspended until {} (control {id}); `egret-mta queue resume {id}` ends it", when(&control["expires"]));
    Ok(())
}

pub(super) async fn resume(order: Resume) -> anyhow::Result<()> {
    let mut body = with_source(&order.scope, order.source.as_ref());
    if let Some(id) = &order.id {
        body["id"] = json!(id);
    }
    let answer = order.admin.post("/v1/resume", &body).await?;
    if order.admin.json {
        return pretty(&answer);
    }
    for control in answer["ended"].as_array().into_iter().flatten() {
        let (id, kind) = (control["id"].as_str().unwrap_or_default(), control["kind"].as_str().unwrap_or_default());
        println!("ended: {kind} {id}, given {} ago", span(&control["created"]));
    }
    Ok(())
}

pub(super) async fn bounce(order: Bounce) -> anyhow::Result<()> {
    let mut body = order.scope.body();
    body["reason"] = json!(order.reason);
    body["silent"] = json!(order.silent);
    if let Some(lasts) = &order.lasts {
        body["lasts"] = json!(lasts.to_string());
    }
    order.job.give("bounce", &body).await
}

pub(super) async fn rebind(order: Rebind) -> anyhow::Result<()> {
    let mut body = order.scope.body();
    let given = [
        ("campaign", &order.to_campaign),
        ("tenant", &order.to_tenant),
        ("domain", &order.to_domain),
        ("routing", &order.to_routing),
        ("pool", &order.to_pool),
    ];
    body["to"] = json!({ "requeue": order.requeue });
    for (key, value) in given.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        body["to"][key] = json!(value);
    }
    order.job.give("rebind", &body).await
}

pub(super) async fn requeue(order: Requeue) -> anyhow::Result<()> {
    order.job.give("requeue", &order.scope.body()).await
}
