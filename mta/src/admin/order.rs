//! Orders: each body is read whole, a field that is not known is refused. Floor 6.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use egret_shared::units::Span;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::info;

use super::{Answer, Api, Problem, canonical, canonical_routing, canonical_scope};
use crate::message::{QueueName, is_domain};
use crate::queue::control::words::{Control, ControlId, Move, Scope, Target};

/// How long a suspension lasts unless it is said.
const SUSPENSION: Duration = Duration::from_secs(3_600);

/// What an order is about: a scope, one queue by its name, or everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct About {
    scope: Scope,
    queue: Option<String>,
    everything: bool,
    reason: String,
    lasts: Option<String>,
    /// For `bounce`.
    silent: bool,
    /// For `rebind`.
    to: Option<Move>,
    /// For `resume`.
    id: Option<ControlId>,
}

/// The fields that one order takes beside those that say what it is about.
struct Takes(&'static str, &'static [&'static str]);

impl About {
    fn read(body: &Bytes, takes: &Takes) -> Result<Self, Problem> {
        let raw: Value = parse(body)?;
        let fields = raw.as_object().ok_or_else(|| Problem::bad("the body is not a JSON object"))?;
        let always = ["scope", "queue", "everything"];
        let unknown = |key: &&String| !always.contains(&key.as_str()) && !takes.1.contains(&key.as_str());
        if let Some(key) = fields.keys().find(unknown) {
            let known = always.iter().chain(takes.1).copied().collect::<Vec<_>>().join(", ");
            return Err(Problem::bad(format!("{} knows no field {key:?}; it takes {known}", takes.0)));
        }
        parse(body)
    }

    fn target(&self, verb: &'static str) -> Result<Target, Problem> {
        let scope = match &self.queue {
            None => canonical_scope(self.scope.clone())?,
            Some(_) if !self.scope.is_empty() => {
                return Err(Problem::bad("a queue and a scope at once: give one of them"));
            }
            Some(name) => Scope::of_queue(&queue_name(name)?),
        };
        Ok(Target::new(scope, self.everything, verb)?)
    }

    fn lasts(&self) -> Result<Option<Duration>, Problem> {
        let read =
            |text: &String| text.parse::<Span>().map_err(|error| Problem::bad(format!("lasts: {text:?}: {error}")));
        let lasts = self.lasts.as_ref().map(read).transpose()?.map(|span| span.0);
        match lasts {
            Some(Duration::ZERO) => Err(Problem::bad("lasts: \"0s\" is over at once; give a span like \"1h\"")),
            lasts => Ok(lasts),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body cannot be understood: {error}")))
}

/// `campaign:tenant@domain!routing`, all but the domain optional.
fn queue_name(text: &str) -> Result<QueueName, Problem> {
    let bad = || {
        Problem::bad(format!(
            "{text:?} is not the name of a queue; write it like \"campaign:tenant@example.com\" or \"@example.com!route\""
        ))
    };
    let (before, behind) = text.rsplit_once('@').ok_or_else(bad)?;
    let (domain, routing) = behind.split_once('!').map_or((behind, None), |(domain, routing)| (domain, Some(routing)));
    let (campaign, tenant) =
        before.split_once(':').map_or((None, before), |(campaign, tenant)| (Some(campaign), tenant));
    let tenant = Some(tenant).filter(|tenant| !tenant.is_empty());
    let routing = routing.map(canonical_routing).transpose()?;
    let name = QueueName::new(campaign, tenant, &canonical(domain)?).led_by(routing.as_deref());
    // A name that had to be changed is not one that a queue has.
    let same = |found: Option<&str>, asked: Option<&str>| {
        found.zip(asked).map_or(found == asked, |(found, asked)| found.eq_ignore_ascii_case(asked))
    };
    if same(name.tenant(), tenant) && same(name.campaign(), campaign) && same(name.routing(), routing.as_deref()) {
        Ok(name)
    } else {
        Err(bad())
    }
}

/// Waits until the orders in force are on stable storage.
async fn stored(api: &Api) -> Result<(), Problem> {
    api.keeper.settled().await.map_err(|why| {
        let error = format!("the order is in force, but a restart would forget it: it cannot be stored: {why}");
        Problem(StatusCode::SERVICE_UNAVAILABLE, error)
    })
}

pub(super) async fn suspend(State(api): State<Api>, body: Bytes) -> Answer<Control> {
    let about = About::read(&body, &Takes("suspend", &["reason", "lasts"]))?;
    let (target, lasts) = (about.target("suspend")?, about.lasts()?.unwrap_or(SUSPENSION));
    info!(scope = %target.scope(), reason = %about.reason, lasts = %Span(lasts), "suspending");
    let reason = about.reason;
    let given = api.queues.ask(move |engine, now, acts| engine.suspend(&target, reason, lasts, now, acts)).await??;
    stored(&api).await?;
    Ok(Json(given))
}

pub(super) async fn resume(State(api): State<Api>, body: Bytes) -> Answer<Value> {
    let about = About::read(&body, &Takes("resume", &["id"]))?;
    let ended = match about.id {
        Some(_) if about.everything || about.queue.is_some() || !about.scope.is_empty() => {
            return Err(Problem::bad("an id and a scope at once: give one of them"));
        }
        Some(id) => vec![api.queues.ask(move |engine, now, acts| engine.resume(id, now, acts)).await??],
        None => {
            let target = about.target("resume")?;
            api.queues.ask(move |engine, now, acts| engine.resume_all(&target, now, acts)).await??
        }
    };
    for control in &ended {
        info!(control = %control.id, scope = %control.scope, "ended by the operator");
    }
    stored(&api).await?;
    Ok(Json(json!({ "ended": ended })))
}

pub(super) async fn bounce(State(api): State<Api>, body: Bytes) -> Answer<Value> {
    let about = About::read(&body, &Takes("bounce", &["reason", "lasts", "silent"]))?;
    let (target, lasts) = (about.target("bounce")?, about.lasts()?);
    let About { reason, silent, .. } = about;
    info!(scope = %target.scope(), %reason, silent, "bouncing");
    let id =
        api.queues.ask(move |engine, now, acts| engine.bounce(&target, &reason, silent, lasts, now, acts)).await??;
    if lasts.is_some() {
        stored(&api).await?;
    }
    Ok(Json(json!({ "job": id })))
}

/// A domain, or the name of a route that is there; an empty one takes it away.
fn known_routing(api: &Api, routing: &str) -> Result<String, Problem> {
    let routing = canonical_routing(routing)?;
    let ways = api.ways.load();
    if routing.is_empty() || is_domain(&routing) || ways.routes.named(&routing).is_some() {
        return Ok(routing);
    }
    let known = ways.routes.names().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    Err(Problem::bad(format!("there is no route {routing:?} in the configuration; it has {known}; a domain has a dot")))
}

pub(super) async fn rebind(State(api): State<Api>, body: Bytes) -> Answer<Value> {
    let about = About::read(&body, &Takes("rebind", &["to"]))?;
    let target = about.target("rebind")?;
    let mut to = about.to.unwrap_or_default();
    if let Some(domain) = &to.domain {
        to.domain = Some(canonical(domain)?);
    }
    if let Some(routing) = &to.routing {
        to.routing = Some(known_routing(&api, routing)?);
    }
    info!(scope = %target.scope(), ?to, "moving");
    let id = api.queues.ask(move |engine, now, _| engine.rebind(&target, to, now)).await??;
    Ok(Json(json!({ "job": id })))
}

pub(super) async fn requeue(State(api): State<Api>, body: Bytes) -> Answer<Value> {
    let about = About::read(&body, &Takes("requeue", &[]))?;
    let target = about.target("requeue")?;
    info!(scope = %target.scope(), "requeueing");
    let id = api.queues.ask(move |engine, now, _| engine.requeue(&target, now)).await??;
    Ok(Json(json!({ "job": id })))
}
