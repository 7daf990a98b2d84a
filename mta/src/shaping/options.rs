//! The effective options of one path (source to site), as plain data that travels with a hand-over.
//! Floor 1. Names and meanings are those of KumoMTA's egress path options.

use std::time::Duration;

/// Whether and how TLS is used towards the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// STARTTLS where it is offered, the certificate not checked (RFC 7435); in clear where not.
    /// After a failed handshake the next connection to this host is in clear.
    Opportunistic,
    /// STARTTLS with a certificate that is valid for the host's name, or no delivery.
    Required,
    /// STARTTLS with any certificate, or no delivery.
    RequiredInsecure,
    /// Never.
    Disabled,
}

impl std::str::FromStr for Tls {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "opportunistic" => Ok(Self::Opportunistic),
            "required" => Ok(Self::Required),
            "required_insecure" => Ok(Self::RequiredInsecure),
            "disabled" => Ok(Self::Disabled),
            _ => Err("write \"opportunistic\", \"required\", \"required_insecure\" or \"disabled\"".to_owned()),
        }
    }
}

/// The options of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathOptions {
    /// Sessions at once.
    pub connection_limit: u32,
    /// Messages that one session carries.
    pub max_deliveries_per_connection: u32,
    /// Recipients in one transaction; more are sent in further ones.
    pub max_recipients_per_batch: u32,
    /// TLS.
    pub tls: Tls,
    /// Whether commands are pipelined where the server offers it (RFC 2920).
    pub pipelining: bool,
    /// How long to wait at each step.
    pub timeouts: Timeouts,
}

/// How long to wait at each step (RFC 5321 section 4.5.3.2 for the minima).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Proxy, its handshake, and the connection.
    pub connect: Duration,
    /// The 220.
    pub banner: Duration,
    /// EHLO and HELO.
    pub ehlo: Duration,
    /// STARTTLS and the handshake.
    pub starttls: Duration,
    /// MAIL.
    pub mail_from: Duration,
    /// RCPT.
    pub rcpt_to: Duration,
    /// DATA, and each block written.
    pub data: Duration,
    /// The reply to the final dot.
    pub data_dot: Duration,
    /// RSET and QUIT.
    pub rset: Duration,
    /// How long an idle session waits for another message.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            connect: minutes(1),
            banner: minutes(5),
            ehlo: minutes(5),
            starttls: Duration::from_secs(30),
            mail_from: minutes(5),
            rcpt_to: minutes(5),
            data: minutes(5),
            data_dot: minutes(10),
            rset: Duration::from_secs(20),
            idle: Duration::from_secs(5),
        }
    }
}
