//! A ready queue, of one (source, site): entries that wait for a session, and its sessions.
//! Pure. Floor 2.
//! Always: `waiting` holds just the entries whose place is this, at most `max_ready` and what sessions
//! gave back; idle and quick sessions are subsets of its sessions, with nothing in common.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::Party;

use super::budget::Budget;
use super::classes::{Classes, Turn};
use super::engine::{QueueKey, ReadyKey, SiteKey};
use super::meter::Reached;
use super::words::EntryKey;
use crate::dns::site::Site;
use crate::message::Priority;
use crate::routing::health::rest_after;
use crate::routing::source::Source;

/// A path that must wait longer than this gives what waits in its ready queue to the other sources of the pool.
pub(super) const LONG_WAIT: Duration = Duration::from_secs(5);
/// Entries that may wait for each open session before one more is opened.
const BACKLOG_PER_SESSION: usize = 2;
/// Waiting longer than this without progress opens one more session in any case.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// After the last failure of a path so long, it is as if there had been none.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// What may wait in a ready queue whose path has reached a limit: what comes after may find another source.
const MAX_LIMITED: usize = 64;

/// A ready queue.
#[derive(Debug)]
pub(super) struct Ready {
    pub source: Arc<Source>,
    pub site: SiteKey,
    /// What its path may take.
    pub budget: Budget,
    /// The limit that it waits for.
    pub limited: Option<Limited>,
    /// Why its source may not be chosen now.
    pub unchosen: Option<Reached>,
    /// Handed out by priority, and by tenant in turn.
    pub waiting: Classes<EntryKey>,
    pub sessions: usize,
    pub idle: Vec<u64>,
    /// Busy sessions that may have one more ahead of time.
    pub quick: VecDeque<u64>,
    /// No session is opened before this.
    pub held_until: UnixMs,
    /// Failed dials in a row; until one works, one session at a time probes.
    pub failures: u32,
    /// When the last of them was told.
    pub failed_at: UnixMs,
    /// The newest session then. Sessions up to it are news of the same failure.
    pub failed_until: u64,
    /// The words of the last failure, until a session works.
    pub why: Option<Box<str>>,
    /// The party that it is laid on.
    pub party: Option<Party>,
    /// When an entry last went to a session, or came into the empty queue.
    pub progress: UnixMs,
    /// For when a timer is set for it.
    pub timer: Option<UnixMs>,
    /// Its source is no more, or another: its sessions finish what they hold, and nothing new comes.
    pub retired: bool,
}

/// A limit that keeps a ready queue back.
#[derive(Clone, Debug)]
pub(super) struct Limited {
    pub by: Reached,
    pub since: UnixMs,
    /// When to look whether what waits can go by a source that has room.
    pub look_at: UnixMs,
}

impl Limited {
    /// Of who was refused now, and may have been `before`.
    pub fn again(before: Option<Self>, by: Reached, now: UnixMs) -> Self {
        let (since, look_at) = before.map_or((now, now.plus(LONG_WAIT)), |before| (before.since, before.look_at));
        Self { by, since, look_at }
    }
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
    pub fn new(source: Arc<Source>, site: SiteKey, budget: Budget) -> Self {
        let zero = UnixMs(0);
        let waiting = Classes::default();
        Self {
            source,
            site,
            budget,
            limited: None,
            unchosen: None,
            waiting,
            sessions: 0,
            idle: Vec::new(),
            quick: VecDeque::new(),
            held_until: zero,
            failures: 0,
            failed_at: zero,
            failed_until: 0,
            why: None,
            party: None,
            progress: zero,
            timer: None,
            retired: false,
        }
    }

    /// Takes over what is known of the path from the one before it.
    pub fn heir_of(mut self, before: &Self) -> Self {
        (self.held_until, self.failures) = (before.held_until, before.failures);
        (self.failed_at, self.failed_until) = (before.failed_at, before.failed_until);
        (self.why, self.party) = (before.why.clone(), before.party);
        self
    }

    /// The most sessions that may be open now.
    pub fn most_sessions(&self) -> usize {
        if self.failures >= self.budget.patience { 1 } else { self.budget.sessions }
    }

    /// What may wait in it, of `most`.
    pub fn most_waiting(&self, most: usize) -> usize {
        if self.limited.is_some() { most.min(MAX_LIMITED) } else { most }
    }

    /// Whether one more session may be opened now; within `cap`, while the path is on its way back.
    pub fn may_open(&self, cap: Option<usize>, now: UnixMs) -> May {
        self.may_open_beside(self.sessions, cap, now)
    }

    /// The same, where so many of the open ones can take what waits.
    pub fn may_open_beside(&self, open: usize, cap: Option<usize>, now: UnixMs) -> May {
        if self.held_until > now {
            return May::Later(self.held_until);
        }
        let most = self.most_sessions();
        if self.sessions >= cap.map_or(most, |cap| most.min(cap.max(1))) {
            return May::Wait;
        }
        let patient_until = self.progress.plus(PATIENCE);
        match open {
            0 => May::Open,
            open if self.waiting.len() > open * BACKLOG_PER_SESSION || patient_until <= now => May::Open,
            _ => May::Later(patient_until),
        }
    }

    /// Whose turn it is, and in which group they are, where parts of limits are kept.
    pub fn turn(&self) -> Option<(Turn, usize)> {
        let parted = self.budget.parted.as_ref()?;
        let turn = self.waiting.turn_of(|priority, tenant| !parted.of(priority, tenant).is_passed)?;
        let group = parted.group_of(turn.priority, &turn.tenant);
        Some((turn, group))
    }

    /// Before then such mail is not to wait here.
    pub fn held_for(&self, priority: Priority, tenant: &str) -> UnixMs {
        let parted = self.budget.parted.as_ref();
        parted.map_or(self.held_until, |parted| parted.of(priority, tenant).held_until.max(self.held_until))
    }

    /// A session failed, when `newest` was the newest: when patience ends, the queue is held, longer each time.
    pub fn failed(&mut self, session: u64, newest: u64, now: UnixMs) {
        if session > self.failed_until {
            self.failures += 1;
            (self.failed_at, self.failed_until) = (now, newest);
            if let Some(beyond) = self.failures.checked_sub(self.budget.patience) {
                self.held_until = now.plus(rest_after(beyond + 1));
            }
        }
    }

    /// Whether a limit keeps its source from being chosen.
    pub fn is_unchosen(&self, now: UnixMs) -> bool {
        self.unchosen.as_ref().is_some_and(|by| by.until.is_some_and(|until| until > now))
    }

    pub fn is_unused(&self, now: UnixMs) -> bool {
        let counts = self.failures > 0 && self.failed_at.plus(FORGIVEN_AFTER) > now;
        let held_until = self.budget.parted.as_ref().map_or(self.held_until, |p| p.held_until().max(self.held_until));
        let is_known = counts || held_until > now || self.is_unchosen(now);
        self.sessions == 0 && self.waiting.is_empty() && (self.retired || !is_known)
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
    /// Of the last answer that led here ([`Engine::lead_epoch`](super::Engine::lead_epoch)).
    pub epoch: u64,
    /// Ready queues of sources that were changed, which still have sessions.
    pub retired: usize,
}

impl SiteSlot {
    pub fn new(site: Arc<Site>, epoch: u64) -> Self {
        Self { site, ready: HashMap::new(), wanting: Classes::default(), wake: None, epoch, retired: 0 }
    }

    /// Whether the site has an address that `source` can reach by family.
    pub fn fits(&self, source: &Source) -> bool {
        source.address.is_none_or(|from| self.site.has_family_of(from))
    }
}
