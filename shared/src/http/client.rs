//! One request over HTTP/1.1 in clear: what the command line asks of a program's own admin address.
//! Floor 3.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, header::CONTENT_TYPE, header::HOST};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Asks `address` for `path`.
///
/// # Errors
/// That nobody answers there, or not in HTTP, or not in time; the text names the address.
pub async fn request(method: Method, address: SocketAddr, path: &str) -> Result<(StatusCode, String), String> {
    send(method, address, path, Bytes::new()).await
}

/// Asks `address` for `path` with a body of JSON, which may be empty.
///
/// # Errors
/// As [`request`].
pub async fn send(
    method: Method,
    address: SocketAddr,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, String), String> {
    match timeout(LIMIT, exchange(method, address, path, body)).await {
        Ok(answer) => answer.map_err(|error| format!("http://{address}{path}: {error}")),
        Err(_) => Err(format!("http://{address}{path}: no answer within {} s", LIMIT.as_secs())),
    }
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    method: Method,
    address: SocketAddr,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, String), Problem> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let serving = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(body))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await?.to_bytes();
    serving.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn an_answer_comes_with_its_status_and_silence_is_told() {
        let listener = crate::http::bind(([127, 0, 0, 1], 0).into()).await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let router = Router::new().route("/here", get(|| async { "yes" }));
        let serving = tokio::spawn(crate::http::serve(listener, router, stop.clone()));
        assert_eq!(request(Method::GET, address, "/here").await, Ok((StatusCode::OK, "yes".to_owned())));
        assert_eq!(request(Method::GET, address, "/gone").await.map(|(s, _)| s), Ok(StatusCode::NOT_FOUND));
        stop.cancel();
        serving.await.expect("served");
        let error = request(Method::GET, address, "/here").await.expect_err("nobody listens");
        assert!(error.starts_with(&format!("http://{address}/here: ")), "{error}");
    }
}
