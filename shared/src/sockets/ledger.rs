//! A node's side: its sessions through proxies, which of them proxies have reported, and which have lost their socket.
//! Pure: told the time and what proxies say. Floor 1.
//! Always: a session is lost only if a proxy had it and then, in two reports in a row, neither it nor any other run under
//! its name has it; no report is no news.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claim::{Report, end};
use super::{LIFE, MISSES};

/// A proxy that is not in the registry for so long may be gone for good.
const GONE: Duration = Duration::from_secs(5);
/// A node that said nothing for so long stood still, and its places may have gone to others. A little less than what a
/// proxy waits, whose time starts later.
const STOOD_STILL: Duration = Duration::from_secs(12);

/// Which proxies announce an endpoint. More than one is a mistake or an address that moves.
pub type Announced = HashMap<SocketAddr, Vec<Arc<str>>>;

/// A session in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The proxy's endpoint.
    pub endpoint: SocketAddr,
    number: u64,
}

/// What is to be claimed of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The proxy.
    pub proxy: Arc<str>,
    /// Counts claims.
    pub number: u64,
    /// Our own ends of the sessions, in no order.
    pub ends: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Session {
    end: SocketAddr,
    /// The first claim that holds it.
    first: u64,
    /// The run of the proxy that had it last.
    holder: Option<u64>,
    missed: u8,
    /// This node stood still until this claim, and since then the proxy has not said that it has the session.
    forfeited: Option<u64>,
}

#[derive(Debug, Default)]
struct Endpoint {
    sessions: HashMap<u64, Session>,
    /// Who announced it last: a proxy that cannot be found for a while is still spoken to.
    proxies: Vec<Arc<str>>,
    /// Since when nobody announces it any more.
    gone_since: Option<Instant>,
    /// Since when there are no sessions: the proxy must hear that they are over.
    empty_since: Option<Instant>,
    /// The last report of each run that is there.
    heard: HashMap<u64, u64>,
}

/// All sessions through proxies.
#[derive(Debug, Default)]
pub struct Ledger {
    endpoints: HashMap<SocketAddr, Endpoint>,
    /// Claims so far.
    claims: u64,
    sessions: u64,
    beat: Option<Instant>,
}

impl Ledger {
    /// A session through the proxy at `endpoint` stands; `own` is our end of it.
    pub fn opened(&mut self, endpoint: SocketAddr, own: SocketAddr) -> Key {
        self.sessions += 1;
        let key = Key { endpoint, number: self.sessions };
        let first = self.claims + 1;
        let session = Session { end: end(own), first, holder: None, missed: 0, forfeited: None };
        self.endpoints.entry(endpoint).or_default().sessions.insert(key.number, session);
        key
    }

    /// A session is over. Returns whether it was the last through its endpoint.
    pub fn closed(&mut self, key: Key) -> bool {
        let Some(endpoint) = self.endpoints.get_mut(&key.endpoint) else { return true };
        endpoint.sessions.remove(&key.number);
        endpoint.sessions.is_empty()
    }

    /// How many sessions proxies have reported.
    pub fn seen(&self) -> usize {
        let sessions = self.endpoints.values().flat_map(|endpoint| endpoint.sessions.values());
        sessions.filter(|session| session.holder.is_some()).count()
    }

    /// A beat: what is to be claimed now.
    pub fn claims(&mut self, announced: &Announced, now: Instant) -> Vec<Draft> {
        let stood_still = self.beat.is_some_and(|beat| now.saturating_duration_since(beat) >= STOOD_STILL);
        self.beat = Some(now);
        self.claims += 1;
        self.endpoints.retain(|at, endpoint| endpoint.is_in_use(announced.get(at), now));
        let mut drafts: BTreeMap<Arc<str>, Vec<SocketAddr>> = BTreeMap::new();
        for endpoint in self.endpoints.values_mut() {
            if stood_still && !endpoint.proxies.is_empty() {
                // Also those that were never claimed: a session may have had their port before, and been claimed.
                endpoint.sessions.values_mut().for_each(|session| session.forfeited = Some(self.claims));
            }
            for proxy in &endpoint.proxies {
                let ends = endpoint.sessions.values().map(|session| session.end);
                drafts.entry(proxy.clone()).or_default().extend(ends);
            }
        }
        let number = self.claims;
        drafts.into_iter().map(|(proxy, ends)| Draft { proxy, number, ends }).collect()
    }

