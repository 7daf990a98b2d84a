//! The handle's calls for limits that are divided into parts. Floor 2.
//! Always: as [`Limits::take`] and [`Limits::hold`], they decide at once.

use std::sync::Arc;
use std::time::Instant;

use super::words::Closed;
use super::{Count, Lease, Limits, Parts, Throttle};

impl Limits {
    /// Takes one from the first part of each throttle that lets it through, all or none. `taken` holds afterwards what was
    /// taken; it can be given back.
    ///
    /// # Errors
    /// The limit that lets nothing through for the longest time. What its parts tell is told by [`Limits::woken`].
    pub fn take_first(
        &self,
        limits: &[Parts<Throttle>],
        now: Instant,
        taken: &mut Vec<(Arc<str>, Throttle)>,
    ) -> Result<(), Closed> {
        if limits.is_empty() {
            taken.clear();
            return Ok(());
        }
        self.with(|purse| purse.take_first(limits, now, taken))
    }

    /// Takes a place in the first part of each count that has one, all or none; dropping the lease frees them at once.
    ///
    /// # Errors
    /// The limit that has no place. The names of its parts are told by [`Limits::woken`] when there is one.
    pub fn hold_first(&self, limits: &[Parts<Count>], now: Instant) -> Result<Lease, Closed> {
        let mut taken = Vec::with_capacity(limits.len());
        if !limits.is_empty() {
            self.with(|purse| purse.hold_first(limits, now, &mut taken))?;
        }
        Ok(self.lease(&taken))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn part<T: std::str::FromStr>(name: &str, limit: &str) -> (Arc<str>, T) {
        (name.into(), limit.parse().ok().expect("a limit"))
    }

    #[test]
    fn the_first_part_with_room_is_taken_and_a_closed_limit_costs_the_others_nothing() {
        let (limits, now) = (Limits::memory(), Instant::now());
        let both: [Parts<Count>; 2] = [[part("own", "1"), part("all", "2")].into(), [part("host", "4")].into()];
        let names = |lease: &Lease| lease.names().map(ToString::to_string).collect::<Vec<_>>();
        let leases: Vec<_> = (0..3).map(|_| limits.hold_first(&both, now).expect("a place")).collect();
        assert_eq!(leases.iter().map(names).collect::<Vec<_>>(), [["own", "host"], ["all", "host"], ["all", "host"]]);
        assert_eq!(limits.hold_first(&both, now).err(), Some(Closed { limit: 0, at: None }));
        let host: [Parts<Count>; 1] = [[part("host", "4")].into()];
        let last = limits.hold_first(&host, now).expect("what was refused took no place of it");
        assert_eq!(limits.hold_first(&both, now).err(), Some(Closed { limit: 1, at: None }));
        drop((leases, last));
    }

    #[tokio::test]
    async fn each_part_of_a_closed_limit_wakes_who_was_refused() {
        for free in [0, 1] {
            let (limits, now) = (Limits::memory(), Instant::now());
            let parts: [Parts<Count>; 1] = [[part("own", "1"), part("all", "1")].into()];
            let mut leases = [limits.hold_first(&parts, now).ok(), limits.hold_first(&parts, now).ok()];
            assert!(limits.hold_first(&parts, now).is_err());
            leases[free] = None;
            assert_eq!(limits.woken().await, [Arc::<str>::from(["own", "all"][free])]);
            assert!(limits.hold_first(&parts, now).is_ok());
        }
    }

    #[test]
    fn a_rate_tells_its_earliest_part_and_gives_back_to_the_part_it_took_from() {
        let (limits, now) = (Limits::memory(), Instant::now());
        let parts: [Parts<Throttle>; 1] = [[part("own", "1/min"), part("all", "1/s")].into()];
        let mut taken = Vec::new();
        let mut take = |at: Instant| limits.take_first(&parts, at, &mut taken).map(|()| taken[0].0.to_string());
        assert_eq!([take(now), take(now)], [Ok("own".to_owned()), Ok("all".to_owned())]);
        assert_eq!(take(now), Err(Closed { limit: 0, at: Some(now + Duration::from_secs(1)) }));
        limits.give_back(&[part("own", "1/min")], now);
        assert_eq!(take(now), Ok("own".to_owned()));
    }
}
