//! The HTTP API beside health and metrics: sessions, sources, reload. Documented in
//! `docs/reference/proxy-api.md`. Floor 6. Without access control: its address is a private one.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use egret_shared::address::canonical;
use egret_shared::fault::Reason;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::Reloader;
use crate::report::record::Record;
use crate::session::Common;
use crate::source::State;

/// Sessions in an answer unless the client asks for another number, and at most.
const SESSIONS: (usize, usize) = (1000, 100_000);

#[derive(Clone)]
struct Api {
    common: Common,
    reloader: Reloader,
}

type Answer<T> = Result<Json<T>, (StatusCode, Json<Value>)>;

/// `/v1/…`.
pub fn router(common: Common, reloader: Reloader) -> Router {
    Router::new()
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{key}", get(session))
        .route("/v1/sources", get(sources))
        .route("/v1/sources/{ip}/drain", post(drain))
        .route("/v1/sources/{ip}/undrain", post(undrain))
        .route("/v1/reload", post(reload))
        .with_state(Api { common, reloader })
}

fn problem<T>(status: StatusCode, error: impl Into<String>) -> Answer<T> {
    Err((status, Json(json!({ "error": error.into() }))))
}

/// Which sessions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// `running` (the default), `ended` or `all`.
    state: Option<String>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    client: Option<IpAddr>,
    listener: Option<SocketAddr>,
    user: Option<String>,
    reason: Option<Reason>,
    limit: Option<usize>,
}

impl Filter {
    fn fits(&self, record: &Record) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        is(self.source.as_ref(), record.source.as_ref())
            && is(self.destination.as_ref(), record.destination.map(|to| to.ip()).as_ref())
            && is(self.client.as_ref(), Some(&record.client.ip()))
            && is(self.listener.as_ref(), Some(&record.listener))
            && is(self.user.as_ref(), record.user.as_ref())
            && is(self.reason.as_ref(), record.reason.as_ref())
    }
}

async fn sessions(Shared(api): Shared<Api>, Query(filter): Query<Filter>) -> Answer<Vec<Record>> {
    let (now, table) = (api.common.clock.now(), &api.common.reporter.sessions);
    let most = filter.limit.unwrap_or(SESSIONS.0).min(SESSIONS.1);
    let mut found = match filter.state.as_deref().unwrap_or("running") {
        "running" => table.running(|record| filter.fits(record), now),
        "ended" => table.recent(|record| filter.fits(record), most, now),
        "all" => {
            let mut all = table.running(|record| filter.fits(record), now);
            all.extend(table.recent(|record| filter.fits(record), most, now));
            all
        }
        other => {
            let error = format!("state {other:?} is not known; ask for running, ended or all");
            return problem(StatusCode::BAD_REQUEST, error);
        }
    };
    found.truncate(most);
    Ok(Json(found))
}

async fn session(Shared(api): Shared<Api>, Path(key): Path<String>) -> Answer<Record> {
    match api.common.reporter.sessions.find(&key, api.common.clock.now()) {
        Some(record) => Ok(Json(record)),
        None => {
            let error = format!(
                "no session {key:?}: neither a session's id nor a client's address:port of one that runs or ended within session_log.keep"
            );
            problem(StatusCode::NOT_FOUND, error)
        }
    }
}

/// A source as the API shows it.
#[derive(Debug, Serialize)]
struct Source {
    address: IpAddr,
    state: State,
    /// Sessions that run from it.
    sessions: usize,
}

async fn sources(Shared(api): Shared<Api>) -> Json<Vec<Source>> {
    let held = api.common.policy.load().sources.held().all();
    let running = api.common.reporter.sessions.running(|_| true, api.common.clock.now());
    let sessions = |ip: IpAddr| running.iter().filter(|record| record.source == Some(ip)).count();
    Json(held.into_iter().map(|(address, state)| Source { address, state, sessions: sessions(address) }).collect())
}

async fn drain(api: Shared<Api>, ip: Path<IpAddr>) -> Answer<Value> {
    set_draining(&api, *ip, true)
}

async fn undrain(api: Shared<Api>, ip: Path<IpAddr>) -> Answer<Value> {
    set_draining(&api, *ip, false)
}

fn set_draining(api: &Api, ip: IpAddr, is_draining: bool) -> Answer<Value> {
    let (ip, sources) = (canonical(ip), api.common.policy.load().sources.clone());
    if is_draining && !sources.set().contains(ip) {
        return problem(StatusCode::NOT_FOUND, format!("{ip} is not held"));
    }
    let is_changed = sources.held().drain(ip, is_draining);
    if is_changed {
        tracing::info!(source = %ip, is_draining, "source is taken out of service or back");
        api.common.reporter.metrics.states(sources.held());
    }
    Ok(Json(json!({ "address": ip, "draining": is_draining, "changed": is_changed })))
}

async fn reload(Shared(api): Shared<Api>) -> Answer<Value> {
    match api.reloader.reload().await {
        Ok(restart) => Ok(Json(json!({ "reloaded": true, "wants_restart": restart }))),
        Err(complaints) => problem(StatusCode::UNPROCESSABLE_ENTITY, complaints),
    }
}
