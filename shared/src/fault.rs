//! A failed dial as data: the party at fault, a reason with a number, detail and a time to wait.
//! Pure. Floor 0. The number is the contract between proxy and MTA; no one matches on text.
//! Always: every reason maps to one party, one token, one SOCKS5 reply code (1 to 8) and one
//! enhanced status; `Reason::from_number(r.number()) == Some(r)`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Who must act for the dial to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The source address: not plumbed, not allowed, draining, out of ports.
    Source,
    /// The proxy, or the way to it.
    Proxy,
    /// The destination.
    Remote,
    /// A limit that will free up by itself.
    Limit,
}

impl Party {
    /// The name used in logs, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Proxy => "proxy",
            Self::Remote => "remote",
            Self::Limit => "limit",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $token:literal, $party:ident, $socks:literal, $status:literal;)*) => {
        /// Why a dial failed. The number is what a proxy tells its client; records hold the token.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "&'static str", try_from = "String")]
        pub enum Reason { $($(#[$doc])* $name = $number,)* }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The numeric reason.
            pub fn number(self) -> u8 { self as u8 }

            /// The reason with this number.
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The name used in logs, events, metrics and `421` lines.
            pub fn token(self) -> &'static str {
                match self { $(Self::$name => $token,)* }
            }

            /// The party at fault.
            pub fn party(self) -> Party {
                match self { $(Self::$name => Party::$party,)* }
            }

            /// The SOCKS5 reply code that carries it (RFC 1928 section 6): 1 to 8.
            pub fn socks_reply(self) -> u8 {
                match self { $(Self::$name => $socks,)* }
            }

            /// The enhanced status code of the `421` line (RFC 3463).
            pub fn enhanced_status(self) -> &'static str {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

reasons! {
    /// The source address is not on the host.
    SourceNotPlumbed = 10, "source_not_plumbed", Source, 1, "4.3.5";
    /// The client may not use this source.
    SourceNotAllowed = 11, "source_not_allowed", Source, 2, "4.7.0";
    /// The operator is draining this source.
    SourceDraining = 12, "source_draining", Source, 1, "4.3.2";
    /// No local port is free from this source to this destination.
    SourcePortsExhausted = 13, "source_ports_exhausted", Source, 1, "4.4.5";
    /// Source and destination are of different address families.
    FamilyMismatch = 14, "family_mismatch", Source, 8, "4.3.5";
    /// The destination refused the connection.
    ConnectionRefused = 20, "connection_refused", Remote, 5, "4.4.1";
    /// The destination did not answer in time.
    ConnectionTimeout = 21, "connection_timeout", Remote, 6, "4.4.1";
    /// A router says that the destination host cannot be reached.
    HostUnreachable = 22, "host_unreachable", Remote, 4, "4.4.1";
    /// No route leads to the destination.
    DestinationUnroutable = 23, "destination_ip_unroutable", Remote, 3, "4.4.4";
    /// The proxy host's own firewall forbids the connection.
    LocalFirewall = 24, "local_firewall", Proxy, 2, "4.7.0";
    /// The destination reset the connection before it sent a byte.
    RemoteResetPreBanner = 25, "remote_reset_pre_banner", Remote, 5, "4.4.2";
    /// The destination closed the connection before it sent a byte.
    RemoteClosedPreBanner = 26, "remote_closed_pre_banner", Remote, 5, "4.4.2";
    /// The destination ended the connection after it had sent bytes.
    RemoteClosed = 27, "remote_closed", Remote, 1, "4.4.2";
    /// The proxy is out of descriptors, memory or sessions.
    ProxyOverloaded = 30, "proxy_overloaded", Proxy, 1, "4.3.2";
    /// A connection or rate limit is reached.
    LimitReached = 31, "connection_limit_reached", Limit, 1, "4.4.5";
    /// The limits' back end is away and the limit is set to fail closed.
    LimitBackendUnavailable = 32, "limit_backend_unavailable", Limit, 1, "4.3.0";
    /// The proxy refused the user name or password.
    AuthFailed = 40, "auth_failed", Proxy, 2, "4.7.0";
    /// Proxy and client share no authentication method.
    NoAcceptableMethod = 41, "no_acceptable_method", Proxy, 1, "4.7.0";
    /// The proxy does not serve this client's address.
    ClientDenied = 42, "client_denied", Proxy, 2, "4.7.0";
    /// The proxy may not dial this destination address or port.
    DestinationProhibited = 43, "destination_ip_prohibited", Proxy, 2, "4.7.0";
    /// The proxy does not know the command.
    CommandUnsupported = 44, "command_unsupported", Proxy, 7, "4.3.5";
    /// The proxy does not take this kind of address (a domain, for example).
    AddressUnsupported = 45, "address_unsupported", Proxy, 8, "4.3.5";
    /// The client did not speak the protocol.
    ProtocolError = 46, "protocol_error", Proxy, 1, "4.3.5";
    /// The client did not finish its request in time.
    HandshakeTimeout = 47, "handshake_timeout", Proxy, 6, "4.4.2";
    /// The proxy is shutting down.
    ProxyShuttingDown = 50, "proxy_shutting_down", Proxy, 1, "4.3.2";
    /// A session timer of the proxy ran out.
    IdleTimeout = 51, "idle_timeout", Proxy, 6, "4.4.2";
    /// The MTA was not heard of for so long that its place is another's, or has this session no more.
    LeaseLost = 52, "lease_lost", Limit, 1, "4.4.2";
    /// A defect in the proxy.
    Internal = 60, "internal", Proxy, 1, "4.3.0";
    /// The proxy could not be reached. Told by the MTA, never by a proxy.
    ProxyUnreachable = 70, "proxy_unreachable", Proxy, 1, "4.4.1";
    /// The proxy did not answer in time. Told by the MTA, never by a proxy.
    ProxyTimeout = 71, "proxy_timeout", Proxy, 6, "4.4.1";
    /// The proxy does not speak the configured dialect. Told by the MTA, never by a proxy.
    ProxyDialect = 72, "proxy_dialect", Proxy, 1, "4.3.5";
    /// The proxy failed without saying why (SOCKS5 code 1 and no reason).
    ProxyUnspecified = 73, "proxy_unspecified", Proxy, 1, "4.3.0";
    /// This host's own options leave no way: all addresses are excluded, or a password cannot be read. Told by the
    /// MTA, never by a proxy.
    PathMisconfigured = 74, "path_misconfigured", Source, 1, "4.3.5";
    /// The proxy has this session no more, and its end was not heard. Told by the MTA, never by a proxy.
    SessionLost = 75, "session_lost", Proxy, 1, "4.4.2";
}

impl From<Reason> for &'static str {
    fn from(reason: Reason) -> Self {
        reason.token()
    }
}

impl TryFrom<String> for Reason {
    type Error = String;
    fn try_from(token: String) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|reason| reason.token() == token);
        known.copied().ok_or_else(|| format!("{token:?} is not the name of a reason"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// A failed dial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Why, with the party at fault in it.
    pub reason: Reason,
    /// The operating system's error number on the dialing host, if one was behind it.
    pub errno: Option<i32>,
    /// What a person needs to know: addresses, stage, the peer's words.
    pub detail: String,
    /// How long to wait before the same dial can succeed, if that is known.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault with a reason and what a person needs to know.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, errno: None, detail: detail.into(), retry_after: None }
    }

    /// The same fault with the operating system's error number.
    #[must_use]
    pub fn with_errno(mut self, errno: Option<i32>) -> Self {
        self.errno = errno;
        self
    }

    /// The party at fault.
    pub fn party(&self) -> Party {
        self.reason.party()
    }

    /// The line that egret-proxy sends in PROXY mode while no byte of the remote was forwarded,
    /// CRLF included, at most 500 bytes. `session` is the proxy's session id.
    pub fn smtp_line(&self, session: &str) -> String {
        let status = self.reason.enhanced_status();
        let detail: String = self.detail.chars().filter(|c| !c.is_control()).take(200).collect();
        format!("421 {status} egret-proxy[{session}] {detail} failed: {}\r\n", self.reason.token())
    }

    /// Reads a line made by [`Fault::smtp_line`]; `None` if it is anything else (an MX's own 421).
    pub fn from_smtp_line(line: &str) -> Option<Self> {
        let rest = line.trim_end().strip_prefix("421 ")?;
        let (_status, rest) = rest.split_once(' ')?;
        let (_session, rest) = rest.strip_prefix("egret-proxy[")?.split_once("] ")?;
        let (detail, token) = rest.rsplit_once(" failed: ")?;
        let reason = Reason::ALL.iter().copied().find(|r| r.token() == token)?;
        Some(Self::new(reason, detail))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}, {})", self.party().as_str(), self.detail, self.reason, self.reason.number())?;
        match self.errno {
            Some(errno) => write!(f, ", {}", std::io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_survives_number_and_smtp_line() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason.number()), Some(reason));
            assert!((1..=8).contains(&reason.socks_reply()), "{reason} would break SOCKS5 clients");
            let fault = Fault::new(reason, "203.0.113.5 to 198.51.100.7:25");
            assert_eq!(Fault::from_smtp_line(&fault.smtp_line("s-1")), Some(fault));
        }
    }

    #[test]
    fn the_reference_page_lists_each_reason() {
        let page = include_str!("../../docs/reference/faults.md");
        for &reason in Reason::ALL {
            let (n, party) = (reason.number(), reason.party().as_str());
            let row =
                format!("| {n} | `{reason}` | {party} | {} | {} |", reason.socks_reply(), reason.enhanced_status());
            assert!(page.contains(&row), "docs/reference/faults.md lacks the row {row}");
        }
        let (table, _) = page.split_once("## What a destination did").expect("the next section");
        let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains('`')).count();
        assert_eq!(rows, Reason::ALL.len(), "docs/reference/faults.md has rows for reasons that are gone");
    }

    #[test]
    fn smtp_lines_are_short_and_single_whatever_the_detail() {
        let line = Fault::new(Reason::Internal, "x\r\n250 ok".repeat(100)).smtp_line("s");
        assert!(line.len() <= 500);
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_remote_421_is_not_taken_for_ours() {
        assert_eq!(Fault::from_smtp_line("421 4.7.0 try again later"), None);
        assert_eq!(Fault::from_smtp_line("421 4.4.1 egret-proxy[1] a to b failed: sunspots"), None);
    }
}
