//! A server of policies: HTTPS on a loopback port, with a certificate of an authority of the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use egret_shared::net::tls_client::ClientTls;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A running server.
pub struct Https {
    pub address: SocketAddr,
    /// What it answers from now on, whole.
    pub answer: Arc<Mutex<String>>,
    /// How often it was asked.
    pub asked: Arc<AtomicUsize>,
    /// TLS that trusts its authority.
    pub tls: Arc<ClientTls>,
}

/// An answer of 200 with this text.
pub fn good(text: &str) -> String {
    answer("200 OK", "text/plain; charset=utf-8", text)
}

pub fn answer(status: &str, kind: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

impl Https {
    /// Serves by a certificate for `name`.
    pub async fn start(name: &str, first: String) -> Self {
        let mut params = CertificateParams::new(vec!["authority.test".to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let end = CertificateParams::new(vec![name.to_owned()]).expect("a name").signed_by(&key, &issuer);
        let end = end.expect("a certificate").der().clone();
        let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![end], secret)
            .expect("a pair");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(issuer.der().clone()).expect("a root");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let https = Self {
            address: listener.local_addr().expect("bound"),
            answer: Arc::new(Mutex::new(first)),
            asked: Arc::default(),
            tls: Arc::new(ClientTls::with_roots(roots).expect("a provider")),
        };
        tokio::spawn(serve(listener, Arc::new(config).into(), https.answer.clone(), https.asked.clone()));
        https
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn say(&self, answer: String) {
        *self.answer.lock() = answer;
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, answer: Arc<Mutex<String>>, asked: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = tls.accept(stream).await else { continue };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => break,
            }
        }
        asked.fetch_add(1, Ordering::SeqCst);
        let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let is_right =
            request.starts_with("get /.well-known/mta-sts.txt http/1.1") && request.contains("host: mta-sts.");
        let text = if is_right { answer.lock().clone() } else { self::answer("400 Bad Request", "text/plain", "") };
        // The client may have had enough of a long answer.
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
