//! The admin HTTP server both programs share: `/livez`, `/readyz`, `/metrics`. Floor 3.
//! Knows nothing of mail or proxies: what is ready is asked from the program.

pub mod client;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::StatusCode;
use axum::{Router, routing::get};
use bytes::Bytes;
use hyper::body::Frame;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

/// One thing that health depends on.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What it is: `listener 127.0.0.1:1080`, `spool`.
    pub name: String,
    /// `Err` says what is wrong.
    pub state: Result<(), String>,
}

/// Asks the program for the state of everything that matters now.
pub type Probes = Arc<dyn Fn() -> Vec<Probe> + Send + Sync>;

/// `/livez` (is the process worth keeping), `/readyz` (shall it get work), `/metrics`.
pub fn router(metrics: PrometheusHandle, live: Probes, ready: Probes) -> Router {
    Router::new()
        .route("/livez", get(move || async move { answer(&live()) }))
        .route("/readyz", get(move || async move { answer(&ready()) }))
        .route("/metrics", get(move || render(metrics.clone())))
}

async fn render(metrics: PrometheusHandle) -> (StatusCode, String) {
    // Rendering walks every series: not on an async thread.
    match tokio::task::spawn_blocking(move || metrics.render()).await {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}\n")),
    }
}

fn answer(probes: &[Probe]) -> (StatusCode, String) {
    let mut text = String::new();
    for probe in probes {
        let _ = match &probe.state {
            Ok(()) => writeln!(text, "ok {}", probe.name),
            Err(why) => writeln!(text, "failed {}: {why}", probe.name),
        };
    }
    let good = probes.iter().all(|p| p.state.is_ok());
    (if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

/// A body whose pieces come as they become known; `None` ends it. It is dropped when the client leaves.
pub fn streamed(next: impl FnMut(&mut Context<'_>) -> Poll<Option<Bytes>> + Send + Unpin + 'static) -> Body {
    Body::new(Streamed(next))
}

struct Streamed<F>(F);

impl<F: FnMut(&mut Context<'_>) -> Poll<Option<Bytes>> + Unpin> hyper::body::Body for Streamed<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        (self.0)(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Binds `address` for [`serve`].
///
/// # Errors
/// If the address cannot be bound; the text names it.
pub async fn bind(address: SocketAddr) -> Result<tokio::net::TcpListener, String> {
    tokio::net::TcpListener::bind(address).await.map_err(|e| format!("admin address {address} cannot be bound: {e}"))
}

/// Serves `router` until `stop` is cancelled. Health must stay visible while a program drains.
pub async fn serve(listener: tokio::net::TcpListener, router: Router, stop: CancellationToken) {
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = server.await {
        tracing::error!(%error, "admin server ended");
    }
}
