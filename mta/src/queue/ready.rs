//! A ready queue, of one (source, site): entries that wait for a session, and its sessions.
//! Pure. Floor 2.
//! Always: `waiting` holds just the entries whose place is this, at most `max_ready` and what sessions
//! gave back; idle sessions are a subset of its sessions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::Party;

use super::classes::Classes;
use super::engine::{QueueKey, ReadyKey, SiteKey};
use super::words::EntryKey;
use crate::dns::site::Site;
use crate::routing::health::rest_after;
use crate::routing::source::Source;

/// Entries that may wait for each open session before one more is opened.
const BACKLOG_PER_SESSION: usize = 2;
/// Waiting longer than this without progress opens one more session in any case.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// A ready queue.
#[derive(Debug)]
pub(super) struct Ready {
    pub source: Arc<Source>,
    pub site: SiteKey,
    /// Handed out by priority, and by tenant in turn.
    pub waiting: Classes<EntryKey>,
    pub sessions: usize,
    pub idle: Vec<u64>,
    /// No session is opened before this.
    pub held_until: UnixMs,
    /// Failed dials in a row; until one works, one session at a time probes.
    pub failures: u32,
    /// When the last of them was told. Sessions that were open then are news of the same failure.
    pub failed_at: UnixMs,
    /// The words of the last failure, until a session works.
    pub why: Option<Box<str>>,
    /// The party that it is laid on.
    pub party: Option<Party>,
    /// When an entry last went to a session, or came into the empty queue.
    pub progress: UnixMs,
    /// A timer is set for it.
    pub timer: bool,
    /// Its source is no more, or another: its sessions finish what they hold, and nothing new comes.
    pub retired: bool,
}

/// Whether a session may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    Open,
    /// Look again then.
    Later(UnixMs),
    /// Something else will wake the queue.
    Wait,
}

impl Ready {
    pub fn new(source: Arc<Source>, site: SiteKey) -> Self {
        let zero = UnixMs(0);
        let waiting = Classes::default();
        Self {
            source,
            site,
            waiting,
            sessions: 0,
            idle: Vec::new(),
            held_until: zero,
            failures: 0,
            failed_at: zero,
            why: None,
            party: None,
            progress: zero,
            timer: false,
            retired: false,
        }
    }

    /// Takes over what is known of the path from the one before it.
    pub fn heir_of(mut self, before: &Self) -> Self {
        (self.held_until, self.failures, self.failed_at) = (before.held_until, before.failures, before.failed_at);
        (self.why, self.party) = (before.why.clone(), before.party);
        self
    }

    /// Whether one more session may be opened now, within `limit`.
    pub fn may_open(&self, limit: usize, now: UnixMs) -> May {
        if self.held_until > now {
            return May::Later(self.held_until);
        }
        let limit = if self.failures > 0 { 1 } else { limit };
        if self.sessions >= limit {
            return May::Wait;
        }
        let patient_until = self.progress.plus(PATIENCE);
        match self.sessions {
            0 => May::Open,
            open if self.waiting.len() > open * BACKLOG_PER_SESSION || patient_until <= now => May::Open,
            _ => May::Later(patient_until),
        }
    }

    /// A session that was opened at `opened` failed: the queue is held, longer each time.
    pub fn failed(&mut self, opened: UnixMs, now: UnixMs) {
        if opened > self.failed_at {
            self.failures += 1;
            self.failed_at = now;
            self.held_until = now.plus(rest_after(self.failures));
        }
    }

    pub fn is_unused(&self, now: UnixMs) -> bool {
        self.sessions == 0 && self.waiting.is_empty() && (self.retired || self.held_until <= now)
    }
}

/// A site with its ready queues.
#[derive(Debug)]
pub(super) struct SiteSlot {
    pub site: Arc<Site>,
    /// Its ready queues by source name.
    pub ready: HashMap<Arc<str>, ReadyKey>,
    /// Scheduled queues with due entries, served by priority, by tenant in turn, and a tenant's in turn.
    pub wanting: Classes<QueueKey>,
    /// When the site is looked at again, if a timer is set.
    pub wake: Option<UnixMs>,
    /// The most sessions from one source.
    pub limit: usize,
    /// Of the last answer that led here ([`Engine::lead_epoch`](super::Engine::lead_epoch)).
    pub epoch: u64,
    /// Ready queues of sources that were changed, which still have sessions.
    pub retired: usize,
}

impl SiteSlot {
    pub fn new(site: Arc<Site>, limit: usize, epoch: u64) -> Self {
        Self { site, ready: HashMap::new(), wanting: Classes::default(), wake: None, limit, epoch, retired: 0 }
    }

    /// Whether the site has an address that `source` can reach by family.
    pub fn fits(&self, source: &Source) -> bool {
        source.address.is_none_or(|from| self.site.has_family_of(from))
    }
}
