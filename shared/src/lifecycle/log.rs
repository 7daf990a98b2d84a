//! Logging set-up: `tracing` to standard error, text or JSON, filtered by `EGRET_LOG` or the config.
//! Floor 1.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("write \"text\" or \"json\"".to_owned()),
        }
    }
}

crate::config_value_from_str!(LogFormat => "a log format");

/// Starts logging at `level` (an `EnvFilter` directive like `info` or `egret_mta=debug`).
///
/// # Errors
/// If `level` is no filter, or logging was started before.
pub fn init_logging(level: &str, format: LogFormat) -> Result<(), String> {
    // fast-socks5 writes user names and passwords at debug level; no setting may turn that on.
    let capped = format!("{level},fast_socks5=info");
    let filter = EnvFilter::try_new(capped).map_err(|e| format!("log level {level:?}: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|e| format!("logging: {e}"))
}
