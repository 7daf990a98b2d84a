//! Which ways out rest after a fault, for how long, and when one session may probe them.
//! Pure: told the time. Floor 1: the queues use it.
//! Always: what rests is usable again by itself; until a probe succeeds, at most one session is let through at a
//! time; a source with several proxies is usable while one of its ways is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use egret_shared::fault::{Fault, Party};

use super::source::{Proxy, Source, Way};

/// The first rest; each further fault doubles it.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// What is at rest: a source behind one proxy (or none), or a whole proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    Pair(Arc<str>, Option<Arc<str>>),
    Proxy(Arc<str>),
}

/// A rest, and the fault behind it.
#[derive(Clone, Debug)]
pub struct Rest {
    /// When it ends, or when the next probe may be made.
    pub until: UnixMs,
    /// When the first fault of the row was told.
    pub since: UnixMs,
    /// The last fault, for people.
    pub why: Box<str>,
    /// The party at fault: the source behind its proxy, or the whole proxy.
    pub party: Party,
    faults: u32,
    /// When the last fault was told. Sessions that were open then are news of the same fault.
    told: UnixMs,
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
    /// The first way of `source` by which a session may be opened now, as an index into its ways.
    pub fn way(&self, source: &Source, now: UnixMs) -> Option<usize> {
        source.ways.iter().position(|way| self.way_rests_until(source, way) <= now)
    }

    /// Whether a session may be opened through `source` now.
    pub fn usable(&self, source: &Source, now: UnixMs) -> bool {
        self.resting.is_empty() || self.way(source, now).is_some()
    }

    /// When `source` is usable again; `None` if it is now.
    pub fn rests_until(&self, source: &Source, now: UnixMs) -> Option<UnixMs> {
        if self.resting.is_empty() {
            return None;
        }
        let first = source.ways.iter().map(|way| self.way_rests_until(source, way)).min();
        first.filter(|until| *until > now)
    }

    fn way_rests_until(&self, source: &Source, way: &Way) -> UnixMs {
        self.rests(source, way).map(|rest| rest.until).max().unwrap_or(UnixMs(0))
    }

    /// The rests that keep one way of `source`, ended ones that no probe has proved yet included.
    pub fn rests(&self, source: &Source, way: &Way) -> impl Iterator<Item = &Rest> {
        things(source, way).into_iter().flatten().filter_map(|thing| self.resting.get(&thing))
    }

    /// A session is being opened by a way of `source`: if that was at rest, the session is the probe, and others
    /// wait until it has ended.
    pub fn opening(&mut self, source: &Source, way: usize, now: UnixMs) {
        let Some(way) = source.ways.get(way).filter(|_| !self.resting.is_empty()) else { return };
        for thing in things(source, way).into_iter().flatten() {
            if let Some(rest) = self.resting.get_mut(&thing) {
                rest.until = now.plus(rest_after(rest.faults + 1));
            }
        }
    }

    /// A dial by a way of `source` that began at `opened` failed by fault of the source or the proxy. Returns when
    /// it may be tried again.
    pub fn failed(&mut self, source: &Source, way: usize, fault: &Fault, opened: UnixMs, now: UnixMs) -> UnixMs {
        let proxy = source.ways.get(way).and_then(Way::proxy).map(|proxy| proxy.name.clone());
        let (thing, party) = match (fault.party(), proxy) {
            (Party::Proxy, Some(proxy)) => (Thing::Proxy(proxy), Party::Proxy),
            (_, proxy) => (Thing::Pair(source.name.clone(), proxy), Party::Source),
        };
        let zero = UnixMs(0);
        let fresh = || Rest { until: now, since: now, why: "".into(), party, faults: 0, told: zero };
        let rest = self.resting.entry(thing).or_insert_with(fresh);
        if opened > rest.told {
            rest.faults += 1;
            rest.told = now;
            rest.why = fault.to_string().into();
            rest.until = now.plus(rest_after(rest.faults));
        }
        rest.until
    }

    /// A dial by a way of `source` worked. Returns whether that ended a rest.
    pub fn worked(&mut self, source: &Source, way: usize) -> bool {
        let Some(way) = source.ways.get(way).filter(|_| !self.resting.is_empty()) else { return false };
        let ended = things(source, way).into_iter().flatten().filter(|thing| self.resting.remove(thing).is_some());
        ended.count() > 0
    }

    /// Other sources take the place of `old` ones: what rests goes on to rest if it is what it was.
    pub fn follow<'a>(
        &mut self,
        old: impl Iterator<Item = &'a Arc<Source>>,
        new: impl Iterator<Item = &'a Arc<Source>>,
    ) {
        if !self.resting.is_empty() {
            let (old, new) = (meanings(old), meanings(new));
            self.resting.retain(|thing, _| new.get(thing).is_some_and(|meaning| old.get(thing) == Some(meaning)));
        }
    }

    /// How many sources and proxies are at rest.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }
}

/// What the names of things stand for: the address that is seen, and the proxy.
fn meanings<'a>(sources: impl Iterator<Item = &'a Arc<Source>>) -> HashMap<Thing, (Option<IpAddr>, Option<&'a Proxy>)> {
    let mut found = HashMap::new();
    for (source, way) in sources.flat_map(|source| source.ways.iter().map(move |way| (source, way))) {
        let proxy = way.proxy().map(|proxy| &**proxy);
        let [pair, whole] = things(source, way);
        found.extend(pair.map(|pair| (pair, (source.address, proxy))));
        found.extend(whole.map(|whole| (whole, (None, proxy))));
    }
    found
}

