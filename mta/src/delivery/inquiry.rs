//! Asks egret-proxy what became of a session that ended without a word: in the PROXY dialects nothing else can say
//! whether the destination or the way to it failed.
//! Floor 3. One HTTP request, with a short limit.
//! Always: no answer is no news, never a failure of its own.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use egret_shared::fault::{Fault, Reason};
use egret_shared::http::client;
use serde::Deserialize;
use tokio::time::timeout;

/// How long the answer may take: a session waits for it.
const LIMIT: Duration = Duration::from_secs(2);

/// What is read of a session's record (docs/reference/proxy-sessions.md).
#[derive(Deserialize)]
struct Record {
    reason: Option<String>,
    errno: Option<i32>,
    detail: Option<String>,
}

/// Why the session of the client at `local` failed, in the proxy's own words, if it knows.
pub(super) async fn ask(admin: SocketAddr, local: SocketAddr) -> Option<Fault> {
    let path = format!("/v1/sessions/{local}");
    let (status, text) = match timeout(LIMIT, client::request(Method::GET, admin, &path)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the proxy's session record cannot be asked for; is proxy.admin right?");
            return None;
        }
        Err(_) => return None,
    };
    if status != StatusCode::OK {
        return None;
    }
    let record: Record = serde_json::from_str(&text).ok()?;
    let reason = Reason::try_from(record.reason?).ok()?;
    let detail = record.detail.unwrap_or_else(|| "its session record says no more".to_owned());
    Some(Fault::new(reason, format!("{detail}, as proxy {admin} tells")).with_errno(record.errno))
}
