//! Whether and how TLS is used towards the destination. Floor 1.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether TLS is used, and what is asked of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// STARTTLS where it is offered, with a certificate that is valid for the host's name, and no delivery with another;
    /// in clear where it is not offered.
    Opportunistic,
    /// STARTTLS where it is offered, the certificate not checked (RFC 7435); in clear where it is not offered.
    OpportunisticInsecure,
    /// STARTTLS with a certificate that is valid for the host's name, or no delivery.
    Required,
    /// STARTTLS with any certificate, or no delivery.
    RequiredInsecure,
    /// Never.
    Disabled,
}

impl Tls {
    /// Nothing is sent in clear.
    pub fn is_required(self) -> bool {
        matches!(self, Self::Required | Self::RequiredInsecure)
    }

    /// The same, but never in clear.
    #[must_use]
    pub fn required(self) -> Self {
        if self.checks_certificate() { Self::Required } else { Self::RequiredInsecure }
    }

    /// The certificate is checked.
    pub fn checks_certificate(self) -> bool {
        matches!(self, Self::Required | Self::Opportunistic)
    }
}

impl std::str::FromStr for Tls {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Opportunistic" => Ok(Self::Opportunistic),
            "OpportunisticInsecure" => Ok(Self::OpportunisticInsecure),
            "Required" => Ok(Self::Required),
            "RequiredInsecure" => Ok(Self::RequiredInsecure),
            "Disabled" => Ok(Self::Disabled),
            _ => Err(
                "write \"Opportunistic\", \"OpportunisticInsecure\", \"Required\", \"RequiredInsecure\" or \"Disabled\""
                    .to_owned(),
            ),
        }
    }
}

/// Whether and how TLS is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether TLS is used, and what is asked of the certificate.
    pub enable_tls: Tls,
    /// Whether the MTA-STS policies of domains are kept to (RFC 8461).
    pub enable_mta_sts: bool,
    /// Whether the TLSA records of hosts are kept to (RFC 7672).
    pub enable_dane: bool,
    /// After a failed handshake where TLS is not required: the same address once more, in clear.
    pub opportunistic_tls_reconnect_on_failed_handshake: bool,
    /// For how long a host whose handshake failed is used in clear at once, where TLS is not required; zero is not at
    /// all.
    pub remember_broken_tls: Duration,
    /// Our own certificate, shown to servers that ask for one: the chain.
    pub tls_certificate: Option<PathBuf>,
    /// Its private key.
    pub tls_private_key: Option<PathBuf>,
    /// Cipher suites by their names in rustls; none are all.
    pub rustls_cipher_suites: Vec<String>,
    /// Authorities that may vouch for servers, beside those of the Mozilla root program.
    pub tls_authorities: Option<PathBuf>,
}

impl TlsOptions {
    /// Our own certificate and its key.
    pub fn own(&self) -> Option<(&Path, &Path)> {
        self.tls_certificate.as_deref().zip(self.tls_private_key.as_deref())
    }

    /// Whether MTA-STS policies are asked for.
    pub fn asks_mta_sts(&self) -> bool {
        self.enable_mta_sts && self.enable_tls != Tls::Disabled
    }

    /// Whether TLSA records are asked for.
    pub fn asks_dane(&self) -> bool {
        self.enable_dane && self.enable_tls != Tls::Disabled
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            enable_tls: Tls::OpportunisticInsecure,
            enable_mta_sts: true,
            enable_dane: false,
            opportunistic_tls_reconnect_on_failed_handshake: true,
            remember_broken_tls: Duration::ZERO,
            tls_certificate: None,
            tls_private_key: None,
            rustls_cipher_suites: Vec::new(),
            tls_authorities: None,
        }
    }
}
