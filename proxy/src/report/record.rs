//! The record of one session: one JSON object a line. Documented in `docs/reference/proxy-sessions.md`.
//! Pure. Floor 1.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Party, Reason};
use serde::{Serialize, Serializer};

/// The number of a session: the second in which the proxy was started, and a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It has not.
    Open,
    /// It never was one: a connect without a request, or a PROXY header that asks for nothing.
    Probe,
    /// The request was refused, or the dial failed.
    Refused,
    /// Both sides finished.
    Closed,
    /// One side broke off.
    Reset,
    /// Nobody spoke for too long.
    Idle,
    /// The proxy stopped.
    Stopped,
}

/// Who ended a session first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// The client.
    Client,
    /// The destination.
    Remote,
    /// The proxy.
    Proxy,
}

impl ClosedBy {
    /// The name used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Remote => "remote",
            Self::Proxy => "proxy",
        }
    }
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// When the client was accepted, in milliseconds since the Unix epoch.
    pub time_ms: UnixMs,
    /// The session's number, as in logs and in `421` lines.
    pub id: SessionId,
    /// Where the client was accepted.
    pub listener: SocketAddr,
    /// The client.
    pub client: SocketAddr,
    /// The user that logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The source address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The source's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// The destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<SocketAddr>,
    /// From accept to the whole request, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_ms: Option<u64>,
    /// From the whole request to the connection, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u64>,
    /// From the connection to the destination's first byte, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// From accept to the end, in milliseconds.
    pub duration_ms: u64,
    /// Bytes from the client to the destination.
    pub bytes_up: u64,
    /// Bytes from the destination to the client.
    pub bytes_down: u64,
    /// How it ended.
    pub end: Ended,
    /// Who ended it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// The party at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub party: Option<Party>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The error number of this host, if one was behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// More words on that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The smoothed round-trip time to the destination, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// Segments that were sent again to the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u32>,
}

impl Record {
    /// A session that has just begun.
    pub fn begin(id: SessionId, time_ms: UnixMs, listener: SocketAddr, client: SocketAddr) -> Self {
        Self {
            time_ms,
            id,
            listener,
            client,
            user: None,
            source: None,
            source_port: None,
            destination: None,
            handshake_ms: None,
            connect_ms: None,
            first_byte_ms: None,
            duration_ms: 0,
            bytes_up: 0,
            bytes_down: 0,
            end: Ended::Open,
            closed_by: None,
            party: None,
            reason: None,
            errno: None,
            detail: String::new(),
            round_trip_ms: None,
            retransmits: None,
        }
    }

    /// Notes why it failed.
    pub fn failed(&mut self, fault: Fault) {
        self.party = Some(fault.party());
        self.reason = Some(fault.reason);
        self.errno = fault.errno;
        self.detail = fault.detail;
    }

    /// From where to where, as details tell it.
    pub fn route(&self) -> String {
        match (self.source, self.destination) {
            (Some(source), Some(destination)) => format!("{source} to {destination}"),
            (None, Some(destination)) => destination.to_string(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_has_each_field_and_no_other() {
        let address = SocketAddr::from(([192, 0, 2, 1], 25));
        let mut record = Record::begin(SessionId(1), UnixMs(1), address, address);
        record.user = Some("u".to_owned());
        record.source = Some(address.ip());
        record.source_port = Some(1);
        record.destination = Some(address);
        (record.handshake_ms, record.connect_ms, record.first_byte_ms) = (Some(1), Some(1), Some(1));
        record.closed_by = Some(ClosedBy::Proxy);
        (record.round_trip_ms, record.retransmits) = (Some(0.5), Some(0));
        record.failed(Fault::new(Reason::Internal, "x").with_errno(Some(1)));
        let written = serde_json::to_value(&record).expect("writable");
        let mut fields: Vec<_> = written.as_object().expect("an object").keys().map(String::as_str).collect();
        let page = include_str!("../../../docs/reference/proxy-sessions.md");
        let (_, page) = page.split_once("## The record").expect("the chapter");
        let (page, _) = page.split_once("\n## ").unwrap_or((page, ""));
        let mut told: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        fields.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, fields);
    }
}
