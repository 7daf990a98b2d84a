//! `[proxy.NAME]`: who holds addresses, what is spoken there, and how that is protected. Floor 5.

use std::net::SocketAddr;
use std::path::PathBuf;

use egret_shared::config::Section;
use egret_shared::net::tls_client::{KnownServer, KnownServerError};

use crate::routing::source::{Credentials, Dialect, Proxy};

egret_shared::config_value_from_str!(Dialect => "a dialect");

/// The longest user name and password of RFC 1929.
const MAX_CREDENTIAL: usize = 255;

pub(super) fn build(name: &str, section: &Section<'_>) -> Option<Proxy> {
    let address = section.required::<SocketAddr>("address", "Where the proxy listens, as address and port.");
    let dialect: Dialect = section.with_default(
        "dialect",
        "\"socks5\"",
        "\"socks5\" (BIND chooses the source, CONNECT follows; as KumoMTA's proxy), \"socks5-connect\" (CONNECT only: the user name or the proxy's listener chooses), \"proxy-v2\" or \"proxy-v1\" (a PROXY header names source and destination).",
    );
    let credentials = credentials(section);
    if dialect.is_header() && credentials.is_some() {
        section.complain("username", "has no place in the PROXY protocol; remove it or change dialect");
    }
    let tls = tls(section, address);
    let admin = section.optional::<SocketAddr>(
        "admin",
        "The admin address of an egret-proxy with a PROXY dialect: when a connection ends without a word, its session record says why.",
    );
    if admin.is_some() && !dialect.is_header() {
        section.complain("admin", "is of no use with this dialect, in which the proxy itself says why a dial failed");
    }
    Some(Proxy { name: name.into(), address: address?, dialect, credentials, tls, admin })
}

/// The user name and password, if any; none after a complaint either, which keeps the file from being used.
pub(super) fn credentials(section: &Section<'_>) -> Option<Credentials> {
    let username = section.optional::<String>(
        "username",
        "The user name told to a SOCKS5 proxy; `{source}` in it becomes the source's address.",
    );
    let file = section.optional::<PathBuf>("password_file", "A file that holds the password, and nothing else.");
    let variable = section.optional::<String>(
        "password_env",
        "Instead of `password_file`: the environment variable that holds the password.",
    );
    let Some(username) = username else {
        for (key, is_there) in [("password_file", file.is_some()), ("password_env", variable.is_some())] {
            if is_there {
                section.complain(key, "stands alone; username belongs to it");
            }
        }
        return None;
    };
    let (key, password) = match (file, variable) {
        (Some(_), Some(_)) => {
            section.complain("password_env", "stands beside password_file; write one of the two");
            return None;
        }
        (None, None) => {
            section.complain("username", "stands alone; password_file or password_env belongs to it");
            return None;
        }
        (Some(file), None) => ("password_file", read(&file)),
        (None, Some(variable)) => {
            let value = std::env::var(&variable);
            ("password_env", value.map_err(|error| format!("names {variable}: {error}; set it for the service")))
        }
    };
    let password = password.map_err(|why| section.complain(key, why)).ok()?;
    if password.is_empty() || password.len() > MAX_CREDENTIAL {
        section.complain(key, format!("leads to a password that has not 1 to {MAX_CREDENTIAL} bytes"));
    }
    // An IPv6 address in place of `{source}` has up to 39 characters.
    if username.is_empty() || username.len() > MAX_CREDENTIAL - 39 {
        section.complain("username", format!("is empty or longer than {} bytes", MAX_CREDENTIAL - 39));
    }
    Some(Credentials { username, password })
}

fn read(file: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// TLS to the proxy, if it is wanted; none after a complaint either.
fn tls(section: &Section<'_>, address: Option<SocketAddr>) -> Option<KnownServer> {
    let is_wanted: bool =
        section.with_default("tls", "false", "Whether TLS is spoken to the proxy, around all that is said.");
    let name = section.optional::<String>(
        "tls_server_name",
        "The name that the proxy's certificate must be valid for; the address if absent.",
    );
    let authorities = section.optional::<PathBuf>(
        "tls_authorities",
        "The certificates (PEM) of who may sign the proxy's; the Mozilla root program if absent.",
    );
    let certificate = section
        .optional::<PathBuf>("tls_certificate", "Our own certificate (PEM), which may name a user of the proxy.");
    let key = section.optional::<PathBuf>("tls_private_key", "Its private key (PEM).");
    if !is_wanted {
        let given = [
            ("tls_server_name", name.is_some()),
            ("tls_authorities", authorities.is_some()),
            ("tls_certificate", certificate.is_some()),
            ("tls_private_key", key.is_some()),
        ];
        for (key, _) in given.iter().filter(|(_, is_given)| *is_given) {
            section.complain(key, "has no effect without tls = true");
        }
        return None;
    }
    let own = match (&certificate, &key) {
        (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
        (None, None) => None,
        (Some(_), None) => {
            section.complain("tls_certificate", "stands alone; tls_private_key belongs to it");
            return None;
        }
        (None, Some(_)) => {
            section.complain("tls_private_key", "stands alone; tls_certificate belongs to it");
            return None;
        }
    };
    let name = name.or_else(|| address.map(|address| address.ip().to_string()))?;
    match KnownServer::new(&name, authorities.as_deref(), own) {
        Ok(server) => Some(server),
        Err(error) => {
            let key = match error {
                KnownServerError::Name(_) => "tls_server_name",
                _ => "tls",
            };
            section.complain(key, error.to_string());
            None
        }
    }
}
