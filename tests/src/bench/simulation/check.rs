//! What the destinations would see, against the limits: the reference is naive, it looks at what was sent and held in
//! all, and at nothing else. Pure. Floor 2.
//! Always: each limit is looked at, all the time; what faults excuse is counted apart.

use std::collections::VecDeque;

use egret_shared::limits::Rate;

use super::SECOND;
use super::world::Limit;

/// The windows that are looked at, in seconds.
pub const WINDOWS: [u64; 3] = [1, 5, 30];

/// What came of one limit.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Most places held beyond the limit, or most messages beyond rate and burst in any window, in calm times.
    pub beyond: f64,
    /// The same within the times that faults excuse, by the fault that began last.
    pub beyond_in_faults: Vec<(&'static str, f64)>,
    /// When it was the most in calm times, in microseconds.
    pub when: u64,
    /// Most in each of the windows, in calm times.
    pub windows: [usize; 3],
    /// Messages of each node in calm times.
    pub by_node: Vec<u64>,
    /// When each node sent its last message, in microseconds.
    last: Vec<u64>,
    /// The longest that a node had no message in calm times, in microseconds, which node, and when that ended.
    pub longest: (u64, usize, u64),
    /// What was used in calm times: messages, or places times microseconds.
    pub used: f64,
}

struct Window {
    times: VecDeque<u64>,
    width: u64,
}

/// One limit under watch.
struct Watch {
    /// A rate by microseconds, or 0.
    per_micro: f64,
    /// The burst, or how many places.
    most: f64,
    /// What is held; or how much of the burst is used.
    level: f64,
    at: u64,
    /// Saturated limits are watched more closely.
    windows: Option<[Window; 3]>,
    seen: Seen,
}

/// Watches all limits.
#[derive(Default)]
pub struct Check {
    watches: Vec<Watch>,
    /// Faults excuse until then.
    excused_until: u64,
    /// The fault that began last.
    fault: &'static str,
    /// The time that was excused up to now.
    excused: u64,
    nodes: usize,
}

impl Check {
    /// Of a fleet of so many nodes, later ones included.
    pub fn new(nodes: usize) -> Self {
        Self { nodes, ..Self::default() }
    }

    /// Watches limits that are new.
    pub fn learn(&mut self, limits: &[Limit]) {
        for limit in &limits[self.watches.len()..] {
            let (per_micro, most) = match limit {
                Limit::Count(_, count) => (0.0, f64::from(*count)),
                Limit::Rate(_, Rate { burst, .. }) => (per_micro(limit), *burst as f64),
            };
            let seen = Seen::default();
            self.watches.push(Watch { per_micro, most, level: 0.0, at: 0, windows: None, seen });
        }
    }

    /// Watches a limit more closely.
    pub fn is_saturated(&mut self, id: usize) {
        let watch = &mut self.watches[id];
        watch.windows = Some(WINDOWS.map(|seconds| Window { times: VecDeque::new(), width: seconds * SECOND }));
        watch.seen.by_node = vec![0; self.nodes];
        watch.seen.last = vec![0; self.nodes];
    }

    /// A fault excuses from now on, for so long.
    pub fn excuse(&mut self, fault: &'static str, now: u64, span: u64) {
        self.fault = fault;
        if now >= self.excused_until {
            // What was held until now counts as calm.
            let until = self.excused_until;
            let watched = self.watches.iter_mut().filter(|watch| watch.windows.is_some());
            watched.for_each(|watch| watch.settle_from(until, now));
            self.excused += span;
        } else {
            self.excused += (now + span).saturating_sub(self.excused_until);
        }
        self.excused_until = self.excused_until.max(now + span);
    }

    /// What excuses what is seen now.
    fn fault_at(&self, now: u64) -> Option<&'static str> {
        (now < self.excused_until).then_some(self.fault)
    }

    /// The calm time up to `now`.
    pub fn calm(&self, now: u64) -> u64 {
        now - self.excused.min(now)
    }

    /// A place is taken.
    pub fn held(&mut self, id: usize, now: u64) {
        let excuse = self.fault_at(now);
        let watch = &mut self.watches[id];
        watch.settle_from(self.excused_until, now);
        watch.level += 1.0;
        watch.judge(excuse, now);
    }

    /// A place is free.
    pub fn freed(&mut self, id: usize, now: u64) {
        let watch = &mut self.watches[id];
        watch.settle_from(self.excused_until, now);
        watch.level -= 1.0;
    }

    /// A message goes.
    pub fn sent(&mut self, id: usize, node: usize, now: u64) {
        let (excuse, calm_since) = (self.fault_at(now), self.excused_until);
        let watch = &mut self.watches[id];
        if excuse.is_none() && watch.at < self.excused_until {
            // What faults excused is not held against what comes after them.
            watch.level = watch.level.min(watch.most);
        }
        watch.level = (watch.level - (now - watch.at) as f64 * watch.per_micro).max(0.0) + 1.0;
        watch.at = now;
        watch.judge(excuse, now);
        watch.count(node, excuse.is_some(), calm_since, now);
    }

    /// A node sends a message under places that are watched.
    pub fn sent_under(&mut self, id: usize, node: usize, now: u64) {
        let (calm_since, seen) = (self.excused_until, &mut self.watches[id].seen);
        if now >= calm_since && !seen.by_node.is_empty() {
            seen.has_sent(node, calm_since, now);
        }
    }

    /// The end: what is held is counted until now.
    pub fn end(&mut self, now: u64) {
        let until = self.excused_until;
        self.watches.iter_mut().filter(|watch| watch.per_micro == 0.0).for_each(|watch| watch.settle_from(until, now));
    }

    /// What came of a limit.
    pub fn seen(&self, id: usize) -> &Seen {
        &self.watches[id].seen
    }

    /// The limit of counts, or of rates, that went the farthest beyond in calm times.
    pub fn worst(&self, is_count: bool) -> Option<(usize, &Seen)> {
        let kind = self.watches.iter().enumerate().filter(|(_, watch)| (watch.per_micro == 0.0) == is_count);
        kind.map(|(id, watch)| (id, &watch.seen)).max_by(|a, b| a.1.beyond.total_cmp(&b.1.beyond))
    }
}

