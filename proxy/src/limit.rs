//! How many connections, and how fast, for each client, user, source and destination. Floor 2.
//! In the memory of this process; sessions know only [`Limits::take`] and the [`Lease`] it gives.
//! Always: what a session takes it takes whole or not at all, and gives back when its lease is dropped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::fault::{Fault, Reason};
use egret_shared::limits::{Gcra, Rate};
use parking_lot::Mutex;

/// Entries above which idle ones are looked for.
const SWEEP_ABOVE: usize = 4096;

/// What a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All connections.
    Total,
    /// Those of one client address.
    Client,
    /// Those of one user.
    User,
    /// Those from one source.
    Source,
    /// Those from one source to one destination address.
    SourceDestination,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 5] = [Self::Total, Self::Client, Self::User, Self::Source, Self::SourceDestination];

    /// Its name in the configuration, in metrics and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Client => "client",
            Self::User => "user",
            Self::Source => "source",
            Self::SourceDestination => "source_destination",
        }
    }
}

/// What one scope allows; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// Connections at once.
    pub connections: Option<u32>,
    /// New connections.
    pub rate: Option<Rate>,
}

/// What all scopes allow, in the order of [`Scope::ALL`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Caps(pub [Limit; Scope::ALL.len()]);

/// Who wants a connection from where to where.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Its user.
    pub user: Option<&'a str>,
    /// The source.
    pub source: IpAddr,
    /// The destination's address.
    pub destination: IpAddr,
}

/// A connection that is refused by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The limit.
    pub scope: Scope,
    /// How long to wait, if that is known.
    pub retry_after: Option<Duration>,
}

