//! What one node has of the fleet's limits: places, times of rates, parts of quotas. Decides at once from what is at
//! hand, and says what to ask of the store.
//! Pure. Floor 1. Knows no clock, no socket and no store: time and answers are handed in, questions are given out.
//! Always: what is taken is taken whole or not at all; nothing is used that the store has not granted, except the
//! node's share while the store is away.

mod book;
mod count;
mod pace;
mod parts;
mod quota;
mod rate;
mod told;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::words::{Ask, Manner, Refusal, SHARDS, UsedQuota, When};
use super::{Count, Throttle};
use book::Book;
use count::CountAccount;
pub use parts::Parts;
use quota::QuotaAccount;
use rate::RateAccount;

/// Who waits for a share looks again so soon: the store may be back, and the wait by the whole limit much shorter.
const LOOK: Duration = Duration::from_secs(10);

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// This node, for itself.
    Alone,
    /// The store, for all nodes.
    Shared,
    /// Each node within its share, until the store is there again.
    Away {
        /// The number of nodes that share.
        nodes: u32,
    },
}

/// An account that the store is to be asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Rate(Arc<str>),
    Count(Arc<str>),
    Quota(Arc<str>, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Stranger,
    Joining,
    Joined,
}

/// What the node knows of one shard of the store.
#[derive(Clone, Copy, Debug)]
struct Shard {
    standing: Standing,
    epoch: Option<u64>,
    nodes: u32,
    used: Option<Instant>,
}

/// One node's accounts.
#[derive(Debug)]
pub struct Purse {
    mode: Mode,
    manner: Manner,
    rates: Book<Arc<str>, RateAccount>,
    counts: Book<Arc<str>, CountAccount>,
    quotas: Book<(Arc<str>, u32), QuotaAccount>,
    /// Those that each node keeps for itself.
    own_rates: Book<Arc<str>, RateAccount>,
    own_counts: Book<Arc<str>, CountAccount>,
    shards: [Shard; SHARDS as usize],
    due: Vec<Key>,
    /// Questions that are ready as they are.
    ready: Vec<Ask>,
    woken: HashSet<Arc<str>>,
    turn: u64,
    /// Until then other nodes may still be telling the store what they hold: places go by shares among so many.
    quiet: Option<(Instant, u32)>,
    /// Until then nobody takes a place that the store had not granted: others may have it.
    still_until: Option<Instant>,
    /// When it was told where it stands among the others, if they are as many as then.
    placed_at: Option<Instant>,
    /// When the store was last found to be away.
    away_since: Option<Instant>,
    /// The latest time that was handed in.
    latest: Option<Instant>,
}

impl Purse {
    /// Of a node that is alone.
    pub fn alone() -> Self {
        Self::new(Mode::Alone, Manner::default())
    }

    /// Of one node of a fleet.
    pub fn shared(manner: Manner) -> Self {
        Self::new(Mode::Shared, manner)
    }

    fn new(mode: Mode, manner: Manner) -> Self {
        let shard = Shard { standing: Standing::Stranger, epoch: None, nodes: 0, used: None };
        Self {
            mode,
            manner,
            rates: Book::new(),
            counts: Book::new(),
            quotas: Book::new(),
            own_rates: Book::new(),
            own_counts: Book::new(),
            shards: [shard; SHARDS as usize],
            due: Vec::new(),
            ready: Vec::new(),
            woken: HashSet::new(),
            turn: 0,
            quiet: None,
            still_until: None,
            placed_at: None,
            away_since: None,
            latest: None,
        }
    }

    /// Who decides now.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How many nodes there are, as far as is known.
    pub fn nodes(&self) -> u32 {
        let known = self.shards.iter().map(|shard| shard.nodes).max().unwrap_or(0);
        if known == 0 { self.manner.nodes.max(1) } else { known }
    }

    fn mode_of(&self, local: bool) -> Mode {
        if local { Mode::Alone } else { self.mode }
    }

    /// Who decides now about what is this node's own, or the fleet's.
    fn mode_at(&self, local: bool, now: Instant) -> Mode {
        match (self.mode_of(local), self.quiet(now)) {
            (Mode::Shared, Some(nodes)) => Mode::Away { nodes },
            (mode, _) => mode,
        }
    }

    fn rate(&mut self, name: &Arc<str>, throttle: &Throttle, now: Instant) -> (Mode, &mut RateAccount) {
        let (mode, place) = (self.mode_at(throttle.local, now), self.manner.place);
        self.time_passes(now);
        let book = if throttle.local { &mut self.own_rates } else { &mut self.rates };
        if !book.accounts.contains_key(name) {
            book.make_room(|account| account.is_idle(now));
            book.accounts.insert(name.clone(), RateAccount::new(throttle.rate, mode, place, now));
        }
        let account = book.accounts.get_mut(name).expect("it was put in above");
        account.is_now(throttle.rate, mode, now);
        (mode, account)
    }

