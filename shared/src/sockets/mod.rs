//! Sessions of MTA nodes compared with the sockets that proxies have open. A node *claims* the sessions that it has
//! through a proxy, by its own end of each; the proxy *reports* which of them it does not have. What only one side has is
//! ended there.
//! `claim`, `ledger` (a node's side) and `watch` (a proxy's) are pure, floor 1; `store` speaks with Redis, floor 4.
//! Always: what was never seen on both sides is never ended, so that clients that claim nothing, and nodes whose addresses
//! are translated on the way, go on as if this were not there.

pub mod claim;
pub mod ledger;
pub mod store;
pub mod watch;

use std::time::Duration;

/// How often a node claims, and a proxy reports.
pub const BEAT: Duration = Duration::from_secs(1);
/// A node that is not heard of for so long is gone: so long its places in the fleet's limits last, too.
pub const LIFE: Duration = Duration::from_secs(15);
/// So often in a row something must be missing: what was said last may still be on its way.
const MISSES: u8 = 2;

#[cfg(test)]
mod tests;
