//! The HTTP API beside health and metrics: the queues, and an operator's orders. Documented in
//! `docs/reference/mta-api.md`. Floor 6. Without access control: its address is a private one.
//! `show`, `why`, `fleet` and `tls_report` answer questions, `trace` shows live sessions, `order` takes orders.
//! Always: an order that lasts is on stable storage when it is confirmed.

mod fleet;
mod order;
mod show;
mod tls_report;
mod trace;
mod why;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use egret_shared::redis::RedisOptions;
use serde_json::{Value, json};

use crate::app::{Reloaded, Reloader};
use crate::controls::Keeper;
use crate::delivery::trace::Tracer;
use crate::message::{Address, is_domain};
use crate::queue::control::words::{Refused, Scope};
use crate::queue::run::{Queues, Stopped};
use crate::routing::ways::Ways;
use crate::spool::Spool;
use crate::tls_report::TlsReports;

/// What the API asks.
#[derive(Clone)]
pub struct Api {
    /// The queues.
    pub queues: Queues,
    /// Where messages are.
    pub spool: Spool,
    /// Where orders are kept.
    pub keeper: Keeper,
    /// Reads the configuration anew.
    pub reloader: Reloader,
    /// Who watches sessions.
    pub tracer: Tracer,
    /// Routes by their names.
    pub ways: Arc<ArcSwap<Ways>>,
    /// What came of TLS towards each domain.
    pub reports: TlsReports,
    /// Where the limits of the fleet are.
    pub redis: Option<RedisOptions>,
    /// The name of this host, which reports tell.
    pub hostname: Arc<str>,
}

/// `/v1/…`.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/queues", get(show::queues))
        .route("/v1/ready", get(show::ready))
        .route("/v1/summary", get(show::summary))
        .route("/v1/messages/{id}", get(show::message))
        .route("/v1/controls", get(show::controls))
        .route("/v1/jobs", get(show::jobs))
        .route("/v1/fleet", get(fleet::fleet))
        .route("/v1/why", get(why::why))
        .route("/v1/trace", get(trace::trace))
        .route("/v1/tls-report", get(tls_report::tls_report))
        .route("/v1/suspend", post(order::suspend))
        .route("/v1/resume", post(order::resume))
        .route("/v1/bounce", post(order::bounce))
        .route("/v1/rebind", post(order::rebind))
        .route("/v1/requeue", post(order::requeue))
        .route("/v1/reload", post(reload))
        .with_state(api)
}

async fn reload(State(api): State<Api>) -> Answer<Reloaded> {
    let done = api.reloader.reload().await;
    done.map(Json).map_err(|why| Problem(StatusCode::UNPROCESSABLE_ENTITY, why))
}

/// An answer that is no success: its status and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem(StatusCode, String);

type Answer<T> = Result<Json<T>, Problem>;

impl Problem {
    fn bad(error: impl std::fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let body: Json<Value> = Json(json!({ "error": self.1 }));
        (self.0, body).into_response()
    }
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, format!("{stopped}: the program is ending; ask again when it runs"))
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::Unknown(_) | Refused::NothingSuspended(_) => StatusCode::NOT_FOUND,
            Refused::TooMany(_) => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self(status, refused.to_string())
    }
}

/// A domain in the spelling that queues use.
fn canonical(domain: &str) -> Result<String, Problem> {
    Address::parse(&format!("x@{domain}"))
        .map(|address| address.canonical_domain())
        .map_err(|_| Problem::bad(format!("{domain:?} is not a domain; write it like \"example.com\"")))
}

/// A domain in the spelling that queues use, or a route's name; an empty one is mail that has none.
fn canonical_routing(routing: &str) -> Result<String, Problem> {
    if is_domain(routing) { canonical(routing) } else { Ok(routing.to_ascii_lowercase()) }
}

/// A scope as the queues know it.
fn canonical_scope(mut scope: Scope) -> Result<Scope, Problem> {
    for label in [&mut scope.campaign, &mut scope.tenant].into_iter().flatten() {
        *label = label.to_ascii_lowercase().into();
    }
    if let Some(domain) = &scope.domain {
        scope.domain = Some(canonical(domain)?.into());
    }
    if let Some(routing) = &scope.routing {
        scope.routing = Some(canonical_routing(routing)?.into());
    }
    Ok(scope)
}

#[cfg(test)]
mod tests;
