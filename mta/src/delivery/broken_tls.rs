//! Hosts whose TLS handshake failed: for a time they are used in clear at once, where TLS is not required.
//! Floor 2. Touches nothing; told the time.
//! Always: bounded; when it is full, the entry that ends first makes room.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use parking_lot::Mutex;

/// Hosts that are remembered.
const MAX_HOSTS: usize = 10_000;

/// The memory. Cheap to clone.
#[derive(Clone, Default)]
pub struct BrokenTls(Arc<Mutex<HashMap<SocketAddr, UnixMs>>>);

impl BrokenTls {
    /// Whether the handshake with `host` failed of late.
    pub fn knows(&self, host: SocketAddr, now: UnixMs) -> bool {
        let mut hosts = self.0.lock();
        match hosts.get(&host) {
            Some(until) if *until > now => true,
            Some(_) => {
                hosts.remove(&host);
                false
            }
            None => false,
        }
    }

    /// Remembers a failed handshake with `host`; false if it was remembered already.
    pub fn remember(&self, host: SocketAddr, until: UnixMs, now: UnixMs) -> bool {
        let mut hosts = self.0.lock();
        if hosts.len() >= MAX_HOSTS {
            hosts.retain(|_, until| *until > now);
        }
        if hosts.len() >= MAX_HOSTS
            && let Some(first) = hosts.iter().min_by_key(|(_, until)| **until).map(|(host, _)| *host)
        {
            hosts.remove(&first);
        }
        hosts.insert(host, until).is_none_or(|before| before <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_until_its_time_ends() {
        let (memory, host) = (BrokenTls::default(), SocketAddr::from(([192, 0, 2, 1], 25)));
        assert!(!memory.knows(host, UnixMs(5)));
        assert!(memory.remember(host, UnixMs(10), UnixMs(5)));
        assert!(!memory.remember(host, UnixMs(11), UnixMs(6)), "told once");
        assert!(memory.knows(host, UnixMs(10)) && !memory.knows(host, UnixMs(11)));
        assert!(memory.remember(host, UnixMs(20), UnixMs(12)));
    }

    #[test]
    fn a_full_memory_forgets_what_ends_first() {
        let memory = BrokenTls::default();
        let host = |n: usize| SocketAddr::from(([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 25));
        for n in 0..=MAX_HOSTS {
            memory.remember(host(n), UnixMs(100 + n as u64), UnixMs(1));
        }
        assert_eq!(memory.0.lock().len(), MAX_HOSTS);
        assert!(!memory.knows(host(0), UnixMs(1)) && memory.knows(host(1), UnixMs(1)));
    }
}
