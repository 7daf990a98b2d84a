//! What `proxy.toml` means: each key declared once, with its default and its sentence. Floor 5.
//! Reads the configuration file and the files it names; starts nothing.
//! Always: a configuration that is returned holds no contradiction; otherwise every complaint is told.

mod announce;
mod listener;
mod parts;
mod users;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egret_shared::address::Range;
use egret_shared::config::{self, Complaints, KeyDoc, RawValue, Section, Value};
use egret_shared::lifecycle::LogFormat;
use egret_shared::limits::Sharing;
use egret_shared::redis::RedisOptions;
use egret_shared::units::{Span, Wait};

use crate::access::Access;
use crate::announce::Announced;
use crate::auth::Users;
use crate::limit::Caps;
use crate::policy::{Auth, ListenerPolicy, Policy, Timeouts};
use crate::source::{Held, Sources};

/// A whole configuration.
pub struct Config {
    /// Threads that serve.
    pub workers: usize,
    /// What a reload can change.
    pub served: Served,
    /// What the registry is told; `None` is nothing.
    pub announced: Option<Announced>,
    /// Where the limits of sources are kept; `None` is in the memory of this proxy.
    pub redis: Option<RedisOptions>,
    /// How it takes part in limits that proxies keep together.
    pub sharing: Sharing,
    /// The most sessions at once.
    pub max_sessions: usize,
    /// Where health, metrics and the API are served; `None` is nowhere.
    pub admin: Option<SocketAddr>,
    /// Where session records go.
    pub session_log: SessionLog,
    /// Sources with metrics of their own.
    pub metrics_max_sources: usize,
    /// A log filter like `info`.
    pub log_level: String,
    /// Text or JSON.
    pub log_format: LogFormat,
}

/// What a reload can change.
pub struct Served {
    /// Where clients come in, and how they are served.
    pub listeners: Vec<ListenerPolicy>,
    /// Users.
    pub users: Users,
    /// What may be dialed.
    pub access: Access,
    /// Held addresses.
    pub addresses: Addresses,
    /// Addresses may be bound although they are not on the host.
    pub free_bind: bool,
    /// Limits.
    pub caps: Caps,
    /// Time limits.
    pub timeouts: Timeouts,
}

impl Served {
    /// As it is served, with the states of addresses in `held`.
    pub fn into_policy(self, held: Held) -> Policy {
        let sources = match self.addresses {
            Addresses::Auto => Sources::auto(held),
            Addresses::Listed(ranges) => Sources::new(ranges, self.free_bind, held),
        };
        Policy {
            listeners: self.listeners,
            users: self.users,
            access: self.access,
            sources: sources.into(),
            caps: self.caps,
            timeouts: self.timeouts,
        }
    }
}

/// Session records: where they go and how long they can be asked for.
#[derive(Clone, Debug)]
pub struct SessionLog {
    /// The file; `None` keeps none, `-` is standard output.
    pub path: Option<PathBuf>,
    /// How long ended sessions can be asked for.
    pub keep: Duration,
    /// How many of them at most.
    pub keep_max: usize,
}

/// The held addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Those of the host.
    Auto,
    /// These.
    Listed(Vec<Range>),
}

impl Value for Addresses {
    const KIND: &'static str = "a list, or \"auto\"";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("auto") => Ok(Self::Auto),
            Some(other) => Err(format!("{other:?} is neither \"auto\" nor a list of addresses in brackets")),
            None => Vec::read(value).map(Self::Listed),
        }
    }
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
    let users = users::build(root);
    let held = parts::sources(root);
    let users = users.and_then(|users| Users::new(users).map_err(|error| root.complain("user", error)).ok());
    let listeners = listener::all(root, users.as_ref());
    let access = parts::access(root);
    let timeouts = timeouts(root);
    let (max_sessions, caps) = parts::limits(root);
    let admin = root.section("admin").optional(
        "address",
        "Where /livez, /readyz, /metrics and /v1 are served, over HTTP without access control: a private address.",
    );
    let section = root.section("redis");
    let (redis, sharing) = (RedisOptions::read(&section), Sharing::read(&section));
    // With it goes what is told of its misspelled keys.
    drop(section);
    let announced = announce::build(root, listeners.as_deref(), admin, redis.as_ref());
    let session_log = session_log(root);
    let metrics_max_sources = root.section("metrics").with_default(
        "max_sources",
        "256",
        "Sources that have metrics of their own; those of all others are counted as \"other\".",
    );
    let log = root.section("log");
    let log_level = log.with_default("level", "\"info\"", "What is logged: a level, or a filter.");
    let log_format =
        log.with_default("format", "\"text\"", "\"text\" for people, \"json\" for machines; to standard error.");
    let (addresses, free_bind) = held?;
    let (listeners, users) = (listeners?, users?);
    parts::check_subsets(root, &addresses, &listeners);
    let takes_certificates = listeners.iter().any(|listener| listener.auth == Auth::Certificate);
    if let Some(name) = users.without_password().filter(|_| !takes_certificates) {
        let why = format!("{name:?} has no password, and no listener takes certificates: it could never log in");
        root.complain("user", why);
    }
    let served = Served { listeners, users, access, addresses, free_bind, caps, timeouts };
    Some(Config {
        workers,
        served,
        announced,
        redis,
        sharing,
        max_sessions,
        admin,
        session_log,
        metrics_max_sources,
        log_level,
        log_format,
    })
}

fn timeouts(root: &Section<'_>) -> Timeouts {
    let section = root.section("timeouts");
    let wait = |key, default, doc| section.with_default::<Wait>(key, default, doc).0;
    let drain = section.with_default::<Span>(
        "drain",
        "\"30s\"",
        "How long a stop waits for sessions; those that are left are reset.",
    );
    Timeouts {
        handshake: wait("handshake", "\"10s\"", "The whole request of a client, TLS included."),
        connect: wait("connect", "\"25s\"", "A dial. Keep it below that of your clients: they should hear why."),
        idle: wait("idle", "\"15m\"", "Silence of both sides, after which a session is reset."),
        half_close: wait("half_close", "\"1m\"", "Silence after one side has finished."),
        drain: drain.0,
    }
}

fn session_log(root: &Section<'_>) -> SessionLog {
    let section = root.section("session_log");
    SessionLog {
        path: section.optional(
            "path",
            "The file that session records are appended to, one JSON object a line; \"-\" is standard output; none are kept if absent. SIGHUP opens it anew.",
        ),
        keep: section
            .with_default::<Span>("keep", "\"5m\"", "How long /v1/sessions answers for sessions that have ended.")
            .0,
        keep_max: section.with_default(
            "keep_max",
            "20000",
            "How many ended sessions are remembered at most; as many again if they failed.",
        ),
    }
}

#[cfg(test)]
mod tests;
