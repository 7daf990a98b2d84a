//! TLS towards clients: certificate and key from PEM files, and the upgrade that STARTTLS asks for.
//! Floor 2. Reads the files and touches the stream that it is given.
//! Always: the upgrade consumes what was read in clear and fails if a byte of it is left, so that
//! nothing that came in clear is ever taken for something that came in TLS (CVE-2011-0411).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is not PEM, or a section of it is damaged.
    #[error("{}: not PEM: {error}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// A file lacks what it should hold.
    #[error("{}: holds no {what} in PEM; a section BEGIN {section} is needed", file.display())]
    Lacks {
        /// The file.
        file: PathBuf,
        /// "certificate" or "private key".
        what: &'static str,
        /// The name of the section that is missing.
        section: &'static str,
    },
    /// The two do not belong together, or one of them is of a kind that is not supported.
    #[error("{} with key {}: {error}", certificate.display(), key.display())]
    Unfit {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What TLS says.
        error: rustls::Error,
    },
    /// The certificates of the authorities cannot be used.
    #[error("{}: no authority for client certificates: {error}", file.display())]
    Authorities {
        /// The file.
        file: PathBuf,
        /// What TLS says.
        error: VerifierBuilderError,
    },
}

/// Reads a certificate chain (the server's own first) and its private key into a configuration for
/// TLS 1.2 and 1.3, with session tickets.
///
/// # Errors
/// Which file is at fault, and why.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    configure(certificate, key, WebPkiClientVerifier::no_client_auth())
}

/// The same, for clients with a certificate that an authority in `authorities` has signed. Without
/// `is_required`, a client may also show none.
///
/// # Errors
/// Which file is at fault, and why.
pub fn mutual_server_config(
    certificate: &Path,
    key: &Path,
    authorities: &Path,
    is_required: bool,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let failed = |error| CertificateError::Authorities { file: authorities.into(), error };
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities)? {
        roots.add(authority).map_err(|_| failed(VerifierBuilderError::NoRootAnchors))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    configure(certificate, key, builder.build().map_err(failed)?)
}

/// The certificates of a PEM file, in their order; at least one.
///
/// # Errors
/// If the file cannot be read, is not PEM or holds none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let wanted = ("certificate", "CERTIFICATE");
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad_pem(file, error, wanted))?;
    if chain.is_empty() { Err(bad_pem(file, pem::Error::NoItemsFound, wanted)) } else { Ok(chain) }
}

/// The private key of a PEM file.
///
/// # Errors
/// If the file cannot be read, is not PEM or holds none.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| bad_pem(file, error, ("private key", "PRIVATE KEY")))
}

fn configure(
    certificate: &Path,
    key: &Path,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let chain = certificates(certificate)?;
    let secret = private_key(key)?;
    let unfit = |error| CertificateError::Unfit { certificate: certificate.into(), key: key.into(), error };
    build(chain, secret, clients).map(Arc::new).map_err(unfit)
}

fn build(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn bad_pem(file: &Path, error: pem::Error, (what, section): (&'static str, &'static str)) -> CertificateError {
    let file = file.to_owned();
    match error {
        pem::Error::Io(error) => CertificateError::Unreadable { file, error },
        pem::Error::NoItemsFound => CertificateError::Lacks { file, what, section },
        error => CertificateError::Damaged { file, error },
    }
}

/// A stream in clear with what was read from it and not yet used.
#[derive(Debug)]
pub struct Clear<S> {
    /// The stream.
    pub stream: S,
    /// Bytes that were read in clear and wait to be used.
    pub inbox: BytesMut,
}

/// Why a stream could not be turned into TLS. The stream is gone: nothing in clear may follow.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The client sent more in clear behind the command that starts TLS.
    #[error("{0} bytes in clear wait behind STARTTLS: injected, or sent by a client that does not wait for the reply")]
    Waiting(usize),
    /// The handshake did not end in time.
    #[error("TLS handshake not done within {0:?}")]
    Late(Duration),
    /// The handshake failed.
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Clear<S> {
    /// Does the server's side of the handshake, within `limit` from start to end.
    ///
    /// # Errors
    /// See [`UpgradeError`].
    pub async fn upgrade(self, config: Arc<ServerConfig>, limit: Duration) -> Result<TlsStream<S>, UpgradeError> {
        if !self.inbox.is_empty() {
            return Err(UpgradeError::Waiting(self.inbox.len()));
        }
        match timeout(limit, TlsAcceptor::from(config).accept(self.stream)).await {
            Ok(done) => done.map_err(UpgradeError::Handshake),
            Err(_) => Err(UpgradeError::Late(limit)),
        }
    }
}

/// Version and cipher of a stream: `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
pub fn describe<S>(stream: &TlsStream<S>) -> String {
    let (_, session) = stream.get_ref();
    let version = session.protocol_version().and_then(|v| v.as_str()).unwrap_or("unknown");
    let suite = session.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or("unknown");
    format!("{version} {suite}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn files(certificate: &str, key: &str) -> (TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        fs::write(&paths.0, certificate).expect("written");
        fs::write(&paths.1, key).expect("written");
        (dir, paths.0, paths.1)
    }

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_good_pair_is_taken() {
        let (certificate, key) = made();
        let (_dir, certificate, key) = files(&certificate, &key);
        assert!(server_config(&certificate, &key).is_ok());
    }

    #[test]
    fn each_fault_names_the_file_and_what_it_lacks() {
        let ((certificate, key), (_, other)) = (made(), made());
        let half = &certificate[..certificate.len() / 2];
        for (certificate, key, want) in [
            ("", &*key, "cert.pem: holds no certificate"),
            (&*key, &*key, "cert.pem: holds no certificate"),
            (half, &*key, "cert.pem: not PEM"),
            (&*certificate, &*certificate, "key.pem: holds no private key"),
            (&*certificate, &*other, "key.pem: "),
        ] {
            let (_dir, certificate, key) = files(certificate, key);
            let error = server_config(&certificate, &key).expect_err(want).to_string();
            assert!(error.contains(want), "{error:?} lacks {want:?}");
        }
        let error = server_config(Path::new("/nowhere/c.pem"), Path::new("/nowhere/k.pem")).expect_err("no file");
        assert!(matches!(error, CertificateError::Unreadable { .. }), "{error}");
        assert!(error.to_string().starts_with("/nowhere/c.pem: "), "{error}");
    }

    #[tokio::test]
    async fn a_byte_in_clear_forbids_the_upgrade() {
        let (certificate, key) = made();
        let (_dir, certificate, key) = files(&certificate, &key);
        let config = server_config(&certificate, &key).expect("a good pair");
        let (stream, _client) = tokio::io::duplex(64);
        let clear = Clear { stream, inbox: BytesMut::from(&b"RSET\r\n"[..]) };
        let error = clear.upgrade(config, Duration::from_secs(5)).await.expect_err("bytes wait");
        assert!(matches!(error, UpgradeError::Waiting(6)), "{error}");
    }
}
