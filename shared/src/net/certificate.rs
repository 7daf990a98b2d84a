//! What a certificate says of itself: whom it names and how long it is good.
//! Pure. Floor 1. Does not judge who signed it.

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What matters of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The names it is for: DNS names and mail addresses of its subject alternative name in their order,
    /// then the common name.
    pub names: Vec<String>,
    /// When it ends, in seconds since the Unix epoch.
    pub expires_unix_s: i64,
}

/// Reads a certificate in DER; `None` if it is none.
pub fn facts(der: &[u8]) -> Option<CertificateFacts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = Vec::new();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
            _ => None,
        }));
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(str::to_owned));
    names.extend(common);
    Some(CertificateFacts { names, expires_unix_s: certificate.validity().not_after.timestamp() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_names_and_end() {
        let mut made = rcgen::CertificateParams::new(vec!["mta1.test".to_owned()]).expect("a name");
        made.distinguished_name.push(rcgen::DnType::CommonName, "the common one");
        made.not_after = rcgen::date_time_ymd(2031, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = made.self_signed(&key).expect("a certificate");
        let facts = facts(certificate.der()).expect("readable");
        assert_eq!(facts.names, ["mta1.test", "the common one"]);
        assert_eq!(facts.expires_unix_s, 1_924_992_000);
        assert_eq!(super::facts(b"no certificate"), None);
    }
}
