//! `GET /v1/fleet`: nodes, proxies and sources as this node sees them. Floor 6.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Answer, Api};

pub(super) async fn fleet(State(api): State<Api>) -> Answer<Value> {
    let sources = api.queues.ask(|engine, now, _| engine.sources(now)).await?;
    let (shown, found, mistakes) =
        (api.reloader.fleet.shown(), api.reloader.discovered(), api.reloader.standing.mistakes());
    Ok(Json(json!({
        "node": api.hostname,
        "nodes": shown.nodes,
        "proxies": shown.proxies,
        "unused": found.unused,
        "announced_twice": found.twice,
        "unreadable": shown.wrong,
        "mistakes": mistakes,
        "sources": sources,
    })))
}
