//! What came of TLS towards each domain, counted by the day for reports to it (RFC 8460): who asked what of TLS, how
//! many sessions had it, and which failed why. `render` makes the report.
//! Touches nothing but counters; is told what came of a session. Floor 2.
//! Always: bounded, in domains and in failures of a domain; what finds no room is counted as dropped. Kept are today
//! and yesterday by UTC, in memory only.

mod render;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use egret_shared::clock::{Clock, UnixMs};
use metrics::{Counter, counter};
use parking_lot::Mutex;

pub use render::day_number;

use crate::event::tls::TlsResult;

/// Domains of a day. Those without a policy leave half of the room to those with one.
const MAX_DOMAINS: usize = 5_000;
/// Policies of a domain in a day.
const MAX_POLICIES: usize = 8;
/// Kinds of failure of a policy in a day.
const MAX_FAILURES: usize = 64;
/// Lines of a policy that are kept.
const MAX_LINES: usize = 32;
/// Days that are kept.
const DAYS: usize = 2;

/// By what a domain asks for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyType {
    /// MTA-STS.
    Sts,
    /// DANE.
    Tlsa,
    /// Not at all.
    NoPolicyFound,
}

impl PolicyType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Tlsa => "tlsa",
            Self::NoPolicyFound => "no-policy-found",
        }
    }
}

/// A policy as reports tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    kind: PolicyType,
    lines: Arc<[String]>,
    hosts: Arc<[String]>,
}

impl Applied {
    /// A policy with its lines, and the hosts that it is about.
    pub fn new(kind: PolicyType, mut lines: Vec<String>, mut hosts: Vec<String>) -> Self {
        lines.truncate(MAX_LINES);
        hosts.truncate(MAX_LINES);
        Self { kind, lines: lines.into(), hosts: hosts.into() }
    }

    /// No policy.
    pub fn none() -> Self {
        Self::new(PolicyType::NoPolicyFound, Vec::new(), Vec::new())
    }
}

/// From where to where a session went that failed; nothing of it where there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// Our address.
    pub from: Option<IpAddr>,
    /// The host's name.
    pub host: Option<Arc<str>>,
    /// Its address.
    pub to: Option<IpAddr>,
}

/// What was counted of one policy of a domain.
struct Counts {
    policy: Applied,
    successes: u64,
    failures: BTreeMap<(TlsResult, Ends), u64>,
}

/// What was counted in a day.
struct Day {
    number: u64,
    domains: HashMap<Arc<str>, Vec<Counts>>,
    dropped: u64,
}

/// The counters. Cheap to clone.
#[derive(Clone)]
pub struct TlsReports {
    clock: Clock,
    days: Arc<Mutex<VecDeque<Day>>>,
    results: Arc<[Counter]>,
    dropped: Counter,
}

impl TlsReports {
    /// Empty ones. Make them after the metrics' recorder is installed.
    pub fn new(clock: Clock) -> Self {
        let of = |result: TlsResult| counter!("egret_mta_tls_results_total", "result" => result.as_str());
        Self {
            clock,
            days: Arc::default(),
            results: TlsResult::ALL.map(of).into(),
            dropped: counter!("egret_mta_tls_report_dropped_total"),
        }
    }

    /// A session towards `domain` under `policy` came to `result`, or the policy itself did.
    pub fn count(&self, domain: &str, policy: &Applied, result: TlsResult, ends: Ends) {
        let counter = TlsResult::ALL.iter().position(|known| *known == result).and_then(|at| self.results.get(at));
        if let Some(counter) = counter {
            counter.increment(1);
        }
        let now = self.clock.wall();
        if !self.of_day(now, |day| day.count(domain, policy, result, ends)) {
            self.dropped.increment(1);
        }
    }

    fn of_day<T>(&self, now: UnixMs, use_it: impl FnOnce(&mut Day) -> T) -> T {
        let number = now.0 / render::DAY_MS;
        let mut days = self.days.lock();
        let is_there = days.back().is_some_and(|day| day.number >= number);
        if !is_there {
            days.push_back(Day { number, domains: HashMap::new(), dropped: 0 });
        }
        while days.len() > DAYS || days.front().is_some_and(|day| day.number + (DAYS as u64) <= number) {
            days.pop_front();
        }
        match days.back_mut() {
            Some(day) => use_it(day),
            // Cannot be: one was put there.
            None => use_it(&mut Day { number, domains: HashMap::new(), dropped: 0 }),
        }
    }
}

impl Day {
    /// False if there was no room.
    fn count(&mut self, domain: &str, policy: &Applied, result: TlsResult, ends: Ends) -> bool {
        let is_taken = self.take(domain, policy, result, ends);
        self.dropped += u64::from(!is_taken);
        is_taken
    }

    fn take(&mut self, domain: &str, policy: &Applied, result: TlsResult, ends: Ends) -> bool {
        let room = if policy.kind == PolicyType::NoPolicyFound { MAX_DOMAINS / 2 } else { MAX_DOMAINS };
        let is_full = self.domains.len() >= room;
        let policies = match self.domains.get_mut(domain) {
            Some(policies) => policies,
            None if is_full => return false,
            None => self.domains.entry(domain.into()).or_default(),
        };
        let at = policies.iter().position(|counts| counts.policy == *policy);
        let counts = match at {
            Some(at) => &mut policies[at],
            None if policies.len() >= MAX_POLICIES => return false,
            None => {
                policies.push(Counts { policy: policy.clone(), successes: 0, failures: BTreeMap::new() });
                let last = policies.len() - 1;
                &mut policies[last]
            }
        };
        if result == TlsResult::Success {
            counts.successes += 1;
            return true;
        }
        let key = (result, ends);
        if counts.failures.len() >= MAX_FAILURES && !counts.failures.contains_key(&key) {
            return false;
        }
        *counts.failures.entry(key).or_default() += 1;
        true
    }
}

#[cfg(test)]
mod tests;
