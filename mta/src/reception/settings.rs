//! What the operator says about one listener.
//! Plain data. Floor 1.
//! Always: every limit has a value; none is "unlimited".

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::address::Networks;
use egret_shared::text::Line;
use rustls::ServerConfig;

use super::Meters;
use super::auth::AuthSettings;
use super::budget::Budget;
use super::line::TextLimits;

/// The settings of one listener, shared by its sessions.
#[derive(Clone)]
pub struct Settings {
    /// The name that the server says it has: greeting, EHLO, trace header.
    pub hostname: Line,
    /// The networks whose clients may send to any domain. Nobody else may send at all, but users.
    pub relay_networks: Networks,
    /// Bytes of a message (SIZE, RFC 1870).
    pub max_message_bytes: u64,
    /// Recipients of a message.
    pub max_recipients: u32,
    /// Bytes of a line of a message without its CRLF (RFC 5321 section 4.5.3.1.6 asks for 998).
    pub max_line_bytes: u64,
    /// Commands that may be refused in a session before it is closed with 421.
    pub max_errors: u32,
    /// Commands that lead nowhere (NOOP, RSET, EHLO …) between two messages before it is closed with 421.
    pub max_idle_commands: u32,
    /// Messages of a session.
    pub max_messages_per_session: u32,
    /// How long a client may have a message held (FUTURERELEASE, RFC 4865); zero does not offer it.
    pub max_future_release: Duration,
    /// Delivery status notifications are offered (DSN, RFC 3461).
    pub dsn: bool,
    /// How long a client may take for a whole command, to take a reply, and for a TLS handshake.
    pub command_timeout: Duration,
    /// How long a client may take for 4 KiB of a message, or what is left of it.
    pub data_timeout: Duration,
    /// The certificate; without it STARTTLS is not offered.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who can and who must say by AUTH who they are.
    pub auth: AuthSettings,
    /// What all messages that are being received may hold together.
    pub budget: Budget,
    /// The counters of the process. Made after the recorder is installed.
    pub meters: Meters,
}

impl Settings {
    /// The defaults: nobody may relay, no TLS, no users.
    pub fn new(hostname: Line) -> Self {
        Self {
            hostname,
            relay_networks: Networks::default(),
            max_message_bytes: 50 << 20,
            max_recipients: 1_000,
            max_line_bytes: 998,
            max_errors: 20,
            max_idle_commands: 100,
            max_messages_per_session: 10_000,
            max_future_release: Duration::ZERO,
            dsn: true,
            command_timeout: Duration::from_secs(60),
            data_timeout: Duration::from_secs(180),
            tls: None,
            auth: AuthSettings::default(),
            budget: Budget::new(u64::MAX),
            meters: Meters::new(),
        }
    }

    /// The limits of a message's text.
    pub(super) fn text_limits(&self) -> TextLimits {
        TextLimits { message: self.max_message_bytes, line: self.max_line_bytes }
    }

    /// Bytes of one message that are read, and thrown away, before the session is closed instead.
    pub(super) fn max_drained_bytes(&self) -> u64 {
        self.max_message_bytes.saturating_mul(2).saturating_add(1 << 20)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("hostname", &self.hostname)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}
