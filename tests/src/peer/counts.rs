//! What the sink has seen, as numbers. Pure. Floor 0.
//! Always: `received == unique + duplicates + unidentified`, in deliveries (a recipient of a message each).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use egret_shared::clock::UnixMs;
use serde::{Deserialize, Serialize};

/// How many of the last messages are kept in memory.
const MAX_KEPT: usize = 64;
/// How many bytes of a message are kept.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// One of the last messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The reverse-path.
    pub sender: String,
    /// The forward-paths.
    pub recipients: Vec<String>,
    /// The first 64 KiB of its content, dot-stuffed as received.
    pub content: String,
}

/// The counts, as `GET /stats` tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Deliveries taken.
    pub received: u64,
    /// Different id and recipient pairs.
    pub unique: u64,
    /// Deliveries of a pair that was there before.
    pub duplicates: u64,
    /// Deliveries of messages without an id, DSNs for instance.
    pub unidentified: u64,
    /// Messages taken.
    pub messages: u64,
    /// Sessions begun.
    pub connections: u64,
    /// Recipients and messages refused or dropped.
    pub refused: u64,
    /// When the first message was taken.
    pub first: Option<UnixMs>,
    /// When the last message was taken.
    pub last: Option<UnixMs>,
    /// Deliveries by the address they came from.
    pub by_source: BTreeMap<IpAddr, u64>,
    /// Deliveries by recipient domain.
    pub by_domain: BTreeMap<String, u64>,
}

/// The sink's memory; grows with every id, which is its purpose.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: u64,
    /// Sessions that are open, and the most that were.
    open: u64,
    peak: u64,
    /// When each message was taken.
    arrivals: Vec<UnixMs>,
    pub(super) refused: u64,
    totals: Stats,
    seen: HashSet<String>,
    tried: HashSet<String>,
    domains: HashMap<String, u64>,
    kept: VecDeque<Kept>,
}

impl Counts {
    /// Whether `id` was not asked about before.
    pub(super) fn first_attempt(&mut self, id: &str) -> bool {
        self.tried.insert(id.to_owned())
    }

    /// A session has begun.
    pub(super) fn began(&mut self) {
        self.connections += 1;
        self.open += 1;
        self.peak = self.peak.max(self.open);
    }

    /// A session is over.
    pub(super) fn ended(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// The most sessions at once, and when each message was taken.
    pub(super) fn pace(&self) -> (u64, Vec<UnixMs>) {
        (self.peak, self.arrivals.clone())
    }

    /// Counts a message; gives its serial number from 1.
    pub(super) fn message(&mut self, now: UnixMs) -> u64 {
        self.arrivals.push(now);
        self.totals.messages += 1;
        self.totals.first.get_or_insert(now);
        self.totals.last = Some(now);
        self.totals.messages
    }

    /// Counts one recipient of a message.
    pub(super) fn delivery(&mut self, peer: IpAddr, id: Option<&str>, recipient: &str, domain: &str) {
        self.totals.received += 1;
        *self.totals.by_source.entry(peer.to_canonical()).or_default() += 1;
        match self.domains.get_mut(domain) {
            Some(count) => *count += 1,
            None => drop(self.domains.insert(domain.to_owned(), 1)),
        }
        match id {
            None => self.totals.unidentified += 1,
            Some(id) if self.seen.insert(format!("{id} {recipient}")) => self.totals.unique += 1,
            Some(_) => self.totals.duplicates += 1,
        }
    }

    /// Keeps a message for whoever asks what was in it.
    pub(super) fn keep(&mut self, sender: &str, recipients: &[String], content: &[u8]) {
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        let content = String::from_utf8_lossy(&content[..content.len().min(MAX_KEPT_BYTES)]).into_owned();
        self.kept.push_back(Kept { sender: sender.to_owned(), recipients: recipients.to_vec(), content });
    }

    pub(super) fn stats(&self) -> Stats {
        let by_domain = self.domains.iter().map(|(d, n)| (d.clone(), *n)).collect();
        Stats { by_domain, connections: self.connections, refused: self.refused, ..self.totals.clone() }
    }

    pub(super) fn messages(&self) -> Vec<Kept> {
        self.kept.iter().cloned().collect()
    }
}
