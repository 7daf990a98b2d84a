//! Which held address a request means: the one it names, or the next of a set.
//! Pure. Floor 1.
//! Always: a [`HeldAddress`] is one of the held ones and not being drained; nothing else can be bound.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use egret_shared::address::{Range, canonical};
use egret_shared::fault::{Fault, Reason};

use super::held::{Held, State};

/// Addresses that are passed over in a rotation because they cannot be used, before it gives up.
const PASSED_OVER: usize = 64;

/// An address that this proxy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldAddress {
    ip: IpAddr,
    is_free: bool,
}

impl HeldAddress {
    /// The address.
    pub fn ip(self) -> IpAddr {
        self.ip
    }

    /// Whether it may be bound although it is not on the host.
    pub fn is_free(self) -> bool {
        self.is_free
    }
}

/// Addresses that take turns.
#[derive(Debug, Default)]
pub struct SourceSet {
    ranges: Vec<Range>,
    turn: AtomicUsize,
}

impl SourceSet {
    /// These ranges.
    pub fn new(ranges: Vec<Range>) -> Self {
        Self { ranges, turn: AtomicUsize::new(0) }
    }

    /// Its ranges.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(ip))
    }

    /// How many addresses.
    pub fn count(&self) -> u128 {
        self.ranges.iter().map(Range::len).fold(0, u128::saturating_add)
    }

    /// Whose turn it is among those of a family; `None` if there is none.
    fn next(&self, is_v4: bool) -> Option<IpAddr> {
        let fits = |range: &&Range| range.contains_family(is_v4);
        let total: u128 = self.ranges.iter().filter(fits).map(Range::len).fold(0, u128::saturating_add);
        let mut turn = (self.turn.fetch_add(1, Ordering::Relaxed) as u128).checked_rem(total)?;
        for range in self.ranges.iter().filter(fits) {
            match range.nth(turn) {
                Some(ip) => return Some(ip),
                None => turn -= range.len(),
            }
        }
        None
    }
}

/// All held addresses and their states.
pub struct Sources {
    /// Every global address of the host is held, and these ranges follow it.
    is_auto: bool,
    is_free: bool,
    set: ArcSwap<SourceSet>,
    held: Held,
}

impl Sources {
    /// These ranges are held. With `is_free`, they may be bound although they are not on the host.
    pub fn new(ranges: Vec<Range>, is_free: bool, held: Held) -> Self {
        Self { is_auto: false, is_free, set: ArcSwap::from_pointee(SourceSet::new(ranges)), held }
    }

    /// Every global address of the host is held; [`Sources::follow`] tells which those are.
    pub fn auto(held: Held) -> Self {
        Self { is_auto: true, is_free: false, set: ArcSwap::default(), held }
    }

    /// Whether the held addresses are those of the host.
    pub fn is_auto(&self) -> bool {
        self.is_auto
    }

    /// Whether they may be bound although they are not on the host.
    pub fn is_free(&self) -> bool {
        self.is_free
    }

    /// The host's global addresses now, if they are what is held.
    pub fn follow(&self, addresses: &[IpAddr]) {
        let ranges = addresses.iter().filter_map(|ip| Range::new(*ip, *ip).ok()).collect();
        self.set.store(Arc::new(SourceSet::new(ranges)));
    }

    /// The addresses that are held now.
    pub fn set(&self) -> Arc<SourceSet> {
        self.set.load_full()
    }

    /// Their states.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The address that a client names.
    ///
    /// # Errors
    /// [`Reason::SourceNotAllowed`] if it is not held, [`Reason::SourceDraining`] if the operator drains
    /// it, [`Reason::SourceNotPlumbed`] if the host has lost it.
    pub fn named(&self, wanted: IpAddr) -> Result<HeldAddress, Fault> {
        let ip = canonical(wanted);
        if self.held.is_draining(ip) {
            return Err(Fault::new(Reason::SourceDraining, format!("source {ip} is being drained")));
        }
        if self.set.load().contains(ip) {
            return Ok(HeldAddress { ip, is_free: self.is_free });
        }
        if self.is_auto {
            let why = format!("source {ip} is no global address of this host");
            return Err(Fault::new(Reason::SourceNotPlumbed, why));
        }
        Err(Fault::new(Reason::SourceNotAllowed, format!("source {ip} is not in sources.addresses")))
    }

