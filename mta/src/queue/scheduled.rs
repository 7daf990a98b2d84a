//! A scheduled queue: what waits for one `campaign:tenant@domain`, and where its domain leads.
//! Pure. Floor 2.
//! Always: a live entry is in at most one list of the engine; `held` counts all entries of the queue.

use std::collections::VecDeque;
use std::sync::Arc;

use egret_shared::clock::UnixMs;

use super::engine::QueueKey;
use super::words::{EntryKey, PartKey};
use crate::dns::site::Site;
use crate::message::{MessageId, QueueName, Ticket};

/// A part of a message in the queues. Small: millions of them are in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub id: MessageId,
    pub received: UnixMs,
    pub due: UnixMs,
    pub queue: QueueKey,
    pub settled: Box<[u16]>,
    pub part: u16,
    pub recipients: u16,
    pub attempts: u16,
}

impl Entry {
    pub fn ticket(&self, queue: QueueName) -> Ticket {
        let Self { id, received, part, attempts, .. } = *self;
        Ticket { id, part, queue, attempts, received, settled: self.settled.to_vec() }
    }

    /// Recipients that are still to be settled.
    pub fn open_recipients(&self) -> impl Iterator<Item = u16> + '_ {
        (0..self.recipients).filter(|r| self.settled.binary_search(r).is_err())
    }

    /// Adds recipients that are settled now.
    pub fn settle(&mut self, more: impl Iterator<Item = u16>) {
        let mut all: Vec<u16> = self.settled.iter().copied().chain(more.filter(|r| *r < self.recipients)).collect();
        all.sort_unstable();
        all.dedup();
        self.settled = all.into();
    }

    pub fn is_settled(&self) -> bool {
        self.settled.len() >= usize::from(self.recipients)
    }
}

/// Where a domain leads.
#[derive(Clone, Debug)]
pub(super) enum Lead {
    /// Not asked yet.
    Unknown,
    /// Asked; the answer is on its way.
    Asked,
    /// Here, until then.
    Known(Arc<Site>, UnixMs),
    /// DNS gave no answer; ask again then.
    Failed(UnixMs),
}

/// A scheduled queue.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub key: PartKey,
    pub lead: Lead,
    /// Failures to find the site in a row.
    pub dns_failures: u32,
    /// Due, waiting for a site or for room in a ready queue.
    pub due: VecDeque<EntryKey>,
    /// Whether the queue is in its site's list of queues that want room.
    pub wants_room: bool,
    /// Entries of the queue, wherever they are.
    pub held: usize,
}

impl Scheduled {
    pub fn new(key: PartKey) -> Self {
        Self { key, lead: Lead::Unknown, dns_failures: 0, due: VecDeque::new(), wants_room: false, held: 0 }
    }

    /// No known site keeps it in memory, and no answer is on its way.
    pub fn is_idle_without_site(&self) -> bool {
        matches!(self.lead, Lead::Unknown | Lead::Failed(_))
    }
}
