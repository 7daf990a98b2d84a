//! TLS set-ups, each made once: paths with the same certificate, cipher suites and authorities share one. Floor 6.
//! Always: what any path can ask for is there; it was made before the first of them was opened.

use std::path::PathBuf;
use std::sync::Arc;

use egret_shared::net::tls_client::{ClientTls, ClientTlsError};

use crate::shaping::options::{PathOptions, TlsOptions};
use crate::shaping::patch::Patch;

/// What a set-up is made of.
#[derive(Clone, PartialEq, Eq)]
struct Of {
    own: Option<(PathBuf, PathBuf)>,
    suites: Vec<String>,
    authorities: Option<PathBuf>,
}

/// The set-ups; the first is that of all mail for which nothing else is said.
pub(super) struct TlsShelf(Vec<(Of, Arc<ClientTls>)>);

fn own(options: &TlsOptions) -> Option<(PathBuf, PathBuf)> {
    options.own().map(|(certificate, key)| (certificate.to_owned(), key.to_owned()))
}

fn of(options: &TlsOptions) -> Of {
    let (suites, authorities) = (options.rustls_cipher_suites.clone(), options.tls_authorities.clone());
    Of { own: own(options), suites, authorities }
}

/// Puts in what is not there yet.
fn add<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}

impl TlsShelf {
    /// Makes what comes of `base` with any of `said` over it, in any order.
    pub(super) fn new<'p>(base: &TlsOptions, said: impl Iterator<Item = &'p Patch>) -> Result<Self, ClientTlsError> {
        let Of { own: first, suites, authorities } = of(base);
        let (mut owns, mut suites, mut authorities) = (vec![first], vec![suites], vec![authorities]);
        for patch in said {
            let options = patch.over(&PathOptions::default()).tls;
            if patch.says("tls_certificate") {
                add(&mut owns, own(&options));
            }
            if patch.says("rustls_cipher_suites") {
                add(&mut suites, options.rustls_cipher_suites.clone());
            }
            if patch.says("tls_authorities") {
                add(&mut authorities, options.tls_authorities.clone());
            }
        }
        let mut made = Vec::new();
        for own in &owns {
            for suites in &suites {
                for authorities in &authorities {
                    let files = own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
                    let tls = Arc::new(ClientTls::configured(files, suites, authorities.as_deref())?);
                    let of = Of { own: own.clone(), suites: suites.clone(), authorities: authorities.clone() };
                    made.push((of, tls));
                }
            }
        }
        Ok(Self(made))
    }

    /// The one where nothing else is said.
    pub(super) fn plain(&self) -> Arc<ClientTls> {
        self.0[0].1.clone()
    }

    /// The one of a path.
    pub(super) fn of(&self, options: &TlsOptions) -> Arc<ClientTls> {
        let is = |made: &&(Of, Arc<ClientTls>)| {
            let (of, _) = made;
            let own = of.own.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            own == options.own()
                && of.suites == options.rustls_cipher_suites
                && of.authorities == options.tls_authorities
        };
        self.0.iter().find(is).map_or_else(|| self.plain(), |made| made.1.clone())
    }
}
