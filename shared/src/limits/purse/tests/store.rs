//! The store in memory, with the same meaning as the scripts in Redis.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::words::{Answer, Ask};

#[derive(Clone, Copy, Default)]
struct Its {
    granted: u32,
    want: u32,
    since: u64,
    unseen: u32,
    turn: u64,
}

pub(in super::super) struct FakeStore {
    start: Instant,
    epoch: Option<u64>,
    live: HashMap<(u8, String), u64>,
    rates: HashMap<Arc<str>, (f64, f64)>,
    counts: HashMap<Arc<str>, BTreeMap<String, Its>>,
    quotas: HashMap<(Arc<str>, u32), u64>,
    pub(super) wakes: Vec<(String, Arc<str>)>,
}

impl FakeStore {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start: start.checked_sub(Duration::from_secs(1_000)).expect("the clock of a test starts late"),
            epoch: None,
            live: HashMap::new(),
            rates: HashMap::new(),
            counts: HashMap::new(),
            quotas: HashMap::new(),
            wakes: Vec::new(),
        }
    }

    /// It loses all that it knows.
    pub(super) fn flush(&mut self) {
        *self = Self { start: self.start, ..Self::new(Instant::now()) };
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.start).as_micros()).expect("a short test")
    }

    /// Whether the node is known to live, where `name` lies.
    pub(super) fn lives(&self, node: &str, name: &str, at: Instant) -> bool {
        let me = (crate::limits::words::shard(name), node.to_owned());
        self.live.get(&me).is_some_and(|till| *till > self.micros(at))
    }

    pub(super) fn ask(&mut self, node: &str, ask: &Ask, at: Instant) -> Answer {
        let now = self.micros(at);
        let me = (ask.shard(), node.to_owned());
        let lives = self.live.get(&me).is_some_and(|till| *till > now);
        match ask {
            Ask::Live { shard, join } if *join || lives => {
                self.live.retain(|_, till| *till > now);
                self.live.insert(me, now + 15_000_000);
                let nodes = self.live.keys().filter(|(at, _)| at == shard).count();
                let before = self.live.keys().filter(|(at, other)| at == shard && **other < *node).count();
                let before = join.then(|| u32::try_from(before).expect("few"));
                let (nodes, epoch) = (u32::try_from(nodes).expect("few"), *self.epoch.get_or_insert(now));
                Answer::Live { nodes, epoch, age: Duration::from_micros(now - epoch), before }
            }
            Ask::Leave { .. } => {
                self.live.remove(&me);
                Answer::Left
            }
            _ if !lives => Answer::Unknown,
            Ask::Live { .. } => Answer::Unknown,
            Ask::Rate { name, interval, burst, tokens, used } => {
                let interval = interval.as_nanos() as f64 / 1000.0;
                let (granted, first) = self.rate(name, interval, *burst as f64, *tokens as f64, *used, now);
                Answer::Rate { granted, first }
            }
            Ask::Count { name, turn, limit, keep, want } => self.count(node, name, *turn, *limit, *keep, *want, now),
            Ask::Quota { name, day, most, units } => {
                let used = self.quotas.entry((name.clone(), *day)).or_default();
                if *units < 0 {
                    *used = used.saturating_sub(units.unsigned_abs());
                    return Answer::Quota { granted: 0 };
                }
                let granted = units.unsigned_abs().min(most.saturating_sub(*used));
                *used += granted;
                Answer::Quota { granted }
            }
        }
    }

    #[allow(clippy::cast_sign_loss)] // as the scripts do it, in floating point
    fn rate(
        &mut self,
        name: &Arc<str>,
        interval: f64,
        burst: f64,
        tokens: f64,
        used: Option<u64>,
        now: u64,
    ) -> (u64, i64) {
        let now = now as f64;
        let (mut tat, old) = self.rates.get(name).copied().unwrap_or((0.0, interval));
        if (old - interval).abs() > f64::EPSILON && tat > now {
            tat = now + ((tat - now) / old).min(burst) * interval;
        }
        let base = tat.max(now);
        if tokens < 0.0 {
            self.rates.insert(name.clone(), ((tat + tokens * interval).max(0.0), interval));
            return (0, 0);
        }
        let first = base + interval - burst * interval - now;
        let soon = ((first.max(0.0) + 200_000.0 - first) / interval).floor() + 1.0;
        let granted = if used.is_some() { tokens } else { tokens.min(soon) };
        let level = used.map_or(0.0, |level| now + level as f64 * interval);
        self.rates.insert(name.clone(), ((base + granted * interval).max(level), interval));
        (granted as u64, first.floor() as i64)
    }

    #[allow(clippy::too_many_arguments)]
    fn count(&mut self, me: &str, name: &Arc<str>, turn: u64, limit: u32, keep: u32, want: u32, now: u64) -> Answer {
        let shard = crate::limits::words::shard(name);
        let live = &self.live;
        let lives = |node: &str| live.get(&(shard, node.to_owned())).is_some_and(|till| *till > now);
        let nodes = self.counts.entry(name.clone()).or_default();
        nodes.retain(|node, _| lives(node));
        let its = nodes.entry(me.to_owned()).or_default();
        let mut queued = false;
        if turn > its.turn {
            let seen = keep + its.unseen;
            let granted = if its.granted > keep { its.granted.min(seen).min(want.max(keep)) } else { keep };
            if want <= granted {
                its.since = 0;
            } else if its.want <= its.granted || its.since == 0 || granted < its.granted {
                (its.since, queued) = (now, true);
            }
            (its.granted, its.want, its.turn) = (granted, want, turn);
        }
        its.unseen = 0;
        let contenders = nodes.values().filter(|its| its.granted > 0 || its.want > its.granted).count();
        let contenders = u32::try_from(contenders).expect("few");
        let part = limit.div_ceil(contenders.max(1));
        let mut sum: u32 = nodes.values().map(|its| its.granted).sum();
        while sum < limit {
            let waiting = nodes.iter_mut().filter(|(_, its)| its.want > its.granted);
            let order = |(node, its): &(&String, &mut Its)| (its.granted >= part, its.since, (*node).clone());
            let Some((node, first)) = waiting.min_by_key(order) else { break };
            first.granted += 1;
            sum += 1;
            first.since = now + u64::from(sum);
            if node != me {
                first.unseen += 1;
                self.wakes.push((node.clone(), name.clone()));
            }
        }
        let others = || nodes.iter().filter(|(node, its)| *node != me && its.want > its.granted);
        let mine = nodes[me];
        let mut fair = others().next().map(|_| part);
        if others().any(|(_, its)| its.granted == 0 && now - its.since.min(now) > 10_000_000) {
            fair = fair.map(|fair| fair.min(mine.granted.saturating_sub(1)));
        }
        if queued && mine.want > mine.granted {
            let rich = nodes.iter().filter(|(node, its)| *node != me && its.granted > part);
            self.wakes.extend(rich.map(|(node, _)| (node.clone(), name.clone())));
        }
        Answer::Count { granted: mine.granted, fair }
    }
}
