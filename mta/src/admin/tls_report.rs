//! `GET /v1/tls-report`: what came of TLS towards each domain on a day, as RFC 8460 reports have it. Floor 6.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Api, Problem, canonical};
use crate::tls_report::day_number;

/// What is asked for: a day by UTC, today if absent; one domain, or all of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    day: Option<String>,
    domain: Option<String>,
}

pub(super) async fn tls_report(State(api): State<Api>, asked: Result<Query<Asked>, QueryRejection>) -> Answer<Value> {
    let Query(asked) = asked.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let today = api.reports.today();
    let day = match &asked.day {
        None => today,
        Some(text) => {
            day_number(text).ok_or_else(|| Problem::bad(format!("{text:?} is no day; write it like \"2026-11-26\"")))?
        }
    };
    if day > today || day + 1 < today {
        return Err(Problem(StatusCode::NOT_FOUND, "only today and yesterday (by UTC) are kept".to_owned()));
    }
    let Some(domain) = asked.domain else { return Ok(Json(api.reports.reports(day, &api.hostname))) };
    let domain = canonical(&domain)?;
    let none = || Problem(StatusCode::NOT_FOUND, format!("no session towards {domain} was counted on that day"));
    api.reports.report(day, &domain, &api.hostname).map(Json).ok_or_else(none)
}
