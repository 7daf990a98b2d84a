//! The effective options of one path (source to site), as plain data that travels with a hand-over.
//! Floor 1. Names and meanings are those of KumoMTA's egress path options; one file for each concern.

use std::sync::Arc;

mod auth;
mod hosts;
mod limits;
mod smtp;
mod tls;

pub use auth::{AuthOptions, Mechanism, Secret};
pub use hosts::{HostOptions, IpLookupStrategy, ReconnectStrategy};
pub use limits::{Named, PathLimits};
pub use smtp::{MOST_AHEAD, SmtpOptions, Timeouts, Uncertain};
pub use tls::{Tls, TlsOptions};

/// The options of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathOptions {
    /// How much it takes.
    pub limits: Arc<PathLimits>,
    /// Messages that one session carries.
    pub max_deliveries_per_connection: u32,
    /// Recipients in one transaction; more are sent in further ones.
    pub max_recipients_per_batch: u32,
    /// Which hosts are tried, and what follows when one fails.
    pub hosts: HostOptions,
    /// What is said, and how long an answer may take.
    pub smtp: SmtpOptions,
    /// TLS.
    pub tls: TlsOptions,
    /// Who this host says it is.
    pub auth: AuthOptions,
}

impl PathOptions {
    /// Whether and how TLS is used, all told.
    pub fn tls_wanted(&self) -> Tls {
        self.auth.protect(self.tls.enable_tls)
    }
}

impl Default for PathOptions {
    fn default() -> Self {
        Self {
            limits: Arc::default(),
            max_deliveries_per_connection: 1024,
            max_recipients_per_batch: 100,
            hosts: HostOptions::default(),
            smtp: SmtpOptions::default(),
            tls: TlsOptions::default(),
            auth: AuthOptions::default(),
        }
    }
}
