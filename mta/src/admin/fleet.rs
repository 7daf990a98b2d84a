//! `GET /v1/fleet`: nodes, proxies, sources and limits as this node sees them. Floor 6.
//! Always: an answer comes also while Redis is away; it says then that the limits are unknown.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use egret_shared::limits::PROXIES;
use egret_shared::limits::store::{Survey, survey};
use egret_shared::redis::{Redis, RedisFailure, RedisOptions};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Answer, Api};

/// Limits that are looked at, of the queues and of proxies each. On a busy fleet there are more; all of Redis would
/// stand still for too long.
const MAX_LOOKED_AT: usize = 5000;
/// Limits that are told.
const MAX_TOLD: usize = 200;
/// How long Redis may take to tell them.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn fleet(State(api): State<Api>) -> Answer<Value> {
    let sources = api.queues.ask(|engine, now, _| engine.sources(now)).await?;
    let (shown, found, mistakes) =
        (api.reloader.fleet.shown(), api.reloader.discovered(), api.reloader.standing.mistakes());
    let (limits, limits_unknown) = match &api.redis {
        None => (Value::Null, None),
        Some(options) => match limits(options).await {
            Ok(limits) => (limits, None),
            Err(why) => (Value::Null, Some(why)),
        },
    };
    Ok(Json(json!({
        "node": api.hostname,
        "nodes": shown.nodes,
        "proxies": shown.proxies,
        "unused": found.unused,
        "announced_twice": found.twice,
        "unreadable": shown.wrong,
        "mistakes": mistakes,
        "sources": sources,
        "limits": limits,
        "limits_unknown": limits_unknown,
    })))
}

/// What is in use of the limits of queues and of proxies.
async fn limits(options: &RedisOptions) -> Result<Value, String> {
    let asked = async { tokio::try_join!(in_use(options.clone()), in_use(options.part(PROXIES))) };
    match timeout(PATIENCE, asked).await {
        Ok(Ok((queues, proxies))) => Ok(json!({ "queues": queues, "proxies": proxies })),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("Redis at {} did not tell them within {} s", options.place(), PATIENCE.as_secs())),
    }
}

async fn in_use(options: RedisOptions) -> Result<Survey, RedisFailure> {
    Ok(survey(&Redis::new(options), MAX_LOOKED_AT).await?.in_use(MAX_TOLD))
}