    /// Takes one from each throttle, all or none.
    ///
    /// # Errors
    /// The one that lets nothing through for the longest time; then nothing was taken.
    pub fn take(&mut self, throttles: &[(Arc<str>, Throttle)], now: Instant) -> Result<(), Refusal> {
        let mut refusal = None;
        for (name, throttle) in throttles {
            let (mode, account) = self.rate(name, throttle, now);
            let Err(when) = account.may(mode, now) else { continue };
            account.wanted |= when == When::Woken;
            account.starved = true;
            if mode == Mode::Shared {
                self.rate_is_due(name, now);
            }
            refusal = later(refusal, name, when);
        }
        if let Some(refusal) = refusal {
            for (name, throttle) in throttles {
                self.rate(name, throttle, now).1.keep(refusal.when, now);
            }
            return Err(refusal);
        }
        for (name, throttle) in throttles {
            self.spend(name, throttle, now);
        }
        Ok(())
    }

    /// One goes by a throttle that lets it through.
    fn spend(&mut self, name: &Arc<str>, throttle: &Throttle, now: Instant) {
        let (mode, account) = self.rate(name, throttle, now);
        account.take(mode, now);
        if mode == Mode::Shared {
            self.rate_is_due(name, now);
        } else if self.mode == Mode::Shared && !throttle.local {
            // It went by the share, and the store must hear of it soon.
            self.rate_is_told(name);
        }
    }

    /// Gives back one that was taken and not used.
    pub fn give_back(&mut self, throttles: &[(Arc<str>, Throttle)], now: Instant) {
        for (name, throttle) in throttles {
            let (mode, account) = self.rate(name, throttle, now);
            account.give_back(mode, now);
            if mode == Mode::Shared {
                self.rates.is_active(name);
            }
        }
    }

    /// The number of nodes among which places and rates go by shares, while not all of them are known to have told theirs.
    fn quiet(&self, now: Instant) -> Option<u32> {
        self.quiet.filter(|(until, _)| now < *until).map(|(_, nodes)| nodes)
    }

    /// Until when places stay where they are, if they do.
    fn still(&self, now: Instant) -> Option<Instant> {
        self.still_until.filter(|until| now < *until)
    }

    /// So late is it now. Who has a place may ask for nothing else, and its turn ends all the same.
    pub fn time_passes(&mut self, now: Instant) {
        self.latest = self.latest.max(Some(now));
    }

    /// Among how many nodes all goes by shares, if the store is away.
    fn sharers(&self) -> Option<u32> {
        if let Mode::Away { nodes } = self.mode { Some(nodes) } else { None }
    }

    fn count(&mut self, name: &Arc<str>, count: Count, now: Instant) -> (Mode, &mut CountAccount) {
        let mode = self.mode_at(count.local, now);
        self.time_passes(now);
        let book = if count.local { &mut self.own_counts } else { &mut self.counts };
        if !book.accounts.contains_key(name) {
            book.make_room(CountAccount::is_idle);
            let turns = (self.manner.place, self.away_since.unwrap_or(now));
            book.accounts.insert(name.clone(), CountAccount::new(count.count, turns, now));
        }
        if !count.local {
            book.is_active(name);
        }
        let account = book.accounts.get_mut(name).expect("it was put in above");
        account.limit = count.count;
        (mode, account)
    }

