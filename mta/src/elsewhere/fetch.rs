//! Fetches the document behind a URL, over HTTP or HTTPS. Floor 3. Touches sockets, and reads the token's file.
//! Always: no redirect is followed, so that the token goes where the configuration says; the document is short, and the
//! whole ends within a limit.

use std::time::Duration;

use bytes::Bytes;
use egret_shared::net::tls_client::KnownServer;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Served, json};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest document.
const MAX_BYTES: usize = 16 << 20;

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Whether a document can be fetched from there, before anybody tries.
///
/// # Errors
/// What is wrong with the URL.
pub fn judge(url: &str) -> Result<(), String> {
    let parsed: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    match parsed.scheme_str() {
        Some("http" | "https") if parsed.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        _ => Err(format!("{url:?} is no URL of a web server; write it like \"https://config.example.com/egress\"")),
    }
}

/// The document, as TOML.
///
/// # Errors
/// Why there is none; the text names the URL.
pub async fn fetch(served: &Served) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", served.url);
    match timeout(LIMIT, exchange(served)).await {
        Ok(Ok(text)) => json::to_toml(&text).map_err(|error| told(&error)),
        Ok(Err(error)) => Err(told(&error)),
        Err(_) => Err(told(&format_args!("no answer within {} s", LIMIT.as_secs()))),
    }
}

async fn exchange(served: &Served) -> Result<String, Problem> {
    judge(&served.url)?;
    let uri: Uri = served.url.parse()?;
    let host = uri.host().unwrap_or_default();
    let is_secured = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_secured { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await?;
    let token = match &served.token_file {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim()))?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    if is_secured {
        let server = KnownServer::new(bare, served.authorities.as_deref(), None)?;
        return ask(server.handshake(stream).await?, &uri, token).await;
    }
    ask(stream, &uri, token).await
}

/// Ends the connection's task with the value.
struct Serving(tokio::task::AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ask<S>(stream: S, uri: &Uri, token: Option<HeaderValue>) -> Result<String, Problem>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let _serving = Serving(tokio::spawn(connection).abort_handle());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let agent = concat!("egret-mta/", env!("CARGO_PKG_VERSION"));
    let request = Request::get(path).header(HOST, host).header(USER_AGENT, agent).header(ACCEPT, "application/json");
    let mut request = request.body(Empty::<Bytes>::new())?;
    request.headers_mut().extend(token.map(|token| (AUTHORIZATION, token)));
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the server answers {}", answer.status()).into());
    }
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await?.to_bytes();
    Ok(String::from_utf8(body.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_must_be_of_a_web_server() {
        for good in ["http://a.test/x", "https://127.0.0.1:8443/", "http://[::1]:80/y?z=1"] {
            assert_eq!(judge(good), Ok(()));
        }
        for bad in ["a.test/x", "file:///etc/egret", "http:///x", "https:// "] {
            assert!(judge(bad).is_err(), "{bad}");
        }
    }
}
