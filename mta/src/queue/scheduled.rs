//! A scheduled queue: what waits for one `campaign:tenant@domain!routing` in one pool and priority, and where it leads.
//! Pure. Floor 2.
//! Always: an entry says itself where it waits; a list may hold keys of entries that have gone elsewhere,
//! and who takes a key out of it asks the entry. `held` counts all entries of the queue, `waiting` those
//! whose place is [`Place::Due`].

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::limits::Throttle;
use slotmap::SlotMap;

use super::budget::List;
use super::control::Blocks;
use super::engine::QueueKey;
use super::meter::Reached;
use super::options::QueueOptions;
use super::rules::QueueRules;
use super::words::{EntryKey, PartKey};
use crate::dns::site::Site;
use crate::message::{MessageId, Priority, QueueName, Ticket};

/// Keys in a due list beyond twice those that count, before it is thinned out.
const SLACK: usize = 64;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A timer will wake it.
    Timer,
    /// In its queue's due list.
    Due,
    /// In a ready queue.
    Ready,
    /// In a session.
    Session,
    /// Its sender is being told what became of it.
    Reporting,
}

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
    pub place: Place,
    pub notes: Notes,
}

/// What is to be known of an entry beside its schedule, in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes(u8);

impl Notes {
    const MOVED: u8 = 0x80;
    const HEARS: u8 = 0x40;
    const TOLD: u8 = 0x3f;

    pub fn new(is_moved: bool, hears_of_delay: bool, told: u8) -> Self {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        Self(bit(is_moved, Self::MOVED) | bit(hears_of_delay, Self::HEARS) | told.min(Self::TOLD))
    }

    /// Its queue is not that of its metadata: each mark must say so.
    pub fn is_moved(self) -> bool {
        self.0 & Self::MOVED != 0
    }

    pub fn set_moved(&mut self) {
        self.0 |= Self::MOVED;
    }

    /// Its sender wants to hear if it is late.
    pub fn hears_of_delay(self) -> bool {
        self.0 & Self::HEARS != 0
    }

    /// How many times its sender was told that it is late: each mark must say that, too.
    pub fn told(self) -> u8 {
        self.0 & Self::TOLD
    }

    pub fn set_told(&mut self, told: u8) {
        *self = Self::new(self.is_moved(), self.hears_of_delay(), told);
    }
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
    /// DNS gave no answer, with these words; ask again then.
    Failed(UnixMs, Box<str>),
}

/// A scheduled queue.
#[derive(Debug)]
pub(super) struct Scheduled {
    pub key: PartKey,
    /// Whose mail it is; empty for mail of no tenant.
    pub tenant: Arc<str>,
    pub lead: Lead,
    /// Failures to find the site in a row.
    pub dns_failures: u32,
    /// Due, waiting for a site or for room in a ready queue. May hold keys that no longer count.
    pub due: VecDeque<EntryKey>,
    /// Entries whose place is the due list.
    pub waiting: usize,
    /// Whether the queue is in its site's list of queues that want room.
    pub wants_room: bool,
    /// Entries of the queue, wherever they are.
    pub held: usize,
    /// What keeps it back.
    pub blocks: Blocks,
    /// The last transient failure of a part of it.
    pub last: Option<Box<LastAnswer>>,
    /// Its options, if they are not those of all.
    pub own: Option<Box<QueueOptions>>,
    /// How fast its messages may leave it.
    pub rates: List<Throttle>,
    /// When it is looked at again, if it waits for a limit.
    pub look_at: UnixMs,
    /// The rate that it waits for.
    pub limited: Option<Reached>,
}

/// A transient failure, for who asks why nothing moves.
#[derive(Debug)]
pub(super) struct LastAnswer {
    pub at: UnixMs,
    pub text: Box<str>,
}

impl Scheduled {
    pub fn new(key: PartKey) -> Self {
        let tenant = key.0.tenant().unwrap_or_default().into();
        let (due, lead) = (VecDeque::new(), Lead::Unknown);
        Self {
            key,
            tenant,
            lead,
            dns_failures: 0,
            due,
            waiting: 0,
            wants_room: false,
            held: 0,
            blocks: Blocks::default(),
            last: None,
            own: None,
            rates: List::default(),
            look_at: UnixMs(0),
            limited: None,
        }
    }

    /// Takes what is said of it now. Returns whether its rates are others than before.
    pub fn follow(&mut self, rules: &QueueRules, base: &QueueOptions) -> bool {
        let own = rules.of(&self.key.0).over(base);
        self.own = (own != *base).then(|| Box::new(own));
        let before = std::mem::replace(&mut self.rates, rules.rates(&self.key.0));
        before != self.rates
    }

    /// How soon its mail goes out where others wait.
    pub fn priority(&self) -> Priority {
        self.key.2
    }

    /// No known site keeps it in memory, and no answer is on its way.
    pub fn is_idle_without_site(&self) -> bool {
        matches!(self.lead, Lead::Unknown | Lead::Failed(..))
    }

    /// Thins the due list out when most of it no longer counts.
    pub fn trim(&mut self, own: QueueKey, entries: &SlotMap<EntryKey, Entry>) {
        if self.due.len() <= 2 * self.waiting + SLACK {
            return;
        }
        let mut seen = HashSet::with_capacity(self.waiting);
        self.due.retain(|key| is_due_in(entries, *key, own) && seen.insert(*key));
    }
}

/// Whether a key in the due list of `queue` still counts.
pub(super) fn is_due_in(entries: &SlotMap<EntryKey, Entry>, key: EntryKey, queue: QueueKey) -> bool {
    entries.get(key).is_some_and(|entry| entry.place == Place::Due && entry.queue == queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Entry>() <= 64, "{} bytes, and there are millions of them", size_of::<Entry>());
    }
}
