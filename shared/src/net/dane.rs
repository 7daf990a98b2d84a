//! DANE for SMTP (RFC 7672, RFC 7671): what TLSA records ask of a certificate, and whether one does it.
//! Pure, but for the clock that TLS hands in. Floor 1.
//! Always: only usages 2 (DANE-TA) and 3 (DANE-EE) vouch for anybody; the records are an "or"; the peer
//! must hold the key of the certificate that matches.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// A TLSA record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tlsa {
    /// 2 an authority, 3 the server's own certificate; 0 and 1 mean nothing in SMTP.
    pub usage: u8,
    /// 0 the whole certificate, 1 its public key.
    pub selector: u8,
    /// 0 as it is, 1 its SHA-256, 2 its SHA-512.
    pub matching: u8,
    /// What the selected part must be.
    pub data: Vec<u8>,
}

impl Tlsa {
    /// Whether a certificate could match it (RFC 7672 section 3.1).
    pub fn is_usable(&self) -> bool {
        let fits = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        fits && matches!(self.usage, 2 | 3) && matches!(self.selector, 0 | 1)
    }

    fn matches(&self, certificate: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        let key;
        let selected: &[u8] = match self.selector {
            0 => certificate,
            _ => {
                key = parsed.subject_public_key_info();
                key.as_ref()
            }
        };
        match self.matching {
            0 => self.data == selected,
            1 => self.data == digest(&SHA256, selected).as_ref(),
            _ => self.data == digest(&SHA512, selected).as_ref(),
        }
    }
}

impl fmt::Display for Tlsa {
    /// As a zone file has it: `3 1 1 0a1b…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the DNS, secured by DNSSEC, says of a host's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dane {
    /// The name under which the records stand (the TLSA base domain): it is asked for in the handshake.
    pub base: Arc<str>,
    /// Other names that a certificate below a matched authority may be for: the host's own, if it is an alias.
    pub aliases: Vec<Arc<str>>,
    /// The records, sorted.
    pub records: Vec<Tlsa>,
}

impl Dane {
    /// Whether any record can be matched. If none can, TLS is a must, and any certificate will do
    /// (RFC 7672 section 2.1.1).
    pub fn is_usable(&self) -> bool {
        self.records.iter().any(Tlsa::is_usable)
    }

    fn names(&self) -> impl Iterator<Item = ServerName<'static>> {
        let names = std::iter::once(&self.base).chain(&self.aliases);
        names.filter_map(|name| ServerName::try_from(name.trim_end_matches('.').to_owned()).ok())
    }

    /// Judges the chain that a server has shown.
    ///
    /// # Errors
    /// The reason that comes closest: of an authority that matched what is wrong below it, else that none matches.
    fn judge(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        let usable = |usage| self.records.iter().filter(move |record| record.usage == usage && record.is_usable());
        let parsed = ParsedCertificate::try_from(end)?;
        // RFC 7672 section 3.1.1: neither names nor dates of a certificate that is itself vouched for matter.
        if usable(3).any(|record| record.matches(end, &parsed)) {
            return Ok(());
        }
        let mut told = None;
        for anchor in self.anchors(others) {
            match self.below(&anchor, &parsed, others, now, provider) {
                Ok(()) => return Ok(()),
                Err(error) => told = Some(error),
            }
        }
        Err(told.unwrap_or(CertificateError::ApplicationVerificationFailure.into()))
    }

    /// The authorities of usage 2 that are at hand: certificates of the chain, and those that stand whole in a record,
    /// which a server need not send (RFC 7672 section 3.1.2).
    fn anchors(&self, chain: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
        let records: Vec<&Tlsa> = self.records.iter().filter(|r| r.usage == 2 && r.is_usable()).collect();
        let is_named = |certificate: &&CertificateDer<'_>| {
            ParsedCertificate::try_from(*certificate)
                .is_ok_and(|parsed| records.iter().any(|record| record.matches(certificate, &parsed)))
        };
        let mut anchors: Vec<_> = chain.iter().filter(is_named).map(|c| c.clone().into_owned()).collect();
        let whole = records.iter().filter(|record| (record.selector, record.matching) == (0, 0));
        anchors.extend(whole.map(|record| CertificateDer::from(record.data.clone())));
        anchors
    }

    /// A chain from the end to this authority, for one of the names.
    fn below(
        &self,
        anchor: &CertificateDer<'static>,
        end: &ParsedCertificate<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(anchor.clone())?;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(end, &roots, others, now, algorithms)?;
        let mut told = Error::from(CertificateError::NotValidForName);
        for name in self.names() {
            match verify_server_name(end, &name) {
                Ok(()) => return Ok(()),
                Err(error) => told = error,
            }
        }
        Err(told)
    }
}

/// Takes the certificates that the records vouch for, and no other.
#[derive(Debug)]
pub(super) struct Verifier {
    pub dane: Dane,
    pub provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.dane.judge(end_entity, intermediates, now, &self.provider).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
