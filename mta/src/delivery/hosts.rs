//! What is remembered of hosts that do not do what they offer: for a time nothing is asked of them that they broke.
//! Floor 2. Touches nothing; told the time.
//! Always: bounded for each habit; when one is full, those that would be forgotten first make room.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use parking_lot::Mutex;

/// Hosts that are remembered for one habit.
const MAX_HOSTS: usize = 10_000;
/// So many make room at once, that a full memory is not searched for each host.
const MADE_ROOM: usize = MAX_HOSTS / 10;

/// What a host was seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Its TLS handshake fails.
    BreaksTls,
    /// It offers PIPELINING and loses commands or answers.
    BreaksPipelining,
    /// It offers CHUNKING and does not know BDAT.
    BreaksChunking,
    /// It answers pipelined commands, each in its turn: when a session breaks later, pipelining is not why.
    Pipelines,
    /// Its session broke off, or answers were mixed, while it had transactions behind one another.
    BreaksAhead,
}

type Hosts = HashMap<SocketAddr, UnixMs>;

/// The memory. Cheap to clone.
#[derive(Clone, Default)]
pub struct HostMemory(Arc<Mutex<[Hosts; 5]>>);

impl HostMemory {
    /// Whether `host` was seen to do so of late.
    pub fn knows(&self, host: SocketAddr, habit: Habit, now: UnixMs) -> bool {
        let mut all = self.0.lock();
        let hosts = &mut all[habit as usize];
        match hosts.get(&host) {
            Some(until) if *until > now => true,
            Some(_) => {
                hosts.remove(&host);
                false
            }
            None => false,
        }
    }

    /// Remembers what `host` does; false if that was remembered already.
    pub fn remember(&self, host: SocketAddr, habit: Habit, until: UnixMs, now: UnixMs) -> bool {
        let mut all = self.0.lock();
        let hosts = &mut all[habit as usize];
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&host) {
            make_room(hosts, now);
        }
        hosts.insert(host, until).is_none_or(|before| before <= now)
    }
}

/// Drops what has ended; without any, what would end first.
fn make_room(hosts: &mut Hosts, now: UnixMs) {
    hosts.retain(|_, until| *until > now);
    if hosts.len() < MAX_HOSTS {
        return;
    }
    let mut ends: Vec<(UnixMs, SocketAddr)> = hosts.iter().map(|(host, until)| (*until, *host)).collect();
    ends.select_nth_unstable(MADE_ROOM);
    for (_, host) in &ends[..MADE_ROOM] {
        hosts.remove(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HABIT: Habit = Habit::BreaksTls;

    #[test]
    fn a_host_is_known_until_its_time_ends() {
        let (memory, host) = (HostMemory::default(), SocketAddr::from(([192, 0, 2, 1], 25)));
        assert!(!memory.knows(host, HABIT, UnixMs(5)));
        assert!(memory.remember(host, HABIT, UnixMs(10), UnixMs(5)));
        assert!(!memory.remember(host, HABIT, UnixMs(11), UnixMs(6)), "told once");
        assert!(memory.knows(host, HABIT, UnixMs(10)) && !memory.knows(host, HABIT, UnixMs(11)));
        assert!(memory.remember(host, HABIT, UnixMs(20), UnixMs(12)));
        assert!(!memory.knows(host, Habit::BreaksChunking, UnixMs(12)), "one habit says nothing of another");
    }

    #[test]
    fn a_full_memory_forgets_what_ends_first() {
        let memory = HostMemory::default();
        let host = |n: usize| SocketAddr::from(([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 25));
        for n in 0..=MAX_HOSTS {
            memory.remember(host(n), HABIT, UnixMs(100 + n as u64), UnixMs(1));
        }
        assert_eq!(memory.0.lock()[HABIT as usize].len(), MAX_HOSTS - MADE_ROOM + 1);
        let knows = |n| memory.knows(host(n), HABIT, UnixMs(1));
        assert!(!knows(0) && !knows(MADE_ROOM - 1) && knows(MADE_ROOM) && knows(MAX_HOSTS));
        memory.remember(host(0), HABIT, UnixMs(9_999_999), UnixMs(1_000_000));
        assert!(memory.0.lock()[HABIT as usize].len() < MAX_HOSTS);
    }
}
