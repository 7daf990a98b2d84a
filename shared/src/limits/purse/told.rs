//! What passes between a purse and the store: questions out, answers in, and silence.
//! Pure. Floor 1.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::words::{Answer, Ask, shard};
use super::{Key, Mode, Purse, RateAccount, Standing};

/// A shard in which nothing was asked for so long is left.
const LEAVE_AFTER: Duration = Duration::from_secs(120);
/// So long after the store was away, or lost what it knew, it may not yet know what other nodes hold: who looks for it does
/// so every two seconds at the latest, and a busy machine takes its time.
const QUIET: Duration = Duration::from_secs(4);
/// When the store is away, who has more places than a share gives up the rest, and nodes notice at different times: so long
/// nobody takes more than the store had granted.
const STILL: Duration = Duration::from_millis(500);
/// So long a node takes for granted where it stands among the others, if they are as many as before.
const PLACED_FOR: Duration = Duration::from_secs(60);

impl Purse {
    /// What to ask of the store now. Each question must come back by [`Purse::answered`] or [`Purse::lost`].
    pub fn asks(&mut self, now: Instant) -> Vec<Ask> {
        if self.mode != Mode::Shared {
            return Vec::new();
        }
        let mut asks = Vec::new();
        for ask in std::mem::take(&mut self.ready) {
            if matches!(ask, Ask::Live { .. } | Ask::Leave { .. }) || self.may_ask(ask.shard(), &mut asks, now) {
                asks.push(ask);
            } else {
                self.ready.push(ask);
            }
        }
        for key in std::mem::take(&mut self.due) {
            let (Key::Rate(name) | Key::Count(name) | Key::Quota(name, _)) = &key;
            if self.may_ask(shard(name), &mut asks, now) {
                asks.extend(self.ask(&key, now));
            } else {
                self.due.push(key);
            }
        }
        asks
    }

    /// Whether the shard knows this node; if not, it is told.
    fn may_ask(&mut self, shard: u8, asks: &mut Vec<Ask>, now: Instant) -> bool {
        let state = &mut self.shards[usize::from(shard)];
        state.used = Some(now);
        if state.standing == Standing::Stranger {
            if shard != 0 && self.shards[0].standing == Standing::Joined {
                // In a shard that is new to this node it does not see that the store has just lost what others hold there.
                self.join(0, asks);
            }
            self.join(shard, asks);
        }
        self.shards[usize::from(shard)].standing == Standing::Joined
    }

    fn join(&mut self, shard: u8, asks: &mut Vec<Ask>) {
        self.shards[usize::from(shard)].standing = Standing::Joining;
        asks.push(Ask::Live { shard, join: true });
    }

    fn ask(&mut self, key: &Key, now: Instant) -> Option<Ask> {
        let (nodes, quiet) = (self.nodes(), self.quiet(now).is_some());
        match key {
            Key::Rate(name) => {
                let account = self.rates.accounts.get_mut(name)?;
                account.due = false;
                if quiet { account.back(name, now) } else { account.ask(name, &self.manner, nodes, now) }
            }
            Key::Count(name) => {
                let account = self.counts.accounts.get_mut(name)?;
                account.due = false;
                self.turn += 1;
                account.ask(name, self.turn, quiet, now)
            }
            Key::Quota(name, day) => {
                let account = self.quotas.accounts.get_mut(&(name.clone(), *day))?;
                account.due = false;
                account.ask(name, *day, now)
            }
        }
    }

    /// The store's answer to a question.
    pub fn answered(&mut self, ask: &Ask, answer: &Answer, now: Instant) {
        match (ask, answer) {
            (_, Answer::Unknown) => {
                let state = &mut self.shards[usize::from(ask.shard())];
                if state.standing == Standing::Joined {
                    state.standing = Standing::Joining;
                    self.ready.push(Ask::Live { shard: ask.shard(), join: true });
                }
                self.unanswered(ask, now);
            }
            (Ask::Live { shard, join }, Answer::Live { nodes, epoch, age, before: first }) => {
                let before = self.nodes();
                let state = &mut self.shards[usize::from(*shard)];
                if *shard == 0 && state.nodes != *nodes {
                    self.placed_at = None;
                }
                if let Some(first) = first.filter(|_| *shard == 0) {
                    self.placed_at = Some(now);
                    self.manner.place = (f64::from(first) + 0.5) / f64::from(*nodes).max(1.0);
                }
                state.nodes = *nodes;
                let lost = state.epoch.is_some_and(|known| known != *epoch);
                state.epoch = Some(*epoch);
                if *join && (state.standing == Standing::Joining || (lost && state.standing == Standing::Joined)) {
                    state.standing = Standing::Joined;
                    // If that was a while ago, the others have told what they hold, and this node had left the shard
                    // before: then nobody is to be waited for.
                    let rest = QUIET.saturating_sub(*age);
                    if lost && !rest.is_zero() {
                        self.is_quiet_for(rest, before, now);
                    }
                    self.joined(*shard, lost, now);
                }
            }
            (Ask::Rate { name, interval, tokens, used: None, .. }, Answer::Rate { granted, first }) => {
                let Some(account) = self.rates.accounts.get_mut(name) else { return };
                account.answered(*interval, *granted, *first, now);
                if *tokens > 0 {
                    account.asked = false;
                    if std::mem::take(&mut account.wanted) {
                        self.woken.insert(name.clone());
                    }
                    self.rates.is_active(name);
                }
            }
            (Ask::Count { name, .. }, Answer::Count { granted, fair }) => {
                let Some(account) = self.counts.accounts.get_mut(name) else { return };
                account.asked = false;
                if account.answered(*granted, *fair, now) {
                    self.woken.insert(name.clone());
                }
                self.count_is_due(name, now);
            }
            (Ask::Quota { name, day, most, units }, Answer::Quota { granted }) if *most != u64::MAX => {
                let key = (name.clone(), *day);
                let Some(account) = self.quotas.accounts.get_mut(&key) else { return };
                account.answered(*granted, *units, now);
                if *units > 0 {
                    account.asked = false;
                    if std::mem::take(&mut account.wanted) {
                        self.woken.insert(name.clone());
                    }
                    self.quotas.is_active(&key);
                }
            }
            _ => {}
        }
    }

