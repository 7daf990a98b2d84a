//! Private keys of signatures: PEM files with an RSA key (PKCS#1, PKCS#8) or an Ed25519 key (PKCS#8). Floor 2.
//! Reads the file that it is given.

use std::path::Path;

use egret_shared::net::tls::{CertificateError, private_key};
use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256};
use rustls::pki_types::PrivateKeyDer;

/// A private key.
pub struct Key(DkimKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_slow() { "Key(RSA)" } else { "Key(Ed25519)" })
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// The file.
    #[error(transparent)]
    File(#[from] CertificateError),
    /// It is of another kind, or too small.
    #[error("{0}: not an Ed25519 key, nor an RSA key of 2048 to 8192 bits (RFC 8301 wants 2048 from signers)")]
    Unfit(String),
}

impl Key {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// If it cannot be read, or holds no key that can sign.
    pub fn read(file: &Path) -> Result<Self, BadKey> {
        let der = private_key(file)?;
        if let PrivateKeyDer::Pkcs8(der) = &der
            && let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der())
        {
            return Ok(Self(DkimKey::Ed25519(key)));
        }
        let key = RsaKey::<Sha256>::from_key_der(der);
        key.map(|key| Self(DkimKey::Rsa(key))).map_err(|_| BadKey::Unfit(file.display().to_string()))
    }

    pub(super) fn is_slow(&self) -> bool {
        matches!(self.0, DkimKey::Rsa(_))
    }

    pub(super) fn into_inner(self) -> DkimKey {
        self.0
    }
}
