//! The record of one session: one JSON object a line. Documented in `docs/reference/proxy-sessions.md`.
//! Pure. Floor 1.

use std::net::{IpAddr, SocketAddr};

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Party, Reason};
use serde::Serialize;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It never was one: a connect without a request, or a PROXY header that asks for nothing.
    Probe,
    /// The request was refused, or the dial failed.
    Refused,
    /// Both sides finished.
    Closed,
    /// The client broke off.
    ClientReset,
    /// The destination broke off.
    RemoteReset,
    /// Nobody spoke for too long.
    Idle,
    /// The proxy stopped.
    Stopped,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// When the client was accepted, in milliseconds since the Unix epoch.
    pub time_ms: UnixMs,
    /// The session's number, as in logs and in `421` lines.
    pub id: String,
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
    /// From accept to the end, in milliseconds.
    pub duration_ms: u64,
    /// Bytes from the client to the destination.
    pub bytes_up: u64,
    /// Bytes from the destination to the client.
    pub bytes_down: u64,
    /// How it ended.
    pub end: Ended,
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
}

impl Record {
    /// A session that has just begun.
    pub fn begin(id: String, time_ms: UnixMs, listener: SocketAddr, client: SocketAddr) -> Self {
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
            duration_ms: 0,
            bytes_up: 0,
            bytes_down: 0,
            end: Ended::Refused,
            party: None,
            reason: None,
            errno: None,
            detail: String::new(),
        }
    }

    /// Notes why it failed.
    pub fn failed(&mut self, fault: Fault) {
        self.party = Some(fault.party());
        self.reason = Some(fault.reason);
        self.errno = fault.errno;
        self.detail = fault.detail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_has_each_field_and_no_other() {
        let address = SocketAddr::from(([192, 0, 2, 1], 25));
        let mut record = Record::begin("1".to_owned(), UnixMs(1), address, address);
        record.user = Some("u".to_owned());
        record.source = Some(address.ip());
        record.source_port = Some(1);
        record.destination = Some(address);
        record.handshake_ms = Some(1);
        record.connect_ms = Some(1);
        record.failed(Fault::new(Reason::Internal, "x").with_errno(Some(1)));
        let written = serde_json::to_value(&record).expect("writable");
        let mut fields: Vec<_> = written.as_object().expect("an object").keys().map(String::as_str).collect();
        let page = include_str!("../../../docs/reference/proxy-sessions.md");
        let mut told: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        fields.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, fields);
    }
}