/// How many in a microsecond.
pub fn per_micro(limit: &Limit) -> f64 {
    match limit {
        Limit::Count(..) => 0.0,
        Limit::Rate(_, rate) => rate.count as f64 / rate.period.as_micros() as f64,
    }
}

impl Seen {
    /// A node has sent a message, and it has been calm for a while.
    fn has_sent(&mut self, node: usize, calm_since: u64, now: u64) {
        self.by_node[node] += 1;
        let last = std::mem::replace(&mut self.last[node], now).max(calm_since);
        self.longest = self.longest.max((now - last, node, now));
    }
}

impl Watch {
    /// Counts what was held since the last change, as far as no fault excuses it.
    fn settle_from(&mut self, excused_until: u64, now: u64) {
        if now < excused_until {
            return self.settle(now, true);
        }
        self.at = self.at.max(excused_until);
        self.settle(now, false);
    }

    fn settle(&mut self, now: u64, is_excused: bool) {
        if self.per_micro == 0.0 {
            if !is_excused {
                self.seen.used += self.level.min(self.most) * now.saturating_sub(self.at) as f64;
            }
            self.at = now;
        }
    }

    fn judge(&mut self, excuse: Option<&'static str>, now: u64) {
        let beyond = self.level - self.most;
        if let Some(fault) = excuse.filter(|_| beyond > 0.0) {
            let faults = &mut self.seen.beyond_in_faults;
            match faults.iter_mut().find(|(known, _)| *known == fault) {
                Some((_, most)) => *most = most.max(beyond),
                None => faults.push((fault, beyond)),
            }
        } else if excuse.is_none() && beyond > self.seen.beyond {
            (self.seen.beyond, self.seen.when) = (beyond, now);
        }
    }

    fn count(&mut self, node: usize, is_excused: bool, calm_since: u64, now: u64) {
        let Some(windows) = &mut self.windows else { return };
        if !is_excused {
            self.seen.used += 1.0;
            self.seen.has_sent(node, calm_since, now);
        }
        for (at, window) in windows.iter_mut().enumerate() {
            if is_excused {
                window.times.clear();
                continue;
            }
            window.times.push_back(now);
            while window.times.front().is_some_and(|first| first + window.width <= now) {
                window.times.pop_front();
            }
            self.seen.windows[at] = self.seen.windows[at].max(window.times.len());
        }
    }
}

/// How evenly something is shared: 1 if all have the same, one part of so many if one has all (Jain).
pub fn evenness(shares: &[u64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| {
        let share = *share as f64;
        (sum + share, squares + share * share)
    });
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check() -> Check {
        let mut check = Check::new(2);
        let rate = Rate { count: 2, period: Duration::from_secs(1), burst: 3 };
        check.learn(&[Limit::Count("c".into(), 2), Limit::Rate("r".into(), rate)]);
        check.is_saturated(0);
        check.is_saturated(1);
        check
    }

    #[test]
    fn what_goes_beyond_is_seen_and_what_faults_excuse_apart() {
        let mut check = check();
        for at in 0..3 {
            check.held(0, at);
        }
        assert_eq!((check.seen(0).beyond, check.seen(0).when), (1.0, 2));
        check.excuse("a fault", 10, 100);
        check.held(0, 11);
        assert_eq!((check.seen(0).beyond, &check.seen(0).beyond_in_faults[..]), (1.0, &[("a fault", 2.0)][..]));
        check.freed(0, 200);
        check.end(1_000);
        // One for the first microsecond, then two of two, but not while it is excused.
        let used = 1.0 + 2.0 * 9.0 + 2.0 * (1_000.0 - 110.0);
        assert!((check.seen(0).used - used).abs() < 1e-9);
        assert_eq!(check.calm(1_000), 900);
    }

    #[test]
    fn windows_of_every_width_are_seen() {
        let mut check = check();
        for at in 0..5 {
            check.sent(1, 0, at * SECOND / 2);
        }
        assert!(check.seen(1).beyond <= 0.0, "two a second");
        for _ in 0..4 {
            check.sent(1, 1, 2 * SECOND);
        }
        assert!((check.seen(1).beyond - 2.0).abs() < 1e-9, "one was there, and four more, of three at once");
        assert_eq!((check.seen(1).windows, &check.seen(1).by_node[..]), ([6, 9, 9], &[5, 4][..]));
        assert_eq!(check.worst(false).map(|(id, _)| id), Some(1));
        assert_eq!((evenness(&[4, 4]), evenness(&[4, 0])), (1.0, 0.5));
    }
}
