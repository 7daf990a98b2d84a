//! Fetches the file of a policy over HTTPS (RFC 8461 section 3.3). Floor 3. Touches sockets.
//! Always: no redirect is followed, the certificate must be valid for the policy's host, the file is short, the whole
//! ends within a limit; addresses of special use are not dialed.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use egret_shared::net::tls_client::{Check, ClientTls, TlsFault};
use http_body_util::{BodyExt as _, Collected, Empty, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::policy::MAX_POLICY_BYTES;
use crate::dns::resolver::Resolver;
use crate::event::tls::TlsResult;

/// How long all of it may take: the domain's mail waits for it.
const LIMIT: Duration = Duration::from_secs(20);
/// How long one address may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Addresses that are tried.
const ADDRESSES: usize = 3;

/// Why there is no file.
#[derive(Debug)]
pub(super) struct FetchError {
    /// As reports tell it.
    pub result: TlsResult,
    /// For people.
    pub text: String,
}

impl FetchError {
    pub fn new(result: TlsResult, text: impl Into<String>) -> Self {
        Self { result, text: text.into() }
    }

    fn failed(text: impl Into<String>) -> Self {
        Self::new(TlsResult::StsPolicyFetchError, text)
    }
}

/// The file of `domain`.
pub(super) async fn fetch(resolver: &Resolver, tls: &ClientTls, port: u16, domain: &str) -> Result<Bytes, FetchError> {
    let host = format!("mta-sts.{domain}");
    match timeout(LIMIT, exchange(resolver, tls, port, &host)).await {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::failed(format!("https://{host}: no answer within {} s", LIMIT.as_secs()))),
    }
}

/// Ends the connection's task with the value.
struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(resolver: &Resolver, tls: &ClientTls, port: u16, host: &str) -> Result<Bytes, FetchError> {
    let stream = connect(resolver, port, host).await?;
    let secured = tls.handshake(Check::Certificate, host, stream).await.map_err(|error| {
        let is_certificate = TlsFault::of(&error).is_certificate();
        let result = if is_certificate { TlsResult::StsWebpkiInvalid } else { TlsResult::StsPolicyFetchError };
        FetchError::new(result, format!("TLS with {host}: {error}"))
    })?;
    let told = |error: hyper::Error| FetchError::failed(format!("https://{host}: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(secured)).await.map_err(told)?;
    let _serving = Serving(tokio::spawn(connection).abort_handle());
    let agent = concat!("egret-mta/", env!("CARGO_PKG_VERSION"));
    let request = Request::get("/.well-known/mta-sts.txt").header(HOST, host).header(USER_AGENT, agent);
    let request = request.header(ACCEPT, "text/plain").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| FetchError::failed(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(told)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::failed(format!("https://{host} answers {}", answer.status())));
    }
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !is_plain(kind) {
        let text = format!("https://{host} sends {kind:?}, and not text/plain");
        return Err(FetchError::new(TlsResult::StsPolicyInvalid, text));
    }
    let body = Limited::new(answer.into_body(), MAX_POLICY_BYTES).collect().await;
    body.map(Collected::to_bytes).map_err(|error| FetchError::failed(format!("https://{host}: {error}")))
}

async fn connect(resolver: &Resolver, port: u16, host: &str) -> Result<TcpStream, FetchError> {
    let addresses = resolver.addresses_of(host).await.map_err(FetchError::failed)?;
    let mut told = format!("{host} has no address");
    for address in addresses.into_iter().take(ADDRESSES) {
        let address = SocketAddr::new(address, port);
        match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => told = format!("{host} [{address}]: {error}"),
            Err(_) => told = format!("{host} [{address}]: no answer within {} s", CONNECT_LIMIT.as_secs()),
        }
    }
    Err(FetchError::failed(told))
}

fn is_plain(kind: &str) -> bool {
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}
