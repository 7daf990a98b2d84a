//! Whether and how TLS is used towards the destination. Floor 5.

use std::path::PathBuf;

use egret_shared::net::tls_client::{ClientTls, ClientTlsError, roots_with};

use super::Reader;
use crate::shaping::options::{PathOptions, Tls};

egret_shared::config_value_from_str!(Tls => "a use of TLS");

pub(super) fn read(reader: &mut Reader<'_, '_>) {
    reader.plain(
        "enable_tls",
        "\"OpportunisticInsecure\"",
        "\"OpportunisticInsecure\" (STARTTLS where it is offered, any certificate), \"Opportunistic\" (where it is offered, with a valid certificate: another one is a failure, never clear text), \"Required\" (with a valid certificate or no delivery), \"RequiredInsecure\" (any certificate or no delivery), \"Disabled\".",
        |o| &mut o.tls.enable_tls,
    );
    reader.plain(
        "enable_mta_sts",
        "true",
        "Whether the MTA-STS policies of domains are looked for and kept to (RFC 8461): under one that is enforced only its hosts get the domain's mail, in TLS with a valid certificate. Not where enable_tls is \"Disabled\".",
        |o| &mut o.tls.enable_mta_sts,
    );
    reader.plain(
        "enable_dane",
        "false",
        "Whether DNS answers are checked by DNSSEC, and TLSA records of mail exchangers looked for and kept to (RFC 7672): where there are any, only TLS with a certificate that they vouch for will do. Wants name servers that hand on DNSSEC records. Not where enable_tls is \"Disabled\".",
        |o| &mut o.tls.enable_dane,
    );
    reader.plain(
        "opportunistic_tls_reconnect_on_failed_handshake",
        "true",
        "Whether a handshake that broke is followed by a second connection to the same address, in clear; not where TLS is required, nor for a certificate that is not valid.",
        |o| &mut o.tls.opportunistic_tls_reconnect_on_failed_handshake,
    );
    reader.span(
        "remember_broken_tls",
        "\"0s\"",
        "For how long a host whose handshake failed is used in clear at once, without another try; not where TLS is required. \"0s\" tries each time.",
        |o| &mut o.tls.remember_broken_tls,
    );
    let authorities = reader.optional::<PathBuf>(
        "tls_authorities",
        "Authorities (PEM) that may vouch for mail exchangers and for the servers of MTA-STS policies, beside those of the Mozilla root program: a private one, for example.",
        |options, path| options.tls.tls_authorities = Some(path.clone()),
    );
    if let Err(error) = roots_with(authorities.as_deref()) {
        reader.section.complain("tls_authorities", error.to_string());
        return;
    }
    let certificate = reader.optional::<PathBuf>(
        "tls_certificate",
        "Our own certificate (PEM, the chain), shown to servers that ask for one.",
        |options, path| options.tls.tls_certificate = Some(path.clone()),
    );
    let key = reader.optional::<PathBuf>("tls_private_key", "Its private key (PEM).", |options, path| {
        options.tls.tls_private_key = Some(path.clone());
    });
    reader.plain(
        "rustls_cipher_suites",
        "[]",
        "The cipher suites that may be used, like \"TLS13_AES_256_GCM_SHA384\"; none named are all that are safe.",
        |o| &mut o.tls.rustls_cipher_suites,
    );
    if certificate.is_some() != key.is_some() {
        let (there, missing) = if key.is_some() { (KEY, CERTIFICATE) } else { (CERTIFICATE, KEY) };
        reader.section.complain(there, format!("stands alone; {missing} belongs to it"));
        return;
    }
    let mut said = PathOptions::default();
    reader.patch.apply(&mut said);
    if let Err(error) = ClientTls::configured(said.tls.own(), &said.tls.rustls_cipher_suites, None) {
        let key = if matches!(error, ClientTlsError::Suite { .. }) { "rustls_cipher_suites" } else { CERTIFICATE };
        reader.section.complain(key, error.to_string());
    }
}

const CERTIFICATE: &str = "tls_certificate";
const KEY: &str = "tls_private_key";
