//! The account of one rate: times at which something may go, which the store keeps free for this node.
//! Pure. Floor 1.
//! Always: each time is used once; what is not used in about a second goes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::words::{Ask, When};
use super::super::{Gcra, Manner, Rate};
use super::pace::Pace;
use super::{LOOK, Mode, earlier};

/// What is not used for so long goes back.
const KEEP: Duration = Duration::from_secs(1);
/// Fewer than this are not asked for in advance.
const FEW: u64 = 4;

/// Times from one on, evenly spaced.
#[derive(Clone, Copy, Debug)]
struct Grant {
    next: Instant,
    interval: Duration,
    left: u64,
}

#[derive(Debug)]
pub(super) struct RateAccount {
    /// What may be let through of the rate `of` configuration.
    pub(super) rate: Rate,
    of: Rate,
    grants: Vec<Grant>,
    pace: Pace,
    /// What this node used: all there is to know if it is alone.
    own: Gcra,
    /// What all nodes used, as the store has it: as it was heard of last, or may be meanwhile.
    seen: Gcra,
    /// When the store last said that nothing is left of the burst.
    full_at: Option<Instant>,
    /// The node's share of the rate while the store is away.
    share: Gcra,
    /// Among how many it is shared.
    sharers: u32,
    /// How many went by the share that the store was not told of.
    untold: u64,
    /// Somebody was refused and waits for an answer.
    pub(super) wanted: bool,
    /// Somebody was refused since the store was asked: there is more to send than there are times.
    pub(super) starved: bool,
    /// The store was asked, and has not answered.
    pub(super) asked: bool,
    /// It is on the list of what the store is to be asked.
    pub(super) due: bool,
    touched: Instant,
    /// One of what is at hand will be used together with others until then.
    keep_until: Instant,
}

impl RateAccount {
    pub(super) fn new(of: Rate, mode: Mode, place: f64, now: Instant) -> Self {
        let mut account = Self {
            rate: of.as_seen(),
            of,
            grants: Vec::new(),
            pace: Pace::new(now),
            own: Gcra::new(now),
            seen: Gcra::new(now),
            full_at: None,
            share: Gcra::new(now),
            sharers: 1,
            untold: 0,
            wanted: false,
            starved: false,
            asked: false,
            due: false,
            touched: now,
            keep_until: now,
        };
        if let Mode::Away { nodes } = mode {
            account.away(nodes, place, now);
        }
        account
    }

    /// The rate is this one from now on; what was used is used.
    pub(super) fn is_now(&mut self, of: Rate, mode: Mode, now: Instant) {
        if self.of == of {
            return;
        }
        let rate = of.as_seen();
        self.own.convert(&self.rate, &rate, now);
        self.seen.convert(&self.rate, &rate, now);
        if let Mode::Away { nodes } = mode {
            self.share.convert(&share(&self.rate, nodes), &share(&rate, nodes), now);
        }
        (self.rate, self.of) = (rate, of);
    }

    /// Whether one may go now, and if not, when.
    pub(super) fn may(&self, mode: Mode, now: Instant) -> Result<(), When> {
        let try_gcra = |gcra: &Gcra, rate: &Rate| gcra.clone().take(rate, now).map_err(|wait| When::At(now + wait));
        match mode {
            Mode::Alone => try_gcra(&self.own, &self.rate),
            _ if self.grants.iter().any(|grant| grant.next <= now) => Ok(()),
            Mode::Away { nodes } => try_gcra(&self.share, &share(&self.rate, nodes)).map_err(|when| soon(when, now)),
            Mode::Shared => Err(self.grants.first().map_or(When::Woken, |grant| When::At(grant.next))),
        }
    }

    /// One goes: [`RateAccount::may`] has said so, at this time.
    pub(super) fn take(&mut self, mode: Mode, now: Instant) {
        self.pace.used(now);
        self.touched = now;
        self.own.count(&self.rate, now);
        if mode == Mode::Alone {
            return;
        }
        if let Mode::Away { nodes } = mode {
            // Who goes on without the store is not the only one.
            self.seen.count_within(&self.rate, nodes, now);
        }
        if let Some(at) = self.grants.iter().position(|grant| grant.next <= now) {
            let grant = &mut self.grants[at];
            grant.left -= 1;
            grant.next += grant.interval;
            if grant.left == 0 {
                self.grants.remove(at);
            }
            return;
        }
        if let Mode::Away { nodes } = mode {
            self.share.count(&share(&self.rate, nodes), now);
            self.untold += 1;
        }
    }

    /// One that went did not go.
    pub(super) fn give_back(&mut self, mode: Mode, now: Instant) {
        self.own.give_back(&self.rate, 1);
        match mode {
            Mode::Alone => {}
            Mode::Shared => self.put(Grant { next: now, interval: self.rate.interval(), left: 1 }),
            Mode::Away { nodes } => {
                self.share.give_back(&share(&self.rate, nodes), 1);
                self.untold = self.untold.saturating_sub(1);
            }
        }
    }

    /// What is at hand will be used at `when`, together with others.
    pub(super) fn keep(&mut self, when: When, now: Instant) {
        let until = if let When::At(at) = when { at.max(now) } else { now };
        self.keep_until = self.keep_until.max(until + KEEP);
    }

    /// How many times are at hand, now or later.
    pub(super) fn at_hand(&self) -> u64 {
        self.grants.iter().map(|grant| grant.left).sum()
    }

