//! The account of one count: places that this node has of the fleet's.
//! Pure. Floor 1.
//! Always: no more is held than the store has granted, except what was taken while it was away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::words::{Ask, When};
use super::Mode;
use super::pace::Pace;

/// A place that nobody took goes back after so long, sooner if others wait.
const KEEP: Duration = Duration::from_secs(1);
/// The same if others wait.
const KEEP_LESS: Duration = Duration::from_millis(300);
/// What is held is told again so often.
const REFRESH: Duration = Duration::from_secs(5);
/// Who waits asks again so often, in case it was not heard that there is room.
const REFRESH_WAITING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct CountAccount {
    pub(super) limit: u32,
    pub(super) held: u32,
    /// How many of the fleet's places the node has, as far as it knows.
    granted: u32,
    /// How many the store was told that it wants.
    told: Option<u32>,
    told_at: Instant,
    /// Somebody was refused and waits for a place.
    pub(super) waiting: bool,
    /// The store was asked, and has not answered.
    pub(super) asked: bool,
    /// It is on the list of what the store is to be asked.
    pub(super) due: bool,
    /// Places that were given up since it was asked.
    given_up: u32,
    /// If others wait, how many this node should have at most.
    fair: Option<u32>,
    keep_until: Instant,
    pace: Pace,
}

impl CountAccount {
    pub(super) fn new(limit: u32, now: Instant) -> Self {
        Self {
            limit,
            held: 0,
            granted: 0,
            told: None,
            told_at: now,
            waiting: false,
            asked: false,
            due: false,
            given_up: 0,
            fair: None,
            keep_until: now,
            pace: Pace::new(now),
        }
    }

    pub(super) fn may(&self, mode: Mode) -> Result<(), When> {
        let most = match mode {
            Mode::Alone => self.limit,
            Mode::Shared => self.granted,
            Mode::Away { nodes } => (self.limit / nodes.max(1)).max(1),
        };
        if self.held < most { Ok(()) } else { Err(When::Woken) }
    }

    pub(super) fn take(&mut self, now: Instant) {
        self.held += 1;
        self.waiting = false;
        self.pace.used(now);
    }

    /// A place is free again. Whether somebody here waits for just that.
    pub(super) fn release(&mut self, mode: Mode) -> bool {
        self.held = self.held.saturating_sub(1);
        if self.granted > 0 && mode != Mode::Alone {
            self.granted -= 1;
            self.given_up += 1;
        }
        let wake = self.waiting && self.may(mode).is_ok();
        self.waiting &= !wake;
        wake
    }

    pub(super) fn yields(&self) -> bool {
        self.fair.is_some_and(|fair| self.held > fair)
    }

    /// How many this node would like to have.
    fn want(&self, quiet: bool, now: Instant) -> u32 {
        if self.waiting && !quiet {
            // One more, or as many as were taken of late: many sessions are opened in few questions.
            let more = u32::try_from(self.pace.recent(now)).unwrap_or(u32::MAX).clamp(1, self.limit.max(1));
            return self.held.saturating_add(more);
        }
        if now < self.keep_until { self.held.max(self.granted) } else { self.held }
    }

    /// Whether the store should be told something.
    pub(super) fn is_due(&self, quiet: bool, now: Instant) -> bool {
        let again = if self.waiting { REFRESH_WAITING } else { REFRESH };
        let want = self.want(quiet, now);
        let changed = match self.told {
            // Who waits already waits; that more are wanted now can wait, too.
            Some(told) if self.waiting && !quiet => want <= self.held || told <= self.held || self.given_up > 0,
            Some(told) => told != want || self.given_up > 0 || self.granted > want,
            None => want > 0 || self.granted > 0 || self.given_up > 0,
        };
        changed || (want > 0 && now.saturating_duration_since(self.told_at) >= again)
    }

    pub(super) fn ask(&mut self, name: &Arc<str>, turn: u64, quiet: bool, now: Instant) -> Option<Ask> {
        if !self.is_due(quiet, now) {
            return None;
        }
        let want = self.want(quiet, now);
        let keep = self.granted.max(self.held).min(want);
        self.granted = self.granted.min(keep);
        (self.asked, self.given_up) = (true, 0);
        (self.told, self.told_at) = (Some(want), now);
        Some(Ask::Count { name: name.clone(), turn, limit: self.limit, keep, want })
    }

    /// Whether somebody who waits should be woken.
    pub(super) fn answered(&mut self, granted: u32, fair: Option<u32>, now: Instant) -> bool {
        self.granted = granted.saturating_sub(self.given_up);
        self.fair = fair;
        if self.granted <= self.held {
            return false;
        }
        self.keep_until = now + if fair.is_some() { KEEP_LESS } else { KEEP };
        std::mem::take(&mut self.waiting)
    }

    /// What the store knows is not known.
    pub(super) fn lost(&mut self) {
        self.told = None;
        self.asked = false;
    }

    /// There may be room: ask again.
    pub(super) fn nudge(&mut self) {
        self.told = None;
    }

    /// The store is away; whether somebody who waits should be woken.
    pub(super) fn away(&mut self) -> bool {
        self.lost();
        (self.granted, self.given_up, self.fair) = (0, 0, None);
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held == 0 && self.granted == 0 && !self.waiting && !self.asked && self.told.is_none_or(|told| told == 0)
    }
}
