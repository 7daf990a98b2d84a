//! The event record: one JSON object a line. Documented in `docs/reference/events.md`.
//! Pure. Floor 1.

use std::net::{IpAddr, SocketAddr};

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Party, Reason};
use serde::{Deserialize, Serialize};

use super::tls::{Posture, TlsResult};
use crate::message::{MessageId, Response};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A message was accepted and is on stable storage.
    Reception,
    /// The destination took it.
    Delivery,
    /// It was not taken this time and is tried again.
    TransientFailure,
    /// It will never be taken.
    Bounce,
    /// It waited longer than it may.
    Expiry,
    /// A dial failed. The message only names what the session was opened for; unless the party is
    /// the remote, no attempt is counted.
    Fault,
}

/// The mail server at the other end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, from the MX record or the route; the client's EHLO name for a reception.
    pub name: String,
    /// Its address and port.
    pub address: Option<SocketAddr>,
}

/// How long each stage took, in milliseconds. Absent where the stage was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From acceptance to this attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
    /// Connecting, through the proxy if there is one, up to the end of EHLO and TLS. Told by the
    /// first transaction of a session only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<u64>,
    /// From MAIL to the reply that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_ms: Option<u64>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: UnixMs,
    /// The message.
    pub id: MessageId,
    /// The reverse-path; empty for the null sender.
    pub sender: String,
    /// The forward-paths that it is about.
    pub recipients: Vec<String>,
    /// The scheduled queue; absent for receptions of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Whose mail it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it was sent for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Bytes of the message, trace headers included.
    pub size: u64,
    /// The number of this attempt, from 1; 0 where none was made.
    pub attempt: u16,
    /// The source's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The source's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// The proxy's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// The user that the client of a reception has logged in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The words that decided it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Response>,
    /// What the operator's rules call such an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The party at fault, where a dial failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub party: Option<Party>,
    /// Why the dial failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// TLS version and cipher; absent in clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// What was asked of TLS, and by whom; absent where no host was reached for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_policy: Option<Posture>,
    /// What came of it; absent where TLS was not wanted, or its turn did not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_result: Option<TlsResult>,
    /// The connection died after the final dot: the destination may have taken it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// How long it took.
    pub timing: Timing,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_FIELD: &str = r#"{"type":"bounce","time_ms":1,"id":"0190163d8694739bb86c8e5f7a3b2c1d","sender":"a@b.c",
        "recipients":["d@e.f"],"queue":"c:t@e.f","tenant":"t","campaign":"c","site":"e.f","size":9,"attempt":1,"source":"s","source_address":"192.0.2.1",
        "proxy":"p","peer":{"name":"e.f","address":"198.51.100.1:25"},"user":"u",
        "response":{"code":550,"enhanced":"5.1.1","text":"no such user","command":"RCPT"},"class":"InvalidRecipient",
        "party":"remote","reason":"connection_refused","tls":"TLSv1.3","tls_policy":"sts-enforce","tls_result":"success","uncertain":true,
        "timing":{"waited_ms":1,"connect_ms":2,"transaction_ms":3}}"#;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record: Record = serde_json::from_str(EVERY_FIELD).expect("a record");
        let written = serde_json::to_string(&record).expect("writable");
        assert_eq!(serde_json::from_str::<Record>(&written).expect("readable"), record);
    }

    #[test]
    fn the_reference_page_has_each_field_and_no_other() {
        let page = include_str!("../../../docs/reference/events.md");
        let record: Record = serde_json::from_str(EVERY_FIELD).expect("a record");
        let written = serde_json::to_value(&record).expect("writable");
        let mut fields: Vec<_> = written.as_object().expect("an object").keys().map(String::as_str).collect();
        let (_, table) = page.split_once("## Fields").expect("a section of fields");
        let mut told: Vec<_> = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        fields.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, fields);
    }
}