    /// What proxies say: of each that answered, the reports of all its runs that are there. Returns the sessions that
    /// have lost their socket.
    pub fn heard(&mut self, answers: &HashMap<Arc<str>, Vec<Report>>) -> Vec<Key> {
        let (last, mut lost) = (self.claims, Vec::new());
        for (at, endpoint) in &mut self.endpoints {
            let told: Option<Vec<&Vec<Report>>> = endpoint.proxies.iter().map(|proxy| answers.get(proxy)).collect();
            let Some(told) = told.filter(|told| !told.is_empty()) else { continue };
            let reports: Vec<&Report> = told.into_iter().flatten().filter(|report| report.number <= last).collect();
            lost.extend(endpoint.hear(&reports).into_iter().map(|number| Key { endpoint: *at, number }));
        }
        lost
    }

    /// Endpoints with sessions whose proxy is not in the registry for some time: are they there?
    pub fn gone(&self, now: Instant) -> Vec<SocketAddr> {
        let long = |since: Instant| now.saturating_duration_since(since) >= GONE;
        let gone = |endpoint: &Endpoint| !endpoint.sessions.is_empty() && endpoint.gone_since.is_some_and(long);
        self.endpoints.iter().filter(|(_, endpoint)| gone(endpoint)).map(|(at, _)| *at).collect()
    }

    /// A proxy that was gone from the registry has answered: it is not asked again for a while.
    pub fn answered(&mut self, endpoint: SocketAddr, now: Instant) {
        if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
            endpoint.gone_since = endpoint.gone_since.map(|_| now);
        }
    }

    /// The sessions through an endpoint.
    pub fn through(&self, endpoint: SocketAddr) -> Vec<Key> {
        let sessions = self.endpoints.get(&endpoint).into_iter().flat_map(|endpoint| endpoint.sessions.keys());
        sessions.map(|number| Key { endpoint, number: *number }).collect()
    }

    /// Whether this node stood still for so long that a proxy may have ended the session for it.
    pub fn is_forfeited(&self, key: Key, now: Instant) -> bool {
        let endpoint = self.endpoints.get(&key.endpoint).filter(|endpoint| !endpoint.proxies.is_empty());
        let session = endpoint.and_then(|endpoint| endpoint.sessions.get(&key.number));
        let stands_still = self.beat.is_some_and(|beat| now.saturating_duration_since(beat) >= STOOD_STILL);
        session.is_some_and(|session| session.forfeited.is_some() || stands_still)
    }
}

impl Endpoint {
    /// Notes who announces it; false if there is nothing more to say of it.
    fn is_in_use(&mut self, announced: Option<&Vec<Arc<str>>>, now: Instant) -> bool {
        match announced {
            Some(proxies) => {
                self.proxies.clone_from(proxies);
                self.gone_since = None;
            }
            None if !self.proxies.is_empty() => {
                self.gone_since.get_or_insert(now);
            }
            None => {}
        }
        if self.sessions.is_empty() {
            let since = *self.empty_since.get_or_insert(now);
            return now.saturating_duration_since(since) < LIFE;
        }
        self.empty_since = None;
        true
    }

    /// Returns the sessions that are lost.
    fn hear(&mut self, reports: &[&Report]) -> Vec<u64> {
        let is_new = |report: &Report| self.heard.get(&report.run).is_none_or(|last| report.number > *last);
        let new: Vec<&Report> = reports.iter().copied().filter(|report| is_new(report)).collect();
        let mut lost = Vec::new();
        for (number, session) in &mut self.sessions {
            if session.misses(&new, reports) {
                lost.push(*number);
            }
        }
        self.heard = reports.iter().map(|report| (report.run, report.number)).collect();
        lost
    }
}

impl Session {
    /// Takes what is `new` among all reports. Returns whether the session is lost.
    fn misses(&mut self, new: &[&Report], all: &[&Report]) -> bool {
        let mut of_it = new.iter().filter(|report| report.number >= self.first);
        if let Some(has) = of_it.clone().find(|report| !report.missing.contains(&self.end)) {
            (self.holder, self.missed) = (Some(has.run), 0);
            // What was said before it stood still, and while it did, says nothing of now.
            self.forfeited = self.forfeited.filter(|since| has.number < *since);
            return false;
        }
        let Some(holder) = self.holder else { return false };
        let holder_is_there = all.iter().any(|report| report.run == holder);
        let speaks = |report: &&&Report| !holder_is_there || report.run == holder;
        if of_it.any(|report| speaks(&report)) {
            self.missed += 1;
        }
        self.missed >= MISSES
    }
}
