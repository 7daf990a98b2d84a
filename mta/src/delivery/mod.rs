//! Delivery: one session carries tickets over one way to one site, and says what became of each.
//! `reply`, `capabilities` and `content` floor 1 · `dialogue`, `transaction`, `outcome`, `broken_tls`,
//! `leg`, `trace` 2 · `way`, `inquiry`, `connection` 3 · `session`, `open`, `report` 4. It does not choose sources, sites or retry times, and never calls the queue.

mod broken_tls;
mod capabilities;
mod connection;
mod content;
pub mod dialogue;
mod inquiry;
mod leg;
mod open;
pub mod outcome;
pub mod reply;
mod report;
mod session;
pub mod trace;
mod transaction;
mod way;

pub use broken_tls::BrokenTls;
pub use report::Metrics;
pub use session::{Deps, Events, Path, Reader, Seat, run};
