//! TLS towards mail servers: one shared configuration for each way of checking the certificate. And TLS towards a
//! server that the configuration knows, as a proxy is.
//! Floor 2. Touches the stream that it is given.
//! Always: signatures of the handshake are verified also where the certificate is not; a session
//! is resumed only under the configuration that made it, so a checked one never rests on an
//! unchecked one.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dane::{self, Dane};
use super::tls::{CertificateError, certificates, private_key};

/// How the certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check<'a> {
    /// Not at all (RFC 7435).
    Nothing,
    /// It must be valid for the host's name and come from a known root.
    Certificate,
    /// As the TLSA records of the host say (RFC 7672).
    Dane(&'a Dane),
}

/// What is wrong with a TLS handshake, as reports tell it (RFC 8460 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate is not valid now.
    Expired,
    /// The certificate is for other names.
    WrongName,
    /// Nobody known vouches for the certificate, or it is unfit.
    Untrusted,
    /// There was no handshake.
    Broken,
}

impl TlsFault {
    /// What an error of a handshake means.
    pub fn of(error: &io::Error) -> Self {
        let source = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
        source.map_or(Self::Broken, Self::of_tls)
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::CertificateError as Wrong;
        match error {
            rustls::Error::InvalidCertificate(wrong) => match wrong {
                Wrong::Expired
                | Wrong::ExpiredContext { .. }
                | Wrong::NotValidYet
                | Wrong::NotValidYetContext { .. } => Self::Expired,
                Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => Self::WrongName,
                _ => Self::Untrusted,
            },
            rustls::Error::NoCertificatesPresented => Self::Untrusted,
            _ => Self::Broken,
        }
    }

    /// The handshake went well, but for the certificate.
    pub fn is_certificate(self) -> bool {
        self != Self::Broken
    }
}

/// Our own certificate chain and its key.
type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Why TLS towards mail servers cannot be set up as it is wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A file of our own certificate, which the text names.
    #[error(transparent)]
    File(#[from] CertificateError),
    /// A cipher suite that is not known.
    #[error("{name:?} is no cipher suite; known: {known}")]
    Suite {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// What TLS says of certificate, key or suites.
    #[error("{0}")]
    Unfit(#[from] rustls::Error),
}

/// The configurations. Make it once: sessions are resumed through it.
pub struct ClientTls {
    unchecked: TlsConnector,
    checked: TlsConnector,
    /// Judges a certificate that was not checked in the handshake.
    judge: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    own: Option<Own>,
}

impl ClientTls {
    /// With the roots of the Mozilla root program, compiled in.
    ///
    /// # Errors
    /// If the cryptographic provider does not support TLS 1.2 and 1.3.
    pub fn new() -> Result<Self, rustls::Error> {
        Self::with_roots(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())
    }

    /// With these roots.
    ///
    /// # Errors
    /// As [`ClientTls::new`].
    pub fn with_roots(roots: RootCertStore) -> Result<Self, rustls::Error> {
        Self::build(&Arc::new(provider()), roots, None)
    }

    /// With the roots of the Mozilla root program and those in `authorities` (PEM), a certificate of our own (PEM: the
    /// chain, and its key), and these cipher suites only, by their names in rustls; none are all that are safe.
    ///
    /// # Errors
    /// Which file or name is at fault, and why.
    pub fn configured(
        own: Option<(&Path, &Path)>,
        suites: &[String],
        authorities: Option<&Path>,
    ) -> Result<Self, ClientTlsError> {
        let mut provider = provider();
        if !suites.is_empty() {
            let name = |suite: &rustls::SupportedCipherSuite| suite.suite().as_str().unwrap_or("?");
            if let Some(unknown) =
                suites.iter().find(|wanted| !provider.cipher_suites.iter().any(|s| name(s) == **wanted))
            {
                let known = provider.cipher_suites.iter().map(name).collect::<Vec<_>>().join(", ");
                return Err(ClientTlsError::Suite { name: unknown.clone(), known });
            }
            provider.cipher_suites.retain(|suite| suites.iter().any(|wanted| wanted == name(suite)));
        }
        let own = match own {
            None => None,
            Some((certificate, key)) => Some((certificates(certificate)?, private_key(key)?)),
        };
        Ok(Self::build(&Arc::new(provider), roots_with(authorities)?, own)?)
    }

    fn build(provider: &Arc<CryptoProvider>, roots: RootCertStore, own: Option<Own>) -> Result<Self, rustls::Error> {
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let judge = judge.map_err(|error| rustls::Error::General(error.to_string()))?;
        let any = Arc::new(AnyCertificate(provider.clone()));
        let unchecked = client_config(provider, any, own.as_ref())?;
        let checked = client_config(provider, judge.clone(), own.as_ref())?;
        Ok(Self { unchecked: unchecked.into(), checked: checked.into(), judge, provider: provider.clone(), own })
    }

    /// Does the handshake. `name` is the host's name from its MX record (A-labels).
    ///
    /// # Errors
    /// What went wrong in the handshake, or with the certificate.
    pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        check: Check<'_>,
        name: &str,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let unfit = |e| io::Error::new(io::ErrorKind::InvalidInput, e);
        match check {
            Check::Nothing => self.unchecked.connect(server_name(name).map_err(unfit)?, stream).await,
            Check::Certificate => self.checked.connect(server_name(name).map_err(unfit)?, stream).await,
            Check::Dane(dane) => {
                // A configuration of its own: nothing that other records vouched for is resumed under these.
                let verifier = dane::Verifier { dane: dane.clone(), provider: self.provider.clone() };
                let config = client_config(&self.provider, Arc::new(verifier), self.own.as_ref());
                let connector = TlsConnector::from(config.map_err(io::Error::other)?);
                connector.connect(server_name(&dane.base).map_err(unfit)?, stream).await
            }
        }
    }

    /// Whether the certificate of a stream would have passed [`Check::Certificate`], and if not, why.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge<S>(&self, stream: &TlsStream<S>, name: &str) -> Result<(), TlsFault> {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let (Some((end, others)), Ok(name)) = (chain.split_first(), server_name(name)) else {
            return Err(TlsFault::Untrusted);
        };
        let judged = self.judge.verify_server_cert(end, others, &name, &[], UnixTime::now());
        judged.map(|_| ()).map_err(|error| TlsFault::of_tls(&error))
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
    ServerName::try_from(name.trim_end_matches('.').to_owned())
}

