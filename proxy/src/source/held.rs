//! The state of each held address: as the kernel tells it, and as the operator wants it. Floor 1.
//! Shared by all workers and read for each session; changed seldom.
//! Always: an address that the operator drains is draining, whatever the kernel says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Whether an address can be a source now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On this host, and usable.
    Held,
    /// Not on this host.
    Missing,
    /// On this host, but the kernel has not finished, or has failed, to make sure that it is nobody
    /// else's (IPv6 duplicate address detection, RFC 4862).
    Tentative,
    /// The operator takes it out of service: sessions may finish, none begins.
    Draining,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Held, Self::Missing, Self::Tentative, Self::Draining];

    /// The name used in metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missing => "missing",
            Self::Tentative => "tentative",
            Self::Draining => "draining",
        }
    }
}

/// States of addresses. Cheap to clone.
#[derive(Clone, Default)]
pub struct Held(Arc<Book>);

#[derive(Default)]
struct Book {
    /// As the kernel tells it.
    known: ArcSwap<BTreeMap<IpAddr, State>>,
    draining: ArcSwap<BTreeSet<IpAddr>>,
    /// Cancelled when the host loses the address: no more than the addresses that are known.
    presence: Mutex<BTreeMap<IpAddr, CancellationToken>>,
}

impl Held {
    /// The state of `ip`; `None` if nothing is known of it, as of addresses in very large ranges.
    pub fn state(&self, ip: IpAddr) -> Option<State> {
        if self.is_draining(ip) {
            return Some(State::Draining);
        }
        self.0.known.load().get(&ip).copied()
    }

    /// Whether the host has `ip` and can use it, drained or not; true if nothing is known of it.
    pub fn is_up(&self, ip: IpAddr) -> bool {
        self.0.known.load().get(&ip).is_none_or(|state| *state == State::Held)
    }

    /// Whether the operator drains `ip`.
    pub fn is_draining(&self, ip: IpAddr) -> bool {
        self.0.draining.load().contains(&ip)
    }

    /// What is cancelled when the host loses `ip`: what has left from it hears nothing any more. Never, if nothing is
    /// known of it.
    pub fn presence(&self, ip: IpAddr) -> CancellationToken {
        // Under the lock, so that a loss that is told meanwhile cannot be missed.
        let mut presence = self.0.presence.lock();
        match self.0.known.load().get(&ip) {
            Some(State::Held | State::Tentative) => presence.entry(ip).or_default().clone(),
            Some(State::Missing) => {
                let gone = CancellationToken::new();
                gone.cancel();
                gone
            }
            Some(State::Draining) | None => CancellationToken::new(),
        }
    }

    /// Drains `ip`, or takes it back into service. True if that changes anything.
    pub fn drain(&self, ip: IpAddr, is_draining: bool) -> bool {
        let before = self.0.draining.rcu(|set| {
            let mut set = BTreeSet::clone(set);
            if is_draining {
                set.insert(ip)
            } else {
                set.remove(&ip)
            };
            set
        });
        before.contains(&ip) != is_draining
    }

    /// What the kernel tells now. Returns what has changed: the address, its state before and now.
    pub fn learn(&self, now: BTreeMap<IpAddr, State>) -> Vec<(IpAddr, Option<State>, State)> {
        let before = self.0.known.load();
        let changed = now.iter().filter(|(ip, state)| before.get(ip) != Some(state));
        let changed: Vec<_> = changed.map(|(ip, state)| (*ip, before.get(ip).copied(), *state)).collect();
        let mut presence = self.0.presence.lock();
        self.0.known.store(Arc::new(now));
        let lost = changed.iter().filter(|(_, _, state)| *state == State::Missing);
        lost.filter_map(|(ip, _, _)| presence.remove(ip)).for_each(|presence| presence.cancel());
        changed
    }

    /// Every address that something is known of.
    pub fn all(&self) -> BTreeMap<IpAddr, State> {
        let mut all = BTreeMap::clone(&self.0.known.load());
        all.extend(self.0.draining.load().iter().map(|ip| (*ip, State::Draining)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_has_the_last_word_and_changes_are_told_once() {
        let held = Held::default();
        let ip = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(held.state(ip), None);
        assert_eq!(held.learn(BTreeMap::from([(ip, State::Held)])), [(ip, None, State::Held)]);
        assert_eq!(held.learn(BTreeMap::from([(ip, State::Held)])), []);
        assert!(held.drain(ip, true) && !held.drain(ip, true));
        assert_eq!(held.state(ip), Some(State::Draining));
        assert!(held.is_up(ip), "draining is the operator's will, not a fault");
        assert_eq!(held.learn(BTreeMap::from([(ip, State::Missing)])), [(ip, Some(State::Held), State::Missing)]);
        assert_eq!(held.state(ip), Some(State::Draining));
        assert!(!held.is_up(ip) && held.drain(ip, false));
        assert_eq!(held.all(), BTreeMap::from([(ip, State::Missing)]));
    }

    #[test]
    fn what_leaves_from_an_address_hears_that_it_is_gone_and_later_leavers_do_not() {
        let held = Held::default();
        let (ip, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        held.learn(BTreeMap::from([(ip, State::Held), (other, State::Held)]));
        let (first, bystander) = (held.presence(ip), held.presence(other));
        held.learn(BTreeMap::from([(ip, State::Missing), (other, State::Held)]));
        assert!(first.is_cancelled() && !bystander.is_cancelled());
        assert!(held.presence(ip).is_cancelled(), "one that was connected a moment too late hears it, too");
        held.learn(BTreeMap::from([(ip, State::Held), (other, State::Held)]));
        assert!(!held.presence(ip).is_cancelled());
    }
}
