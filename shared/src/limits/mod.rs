//! Limits of rates and of things held at once, kept by one node or by a fleet. Floors 0 and 1, floors 2 and 4.
//! Knows no clock: time is handed in.
//!
//! `rate`, `spec`, `gcra` and `words` are plain data, `purse` is the machine of one node, `handle` what others use, `parts` of it
//! for limits that are divided;
//! `options` say how a node takes part; `fleet` drives the machine with the `store` in Redis.

pub mod fleet;
pub mod gcra;
pub mod handle;
pub mod options;
mod parts;
pub mod purse;
pub mod rate;
pub mod spec;
pub mod store;
pub mod words;

pub use fleet::{Driver, FleetOptions};
pub use gcra::Gcra;
pub use handle::{Denied, Health, Lease, Limits};
pub use options::Sharing;
pub use purse::{Parts, Purse};
pub use rate::Rate;
pub use spec::{Count, Throttle};
pub use words::{Answer, Ask, Closed, Manner, Refusal, UsedQuota, When};

/// The part of Redis in which proxies keep their limits: their shares are divided among proxies only.
pub const PROXIES: &str = "proxies";
