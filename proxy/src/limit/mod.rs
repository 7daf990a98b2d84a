//! How many connections, and how fast, for each client, user, source and destination. Floor 2.
//! Those of sources may be kept by all proxies of a fleet together; the others are this proxy's own, in its memory.
//! Sessions know only [`Limits::take`] and the [`Lease`] it gives.
//! Always: what a session takes it takes whole or not at all, and gives back when its lease is dropped.

mod own;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::address::{Network, canonical};
use egret_shared::clock::Clock;
use egret_shared::fault::{Fault, Reason};
use egret_shared::limits::{self, Count, Health, Throttle};

use self::own::{OwnLease, OwnLimits};

/// How long a session waits for the store. It takes less to notice that the store is away, and then the share of
/// this proxy decides.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// Those from one source to one destination address or network.
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

    /// Whether the proxies of a fleet can keep it together: they share sources, but neither clients nor users.
    pub fn can_be_shared(self) -> bool {
        matches!(self, Self::Source | Self::SourceDestination)
    }
}

/// What one scope allows; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// Connections at once.
    pub connections: Option<Count>,
    /// New connections.
    pub rate: Option<Throttle>,
}

/// How wide the networks are that count as one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// In IPv4.
    pub ipv4: u8,
    /// In IPv6.
    pub ipv6: u8,
}

impl Default for Widths {
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 128 }
    }
}

impl Widths {
    fn network(self, ip: IpAddr) -> Network {
        let ip = canonical(ip);
        Network::around(ip, if ip.is_ipv4() { self.ipv4 } else { self.ipv6 })
    }
}

/// What all scopes allow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caps {
    /// In the order of [`Scope::ALL`].
    pub limits: [Limit; Scope::ALL.len()],
    /// What counts as one destination.
    pub widths: Widths,
}

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

/// What of a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Connections at once.
    Connections,
    /// New connections.
    Rate,
}

/// Whose limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// This proxy's own.
    Own,
    /// That of all proxies of the fleet.
    Fleet,
    /// This proxy's share of it, because Redis is away.
    Share,
    /// That of the fleet may be: Redis did not answer in time.
    Unknown,
}

/// A connection that is refused by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The limit.
    pub scope: Scope,
    /// What of it.
    pub what: What,
    /// Whose it is.
    pub keeper: Keeper,
    /// How long to wait, if that is known.
    pub retry_after: Option<Duration>,
}

impl Denied {
    /// As it is told.
    pub fn fault(self, wish: &Wish<'_>) -> Fault {
        let name = self.scope.as_str();
        let what = match self.what {
            What::Connections => "connections",
            What::Rate => "rate",
        };
        let how = match self.keeper {
            Keeper::Own => "is reached".to_owned(),
            Keeper::Fleet => "is reached by all proxies of the fleet together".to_owned(),
            Keeper::Share => "is reached: Redis is away, this is the share of this proxy".to_owned(),
            Keeper::Unknown => format!("cannot be known: Redis did not answer within {} ms", PATIENCE.as_millis()),
        };
        let wait = self.retry_after.map(|wait| format!(", retry after {} ms", wait.as_millis())).unwrap_or_default();
        let detail = format!("{} to {}: limits.{name}.{what} {how}{wait}", wish.source, wish.destination);
        let mut fault = Fault::new(Reason::LimitReached, detail);
        fault.retry_after = self.retry_after;
        fault
    }
}

/// What is taken. Cheap to clone.
#[derive(Clone, Default)]
pub struct Limits {
    own: OwnLimits,
    fleet: Option<limits::Limits>,
}

/// A connection that was taken; dropping it gives it back.
pub struct Lease {
    _own: OwnLease,
    _fleet: Option<limits::Lease>,
}

impl Limits {
    /// Those of sources kept together with the fleet.
    pub fn of_fleet(fleet: limits::Limits) -> Self {
        Self { own: OwnLimits::default(), fleet: Some(fleet) }
    }

    /// Takes a connection within `caps`. It waits only where the fleet must be asked, and not for room.
    ///
    /// # Errors
    /// The limit that is reached; then nothing was taken.
    pub async fn take(&self, caps: &Caps, wish: &Wish<'_>, clock: &Clock) -> Result<Lease, Denied> {
        let own = self.own.take(caps, wish, clock.now(), self.fleet.is_some())?;
        let Some(fleet) = &self.fleet else { return Ok(Lease { _own: own, _fleet: None }) };
        match obtain(fleet, &Asked::new(caps, wish), clock).await {
            Ok(fleets) => Ok(Lease { _own: own, _fleet: fleets }),
            Err(denied) => {
                own.unused();
                Err(denied)
            }
        }
    }
}

/// What is asked of the fleet.
#[derive(Default)]
struct Asked {
    counts: Vec<(Arc<str>, Count)>,
    rates: Vec<(Arc<str>, Throttle)>,
    scopes: Vec<(Arc<str>, Scope, What)>,
}

impl Asked {
    fn new(caps: &Caps, wish: &Wish<'_>) -> Self {
        let mut asked = Self::default();
        for (scope, limit) in Scope::ALL.into_iter().zip(&caps.limits).filter(|(scope, _)| scope.can_be_shared()) {
            let name = || -> Arc<str> { name(scope, caps, wish).into() };
            if let Some(count) = limit.connections.filter(|count| !count.local) {
                asked.counts.push((name(), count));
                asked.scopes.push((asked.counts[asked.counts.len() - 1].0.clone(), scope, What::Connections));
            }
            if let Some(throttle) = limit.rate.filter(|throttle| !throttle.local) {
                asked.rates.push((name(), throttle));
                asked.scopes.push((asked.rates[asked.rates.len() - 1].0.clone(), scope, What::Rate));
            }
        }
        asked
    }

    /// Which limit a name that was refused is. A count and a rate may have one name: the text itself tells them apart.
    fn limit(&self, name: &Arc<str>) -> (Scope, What) {
        let same = self.scopes.iter().find(|(known, ..)| Arc::ptr_eq(known, name));
        let found = same.or_else(|| self.scopes.iter().find(|(known, ..)| known == name));
        found.map_or((Scope::Source, What::Connections), |(_, scope, what)| (*scope, *what))
    }
}

/// The name of a limit in the store: the same at each proxy that has the source.
fn name(scope: Scope, caps: &Caps, wish: &Wish<'_>) -> String {
    let source = canonical(wish.source);
    match scope {
        Scope::SourceDestination => format!("proxy source {source}->{}", caps.widths.network(wish.destination)),
        _ => format!("proxy source {source}"),
    }
}

async fn obtain(fleet: &limits::Limits, asked: &Asked, clock: &Clock) -> Result<Option<limits::Lease>, Denied> {
    if asked.scopes.is_empty() {
        return Ok(None);
    }
    let deadline: Instant = clock.now() + PATIENCE;
    fleet.obtain(&asked.counts, &asked.rates, clock, deadline).await.map(Some).map_err(|denied| {
        let (scope, what) = asked.limit(&denied.name);
        let keeper = match fleet.health() {
            Health::Degraded { .. } => Keeper::Share,
            Health::Ok if denied.retry_after.is_none() && clock.now() >= deadline => Keeper::Unknown,
            Health::Ok => Keeper::Fleet,
        };
        Denied { scope, what, keeper, retry_after: denied.retry_after }
    })
}

#[cfg(test)]
mod tests;
