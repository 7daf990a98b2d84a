//! Questions: what is queued, where a message is, what is in force. Floor 6.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Api, Problem, canonical_scope};
use crate::message::{Message, MessageId};
use crate::queue::control::words::{Control, Scope};
use crate::queue::control::{Filter, JobView, QueueRow, ReadyRow, Summary};
use crate::spool::ReadError;

/// Rows in an answer unless the client asks for another number, and at most.
const ROWS: (usize, usize) = (100, 100_000);

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    campaign: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
    domain: Option<Arc<str>>,
    routing: Option<Arc<str>>,
    source: Option<Arc<str>>,
    site: Option<Arc<str>>,
    pool: Option<Arc<str>>,
    limit: Option<usize>,
}

type Asks = Result<Query<Asked>, QueryRejection>;

/// A query as a filter; `unused` names parameters that mean nothing here, which are refused.
fn filter(asked: Asks, unused: &[&str]) -> Result<Filter, Problem> {
    let Query(Asked { campaign, tenant, domain, routing, source, site, pool, limit }) =
        asked.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let given = [
        ("campaign", &campaign),
        ("tenant", &tenant),
        ("domain", &domain),
        ("routing", &routing),
        ("source", &source),
        ("site", &site),
        ("pool", &pool),
    ];
    if let Some((key, _)) = given.iter().find(|(key, value)| value.is_some() && unused.contains(key)) {
        return Err(Problem::bad(format!("{key} cannot be asked for here; leave it out")));
    }
    let scope = canonical_scope(Scope { campaign, tenant, domain, routing, source, site })?;
    Ok(Filter { scope, pool, limit: limit.unwrap_or(ROWS.0).min(ROWS.1) })
}

pub(super) async fn queues(State(api): State<Api>, asked: Asks) -> Answer<Vec<QueueRow>> {
    let filter = filter(asked, &["source"])?;
    Ok(Json(api.queues.ask(move |engine, _, _| engine.show_queues(&filter)).await?))
}

pub(super) async fn ready(State(api): State<Api>, asked: Asks) -> Answer<Vec<ReadyRow>> {
    let filter = filter(asked, &["campaign", "tenant", "domain", "routing", "pool"])?;
    Ok(Json(api.queues.ask(move |engine, now, _| engine.show_ready(&filter, now)).await?))
}

pub(super) async fn summary(State(api): State<Api>, asked: Asks) -> Answer<Summary> {
    let filter = filter(asked, &["campaign", "tenant", "domain", "routing", "source", "site", "pool"])?;
    Ok(Json(api.queues.ask(move |engine, _, _| engine.show_summary(filter.limit)).await?))
}

pub(super) async fn controls(State(api): State<Api>) -> Answer<Vec<Control>> {
    Ok(Json(api.queues.ask(|engine, _, _| engine.controls().to_vec()).await?))
}

pub(super) async fn jobs(State(api): State<Api>) -> Answer<Vec<JobView>> {
    Ok(Json(api.queues.ask(|engine, _, _| engine.jobs()).await?))
}

/// How a message is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct How {
    /// The message itself.
    content: bool,
}

pub(super) async fn message(
    State(api): State<Api>,
    Path(id): Path<String>,
    how: Result<Query<How>, QueryRejection>,
) -> Result<Response, Problem> {
    let id: MessageId = id.parse().map_err(Problem::bad)?;
    let Query(how) = how.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let message = api.spool.read(id).await.map_err(|error| match error {
        ReadError::Gone(_) => Problem(
            StatusCode::NOT_FOUND,
            format!("{error}: it is done with, or was never here; the event log tells what became of it"),
        ),
        _ => Problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    })?;
    if how.content {
        let content = [&message.content.added[..], &message.content.body[..]].concat();
        return Ok(([(CONTENT_TYPE, "message/rfc822")], content).into_response());
    }
    let parts = api.queues.ask(move |engine, now, _| engine.show_message(id, now)).await?;
    let mut shown = described(&message);
    shown["queued"] = json!(parts);
    Ok(Json(shown).into_response())
}

/// What is stored beside a message.
fn described(message: &Message) -> Value {
    let part = |part: &crate::message::Part| {
        let recipients: Vec<&str> = part.recipients.iter().map(crate::message::Address::as_str).collect();
        json!({ "queue": part.queue, "pool": part.pool, "priority": part.priority, "recipients": recipients })
    };
    let meta = &message.meta;
    json!({
        "id": message.id,
        "sender": meta.sender.as_ref().map_or("", |sender| sender.as_str()),
        "received": meta.received,
        "size": message.content.len(),
        "eight_bit": meta.eight_bit,
        "smtputf8": meta.smtputf8,
        "parts": meta.parts.iter().map(part).collect::<Vec<_>>(),
    })
}
