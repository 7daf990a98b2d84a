//! Who gave wrong passwords: how long an answer waits, and when nobody is asked any more.
//! Floor 1. The time is handed in.
//! Always: what is remembered is bounded; what there is no room for waits the longest.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What a wrong password waits at least, and at most after many.
const PENALTY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));
/// Who has been quiet for so long starts anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Those that are remembered for wrong passwords.
const REMEMBERED: usize = 10_000;

/// Wrong passwords by whom they are counted for, a client or a user. Cheap to clone.
#[derive(Clone)]
pub struct Penalties<K>(Arc<Mutex<HashMap<K, (u32, Instant)>>>);

impl<K> Default for Penalties<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq> Penalties<K> {
    /// A wrong password of `who`: how long its answer waits.
    pub fn wrong(&self, who: K, now: Instant) -> Duration {
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED {
            all.retain(|_, (_, last)| now.saturating_duration_since(*last) < FORGIVEN_AFTER);
            if all.len() >= REMEMBERED && !all.contains_key(&who) {
                return PENALTY.1;
            }
        }
        let (count, last) = all.entry(who).or_insert((0, now));
        if now.saturating_duration_since(*last) >= FORGIVEN_AFTER {
            *count = 0;
        }
        (*count, *last) = (count.saturating_add(1), now);
        PENALTY.0.saturating_mul(1 << (*count - 1).min(10)).min(PENALTY.1)
    }

    /// How long `who` is not asked any more, if it gave `most` wrong passwords one soon after the other.
    pub fn closed(&self, who: &K, most: u32, now: Instant) -> Option<Duration> {
        let (count, last) = *self.0.lock().get(who)?;
        let quiet = now.saturating_duration_since(last);
        FORGIVEN_AFTER.checked_sub(quiet).filter(|left| count >= most && !left.is_zero())
    }
}

/// For whom the wrong passwords of an address are counted: itself, or in IPv6 its network of 64 bits, in which one
/// client has every address.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_passwords_wait_longer_and_longer_and_are_forgiven() {
        let (penalties, now) = (Penalties::default(), Instant::now());
        let client = IpAddr::from([10, 0, 0, 1]);
        let waits: Vec<_> = (0..8).map(|_| penalties.wrong(client, now).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(penalties.wrong(IpAddr::from([10, 0, 0, 2]), now).as_millis(), 250);
        assert_eq!(penalties.wrong(client, now + FORGIVEN_AFTER).as_millis(), 250);
    }

    #[test]
    fn many_wrong_passwords_close_the_door_for_a_while() {
        let (penalties, now) = (Penalties::default(), Instant::now());
        for _ in 0..2 {
            assert_eq!(penalties.closed(&'a', 3, now), None);
            penalties.wrong('a', now);
        }
        penalties.wrong('a', now);
        assert_eq!(penalties.closed(&'a', 3, now), Some(FORGIVEN_AFTER));
        assert_eq!(penalties.closed(&'b', 3, now), None);
        assert_eq!(penalties.closed(&'a', 3, now + FORGIVEN_AFTER), None);
        penalties.wrong('a', now + FORGIVEN_AFTER);
        assert_eq!(penalties.closed(&'a', 3, now + FORGIVEN_AFTER), None, "it starts anew");
    }

    #[test]
    fn what_there_is_no_room_for_waits_the_longest() {
        let (penalties, now) = (Penalties::default(), Instant::now());
        for n in 0..REMEMBERED {
            penalties.wrong(n, now);
        }
        assert_eq!(penalties.wrong(REMEMBERED, now), PENALTY.1);
        assert_eq!(penalties.wrong(7, now), PENALTY.0 * 2, "who is remembered stays so");
        assert_eq!(penalties.wrong(REMEMBERED, now + FORGIVEN_AFTER), PENALTY.0);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        for (client, counted) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::"),
        ] {
            let parsed = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(network(parsed(client)), parsed(counted), "{client}");
        }
    }
}
