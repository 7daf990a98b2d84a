//! Why a call of Redis failed, and what that means for the connection.
//! Floor 3.

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};

use super::RedisOptions;

/// A call that failed. Its text says where, what and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("redis at {place}: {what}{why}")]
pub struct RedisFailure {
    place: String,
    what: String,
    why: String,
    /// The connection is of no use any more.
    pub(super) breaks: bool,
    /// There was no answer in time.
    pub(super) silent: bool,
    pub(super) is_unknown_script: bool,
    /// The server answered, and will answer the same again: a missing right, a wrong type of key, no memory.
    pub is_refusal: bool,
}

impl RedisFailure {
    pub(super) fn of(options: &RedisOptions, command: Option<&Cmd>, error: &RedisError) -> Self {
        let kind = error.kind();
        let is_unknown_script = kind == ErrorKind::Server(ServerErrorKind::NoScript);
        let code = error.code().unwrap_or("");
        let moved = matches!(
            kind,
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading)
        );
        let answered = matches!(kind, ErrorKind::Server(_) | ErrorKind::Extension);
        // A script's error carries that of the command inside: a read-only replica is told this way, too.
        let inner = error.to_string().contains("READONLY");
        let hint = match code {
            "OOM" => "; raise maxmemory of the server, or let it evict other keys",
            "NOPERM" => "; give redis.username the rights of the guide on limits",
            "WRONGTYPE" => "; another program uses the same keys: choose another redis.prefix",
            "WRONGPASS" | "NOAUTH" => "; check redis.username and redis.password",
            _ if kind == ErrorKind::AuthenticationFailed => "; check redis.username and redis.password",
            _ => "",
        };
        Self {
            place: options.place(),
            what: command.map_or_else(String::new, |command| format!("{}: ", name(command))),
            why: format!("{}{hint}", text(error)),
            breaks: moved || inner || !answered,
            silent: false,
            is_unknown_script,
            is_refusal: answered && !moved && !inner && !is_unknown_script,
        }
    }

    pub(super) fn silent(options: &RedisOptions, command: &Cmd) -> Self {
        let why = format!("no answer within {}; redis.timeout", humantime::format_duration(options.timeout));
        let what = format!("{}: ", name(command));
        Self { silent: true, what, ..Self::plain(options, why) }
    }

    pub(super) fn unreachable(options: &RedisOptions) -> Self {
        let span = humantime::format_duration(options.connect_timeout);
        Self::plain(options, format!("no connection within {span}; redis.connect_timeout"))
    }

    /// A failure in words of our own.
    pub fn plain(options: &RedisOptions, why: String) -> Self {
        Self {
            place: options.place(),
            what: String::new(),
            why,
            breaks: false,
            silent: false,
            is_unknown_script: false,
            is_refusal: false,
        }
    }
}

/// What the server said, as it said it; else what the connection says.
fn text(error: &RedisError) -> String {
    match (error.kind(), error.code(), error.detail()) {
        (ErrorKind::Server(_) | ErrorKind::Extension, Some(code), detail) => {
            format!("{code} {}", detail.unwrap_or("")).trim_end().to_owned()
        }
        _ => error.to_string(),
    }
}

fn name(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => "?".to_owned(),
    }
}