    /// Takes a place in each count, all or none. Each is to be given back by [`Purse::release`].
    ///
    /// # Errors
    /// One that has no place; then nothing was taken, and it is woken when there is one.
    pub fn hold(&mut self, counts: &[(Arc<str>, Count)], now: Instant) -> Result<(), Refusal> {
        let (mut refusal, still) = (None, self.still(now));
        for (name, count) in counts {
            let (mode, account) = self.count(name, *count, now);
            let Err(when) = account.may(mode, still, now) else { continue };
            account.waiting = true;
            if !count.local {
                self.count_is_due(name, now);
            }
            refusal = later(refusal, name, when);
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        for (name, count) in counts {
            self.occupy(name, *count, now);
        }
        Ok(())
    }

    /// A free place is taken.
    fn occupy(&mut self, name: &Arc<str>, count: Count, now: Instant) {
        self.count(name, count, now).1.take(now);
        if !count.local && self.quiet.is_some() {
            self.count_is_due(name, now);
        }
    }

    /// A place is free again.
    pub fn release(&mut self, name: &Arc<str>, local: bool) {
        let (mode, sharers) = (self.mode_of(local), self.sharers());
        let book = if local { &mut self.own_counts } else { &mut self.counts };
        let Some((account, now)) = book.accounts.get_mut(name).zip(self.latest) else { return };
        let wakes = account.release(mode, self.quiet.is_some(), now);
        if wakes || (!local && sharers.is_some() && account.yields(sharers, now)) {
            self.woken.insert(name.clone());
        }
        if mode == Mode::Shared && !account.asked && !account.due {
            account.due = true;
            self.due.push(Key::Count(name.clone()));
        }
    }

    /// Whether this node should give up a place of that name: others wait longer, or it has more than its share while the
    /// store is away.
    pub fn yields(&self, name: &str) -> bool {
        let sharers = self.sharers();
        let account = self.counts.accounts.get(name).zip(self.latest);
        account.is_some_and(|(account, now)| account.yields(sharers, now))
    }

    /// Takes one of the quota of a day.
    ///
    /// # Errors
    /// It is used up, or the store must be asked first.
    pub fn take_quota(&mut self, name: &Arc<str>, day: u32, most: u64, now: Instant) -> Result<(), Refusal> {
        let key = (name.clone(), day);
        if !self.quotas.accounts.contains_key(&key) {
            self.quotas.make_room(|account| account.is_idle(now));
        }
        let account = self.quotas.accounts.entry(key).or_insert_with(|| QuotaAccount::new(most, now));
        account.is_now(most);
        let taken = account.take(self.mode, now).map_err(|when| Refusal { name: name.clone(), when });
        if self.mode == Mode::Shared && !account.asked && !account.due {
            account.due = true;
            self.due.push(Key::Quota(name.clone(), day));
        }
        taken
    }

    /// Gives back one of the quota of a day that was taken and not used.
    pub fn give_back_quota(&mut self, name: &Arc<str>, day: u32, now: Instant) {
        let mode = self.mode;
        let key = (name.clone(), day);
        if let Some(account) = self.quotas.accounts.get_mut(&key) {
            account.give_back(mode, now);
            self.quotas.is_active(&key);
        }
    }

    /// What this node has used of quotas, of that day and later ones.
    pub fn quotas_used(&self, since: u32) -> Vec<UsedQuota> {
        let recent = self.quotas.accounts.iter().filter(|((_, day), account)| *day >= since && account.used() > 0);
        recent.map(|((name, day), account)| UsedQuota { name: name.clone(), day: *day, used: account.used() }).collect()
    }

    /// An earlier run of this node has used that much of a quota.
    pub fn remember_quota(&mut self, quota: &UsedQuota, now: Instant) {
        let key = (quota.name.clone(), quota.day);
        // How much it is will be said by who takes of it.
        self.quotas.accounts.entry(key).or_insert_with(|| QuotaAccount::new(0, now)).remember(quota.used);
    }

    /// Whether the store is to be asked something.
    pub fn has_asks(&self) -> bool {
        self.mode == Mode::Shared && !(self.due.is_empty() && self.ready.is_empty())
    }

    /// The names of limits of which something changed for somebody who was refused.
    pub fn woken(&mut self) -> Vec<Arc<str>> {
        self.woken.drain().collect()
    }

    /// How many such names there are.
    pub fn woken_count(&self) -> usize {
        self.woken.len()
    }

    fn rate_is_due(&mut self, name: &Arc<str>, now: Instant) {
        let nodes = self.nodes();
        let Some(account) = self.rates.accounts.get_mut(name) else { return };
        if !account.asked && !account.due && account.is_short(&self.manner, nodes, now) {
            account.due = true;
            self.due.push(Key::Rate(name.clone()));
        }
    }

    fn rate_is_told(&mut self, name: &Arc<str>) {
        let Some(account) = self.rates.accounts.get_mut(name) else { return };
        if !account.due {
            account.due = true;
            self.due.push(Key::Rate(name.clone()));
        }
    }

    fn count_is_due(&mut self, name: &Arc<str>, now: Instant) {
        let quiet = self.quiet(now).is_some();
        let Some(account) = self.counts.accounts.get_mut(name) else { return };
        if self.mode == Mode::Shared && !account.asked && !account.due && account.is_due(quiet, now) {
            account.due = true;
            self.due.push(Key::Count(name.clone()));
        }
    }
}

/// Of two refusals the one that lasts longer.
fn later(refusal: Option<Refusal>, name: &Arc<str>, when: When) -> Option<Refusal> {
    let longer = match (&refusal, when) {
        (None, _) | (Some(Refusal { when: When::At(_), .. }), When::Woken) => true,
        (Some(Refusal { when: When::At(before), .. }), When::At(at)) => at > *before,
        (Some(Refusal { when: When::Woken, .. }), _) => false,
    };
    if longer { Some(Refusal { name: name.clone(), when }) } else { refusal }
}

/// That much before a time, or as much of it as the clock can tell.
fn earlier(now: Instant, span: Duration) -> Instant {
    now.checked_sub(span).unwrap_or(now)
}
