//! What was asked of TLS towards a destination, and what came of it: the words of events and reports.
//! Pure. Floor 1.

use serde::{Deserialize, Serialize};

/// What was asked of TLS, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Posture {
    /// No TLS: switched off, or broken there of late.
    None,
    /// TLS where it is offered.
    Opportunistic,
    /// TLS, by the operator's word.
    Required,
    /// TLS with a valid certificate, by the domain's MTA-STS policy.
    StsEnforce,
    /// As the operator says; the domain's MTA-STS policy only wants to hear what it would have prevented.
    StsTesting,
    /// TLS as the TLSA records of the host say.
    Dane,
}

/// What came of TLS; but for `Success`, the result types of RFC 8460 section 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsResult {
    /// TLS as it was asked for.
    Success,
    /// No STARTTLS, or it was refused.
    StarttlsNotSupported,
    /// The certificate is for another name.
    CertificateHostMismatch,
    /// The certificate is not valid now.
    CertificateExpired,
    /// Nobody known, or none of the TLSA records, vouches for the certificate.
    CertificateNotTrusted,
    /// Something else: the handshake broke, or the host is none of the policy's.
    ValidationFailure,
    /// No TLSA record of the host can be used.
    TlsaInvalid,
    /// The TLSA records cannot be had, or their signatures are wrong.
    DnssecInvalid,
    /// The MTA-STS policy that is announced cannot be fetched.
    StsPolicyFetchError,
    /// What was fetched is no MTA-STS policy.
    StsPolicyInvalid,
    /// The certificate of the policy's server is not valid.
    StsWebpkiInvalid,
}

impl TlsResult {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Success,
        Self::StarttlsNotSupported,
        Self::CertificateHostMismatch,
        Self::CertificateExpired,
        Self::CertificateNotTrusted,
        Self::ValidationFailure,
        Self::TlsaInvalid,
        Self::DnssecInvalid,
        Self::StsPolicyFetchError,
        Self::StsPolicyInvalid,
        Self::StsWebpkiInvalid,
    ];

    /// Its name in events, reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_one_name_everywhere() {
        for result in TlsResult::ALL {
            assert_eq!(serde_json::to_value(result).expect("writable"), result.as_str());
        }
    }
}