    /// The next usable address of the destination's family that `may` lets through: of `among`, or of
    /// all.
    ///
    /// # Errors
    /// [`Reason::FamilyMismatch`] if there is none of that family; what [`Sources::named`] says of the
    /// last one that was tried if none is usable.
    pub fn next_towards(
        &self,
        destination: IpAddr,
        among: Option<&SourceSet>,
        may: impl Fn(IpAddr) -> Result<(), Fault>,
    ) -> Result<HeldAddress, Fault> {
        let all = self.set.load();
        let set = among.unwrap_or(&all);
        let mut last = None;
        for _ in 0..set.count().min(PASSED_OVER as u128) {
            let Some(ip) = set.next(destination.is_ipv4()) else { break };
            let usable = self.named(ip).and_then(|address| match self.held.state(ip) {
                Some(State::Missing) if !self.is_free => Err(not_plumbed(ip)),
                Some(State::Tentative) => Err(Fault::new(
                    Reason::SourceNotPlumbed,
                    format!("source {ip} is tentative: the kernel has not made sure that it is nobody else's"),
                )),
                _ => may(ip).map(|()| address),
            });
            match usable {
                Ok(address) => return Ok(address),
                Err(fault) => last = Some(fault),
            }
        }
        let family = if destination.is_ipv4() { "IPv4" } else { "IPv6" };
        Err(last.unwrap_or_else(|| Fault::new(Reason::FamilyMismatch, format!("no {family} source is held"))))
    }
}

fn not_plumbed(ip: IpAddr) -> Fault {
    Fault::new(Reason::SourceNotPlumbed, format!("source {ip} is not on this host"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn range(text: &str) -> Range {
        text.parse().expect("a range")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_held_addresses_are_given_and_each_has_its_turn() {
        let ranges = vec![range("192.0.2.1-192.0.2.3"), range("2001:db8::/126"), range("192.0.2.9")];
        let sources = Sources::new(ranges, false, Held::default());
        assert_eq!(sources.set().count(), 8);
        assert!(sources.named(ip("192.0.2.2")).is_ok());
        assert_eq!(sources.named(ip("192.0.2.4")).map_err(|f| f.reason), Err(Reason::SourceNotAllowed));
        let mut seen = BTreeMap::<IpAddr, u32>::new();
        for _ in 0..8 {
            *seen.entry(sources.next_towards(ip("198.51.100.1"), None, |_| Ok(())).expect("held").ip()).or_default() +=
                1;
        }
        assert_eq!(seen.into_values().collect::<Vec<_>>(), [2, 2, 2, 2]);
        let only_v4 = Sources::new(vec![range("192.0.2.1")], false, Held::default());
        let towards_v6 = only_v4.next_towards(ip("2001:db8::1"), None, |_| Ok(()));
        assert_eq!(towards_v6.map_err(|f| f.reason), Err(Reason::FamilyMismatch));
    }

    #[test]
    fn a_rotation_passes_over_what_cannot_be_used_and_says_why_if_nothing_can() {
        let held = Held::default();
        let sources = Sources::new(vec![range("192.0.2.1-192.0.2.3")], false, held.clone());
        held.drain(ip("192.0.2.1"), true);
        held.learn(BTreeMap::from([(ip("192.0.2.2"), State::Missing)]));
        for _ in 0..5 {
            assert_eq!(
                sources.next_towards(ip("198.51.100.1"), None, |_| Ok(())).expect("one is left").ip(),
                ip("192.0.2.3")
            );
        }
        let own = SourceSet::new(vec![range("192.0.2.2")]);
        let failed = sources.next_towards(ip("198.51.100.1"), Some(&own), |_| Ok(())).map_err(|f| f.reason);
        assert_eq!(failed, Err(Reason::SourceNotPlumbed));
        assert_eq!(sources.named(ip("192.0.2.1")).map_err(|f| f.reason), Err(Reason::SourceDraining));
    }

    #[test]
    fn the_hosts_own_addresses_are_followed() {
        let sources = Sources::auto(Held::default());
        assert_eq!(sources.named(ip("192.0.2.1")).map_err(|f| f.reason), Err(Reason::SourceNotPlumbed));
        sources.follow(&[ip("192.0.2.1")]);
        assert!(sources.named(ip("192.0.2.1")).is_ok());
        sources.follow(&[]);
        assert_eq!(sources.named(ip("192.0.2.1")).map_err(|f| f.reason), Err(Reason::SourceNotPlumbed));
    }
}
