//! Tells the registry what this proxy is and holds, so that MTA nodes find it. Floor 4.
//! Always: what is told is what is in force: listeners, states of addresses, drain; at the end nothing is told any more.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use egret_shared::clock::Clock;
use egret_shared::net::accept::Room;
use egret_shared::redis::{Redis, RedisOptions};
use egret_shared::registry::record::{Address, Endpoint, ProxyRecord};
use egret_shared::registry::store::Registry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::policy::{Current, ListenerPolicy, Protocol};

/// What is announced of this proxy, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its name in the fleet.
    pub name: String,
    /// What pools can choose it by.
    pub tags: Vec<String>,
    /// How others reach this host, where a listener listens at all of its addresses.
    pub address: Option<IpAddr>,
    /// Where the registry is.
    pub redis: RedisOptions,
}

/// What an announcement tells of.
pub struct Told {
    /// As configured.
    pub announced: Announced,
    /// What is in force.
    pub policy: Current,
    /// Sessions and how many there may be.
    pub room: Room,
    /// See `room`.
    pub max_sessions: usize,
    /// The admin address.
    pub admin: Option<SocketAddr>,
    /// Its time is when the program was started.
    pub clock: Clock,
    /// Cancelled when no new sessions are taken.
    pub drain: CancellationToken,
}

impl Told {
    /// Announces until `stop`.
    pub async fn announce(self, stop: CancellationToken) {
        let registry = Registry::new(Redis::new(self.announced.redis.clone()));
        let (started, changed) = (self.clock.wall().0, Arc::new(Notify::new()));
        let (woken, drain) = (changed.clone(), self.drain.clone());
        let waking = tokio::spawn(async move {
            drain.cancelled().await;
            woken.notify_one();
        });
        registry.announce(|| self.record(started), &changed, stop).await;
        waking.abort();
    }

    fn record(&self, started: u64) -> ProxyRecord {
        let policy = self.policy.load();
        let own = |address: SocketAddr| reached(address, self.announced.address);
        let addresses = policy.sources.held().all().into_iter();
        ProxyRecord {
            name: self.announced.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started,
            draining: self.drain.is_cancelled(),
            endpoints: policy.listeners.iter().map(|listener| endpoint(listener, self.announced.address)).collect(),
            admin: self.admin.map(own),
            tags: self.announced.tags.clone(),
            addresses: addresses.map(|(address, s)| Address { address, state: s.as_str().to_owned() }).collect(),
            sessions: self.room.taken() as u64,
            max_sessions: self.max_sessions as u64,
        }
    }
}

/// How others reach an address that this host listens at.
fn reached(address: SocketAddr, own: Option<IpAddr>) -> SocketAddr {
    match own {
        Some(own) if address.ip().is_unspecified() => SocketAddr::new(own, address.port()),
        _ => address,
    }
}

fn endpoint(listener: &ListenerPolicy, own: Option<IpAddr>) -> Endpoint {
    let dialects: &[&str] = match listener.protocol {
        Protocol::Socks5 => &["socks5", "socks5-connect"],
        Protocol::Proxy => &["proxy-v2", "proxy-v1"],
        Protocol::Auto => &["socks5", "socks5-connect", "proxy-v2", "proxy-v1"],
    };
    let dialects = dialects.iter().map(|dialect| (*dialect).to_owned()).collect();
    Endpoint { address: reached(listener.address, own), dialects, tls: listener.tls.is_some() }
}
