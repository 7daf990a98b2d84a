//! `GET /v1/trace`: live sessions, line by line, for as long as the client listens. Floor 6.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use egret_shared::http::streamed;
use serde::Deserialize;

use super::{Api, Problem};
use crate::delivery::trace::Filter;

/// What is watched.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    queue: Option<String>,
    source: Option<String>,
    to: Option<String>,
    everything: bool,
    content: bool,
}

pub(super) async fn trace(
    State(api): State<Api>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Asked { queue, source, to, everything, content }) =
        asked.map_err(|rejection| Problem::bad(rejection.body_text()))?;
    let filter = Filter { queue: queue.map(|queue| queue.to_ascii_lowercase()), source, to, content };
    let names_nothing = filter.queue.is_none() && filter.source.is_none() && filter.to.is_none();
    if names_nothing != everything {
        return Err(Problem::bad(
            "say what to trace: a queue, a source or a destination (queue=, source=, to=); or everything=true and none of these",
        ));
    }
    let watch = api.tracer.watch(filter);
    let mut watch = watch.map_err(|error| Problem(StatusCode::CONFLICT, error.to_string()))?;
    // An empty first piece sends the status at once: the client knows that the watch has begun.
    let mut first = Some(Bytes::from_static(b"\n"));
    let lines = streamed(move |cx| match first.take() {
        Some(piece) => std::task::Poll::Ready(Some(piece)),
        None => watch.poll_line(cx),
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}
