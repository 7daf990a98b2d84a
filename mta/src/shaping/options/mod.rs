//! The effective options of one path (source to site), as plain data that travels with a hand-over.
//! Floor 1. Names and meanings are those of KumoMTA's egress path options; one file for each concern.

mod smtp;
mod tls;

pub use smtp::{SmtpOptions, Timeouts, Uncertain};
pub use tls::{Tls, TlsOptions};

/// The options of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathOptions {
    /// Sessions at once.
    pub connection_limit: u32,
    /// Messages that one session carries.
    pub max_deliveries_per_connection: u32,
    /// Recipients in one transaction; more are sent in further ones.
    pub max_recipients_per_batch: u32,
    /// What is said, and how long an answer may take.
    pub smtp: SmtpOptions,
    /// TLS.
    pub tls: TlsOptions,
}

impl Default for PathOptions {
    fn default() -> Self {
        Self {
            connection_limit: 32,
            max_deliveries_per_connection: 1024,
            max_recipients_per_batch: 100,
            smtp: SmtpOptions::default(),
            tls: TlsOptions::default(),
        }
    }
}
