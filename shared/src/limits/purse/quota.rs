//! The account of one quota of a day: a part of it that this node has in advance.
//! Pure. Floor 1.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::words::{Ask, When};
use super::Mode;
use super::pace::Pace;

/// What is not used for so long goes back.
const KEEP: Duration = Duration::from_secs(1);
/// Who found the quota used up asks again after so long: others may have given some back.
const AGAIN: Duration = Duration::from_secs(60);
/// A node has at most one of so many parts in advance.
const PARTS: u64 = 100;

#[derive(Debug)]
pub(super) struct QuotaAccount {
    pub(super) most: u64,
    /// What this node used.
    used: u64,
    /// What it used without the store's leave.
    untold: u64,
    at_hand: u64,
    pub(super) wanted: bool,
    pub(super) asked: bool,
    /// It is on the list of what the store is to be asked.
    pub(super) due: bool,
    empty_until: Option<Instant>,
    /// By the store's last word nothing is left: without the store there is no share of it.
    is_used_up: bool,
    touched: Instant,
    pace: Pace,
}

impl QuotaAccount {
    pub(super) fn new(most: u64, now: Instant) -> Self {
        Self {
            most,
            used: 0,
            untold: 0,
            at_hand: 0,
            wanted: false,
            asked: false,
            due: false,
            empty_until: None,
            is_used_up: false,
            touched: now,
            pace: Pace::new(now),
        }
    }

    /// What an earlier run of this node has used. The store knows it, as long as it has its memory.
    pub(super) fn remember(&mut self, used: u64) {
        self.used += used;
    }

    /// What this node used.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn is_now(&mut self, most: u64) {
        if self.most != most {
            (self.most, self.empty_until, self.is_used_up) = (most, None, false);
        }
    }

    pub(super) fn take(&mut self, mode: Mode, now: Instant) -> Result<(), When> {
        let own = match mode {
            Mode::Alone => self.most,
            Mode::Away { .. } if self.is_used_up => 0,
            Mode::Away { nodes } => self.most / u64::from(nodes.max(1)),
            Mode::Shared => 0,
        };
        if mode != Mode::Alone && self.at_hand > 0 {
            self.at_hand -= 1;
        } else if self.used < own {
            self.untold += 1;
        } else {
            let at = self.empty_until.filter(|until| now < *until);
            let at = if mode == Mode::Shared { at } else { Some(now + AGAIN) };
            self.wanted |= at.is_none();
            return Err(at.map_or(When::Woken, When::At));
        }
        self.used += 1;
        self.touched = now;
        self.pace.used(now);
        Ok(())
    }

    /// One that was taken was not used.
    pub(super) fn give_back(&mut self, mode: Mode, now: Instant) {
        if self.used == 0 {
            return;
        }
        self.used -= 1;
        self.touched = now;
        // What was taken without the store's leave is told to it as used no more; else it can be taken again.
        if self.untold > 0 {
            self.untold -= 1;
        } else if mode != Mode::Alone {
            self.at_hand += 1;
        }
    }

    pub(super) fn at_hand(&self) -> u64 {
        self.at_hand
    }

    pub(super) fn ask(&mut self, name: &Arc<str>, day: u32, now: Instant) -> Option<Ask> {
        let most = (self.most / PARTS).max(1);
        let batch = self.pace.recent(now).clamp(1, most);
        let full = self.empty_until.is_some_and(|until| now < until);
        let short = (self.wanted && self.at_hand == 0) || (batch >= 4 && self.at_hand * 2 < batch);
        if !short || full {
            return None;
        }
        self.asked = true;
        Some(self.word(name, day, i64::try_from(batch).unwrap_or(1)))
    }

    fn word(&self, name: &Arc<str>, day: u32, units: i64) -> Ask {
        Ask::Quota { name: name.clone(), day, most: self.most, units }
    }

    pub(super) fn answered(&mut self, granted: u64, wanted: i64, now: Instant) {
        self.at_hand += granted;
        self.touched = now;
        if wanted > 0 {
            self.is_used_up = i64::try_from(granted).is_ok_and(|granted| granted < wanted);
        }
        if wanted > 0 && granted == 0 {
            self.empty_until = Some(now + AGAIN);
        }
    }

    /// What to give back, as nobody used it.
    pub(super) fn spare(&mut self, name: &Arc<str>, day: u32, now: Instant) -> Option<Ask> {
        if self.at_hand == 0 || now < self.touched + KEEP {
            return None;
        }
        let spare = std::mem::take(&mut self.at_hand);
        Some(self.word(name, day, -i64::try_from(spare).ok()?))
    }

    /// The store knows the node again; `lost` if it knows nothing of what was used before.
    pub(super) fn back(&mut self, name: &Arc<str>, day: u32, lost: bool) -> Option<Ask> {
        let untold = std::mem::take(&mut self.untold);
        let used = if lost { self.used + self.at_hand } else { untold };
        // Used is used, also beyond the quota.
        let used = i64::try_from(used).ok().filter(|used| *used > 0)?;
        Some(Ask::Quota { name: name.clone(), day, most: u64::MAX, units: used })
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.at_hand == 0 && !self.asked && !self.wanted && now > self.touched + Duration::from_secs(2 * 86_400)
    }
}