impl Denied {
    /// As it is told.
    pub fn fault(self, wish: &Wish<'_>) -> Fault {
        let name = self.scope.as_str();
        let (what, wait) = match self.retry_after {
            Some(wait) => ("rate", format!(", retry after {} ms", wait.as_millis())),
            None => ("connections", String::new()),
        };
        let detail = format!("{} to {}: limits.{name}.{what} is reached{wait}", wish.source, wish.destination);
        let mut fault = Fault::new(Reason::LimitReached, detail);
        fault.retry_after = self.retry_after;
        fault
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Total,
    Client(IpAddr),
    User(String),
    Source(IpAddr),
    Pair(IpAddr, IpAddr),
}

impl Key {
    fn new(scope: Scope, wish: &Wish<'_>) -> Option<Self> {
        Some(match scope {
            Scope::Total => Self::Total,
            Scope::Client => Self::Client(wish.client),
            Scope::User => Self::User(wish.user?.to_owned()),
            Scope::Source => Self::Source(wish.source),
            Scope::SourceDestination => Self::Pair(wish.source, wish.destination),
        })
    }
}

struct Slot {
    taken: u32,
    pace: Gcra,
}

#[derive(Default)]
struct Book {
    slots: HashMap<Key, Slot>,
    sweep_at: usize,
}

/// What is taken. Cheap to clone.
#[derive(Clone, Default)]
pub struct Limits(Arc<Mutex<Book>>);

impl Limits {
    /// Takes a connection within `caps`.
    ///
    /// # Errors
    /// The limit that is reached; then nothing was taken.
    pub fn take(&self, caps: &Caps, wish: &Wish<'_>, now: Instant) -> Result<Lease, Denied> {
        let limits = Scope::ALL.into_iter().zip(caps.0);
        let asked: Vec<_> = limits
            .filter(|(_, limit)| limit.connections.is_some() || limit.rate.is_some())
            .filter_map(|(scope, limit)| Some((scope, limit, Key::new(scope, wish)?)))
            .collect();
        if asked.is_empty() {
            return Ok(Lease { book: None, keys: Vec::new() });
        }
        let mut book = self.0.lock();
        for (scope, limit, key) in &asked {
            let Some(slot) = book.slots.get(key) else { continue };
            if limit.connections.is_some_and(|most| slot.taken >= most) {
                return Err(Denied { scope: *scope, retry_after: None });
            }
            if let Some(wait) = limit.rate.and_then(|rate| slot.pace.clone().take(&rate, now).err()) {
                return Err(Denied { scope: *scope, retry_after: Some(wait) });
            }
        }
        book.sweep(now);
        let mut keys = Vec::with_capacity(asked.len());
        for (_, limit, key) in asked {
            let slot = book.slots.entry(key.clone()).or_insert_with(|| Slot { taken: 0, pace: Gcra::new(now) });
            slot.taken += 1;
            if let Some(rate) = limit.rate {
                // It was asked above, under the same lock.
                let _ = slot.pace.take(&rate, now);
            }
            keys.push(key);
        }
        Ok(Lease { book: Some(self.0.clone()), keys })
    }
}

impl Book {
    /// Forgets what is idle, whenever there is twice as much as was left the last time.
    fn sweep(&mut self, now: Instant) {
        if self.slots.len() < self.sweep_at.max(SWEEP_ABOVE) {
            return;
        }
        self.slots.retain(|_, slot| slot.taken > 0 || !slot.pace.is_idle(now));
        self.sweep_at = self.slots.len() * 2;
    }
}

/// A connection that was taken; dropping it gives it back.
pub struct Lease {
    book: Option<Arc<Mutex<Book>>>,
    keys: Vec<Key>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(book) = &self.book else { return };
        let mut book = book.lock();
        for key in &self.keys {
            if let Some(slot) = book.slots.get_mut(key) {
                slot.taken = slot.taken.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(scope: Scope, limit: Limit) -> Caps {
        let mut caps = Caps::default();
        caps.0[scope as usize] = limit;
        caps
    }

    fn wish(source: u8, destination: u8) -> Wish<'static> {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        Wish { client: ip(100), user: Some("u"), source: ip(source), destination: ip(destination) }
    }

    #[test]
    fn connections_are_taken_and_given_back() {
        let (limits, now) = (Limits::default(), Instant::now());
        let caps = caps(Scope::Source, Limit { connections: Some(2), rate: None });
        let held = [limits.take(&caps, &wish(1, 9), now), limits.take(&caps, &wish(1, 8), now)];
        assert!(held.iter().all(Result::is_ok));
        let denied = limits.take(&caps, &wish(1, 7), now).err();
        assert_eq!(denied, Some(Denied { scope: Scope::Source, retry_after: None }));
        assert!(limits.take(&caps, &wish(2, 9), now).is_ok(), "another source has its own");
        drop(held);
        assert!(limits.take(&caps, &wish(1, 9), now).is_ok());
    }

    #[test]
    fn a_pair_is_a_pair_and_a_rate_says_when() {
        let (limits, now) = (Limits::default(), Instant::now());
        let rate = "2/s,max_burst=1".parse::<Rate>().ok();
        let caps = caps(Scope::SourceDestination, Limit { connections: None, rate });
        assert!(limits.take(&caps, &wish(1, 9), now).is_ok());
        let denied = limits.take(&caps, &wish(1, 9), now).err().expect("one at once");
        assert_eq!(denied.retry_after, Some(Duration::from_millis(500)));
        assert!(denied.fault(&wish(1, 9)).detail.contains("limits.source_destination.rate"));
        assert!(limits.take(&caps, &wish(1, 8), now).is_ok(), "another destination has its own");
        assert!(limits.take(&caps, &wish(1, 9), now + Duration::from_millis(500)).is_ok());
    }

    #[test]
    fn what_is_denied_takes_nothing() {
        let (limits, now) = (Limits::default(), Instant::now());
        let mut both = caps(Scope::Total, Limit { connections: Some(5), rate: None });
        both.0[Scope::Source as usize] = Limit { connections: Some(1), rate: None };
        let held = limits.take(&both, &wish(1, 9), now);
        for _ in 0..10 {
            assert!(limits.take(&both, &wish(1, 9), now).is_err());
        }
        let others: Vec<_> = (2..6).map(|source| limits.take(&both, &wish(source, 9), now)).collect();
        assert!(held.is_ok() && others.iter().all(Result::is_ok), "four places of five were left");
    }

    #[test]
    fn what_is_idle_is_forgotten() {
        let (limits, now) = (Limits::default(), Instant::now());
        let caps = caps(Scope::SourceDestination, Limit { connections: Some(1), rate: None });
        for n in 0..100_000u32 {
            let wish = Wish { destination: IpAddr::from(n.to_be_bytes()), ..wish(1, 1) };
            assert!(limits.take(&caps, &wish, now).is_ok());
        }
        assert!(limits.0.lock().slots.len() <= SWEEP_ABOVE);
    }
}
