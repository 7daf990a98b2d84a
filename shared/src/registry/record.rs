//! What a proxy and an MTA node say of themselves: JSON. Pure. Floor 1.
//! Always: what is read was written by somebody who may write to Redis, and is bounded; what it says beyond what is known
//! here is passed over, so that versions can stand side by side.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The longest record that is read.
pub const MAX_BYTES: usize = 8 << 20;
/// Characters of a name or a tag.
const MAX_NAME: usize = 253;

/// A proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyRecord {
    /// Its name: one in the fleet.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// When it was started, in milliseconds since 1970.
    pub started: u64,
    /// It takes no new sessions.
    #[serde(default)]
    pub draining: bool,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// Where its API is.
    #[serde(default)]
    pub admin: Option<SocketAddr>,
    /// What pools can choose it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The addresses that it holds.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// Sessions now.
    #[serde(default)]
    pub sessions: u64,
    /// The most sessions at once.
    #[serde(default)]
    pub max_sessions: u64,
}

/// Where a proxy listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    /// What is spoken there, named as `dialect` of mta.toml.
    pub dialects: Vec<String>,
    /// Whether TLS is spoken around it.
    #[serde(default)]
    pub tls: bool,
}

/// An address that a proxy holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// `held` if it can be a source; otherwise why not.
    pub state: String,
}

impl Address {
    /// Whether it can be a source.
    pub fn is_held(&self) -> bool {
        self.state == "held"
    }
}

/// An MTA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name: one in the fleet.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// When it was started, in milliseconds since 1970.
    pub started: u64,
    /// Parts in its queues.
    #[serde(default)]
    pub queued: u64,
    /// Its sessions.
    #[serde(default)]
    pub sessions: u64,
    /// What is not as it should be, in sentences.
    #[serde(default)]
    pub degraded: Vec<String>,
    /// It is ending.
    #[serde(default)]
    pub draining: bool,
}

/// What changes all the time: told with each word, and no reason to read a record again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Sessions now.
    #[serde(default)]
    pub sessions: u64,
    /// Parts in queues.
    #[serde(default)]
    pub queued: u64,
}

/// What can be announced.
pub trait Record: Serialize + for<'d> Deserialize<'d> + Clone + PartialEq {
    /// What it is, in the names of Redis keys.
    const KIND: &'static str;

    /// Its name.
    fn name(&self) -> &str;

    /// What changes all the time.
    fn figures(&self) -> Figures;

    /// The same with other figures.
    #[must_use]
    fn with(self, figures: Figures) -> Self;

    /// The same without what changes all the time.
    #[must_use]
    fn settled(&self) -> Self {
        self.clone().with(Figures::default())
    }

    /// Reads one.
    ///
    /// # Errors
    /// That it is no record, or of another name than the one that it is kept under.
    fn read(name: &str, text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the record of {name:?} has {} bytes; more than {MAX_BYTES} are not read", text.len()));
        }
        let record: Self = serde_json::from_str(text).map_err(|error| format!("the record of {name:?}: {error}"))?;
        match is_name(record.name()) && record.name() == name {
            true => Ok(record),
            false => Err(format!("the record of {name:?} is of {:?}", record.name())),
        }
    }
}

impl Record for ProxyRecord {
    const KIND: &'static str = "proxy";
    fn name(&self) -> &str {
        &self.name
    }
    fn figures(&self) -> Figures {
        Figures { sessions: self.sessions, queued: 0 }
    }
    fn with(self, Figures { sessions, .. }: Figures) -> Self {
        Self { sessions, ..self }
    }
}

impl Record for NodeRecord {
    const KIND: &'static str = "node";
    fn name(&self) -> &str {
        &self.name
    }
    fn figures(&self) -> Figures {
        Figures { sessions: self.sessions, queued: self.queued }
    }
    fn with(self, Figures { sessions, queued }: Figures) -> Self {
        Self { queued, sessions, ..self }
    }
}

/// Whether a name or a tag is one: letters, digits, and `.-_`.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

/// For fuzzing: what is read is written as it was read.
///
/// # Panics
/// If it is not.
pub fn fuzz_record(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(record) = ProxyRecord::read("p", text) {
        let again = serde_json::to_string(&record).unwrap_or_default();
        assert_eq!(ProxyRecord::read("p", &again), Ok(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_other_versions_are_read_and_those_of_other_names_are_not() {
        let text = r#"{"name":"p","version":"9","started":1,"new":[1],"endpoints":[{"address":"192.0.2.1:1080","dialects":["socks5","new"]}]}"#;
        let record = ProxyRecord::read("p", text).expect("a record");
        assert!(!record.draining && record.endpoints[0].dialects.len() == 2);
        fuzz_record(text.as_bytes());
        assert!(ProxyRecord::read("q", text).is_err());
        assert!(ProxyRecord::read("p", "{}").is_err_and(|why| why.contains("\"p\"")));
        assert!(is_name("p-1.eu_x") && !is_name("") && !is_name("a b") && !is_name(&"a".repeat(254)));
    }
}
