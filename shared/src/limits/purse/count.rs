//! The account of one count: places that this node has of the fleet's.
//! Pure. Floor 1.
//! Always: no more is held than the store has granted, except what was taken while it was away: then up to a share, and
//! not before those who had more have had time to give it up. Where there are more nodes than places, nodes take turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::words::{Ask, When};
use super::pace::Pace;
use super::{LOOK, Mode};

/// A place that nobody took goes back after so long, sooner if others wait.
const KEEP: Duration = Duration::from_secs(1);
/// The same if others wait.
const KEEP_LESS: Duration = Duration::from_millis(300);
/// What is held is told again so often.
const REFRESH: Duration = Duration::from_secs(5);
/// Who waits asks again so often, in case it was not heard that there is room.
const REFRESH_WAITING: Duration = Duration::from_secs(1);
/// How long a turn lasts where places are fewer than nodes.
const TURN: Duration = Duration::from_secs(10);
/// So long after a turn has begun the one before may not be over.
const PAUSE: Duration = Duration::from_secs(1);
/// Whose place is taken in its own turn looks again so soon.
const LOOK_IN_TURN: Duration = Duration::from_secs(2);
/// From one turn to the next by so much of the circle, by which no node waits much longer than others.
const GOLDEN: f64 = 0.618_033_988_749_895;

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
    /// Where this node stands among those that take turns, on a circle that is 1 around, and since when turns count: the
    /// same for all counts, so that who has a turn of one has that of a larger one, too.
    stands: f64,
    since: Instant,
}

impl CountAccount {
    pub(super) fn new(limit: u32, (stands, since): (f64, Instant), now: Instant) -> Self {
        Self {
            stands,
            since,
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

    /// Whether a place may be taken. `still` is until when nobody takes one that the store has not granted.
    pub(super) fn may(&self, mode: Mode, still: Option<Instant>, now: Instant) -> Result<(), When> {
        match (mode, still) {
            (Mode::Away { nodes }, _) if self.held >= self.most(mode, now) => {
                Err(if self.limit < nodes { When::At(self.next_turn(nodes, now)) } else { When::Woken })
            }
            (Mode::Away { .. }, Some(until)) if self.held >= self.granted => Err(When::At(until)),
            (Mode::Away { nodes }, _)
                if self.limit < nodes && self.held >= self.granted && self.of_turn(now) < PAUSE =>
            {
                Err(When::At(now + PAUSE.saturating_sub(self.of_turn(now))))
            }
            _ if self.held >= self.most(mode, now) => Err(When::Woken),
            _ => Ok(()),
        }
    }

    /// How many places may be held.
    fn most(&self, mode: Mode, now: Instant) -> u32 {
        match mode {
            Mode::Alone => self.limit,
            Mode::Shared => self.granted,
            Mode::Away { nodes } => self.granted.max(self.share(nodes, now)),
        }
    }

    /// This node's part of the places if `nodes` have them together: one now and then, if they are fewer.
    fn share(&self, nodes: u32, now: Instant) -> u32 {
        match self.limit / nodes.max(1) {
            0 => u32::from(self.has_turn(nodes, now)),
            share => share,
        }
    }

    fn has_turn(&self, nodes: u32, now: Instant) -> bool {
        let turn = now.saturating_duration_since(self.since).as_secs() / TURN.as_secs();
        (self.stands + turn as f64 * GOLDEN).fract() < f64::from(self.limit) / f64::from(nodes)
    }

    /// How much of a turn has passed.
    fn of_turn(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.since);
        Duration::from_nanos(u64::try_from(passed.as_nanos() % TURN.as_nanos()).unwrap_or(0))
    }

    /// When this node's turn is, if it is soon; when to look again, if not. Who has a turn may have it no more when its
    /// place is free again, and would not be woken then.
    fn next_turn(&self, nodes: u32, now: Instant) -> Instant {
        if self.has_turn(nodes, now) {
            return now + LOOK_IN_TURN;
        }
        let next = now + TURN.saturating_sub(self.of_turn(now));
        if self.has_turn(nodes, next) { next } else { now + LOOK }
    }

    pub(super) fn take(&mut self, now: Instant) {
        self.held += 1;
        self.waiting = false;
        self.pace.used(now);
    }

    /// A place is free again. Whether somebody here waits for just that. While it is `quiet` the place stays with this
    /// node.
    pub(super) fn release(&mut self, mode: Mode, quiet: bool, now: Instant) -> bool {
        self.held = self.held.saturating_sub(1);
        let keeps = match mode {
            Mode::Alone => true,
            Mode::Shared => quiet,
            Mode::Away { nodes } => self.granted <= self.share(nodes, now),
        };
        if self.granted > 0 && !keeps {
            self.granted -= 1;
            self.given_up += 1;
        }
        let wake = self.waiting && self.held < self.most(mode, now);
        self.waiting &= !wake;
        wake
    }

    /// Whether places should be given up: others wait for them, or the store is away, `sharers` have them together, and
    /// this is more than a share.
    pub(super) fn yields(&self, sharers: Option<u32>, now: Instant) -> bool {
        let fair = self.fair.into_iter().chain(sharers.map(|nodes| self.share(nodes, now))).min();
        fair.is_some_and(|fair| self.held > fair)
    }

    /// How many this node would like to have.
    fn want(&self, quiet: bool, now: Instant) -> u32 {
        if self.waiting && !quiet {
            // One more, or as many as were taken of late: many sessions are opened in few questions.
            let more = u32::try_from(self.pace.recent(now)).unwrap_or(u32::MAX).clamp(1, self.limit.max(1));
            return self.held.saturating_add(more);
        }
        if quiet || now < self.keep_until { self.held.max(self.granted) } else { self.held }
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

    /// The store is away, and `nodes` have the places together; whether somebody should be woken, who waits or has too
    /// many.
    pub(super) fn away(&mut self, nodes: u32, stands: f64, now: Instant) -> bool {
        self.lost();
        (self.stands, self.since) = (stands, now);
        // What nobody holds of the surplus is for others. What the store has granted is this node's.
        self.granted = self.granted.min(self.share(nodes, now)).max(self.held);
        (self.given_up, self.fair) = (0, None);
        std::mem::take(&mut self.waiting) || self.yields(Some(nodes), now)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held == 0 && self.granted == 0 && !self.waiting && !self.asked && self.told.is_none_or(|told| told == 0)
    }
}
