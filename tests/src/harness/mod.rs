//! Starts the real binaries and waits for what they do. Floor 2. Touches processes, files, sockets.
//! Always: what is started ends with its handle; each test has addresses of its own in 127.0.0.0/8, so
//! that tests run side by side.

mod fleet;
mod http;
mod namespace;
mod program;
mod redis;

pub use fleet::{Fleet, Options};
pub use http::ask;
pub use namespace::{Block, Namespace};
pub use program::{Program, binary};
pub use redis::Redis;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long things may take before a test fails; `EGRET_TEST_PATIENCE` (seconds) stretches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// `count` loopback addresses in a row that no other test of this process uses, nor, as far as process
/// ids differ, one of another.
pub fn addresses(count: u8) -> Vec<Ipv4Addr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Blocks of 32 addresses: 127.(64 + process).(block / 7).(1 + 32 * (block % 7)).
    let block = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = 64 + (std::process::id() % 180) as u8;
    let first = 1 + 32 * (block % 7) as u8;
    assert!(count <= 32, "a block has 32 addresses");
    (0..count).map(|n| Ipv4Addr::new(127, process, (block / 7) as u8, first + n)).collect()
}

/// Looks until `look` finds something; panics with `what` and the last words of `state` if it never does.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let patience = std::env::var("EGRET_TEST_PATIENCE").ok().and_then(|s| s.parse().ok());
    let end = Instant::now() + patience.map_or(PATIENCE, Duration::from_secs);
    loop {
        match look() {
            Ok(found) => return found,
            Err(state) if Instant::now() > end => panic!("{what} did not happen: {state}"),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
