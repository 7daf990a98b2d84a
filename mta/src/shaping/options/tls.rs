//! Whether and how TLS is used towards the destination. Floor 1.

/// Whether TLS is used, and what is asked of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// STARTTLS where it is offered, with a certificate that is valid for the host's name; in clear where it is not
    /// offered.
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
    /// After a failed handshake where TLS is not required: the same address once more, in clear.
    pub opportunistic_tls_reconnect_on_failed_handshake: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { enable_tls: Tls::OpportunisticInsecure, opportunistic_tls_reconnect_on_failed_handshake: true }
    }
}