fn things(source: &Source, way: &Way) -> [Option<Thing>; 2] {
    let proxy = way.proxy().map(|proxy| proxy.name.clone());
    [Some(Thing::Pair(source.name.clone(), proxy.clone())), proxy.map(Thing::Proxy)]
}

#[cfg(test)]
mod tests {
    use egret_shared::fault::Reason;

    use super::super::source::Dialect;
    use super::*;

    fn source(name: &str, proxies: &[&str]) -> Source {
        let way = |proxy: &&str| {
            let address = ([127, 0, 0, 1], 1080).into();
            let name = Arc::from(*proxy);
            Way::Proxy(Arc::new(Proxy {
                name,
                address,
                dialect: Dialect::Socks5,
                credentials: None,
                tls: None,
                admin: None,
            }))
        };
        let ways = proxies.iter().map(way).collect();
        Source { name: name.into(), address: None, ehlo_name: "e".into(), names_itself: true, ways, warmup: Vec::new() }
    }

    fn fault(party: Party) -> Fault {
        Fault::new(if party == Party::Proxy { Reason::ProxyUnreachable } else { Reason::SourceNotPlumbed }, "x")
    }

    const NOW: UnixMs = UnixMs(1_000);

    #[test]
    fn a_source_fault_rests_one_source_a_proxy_fault_all_behind_it() {
        let (a, b) = (source("a", &["p"]), source("b", &["p"]));
        let mut health = Health::default();
        health.failed(&a, 0, &fault(Party::Source), NOW, NOW);
        assert!(!health.usable(&a, NOW) && health.usable(&b, NOW));
        health.failed(&b, 0, &fault(Party::Proxy), NOW, NOW);
        assert!(!health.usable(&b, NOW));
        assert!(health.usable(&b, NOW.plus(rest_after(1))), "a rest ends by itself");
    }

    #[test]
    fn the_next_proxy_of_a_source_takes_over_and_the_first_comes_back() {
        let (a, b) = (source("a", &["p", "q"]), source("b", &["p", "q"]));
        let mut health = Health::default();
        assert_eq!(health.way(&a, NOW), Some(0));
        health.failed(&a, 0, &fault(Party::Source), NOW, NOW);
        assert_eq!((health.way(&a, NOW), health.way(&b, NOW)), (Some(1), Some(0)), "the pair rests, not the proxy");
        health.failed(&b, 0, &fault(Party::Proxy), NOW, NOW);
        assert_eq!((health.way(&a, NOW), health.way(&b, NOW)), (Some(1), Some(1)));
        health.failed(&a, 1, &fault(Party::Proxy), NOW, NOW);
        assert_eq!(health.rests_until(&a, NOW), Some(NOW.plus(FIRST_REST)));
        let later = NOW.plus(FIRST_REST);
        assert_eq!(health.way(&a, later), Some(0), "the first is probed first");
        health.opening(&a, 0, later);
        assert_eq!(health.way(&a, later), Some(1), "and others go by the next meanwhile");
        assert!(health.worked(&a, 0));
        assert_eq!(health.way(&a, later), Some(0));
    }

    #[test]
    fn a_rest_goes_on_over_other_sources_if_it_is_of_the_same() {
        let (a, b) = (Arc::new(source("a", &["p"])), Arc::new(source("b", &["q"])));
        let mut health = Health::default();
        health.failed(&a, 0, &fault(Party::Source), NOW, NOW);
        health.failed(&b, 0, &fault(Party::Proxy), NOW, NOW);
        health.follow([&a, &b].into_iter(), [&a, &b].into_iter());
        assert_eq!(health.resting(), 2);
        let moved = Arc::new(Source { address: Some([127, 0, 0, 7].into()), ..(*a).clone() });
        health.follow([&a, &b].into_iter(), [&moved, &b].into_iter());
        assert!(health.usable(&moved, NOW) && !health.usable(&b, NOW), "another address is another source");
        health.follow([&moved, &b].into_iter(), [&moved].into_iter());
        assert_eq!(health.resting(), 0, "what is gone is forgotten");
    }

    #[test]
    fn one_probe_at_a_time_until_one_works() {
        let a = source("a", &["p"]);
        let mut health = Health::default();
        let again = health.failed(&a, 0, &fault(Party::Source), NOW, NOW);
        health.opening(&a, 0, again);
        assert!(!health.usable(&a, again), "a second session must wait for the probe");
        assert!(health.worked(&a, 0));
        assert!(health.usable(&a, again) && health.resting() == 0);
    }

    #[test]
    fn what_was_under_way_when_a_rest_began_does_not_prolong_it() {
        let (a, began) = (source("a", &["p"]), UnixMs(900));
        let mut health = Health::default();
        let ends: Vec<_> = (0..30).map(|_| health.failed(&a, 0, &fault(Party::Source), began, NOW)).collect();
        assert!(ends.iter().all(|end| *end == NOW.plus(FIRST_REST)), "{ends:?}");
        let second = health.failed(&a, 0, &fault(Party::Source), ends[0], ends[0]);
        assert_eq!(second, ends[0].plus(rest_after(2)));
        let rest = health.rests(&a, &a.ways[0]).next().expect("a rest");
        assert_eq!((rest.since, rest.until), (NOW, second));
    }

    #[test]
    fn rests_grow_and_are_bounded() {
        assert_eq!(rest_after(1), FIRST_REST);
        assert_eq!(rest_after(2), FIRST_REST * 2);
        assert_eq!(rest_after(4_000), LONGEST_REST);
    }
}
