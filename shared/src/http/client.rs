//! One request over HTTP/1.1 in clear: what the command line asks of a program's own admin address, answered at
//! once or line by line for as long as the asker listens.
//! Floor 3.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, header::CONTENT_TYPE, header::HOST};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
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

/// Asks `address` for `path` and hands the answer on line by line, until it ends or `line` has enough. An answer that
/// is no success is given back whole.
///
/// # Errors
/// As [`request`]; the limit is that of the first line.
pub async fn listen(
    address: SocketAddr,
    path: &str,
    mut line: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<(StatusCode, String), String> {
    let told = |error: Problem| format!("http://{address}{path}: {error}");
    let begun = timeout(LIMIT, begin(Method::GET, address, path, Bytes::new())).await;
    let begun = begun.map_err(|_| format!("http://{address}{path}: no answer within {} s", LIMIT.as_secs()))?;
    let (_serving, status, mut body) = begun.map_err(told)?;
    if !status.is_success() {
        return Ok((status, whole(body).await.map_err(told)?));
    }
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| told(error.into()))?;
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let whole: Vec<u8> = text.drain(..=end).collect();
            if line(String::from_utf8_lossy(&whole[..end]).as_ref()).is_break() {
                return Ok((status, String::new()));
            }
        }
        if text.len() > MAX_ANSWER_BYTES {
            return Err(format!("http://{address}{path}: a line of more than {MAX_ANSWER_BYTES} bytes"));
        }
    }
    Ok((status, String::new()))
}

async fn exchange(
    method: Method,
    address: SocketAddr,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, String), Problem> {
    let (_serving, status, body) = begin(method, address, path, body).await?;
    Ok((status, whole(body).await?))
}

/// Ends the connection's task with the value.
struct Serving(tokio::task::AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn whole(body: Incoming) -> Result<String, Problem> {
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn begin(
    method: Method,
    address: SocketAddr,
    path: &str,
    body: Bytes,
) -> Result<(Serving, StatusCode, Incoming), Problem> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let serving = Serving(tokio::spawn(connection).abort_handle());
    let mut request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(body))?;
    let answer = sender.send_request(request).await?;
    Ok((serving, answer.status(), answer.into_body()))
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
        let mut pieces = ["a\nb", "\n"].into_iter().cycle().map(bytes::Bytes::from);
        let endless = move || crate::http::streamed(move |_| std::task::Poll::Ready(pieces.next()));
        let router = Router::new()
            .route("/here", get(|| async { "yes" }))
            .route("/lines", get(|| async move { axum::response::Response::new(endless()) }));
        let serving = tokio::spawn(crate::http::serve(listener, router, stop.clone()));
        assert_eq!(request(Method::GET, address, "/here").await, Ok((StatusCode::OK, "yes".to_owned())));
        assert_eq!(request(Method::GET, address, "/gone").await.map(|(s, _)| s), Ok(StatusCode::NOT_FOUND));
        let mut lines = Vec::new();
        let listened = listen(address, "/lines", |line| {
            lines.push(line.to_owned());
            if lines.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(listened.await.map(|(status, _)| status), Ok(StatusCode::OK));
        assert_eq!(lines, ["a", "b", "a"], "lines are whole however they come");
        stop.cancel();
        serving.await.expect("served");
        let error = request(Method::GET, address, "/here").await.expect_err("nobody listens");
        assert!(error.starts_with(&format!("http://{address}/here: ")), "{error}");
    }
}
