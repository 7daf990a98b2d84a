//! The held addresses, and which one a request means.
//! Pure. Floor 2.
//! Always: a [`HeldAddress`] is one of them; nothing else can be bound.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use egret_shared::address::{Range, canonical};
use egret_shared::fault::{Fault, Reason};

/// An address that this proxy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldAddress(IpAddr);

impl HeldAddress {
    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

/// All held addresses.
#[derive(Debug)]
pub struct Sources {
    ranges: Vec<Range>,
    turn: AtomicUsize,
}

impl Sources {
    /// These ranges are held.
    pub fn new(ranges: Vec<Range>) -> Self {
        Self { ranges, turn: AtomicUsize::new(0) }
    }

    /// The address that a client names.
    ///
    /// # Errors
    /// [`Reason::SourceNotAllowed`] if it is not held.
    pub fn held(&self, wanted: IpAddr) -> Result<HeldAddress, Fault> {
        let wanted = canonical(wanted);
        if self.ranges.iter().any(|range| range.contains(wanted)) {
            return Ok(HeldAddress(wanted));
        }
        Err(Fault::new(Reason::SourceNotAllowed, format!("source {wanted} is not in sources.addresses")))
    }

    /// The next address of the destination's family, for a client that names none.
    ///
    /// # Errors
    /// [`Reason::FamilyMismatch`] if none is held.
    pub fn next_towards(&self, destination: IpAddr) -> Result<HeldAddress, Fault> {
        let wants_v4 = destination.is_ipv4();
        let fits = |range: &&Range| range.contains_family(wants_v4);
        let total: u128 = self.ranges.iter().filter(fits).map(Range::len).fold(0, u128::saturating_add);
        if total == 0 {
            let family = if wants_v4 { "IPv4" } else { "IPv6" };
            return Err(Fault::new(Reason::FamilyMismatch, format!("no {family} address is in sources.addresses")));
        }
        let mut turn = self.turn.fetch_add(1, Ordering::Relaxed) as u128 % total;
        for range in self.ranges.iter().filter(fits) {
            match range.nth(turn) {
                Some(ip) => return Ok(HeldAddress(ip)),
                None => turn -= range.len(),
            }
        }
        Err(Fault::new(Reason::Internal, "the rotation of sources is out of range"))
    }

    /// How many addresses are held.
    pub fn count(&self) -> u128 {
        self.ranges.iter().map(Range::len).fold(0, u128::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_held_addresses_are_given_and_each_has_its_turn() {
        let range = |text: &str| text.parse::<Range>().expect("a range");
        let sources = Sources::new(vec![range("192.0.2.1-192.0.2.3"), range("2001:db8::/126"), range("192.0.2.9")]);
        assert_eq!(sources.count(), 8);
        assert!(sources.held([192, 0, 2, 2].into()).is_ok());
        assert_eq!(sources.held([192, 0, 2, 4].into()).map_err(|f| f.reason), Err(Reason::SourceNotAllowed));
        let mut seen = BTreeMap::<IpAddr, u32>::new();
        for _ in 0..8 {
            *seen.entry(sources.next_towards([198, 51, 100, 1].into()).expect("held").ip()).or_default() += 1;
        }
        assert_eq!(seen.into_values().collect::<Vec<_>>(), [2, 2, 2, 2]);
        let only_v4 = Sources::new(vec![range("192.0.2.1")]);
        let towards_v6 = only_v4.next_towards("2001:db8::1".parse().expect("an address"));
        assert_eq!(towards_v6.map_err(|f| f.reason), Err(Reason::FamilyMismatch));
    }
}