/// The roots of the Mozilla root program, and those in a file (PEM).
///
/// # Errors
/// What is wrong with the file.
pub fn roots_with(authorities: Option<&Path>) -> Result<RootCertStore, ClientTlsError> {
    let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    if let Some(file) = authorities {
        certificates(file)?.into_iter().try_for_each(|authority| roots.add(authority))?;
    }
    Ok(roots)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    own: Option<&Own>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
    }))
}

/// Why TLS towards a known server cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum KnownServerError {
    /// The name is neither a host name nor an address.
    #[error("{0:?} is neither a host name nor an IP address")]
    Name(String),
    /// A file, which the text names.
    #[error(transparent)]
    File(#[from] CertificateError),
    /// What TLS says of certificate, key or authorities.
    #[error("{0}")]
    Unfit(#[from] rustls::Error),
}

/// TLS towards one server that the configuration knows: its name, who may vouch for it, and who we are.
#[derive(Clone)]
pub struct KnownServer {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    /// Of the name and of what stood in the files: two that were made of the same are the same.
    made_of: u64,
}

impl KnownServer {
    /// A server whose certificate must be valid for `name` and come from `authorities` (a PEM file), or without
    /// these from the Mozilla root program. `own` is our certificate and its key, both PEM files.
    ///
    /// # Errors
    /// Which file or value is at fault, and why.
    pub fn new(name: &str, authorities: Option<&Path>, own: Option<(&Path, &Path)>) -> Result<Self, KnownServerError> {
        let bad_name = |_| KnownServerError::Name(name.to_owned());
        let server = ServerName::try_from(name.to_owned()).map_err(bad_name)?;
        let (mut roots, mut made_of) = (RootCertStore::empty(), DefaultHasher::new());
        (name, authorities.is_some(), own.is_some()).hash(&mut made_of);
        match authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                let authorities = certificates(file)?;
                for authority in &authorities {
                    authority.as_ref().hash(&mut made_of);
                }
                authorities.into_iter().try_for_each(|authority| roots.add(authority))?;
            }
        }
        let builder =
            ClientConfig::builder_with_provider(Arc::new(provider())).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (certificates, key) = (certificates(certificate)?, private_key(key)?);
                for certificate in &certificates {
                    certificate.as_ref().hash(&mut made_of);
                }
                key.secret_der().hash(&mut made_of);
                builder.with_client_auth_cert(certificates, key)?
            }
        };
        Ok(Self { name: server, config: Arc::new(config), made_of: made_of.finish() })
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// What went wrong in the handshake, or with the certificate.
    pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        TlsConnector::from(self.config.clone()).connect(self.name.clone(), stream).await
    }
}

impl std::fmt::Debug for KnownServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownServer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for KnownServer {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.made_of == other.made_of
    }
}

impl Eq for KnownServer {}

/// Version and cipher of a stream: `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
pub fn describe<S>(stream: &TlsStream<S>) -> String {
    let (_, session) = stream.get_ref();
    let version = session.protocol_version().and_then(|v| v.as_str()).unwrap_or("unknown");
    let suite = session.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or("unknown");
    format!("{version} {suite}")
}

/// Key shares without post-quantum hybrids: some mail servers hang on a ClientHello of more than one
/// segment.
fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
    CryptoProvider { kx_groups: vec![X25519, SECP256R1, SECP384R1], ..aws_lc_rs::default_provider() }
}

/// Takes any certificate, but only from a peer that holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
