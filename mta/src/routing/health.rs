//! Which sources and proxies rest after a fault, for how long, and when one session may probe them.
//! Pure: told the time. Floor 1: the queues use it.
//! Always: a resting thing is usable again by itself; until a probe succeeds, at most one session is
//! let through at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::Party;

use super::source::{Source, Way};

/// The first rest; each further fault doubles it.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// What is at rest: a (source, proxy) pair, or a whole proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    Source(Arc<str>),
    Proxy(Arc<str>),
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: UnixMs,
    faults: u32,
    /// When the last fault was told. Sessions that were open then are news of the same fault.
    since: UnixMs,
}

/// The state of the ways out.
#[derive(Debug, Default)]
pub struct Health {
    resting: HashMap<Thing, Rest>,
}

/// How long a thing rests after its `faults`-th fault in a row.
pub fn rest_after(faults: u32) -> Duration {
    FIRST_REST.saturating_mul(1 << faults.saturating_sub(1).min(10)).min(LONGEST_REST)
}

impl Health {
    /// Whether a session may be opened through `source` now.
    pub fn usable(&self, source: &Source, now: UnixMs) -> bool {
        things(source).into_iter().flatten().all(|thing| self.resting.get(&thing).is_none_or(|rest| rest.until <= now))
    }

    /// When `source` is usable again; `None` if it is now.
    pub fn rests_until(&self, source: &Source, now: UnixMs) -> Option<UnixMs> {
        let ends =
            things(source).into_iter().flatten().filter_map(|thing| self.resting.get(&thing)).map(|rest| rest.until);
        ends.max().filter(|until| *until > now)
    }

    /// A session is being opened through `source`: if it was at rest, that session is the probe, and
    /// others wait until it has ended.
    pub fn opening(&mut self, source: &Source, now: UnixMs) {
        for thing in things(source).into_iter().flatten() {
            if let Some(rest) = self.resting.get_mut(&thing) {
                rest.until = now.plus(rest_after(rest.faults + 1));
            }
        }
    }

    /// A dial through `source` that began at `opened` failed by fault of `party`. Returns when it may be
    /// tried again.
    pub fn failed(&mut self, source: &Source, party: Party, opened: UnixMs, now: UnixMs) -> UnixMs {
        let thing = match (party, &source.way) {
            (Party::Proxy, Way::Proxy(proxy)) => Thing::Proxy(proxy.name.clone()),
            _ => Thing::Source(source.name.clone()),
        };
        let rest = self.resting.entry(thing).or_insert(Rest { until: now, faults: 0, since: UnixMs(0) });
        if opened > rest.since {
            rest.faults += 1;
            rest.since = now;
            rest.until = now.plus(rest_after(rest.faults));
        }
        rest.until
    }

    /// A dial through `source` worked. Returns whether that ended a rest.
    pub fn worked(&mut self, source: &Source) -> bool {
        let ended = things(source).into_iter().flatten().filter(|thing| self.resting.remove(thing).is_some());
        ended.count() > 0
    }

    /// How many sources and proxies are at rest.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }
}

fn things(source: &Source) -> [Option<Thing>; 2] {
    let proxy = match &source.way {
        Way::Direct => None,
        Way::Proxy(proxy) => Some(Thing::Proxy(proxy.name.clone())),
    };
    [Some(Thing::Source(source.name.clone())), proxy]
}

#[cfg(test)]
mod tests {
    use super::super::source::{Dialect, Proxy};
    use super::*;

    fn source(name: &str) -> Source {
        let proxy = Proxy {
            name: "p".into(),
            address: ([127, 0, 0, 1], 1080).into(),
            dialect: Dialect::Socks5,
            credentials: None,
        };
        Source { name: name.into(), address: None, ehlo_name: "e".into(), way: Way::Proxy(Arc::new(proxy)) }
    }

    #[test]
    fn a_source_fault_rests_one_source_a_proxy_fault_all_behind_it() {
        let (a, b, now) = (source("a"), source("b"), UnixMs(1_000));
        let mut health = Health::default();
        health.failed(&a, Party::Source, now, now);
        assert!(!health.usable(&a, now) && health.usable(&b, now));
        health.failed(&b, Party::Proxy, now, now);
        assert!(!health.usable(&b, now));
        assert!(health.usable(&b, now.plus(rest_after(1))), "a rest ends by itself");
    }

    #[test]
    fn one_probe_at_a_time_until_one_works() {
        let (a, now) = (source("a"), UnixMs(1_000));
        let mut health = Health::default();
        let again = health.failed(&a, Party::Source, now, now);
        health.opening(&a, again);
        assert!(!health.usable(&a, again), "a second session must wait for the probe");
        assert!(health.worked(&a));
        assert!(health.usable(&a, again) && health.resting() == 0);
    }

    #[test]
    fn what_was_under_way_when_a_rest_began_does_not_prolong_it() {
        let (a, began, now) = (source("a"), UnixMs(900), UnixMs(1_000));
        let mut health = Health::default();
        let ends: Vec<_> = (0..30).map(|_| health.failed(&a, Party::Source, began, now)).collect();
        assert!(ends.iter().all(|end| *end == now.plus(FIRST_REST)), "{ends:?}");
        assert_eq!(health.failed(&a, Party::Source, ends[0], ends[0]), ends[0].plus(rest_after(2)));
    }

    #[test]
    fn rests_grow_and_are_bounded() {
        assert_eq!(rest_after(1), FIRST_REST);
        assert_eq!(rest_after(2), FIRST_REST * 2);
        assert_eq!(rest_after(4_000), LONGEST_REST);
    }
}
