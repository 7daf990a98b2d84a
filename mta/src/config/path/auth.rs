//! Who this host says it is to servers that want to know. Floor 5.

use std::path::PathBuf;

use egret_shared::config::{RawValue, Value};

use super::Reader;
use crate::shaping::options::{Mechanism, Secret};

egret_shared::config_value_from_str!(Mechanism => "a mechanism of AUTH");

/// The longest user name or password: what RFC 4616 asks of servers, with room for tokens.
const MAX_BYTES: usize = 4096;

pub(super) fn read(reader: &mut Reader<'_, '_>) {
    let username = reader.optional::<String>(
        "smtp_auth_plain_username",
        "The user name for AUTH (RFC 4954), as a smart host wants it. With it TLS is required, with a valid certificate, unless the two keys below allow less.",
        |options, name| options.auth.username = Some(name.clone()),
    );
    let password = reader.optional::<Secret>(
        "smtp_auth_plain_password",
        "The password, or the token of XOAUTH2: the path of a file that holds it and nothing else, read anew for each session; or `{ env = \"NAME\" }`, the environment variable that holds it; or `{ key_data = \"…\" }`, itself.",
        |options, secret| options.auth.password = Some(secret.clone()),
    );
    let mechanisms = reader.plain(
        "smtp_auth_mechanisms",
        "[\"PLAIN\", \"LOGIN\", \"CRAM-MD5\"]",
        "How the user name and password are shown: the first of these that the server offers, of \"PLAIN\", \"LOGIN\", \"CRAM-MD5\" and \"XOAUTH2\".",
        |o| &mut o.auth.mechanisms,
    );
    reader.plain(
        "allow_smtp_auth_plain_without_tls",
        "false",
        "Whether the password may be told in clear, to anyone who listens.",
        |o| &mut o.auth.allow_without_tls,
    );
    reader.plain(
        "allow_smtp_auth_plain_without_valid_certificate",
        "false",
        "Whether the password may be told to a server whose certificate is not valid for its name.",
        |o| &mut o.auth.allow_without_valid_certificate,
    );
    if mechanisms.is_empty() {
        reader.section.complain("smtp_auth_mechanisms", "names no mechanism");
    }
    let is_fit = |text: &str| !text.is_empty() && text.len() <= MAX_BYTES && !text.contains('\0');
    if username.as_deref().is_some_and(|name| !is_fit(name) || name.contains('\x01')) {
        reader.section.complain("smtp_auth_plain_username", format!("has not 1 to {MAX_BYTES} bytes, or holds a NUL"));
    }
    let both = [("smtp_auth_plain_username", username.is_some()), ("smtp_auth_plain_password", password.is_some())];
    if let [(there, true), (missing, false)] | [(missing, false), (there, true)] = both {
        reader.section.complain(there, format!("stands alone; {missing} belongs to it"));
    }
}

impl Value for Secret {
    const KIND: &'static str = "a file's path, { env = \"NAME\" } or { key_data = \"…\" }";

    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        let Some(table) = value.as_table() else {
            let path = PathBuf::read(value)?;
            let text = std::fs::read_to_string(&path);
            let text = text.map_err(|error| format!("names {}, which cannot be read: {error}", path.display()))?;
            return checked(text.trim_end_matches(['\r', '\n'])).map(|_| Self::File(path));
        };
        let mut entries = table.iter();
        let (Some((key, entry)), None) = (entries.next(), entries.next()) else {
            return Err(format!("has not exactly one key; {} belongs here", Self::KIND));
        };
        let entry = egret_shared::config::raw_string(entry.get_ref(), "a text")?;
        match key.get_ref().as_ref() {
            "key_data" => checked(entry).map(Self::Known),
            "env" => {
                let found = std::env::var(entry);
                let found = found.map_err(|error| format!("names {entry}: {error}; set it for the service"))?;
                checked(&found).map(Self::Known)
            }
            other => Err(format!("has the key {other:?}; {} belongs here", Self::KIND)),
        }
    }
}

fn checked(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_BYTES || text.contains('\0') {
        return Err(format!("leads to a password that has not 1 to {MAX_BYTES} bytes, or holds a NUL"));
    }
    Ok(text.to_owned())
}
