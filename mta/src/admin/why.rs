//! `GET /v1/why`: what keeps mail back, in order. Floor 6.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::{Answer, Api, Problem, canonical_scope};
use crate::message::MessageId;
use crate::queue::control::Why;
use crate::queue::control::words::Scope;
use crate::spool::ReadError;

/// Queues in an answer unless the client asks for another number, and at most.
const QUEUES: (usize, usize) = (20, 1_000);

/// What is asked about: one of these.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    message: Option<String>,
    domain: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
    source: Option<Arc<str>>,
    limit: Option<usize>,
}

pub(super) async fn why(State(api): State<Api>, asked: Result<Query<Asked>, QueryRejection>) -> Answer<Vec<Why>> {
    let Query(asked) = asked.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let limit = asked.limit.unwrap_or(QUEUES.0).min(QUEUES.1);
    match asked {
        Asked { message: Some(id), domain: None, tenant: None, source: None, .. } => of_message(&api, &id).await,
        Asked { message: None, domain: None, tenant: None, source: Some(source), .. } => {
            let name = source.clone();
            let told = api.queues.ask(move |engine, now, _| engine.why_source(&name, now)).await?;
            let unknown = || format!("no pool has a source {source:?}; `queue ready` and the configuration name them");
            told.map(Json).ok_or_else(|| Problem(StatusCode::NOT_FOUND, unknown()))
        }
        Asked { message: None, domain, tenant, source: None, .. } if domain.is_some() || tenant.is_some() => {
            let scope = canonical_scope(Scope { tenant, domain, ..Scope::default() })?;
            let told = api.queues.ask(move |engine, now, _| engine.why_queues(&scope, limit, now)).await?;
            Ok(Json(told))
        }
        _ => Err(Problem::bad("ask about one thing: message=, domain= and/or tenant=, or source=")),
    }
}

async fn of_message(api: &Api, id: &str) -> Answer<Vec<Why>> {
    let id: MessageId = id.parse().map_err(Problem::bad)?;
    let told = api.queues.ask(move |engine, now, _| engine.why_message(id, now)).await?;
    if !told.is_empty() {
        return Ok(Json(told));
    }
    match api.spool.read(id).await {
        Ok(_) => Err(Problem(
            StatusCode::NOT_FOUND,
            format!(
                "message {id} is in the spool, but not queued: it is done with, or the queues have not reached it yet after the start"
            ),
        )),
        Err(error @ ReadError::Unread(_)) => Err(Problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        Err(error) => Err(Problem(StatusCode::NOT_FOUND, format!("{error}; the event log tells what became of it"))),
    }
}
