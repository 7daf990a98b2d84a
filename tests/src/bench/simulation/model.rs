//! The store in memory, with the same meaning as the scripts in Redis, for runs that would take Redis hours. Pure.
//! Floor 1.
//! Always: it says what the scripts say; a test plays the same questions to both.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use egret_shared::limits::words::{SHARDS, shard};
use egret_shared::limits::{Answer, Ask};

use super::store::{Asked, Cost, Life, Told};

/// As the store has it: a node that is not heard of for so long is gone.
const LIFE: u64 = 15_000_000;
/// A node that waits so long for its first place has a right to one.
const TURN: u64 = 10_000_000;
/// Some time that has passed when it begins, so that no time is 0.
const WALL: u64 = 1_700_000_000_000_000;

/// Who lives, in one shard.
#[derive(Default)]
struct Shard {
    until: HashMap<Life, u64>,
    order: BTreeSet<(u64, Life)>,
    epoch: Option<u64>,
}

impl Shard {
    fn lives(&self, life: Life, now: u64) -> bool {
        self.until.get(&life).is_some_and(|until| *until > now)
    }

    fn forget(&mut self, life: Life) {
        if let Some(until) = self.until.remove(&life) {
            self.order.remove(&(until, life));
        }
    }

    fn live(&mut self, life: Life, join: bool, names: &HashMap<Life, String>, now: u64) -> Answer {
        if !join && !self.lives(life, now) {
            return Answer::Unknown;
        }
        while let Some((until, other)) = self.order.first().copied().filter(|(until, _)| *until < now) {
            self.order.remove(&(until, other));
            self.until.remove(&other);
        }
        self.forget(life);
        self.until.insert(life, now + LIFE);
        self.order.insert((now + LIFE, life));
        let epoch = *self.epoch.get_or_insert(now);
        let age = Duration::from_micros(now - epoch);
        let before = || self.until.keys().filter(|other| names.get(other) < names.get(&life)).count();
        let before = join.then(|| u32::try_from(before()).unwrap_or(u32::MAX));
        Answer::Live { nodes: u32::try_from(self.until.len()).unwrap_or(u32::MAX), epoch, age, before }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Its {
    granted: u32,
    want: u32,
    since: u64,
    unseen: u32,
    turn: u64,
}

impl Its {
    fn waits(&self) -> bool {
        self.want > self.granted
    }
}

/// The store in memory.
#[derive(Default)]
pub struct Model {
    shards: [Shard; SHARDS as usize],
    rates: HashMap<Arc<str>, (f64, f64)>,
    counts: HashMap<Arc<str>, Vec<(Life, Its)>>,
    quotas: HashMap<(Arc<str>, u32), i64>,
    names: HashMap<Life, String>,
    nudges: Vec<(Life, Arc<str>)>,
    told: HashMap<u64, Vec<Answer>>,
    sent: u64,
}

impl Model {
    fn ask(&mut self, life: Life, ask: &Ask, now: u64) -> Answer {
        let shard = &mut self.shards[usize::from(ask.shard())];
        match ask {
            Ask::Live { join, .. } => return shard.live(life, *join, &self.names, now),
            Ask::Leave { .. } => {
                shard.forget(life);
                return Answer::Left;
            }
            _ if !shard.lives(life, now) => return Answer::Unknown,
            _ => {}
        }
        match ask {
            Ask::Count { name, turn, limit, keep, want } => self.count(life, name, (*turn, *limit, *keep, *want), now),
            Ask::Rate { name, interval, burst, tokens, used } => {
                let micros = interval.as_nanos() as f64 / 1000.0;
                let state = self.rates.entry(name.clone()).or_insert((0.0, micros));
                rate(state, micros, *burst as f64, *tokens as f64, *used, now as f64)
            }
            Ask::Quota { name, day, most, units } => {
                let used = self.quotas.entry((name.clone(), *day)).or_default();
                let left = i64::try_from(*most).unwrap_or(i64::MAX).saturating_sub(*used);
                let given = if *units > 0 && *most != u64::MAX { (*units).min(left).max(0) } else { *units };
                *used = (*used + given).max(0);
                Answer::Quota { granted: u64::try_from(given).unwrap_or(0) }
            }
            Ask::Live { .. } | Ask::Leave { .. } => Answer::Left,
        }
    }

    fn count(&mut self, me: Life, name: &Arc<str>, asked: (u64, u32, u32, u32), now: u64) -> Answer {
        let (turn, limit, keep, want) = asked;
        let shard = &self.shards[usize::from(shard(name))];
        let nodes = self.counts.entry(name.clone()).or_default();
        nodes.retain(|(life, _)| shard.lives(*life, now));
        let my = nodes.iter().position(|(life, _)| *life == me).unwrap_or_else(|| {
            nodes.push((me, Its::default()));
            nodes.len() - 1
        });
        let queued = told(&mut nodes[my].1, turn, keep, want, now);
        let contenders = nodes.iter().filter(|(_, its)| its.granted > 0 || its.waits()).count();
        let part = limit.div_ceil(u32::try_from(contenders.max(1)).unwrap_or(u32::MAX));
        let mut woken = give(nodes, &self.names, me, (limit, part), now);
        let mine = nodes[my].1;
        let mut longest = now;
        let mut others = false;
        for (_, its) in nodes.iter().filter(|(life, its)| *life != me && its.waits()) {
            others = true;
            if its.granted == 0 {
                longest = longest.min(its.since);
            }
        }
        let mut fair = others.then_some(part);
        if now - longest > TURN {
            fair = fair.map(|fair| fair.min(mine.granted.saturating_sub(1)));
        }
        if queued && mine.waits() {
            woken.extend(nodes.iter().filter(|(life, its)| *life != me && its.granted > part).map(|(life, _)| *life));
        }
        self.nudges.extend(woken.into_iter().map(|life| (life, name.clone())));
        Answer::Count { granted: mine.granted, fair }
    }
}

/// A node says what it keeps and wants; whether it begins to wait by that.
fn told(mine: &mut Its, turn: u64, keep: u32, want: u32, now: u64) -> bool {
    let mut queued = false;
    if turn > mine.turn {
        let mut granted = keep;
        if mine.granted > keep {
            granted = mine.granted.min(keep + mine.unseen).min(want.max(keep));
        }
        if want <= granted {
            mine.since = 0;
        } else if mine.want <= mine.granted || mine.since == 0 || granted < mine.granted {
            (mine.since, queued) = (now, true);
        }
        (mine.granted, mine.want, mine.turn) = (granted, want, turn);
    }
    mine.unseen = 0;
    queued
}

/// Gives free places to those who wait; who was given some that did not ask now.
fn give(
    nodes: &mut [(Life, Its)],
    names: &HashMap<Life, String>,
    me: Life,
    (limit, part): (u32, u32),
    now: u64,
) -> BTreeSet<Life> {
    let mut woken = BTreeSet::new();
    let mut sum: u32 = nodes.iter().map(|(_, its)| its.granted).sum();
    while sum < limit {
        let waits = nodes.iter().filter(|(_, its)| its.waits()).count();
        let order =
            |(life, its): &&mut (Life, Its)| (its.granted >= part, its.since, names.get(life).map(String::as_str));
        let Some((life, first)) = nodes.iter_mut().filter(|(_, its)| its.waits()).min_by_key(order) else { break };
        let given = if waits == 1 { (limit - sum).min(first.want - first.granted) } else { 1 };
        first.granted += given;
        sum += given;
        first.since = now + u64::from(sum);
        if *life != me {
            first.unseen += given;
            woken.insert(*life);
        }
    }
    woken
}

/// As the script does it, in floating point.
#[allow(clippy::cast_sign_loss)] // what is granted is not below 0
fn rate(state: &mut (f64, f64), interval: f64, burst: f64, tokens: f64, used: Option<u64>, now: f64) -> Answer {
    let (mut tat, old) = *state;
    if (old - interval).abs() > 1e-6 && tat > now {
        tat = now + ((tat - now) / old).min(burst) * interval;
    }
    let base = tat.max(now);
    let (mut first, mut granted) = (0.0, 0.0);
    if tokens > 0.0 {
        first = base + interval - burst * interval - now;
        let soon = ((first.max(0.0) + 200_000.0 - first) / interval).floor() + 1.0;
        granted = if used.is_some() { tokens } else { tokens.min(soon) };
        tat = base + granted * interval;
    } else {
        tat = (tat + tokens * interval).max(0.0);
    }
    if let Some(level) = used {
        tat = tat.max(now + level as f64 * interval);
    }
    *state = ((tat * 10.0).round() / 10.0, interval);
    Answer::Rate { granted: granted as u64, first: first.floor() as i64 }
}

impl Asked for Model {
    fn begins(&mut self, life: Life, name: &str) -> anyhow::Result<()> {
        self.names.insert(life, name.to_owned());
        Ok(())
    }

    fn send(&mut self, life: Life, asks: &[Ask], at: u64) -> anyhow::Result<u64> {
        let answers = asks.iter().map(|ask| self.ask(life, ask, WALL + at)).collect();
        self.sent += 1;
        self.told.insert(self.sent, answers);
        Ok(self.sent)
    }

    fn receive(&mut self, ticket: u64, _: &[Ask]) -> anyhow::Result<Told> {
        let answers = self.told.remove(&ticket).unwrap_or_default();
        Ok(Told { answers, nudges: std::mem::take(&mut self.nudges) })
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        (self.shards, self.rates, self.counts, self.quotas) = Default::default();
        Ok(())
    }

    fn cost(&mut self) -> anyhow::Result<Option<Cost>> {
        Ok(None)
    }
}
