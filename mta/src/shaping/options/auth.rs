//! Who this host says it is to servers that want to know (RFC 4954). Floor 1.

use std::fmt;
use std::path::PathBuf;

use super::Tls;

/// A way to prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// User name and password at once (RFC 4616).
    Plain,
    /// User name and password, one after the other.
    Login,
    /// A hash over the password and a challenge (RFC 2195).
    CramMd5,
    /// A token in place of the password.
    Xoauth2,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Login, Self::CramMd5, Self::Xoauth2];

    /// Its name behind AUTH.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::Xoauth2 => "XOAUTH2",
        }
    }
}

impl std::str::FromStr for Mechanism {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| "write \"PLAIN\", \"LOGIN\", \"CRAM-MD5\" or \"XOAUTH2\"".to_owned())
    }
}

/// Where a password or token is. Its `Debug` hides one that stands in the configuration.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// In a file, which is read anew for each session: a token in it may change.
    File(PathBuf),
    /// It was read when the configuration was.
    Known(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Known(_) => f.write_str("Known"),
        }
    }
}

/// Who this host says it is, and under which conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthOptions {
    /// The user name; `None` does not say who this host is.
    pub username: Option<String>,
    /// The password, or the token of XOAUTH2.
    pub password: Option<Secret>,
    /// The mechanisms that may be used; the first that the server offers is.
    pub mechanisms: Vec<Mechanism>,
    /// Whether that may be done in clear.
    pub allow_without_tls: bool,
    /// Whether that may be done towards a server whose certificate was not checked.
    pub allow_without_valid_certificate: bool,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self {
            username: None,
            password: None,
            mechanisms: vec![Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5],
            allow_without_tls: false,
            allow_without_valid_certificate: false,
        }
    }
}

impl AuthOptions {
    /// The use of TLS that `wanted` becomes where there is a password to protect.
    pub fn protect(&self, wanted: Tls) -> Tls {
        if self.username.is_none() || self.allow_without_tls || wanted == Tls::Required {
            return wanted;
        }
        if self.allow_without_valid_certificate { wanted.required() } else { Tls::Required }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_protected_unless_the_operator_says_otherwise() {
        use Tls::{Disabled, Opportunistic, OpportunisticInsecure, Required, RequiredInsecure};
        for (wanted, safe, any_certificate) in [
            (Opportunistic, Required, Required),
            (OpportunisticInsecure, Required, RequiredInsecure),
            (Required, Required, Required),
            (RequiredInsecure, Required, RequiredInsecure),
            (Disabled, Required, RequiredInsecure),
        ] {
            let nobody = AuthOptions::default();
            let strict = AuthOptions { username: Some("u".to_owned()), ..nobody.clone() };
            let lax = AuthOptions { allow_without_valid_certificate: true, ..strict.clone() };
            let open = AuthOptions { allow_without_tls: true, ..strict.clone() };
            let found = [&nobody, &strict, &lax, &open].map(|options| options.protect(wanted));
            assert_eq!(found, [wanted, safe, any_certificate, wanted]);
        }
    }
}