    /// The store lost what it knew, and others may still be telling it theirs. That ends for all nodes at the same time,
    /// so that none asks for a part of the whole while others go on by their shares.
    fn is_quiet_for(&mut self, rest: Duration, nodes: u32, now: Instant) {
        match &mut self.quiet {
            Some((until, _)) if *until > now => *until = (*until).min(now + rest),
            quiet => {
                *quiet = Some((now + rest, nodes));
                // Nodes notice it within a second, and what each of them holds is all that is known of places.
                self.still_until = Some(now + rest);
                for (name, account) in &mut self.rates.accounts {
                    account.share_from(nodes, self.manner.place, now);
                    // What it waits for is not asked for while all go by their shares.
                    if std::mem::take(&mut account.wanted) {
                        self.woken.insert(name.clone());
                    }
                }
            }
        }
    }

    /// No answer came, and none will: what the store has done is not known.
    pub fn lost(&mut self, ask: &Ask, now: Instant) {
        self.unanswered(ask, now);
    }

    /// Asks again, if it still matters.
    fn unanswered(&mut self, ask: &Ask, now: Instant) {
        match ask {
            Ask::Live { join: true, .. } | Ask::Rate { used: Some(_), .. } | Ask::Quota { most: u64::MAX, .. } => {
                self.ready.push(ask.clone());
            }
            Ask::Rate { name, tokens, .. } if *tokens > 0 => {
                if let Some(account) = self.rates.accounts.get_mut(name) {
                    account.asked = false;
                    self.rate_is_due(name, now);
                }
            }
            Ask::Count { name, .. } => {
                if let Some(account) = self.counts.accounts.get_mut(name) {
                    account.lost();
                    self.count_is_due(name, now);
                }
            }
            Ask::Quota { name, day, units, .. } if *units > 0 => {
                if let Some(account) = self.quotas.accounts.get_mut(&(name.clone(), *day)) {
                    account.asked = false;
                    account.due = true;
                    self.due.push(Key::Quota(name.clone(), *day));
                }
            }
            _ => {}
        }
    }

    /// The shard knows this node, but not what it holds; `lost` if it knows nothing of what was used, either.
    fn joined(&mut self, at: u8, lost: bool, now: Instant) {
        let quiet = self.quiet(now).is_some();
        for (name, account) in self.counts.accounts.iter_mut().filter(|(name, _)| shard(name) == at) {
            account.nudge();
            if account.is_due(quiet, now) && !account.asked && !account.due {
                account.due = true;
                self.due.push(Key::Count(name.clone()));
            }
        }
        let rates = self.rates.accounts.iter_mut().filter(|(name, _)| shard(name) == at);
        self.ready.extend(rates.filter_map(|(name, account)| account.back(name, now)));
        let quotas = self.quotas.accounts.iter_mut().filter(|((name, _), _)| shard(name) == at);
        self.ready.extend(quotas.filter_map(|((name, day), account)| account.back(name, *day, lost)));
    }

