//! What `proxy.toml` means: each key declared once, with its default and its sentence. Floor 5.
//! Reads the configuration file and the password files it names; starts nothing.
//! Always: a configuration that is returned holds no contradiction; otherwise every complaint is told.

mod listener;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use egret_shared::address::{Network, Networks, Range};
use egret_shared::config::{self, Complaints, KeyDoc, Section};
use egret_shared::lifecycle::LogFormat;
use egret_shared::units::Span;

use crate::access::{Access, Users};
use crate::relay::Limits;

pub use listener::ListenerConfig;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads that serve.
    pub workers: usize,
    /// Where clients come in.
    pub listeners: Vec<ListenerConfig>,
    /// Users.
    pub users: Arc<Users>,
    /// Held addresses.
    pub sources: Vec<Range>,
    /// Destinations that may be dialed.
    pub access: Access,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// The most sessions at once.
    pub max_sessions: usize,
    /// Where health and metrics are served; `None` is nowhere.
    pub admin: Option<SocketAddr>,
    /// Where session records go; `None` keeps none.
    pub session_log: Option<PathBuf>,
    /// A log filter like `info`.
    pub log_level: String,
    /// Text or JSON.
    pub log_format: LogFormat,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// The whole request of a client.
    pub handshake: Duration,
    /// A dial.
    pub connect: Duration,
    /// Silence in a session.
    pub relay: Limits,
    /// What is in flight, when the program stops.
    pub drain: Duration,
}

/// Reads `file`.
pub fn read(file: &Path) -> Result<Config, Complaints> {
    config::read(file, build)
}

/// Every key, for the reference page.
pub fn keys() -> Vec<KeyDoc> {
    config::describe(build)
}

fn build(root: &Section<'_>) -> Option<Config> {
    let workers = root.with_default("workers", "0", "Threads that serve; 0 is one for each core.");
    let users = users(root);
    let listeners: Vec<_> = root.repeated("listener").iter().map(|section| listener::build(section, &users)).collect();
    let sources = sources(root);
    let access = access(root);
    let timeouts = timeouts(root);
    let max_sessions = root.section("limits").with_default(
        "max_sessions",
        "20000",
        "The most sessions at once; each takes two descriptors. More are turned away.",
    );
    let admin = root.section("admin").optional(
        "address",
        "Where /livez, /readyz and /metrics are served, over HTTP without access control: a private address.",
    );
    let session_log = root.section("session_log").optional(
        "path",
        "The file that session records are appended to, one JSON object a line; none are kept if absent.",
    );
    let log = root.section("log");
    let log_level = log.with_default("level", "\"info\"", "What is logged: a level, or a filter.");
    let log_format =
        log.with_default("format", "\"text\"", "\"text\" for people, \"json\" for machines; to standard error.");
    if listeners.is_empty() {
        root.complain("listener", "is missing; add a [[listener]] with its address");
    }
    Some(Config {
        workers,
        listeners: listeners.into_iter().collect::<Option<_>>()?,
        users: Arc::new(users),
        sources: sources?,
        access,
        timeouts,
        max_sessions,
        admin,
        session_log,
        log_level,
        log_format,
    })
}

fn users(root: &Section<'_>) -> Users {
    let mut users = HashMap::new();
    for (name, section) in root.named("user") {
        let password = section.optional::<String>("password", "The password of this user, in clear.");
        let file = section.optional::<PathBuf>("password_file", "A file that holds the password, and nothing else.");
        let password = match (password, file) {
            (Some(password), None) => password,
            (None, Some(file)) => match std::fs::read_to_string(&file) {
                Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
                Err(error) => {
                    section.complain("password_file", format!("{} cannot be read: {error}", file.display()));
                    continue;
                }
            },
            (Some(_), Some(_)) => {
                section.complain("password", "stands beside password_file; one of them is enough");
                continue;
            }
            (None, None) => {
                section.complain("password", "is missing, and password_file too: the user could never log in");
                continue;
            }
        };
        if password.is_empty() || password.len() > 255 || name.is_empty() || name.len() > 255 {
            section.complain("password", "name and password must have 1 to 255 bytes each (RFC 1929)");
        }
        users.insert(name, password);
    }
    Users::new(users)
}

fn sources(root: &Section<'_>) -> Option<Vec<Range>> {
    let section = root.section("sources");
    let ranges = section.required::<Vec<Range>>(
        "addresses",
        "The held addresses, which alone can be sources: addresses, ranges like `192.0.2.1-192.0.2.9`, networks like `192.0.2.0/28`.",
    )?;
    if ranges.is_empty() {
        section.complain("addresses", "is empty; without a source nothing can be dialed");
    }
    Some(ranges)
}

fn access(root: &Section<'_>) -> Access {
    let section = root.section("access");
    let ports =
        section.with_default::<Vec<u16>>("destination_ports", "[25, 465, 587, 2525]", "Ports that may be dialed.");
    let special = section.with_default::<Vec<Network>>(
        "allow_special_destinations",
        "[]",
        "Networks of special use (loopback, private, link-local, metadata services …) that may be dialed.",
    );
    Access { destination_ports: ports, allow_special_destinations: Networks::new(special) }
}

fn timeouts(root: &Section<'_>) -> Timeouts {
    let section = root.section("timeouts");
    let span = |key, default, doc| section.with_default::<Span>(key, default, doc).0;
    Timeouts {
        handshake: span("handshake", "\"10s\"", "The whole request of a client."),
        connect: span("connect", "\"25s\"", "A dial."),
        relay: Limits {
            idle: span("idle", "\"15m\"", "Silence of both sides, after which a session is reset."),
            half_close: span("half_close", "\"1m\"", "Silence after one side has finished."),
        },
        drain: span("drain", "\"30s\"", "How long a stop waits for sessions; those that are left are reset."),
    }
}

#[cfg(test)]
mod tests;