    /// How many are asked for at once: what the node uses in about 200 ms, within its part of the rate.
    #[allow(clippy::cast_sign_loss)] // it is at least 1
    fn batch(&self, manner: &Manner, nodes: u32, now: Instant) -> u64 {
        let second = Duration::from_secs(1).as_nanos() / self.rate.interval().as_nanos().max(1);
        let whole = self.rate.burst.max(u64::try_from(second).unwrap_or(u64::MAX));
        let most = whole as f64 * manner.max_batch_share / f64::from(nodes.max(1));
        // Who has more to send asks for more, until all such nodes are at their part, and so have the same.
        let recent = self.pace.recent(now) * (1 + u64::from(self.starved));
        recent.clamp(1, most.max(1.0) as u64)
    }

    /// Whether it is time to ask: nothing is left for those who wait, or soon nothing will be.
    pub(super) fn is_short(&self, manner: &Manner, nodes: u32, now: Instant) -> bool {
        let (left, batch) = (self.at_hand(), self.batch(manner, nodes, now));
        (self.wanted && left == 0) || (batch >= FEW && left * 2 < batch)
    }

    /// What to ask of the store.
    pub(super) fn ask(&mut self, name: &Arc<str>, manner: &Manner, nodes: u32, now: Instant) -> Option<Ask> {
        if !self.is_short(manner, nodes, now) {
            return None;
        }
        self.asked = true;
        let tokens = self.batch(manner, nodes, now).saturating_sub(self.at_hand()).max(1);
        self.starved = false;
        Some(self.word(name, i64::try_from(tokens).unwrap_or(1), None))
    }

    fn word(&self, name: &Arc<str>, tokens: i64, used: Option<u64>) -> Ask {
        let Rate { burst, .. } = self.rate;
        Ask::Rate { name: name.clone(), interval: self.rate.interval(), burst, tokens, used }
    }

    /// What to give back to the store, as nobody used it.
    pub(super) fn spare(&mut self, name: &Arc<str>, now: Instant) -> Option<Ask> {
        let first = self.grants.first()?.next;
        if now < first.max(self.touched) + KEEP {
            return None;
        }
        // Of what somebody comes back for with the times of other rates, one is enough.
        let keep = u64::from(now < self.keep_until);
        let spare = self.at_hand().checked_sub(keep).filter(|spare| *spare > 0)?;
        self.grants.truncate(usize::from(keep > 0));
        self.grants.iter_mut().for_each(|grant| grant.left = keep);
        self.seen.give_back(&self.rate, spare);
        Some(self.word(name, -i64::try_from(spare).ok()?, None))
    }

    /// The store keeps `granted` times for us, the first in `first` microseconds.
    pub(super) fn answered(&mut self, interval: Duration, granted: u64, first: i64, now: Instant) {
        if granted == 0 {
            return;
        }
        let wait = Duration::from_micros(first.unsigned_abs());
        let next = if first > 0 { now + wait } else { earlier(now, wait) };
        self.seen = Gcra::of_next(&self.rate, next, granted);
        if first > 0 {
            self.full_at = Some(now);
        }
        self.put(Grant { next, interval, left: granted });
        self.touched = now;
    }

    fn put(&mut self, grant: Grant) {
        let at = self.grants.partition_point(|other| other.next <= grant.next);
        self.grants.insert(at, grant);
    }

    /// The store is away: go on with a share.
    pub(super) fn away(&mut self, nodes: u32, place: f64, now: Instant) {
        self.asked = false;
        self.share_from(nodes, place, now);
    }

    /// A share counts from now on, `place` being where the node stands among those that have one. It starts empty; nodes
    /// that begin together do not send at the same moment, and what the store keeps for this node is the first of it.
    pub(super) fn share_from(&mut self, nodes: u32, place: f64, now: Instant) {
        self.sharers = nodes;
        if self.full_at.is_some_and(|at| now < at + KEEP) {
            // Others have been given times since the store was heard of last.
            self.seen.at_least_spent(&self.rate, now);
        }
        let share = share(&self.rate, nodes);
        let interval = share.interval();
        let begun = earlier(now, interval.mul_f64(1.0 - place));
        let at_hand = u32::try_from(self.at_hand()).unwrap_or(u32::MAX);
        self.share = Gcra::spent(&share, begun + interval.saturating_mul(at_hand));
    }

    /// What the store should know: it may have lost what it knew, and nodes that go by their shares may not have told it
    /// yet. So it is told what it said itself the last time, and what others are likely to have used since.
    pub(super) fn back(&mut self, name: &Arc<str>, now: Instant) -> Option<Ask> {
        // More than a burst is used where nodes that wait have times in the future.
        let level = self.seen.backlog(&self.rate, now);
        let own = level.div_ceil(u64::from(self.sharers.max(1)));
        let used = std::mem::take(&mut self.untold).min(own);
        let used = i64::try_from(used).unwrap_or(i64::MAX);
        (level > 0).then(|| self.word(name, used, Some(level)))
    }

    /// Nothing is remembered that matters.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.own.is_idle(now) && self.grants.is_empty() && !self.asked && !self.wanted
    }
}

/// That time, or before it when to look again.
fn soon(when: When, now: Instant) -> When {
    if let When::At(at) = when { When::At(at.min(now + LOOK)) } else { when }
}

/// A node's share of a rate, if `nodes` have it together.
fn share(rate: &Rate, nodes: u32) -> Rate {
    let nodes = nodes.max(1);
    Rate { count: rate.count, period: rate.period.saturating_mul(nodes), burst: (rate.burst / u64::from(nodes)).max(1) }
}