    /// Once a second: says that the node lives, gives back what nobody used, asks again what may have been missed.
    pub fn tick(&mut self, now: Instant) {
        if self.mode != Mode::Shared {
            return;
        }
        let mut asks: Vec<Ask> = Vec::new();
        // One shard is used by all nodes, also by those that have no limits yet: so each knows how many there are.
        self.may_ask(0, &mut asks, now);
        self.rates.each_active(|name, account| {
            asks.extend(account.spare(name, now));
            account.at_hand() > 0
        });
        self.quotas.each_active(|(name, day), account| {
            asks.extend(account.spare(name, *day, now));
            account.at_hand() > 0
        });
        let quiet = self.quiet(now).is_some();
        if self.quiet.is_some() {
            // What went by the share is told as it is used: who goes on by the store's word must know of it.
            let used = |(name, account): (&Arc<str>, &mut RateAccount)| account.back(name, now);
            asks.extend(self.rates.accounts.iter_mut().filter_map(used));
        }
        if !quiet {
            self.quiet = None;
        }
        self.counts.each_active(|name, account| {
            if !account.asked && !account.due && account.is_due(quiet, now) {
                account.due = true;
                self.due.push(Key::Count(name.clone()));
            }
            if !account.is_idle() {
                self.shards[usize::from(shard(name))].used = Some(now);
            }
            !account.is_idle()
        });
        for (at, state) in (0u8..).zip(&mut self.shards).filter(|(_, state)| state.standing == Standing::Joined) {
            if state.used.is_none_or(|used| now > used + LEAVE_AFTER) {
                state.standing = Standing::Stranger;
                asks.push(Ask::Leave { shard: at });
            } else {
                // Where it stands among the others may have changed.
                let is_placed = self.placed_at.is_some_and(|placed| now < placed + PLACED_FOR);
                asks.push(Ask::Live { shard: at, join: at == 0 && !is_placed });
            }
        }
        self.ready.extend(asks);
    }

    /// Nothing was heard of the store for a while: asks whether it is there.
    pub fn listen(&mut self) {
        if self.mode == Mode::Shared && self.shards[0].standing == Standing::Joined {
            self.ready.push(Ask::Live { shard: 0, join: false });
        }
    }

    /// There may be room in a count for which this node waits, or others wait for what it holds.
    pub fn nudge(&mut self, name: &str, now: Instant) {
        let Some((name, _)) = self.counts.accounts.get_key_value(name) else { return };
        let name = name.clone();
        if let Some(account) = self.counts.accounts.get_mut(&name) {
            account.nudge();
        }
        self.count_is_due(&name, now);
    }

    /// Whether the store has said all that it has to say about a name.
    pub fn is_settled(&self, name: &str) -> bool {
        let rate = self.rates.accounts.get(name).is_some_and(|account| account.asked || account.due);
        let count = self.counts.accounts.get(name).is_some_and(|account| account.asked || account.due);
        self.mode != Mode::Shared || !(rate || count)
    }

    /// Nobody here waits for a place any more.
    pub fn wait_no_more(&mut self, name: &Arc<str>) {
        let Some(account) = self.counts.accounts.get_mut(name) else { return };
        account.waiting = false;
        if self.mode == Mode::Shared && !account.asked && !account.due {
            account.due = true;
            self.due.push(Key::Count(name.clone()));
        }
    }

    /// The store does not answer: from now on each node goes on with its share. Questions that are out were given
    /// to [`Purse::lost`] before.
    pub fn away(&mut self, now: Instant) {
        if self.mode != Mode::Shared {
            return;
        }
        let nodes = self.nodes();
        self.mode = Mode::Away { nodes };
        (self.away_since, self.still_until) = (Some(now), Some(now + STILL));
        self.shards.iter_mut().for_each(|shard| shard.standing = Standing::Stranger);
        self.due.clear();
        self.ready.retain(|ask| matches!(ask, Ask::Rate { used: Some(_), .. } | Ask::Quota { most: u64::MAX, .. }));
        for (name, account) in &mut self.rates.accounts {
            account.due = false;
            account.away(nodes, self.manner.place, now);
            if std::mem::take(&mut account.wanted) {
                self.woken.insert(name.clone());
            }
        }
        for (name, account) in &mut self.counts.accounts {
            account.due = false;
            if account.away(nodes, self.manner.place, now) {
                self.woken.insert(name.clone());
            }
        }
        for ((name, _), account) in &mut self.quotas.accounts {
            (account.due, account.asked) = (false, false);
            if std::mem::take(&mut account.wanted) {
                self.woken.insert(name.clone());
            }
        }
    }

    /// The store answers again: what is held and what was used meanwhile is told to it first.
    pub fn back(&mut self, now: Instant) {
        let Mode::Away { nodes } = self.mode else { return };
        self.mode = Mode::Shared;
        self.quiet = Some((now + QUIET, nodes));
        let mut wake: Vec<Arc<str>> = Vec::new();
        for (name, account) in &mut self.counts.accounts {
            (account.due, account.asked) = (true, false);
            self.due.push(Key::Count(name.clone()));
        }
        for (name, account) in &mut self.rates.accounts {
            account.due = true;
            self.due.push(Key::Rate(name.clone()));
            wake.push(name.clone());
        }
        for ((name, day), account) in &mut self.quotas.accounts {
            account.due = true;
            self.due.push(Key::Quota(name.clone(), *day));
        }
        self.woken.extend(wake);
    }

    /// Leaves every shard: the program ends, and what it held is free at once.
    pub fn leave(&mut self) -> Vec<Ask> {
        let joined = (0u8..).zip(&mut self.shards).filter(|(_, shard)| shard.standing == Standing::Joined);
        joined
            .map(|(at, shard)| {
                shard.standing = Standing::Stranger;
                Ask::Leave { shard: at }
            })
            .collect()
    }
}
