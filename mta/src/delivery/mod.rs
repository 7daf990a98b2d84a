//! Delivery: one session carries tickets over one way to one site, and says what became of each.
//! `reply` and `content` floor 1 · `auth`, `capabilities`, `dialogue`, `transaction`, `outcome`, `outcome_rule`, `plan`,
//! `broken_tls`, `leg`, `trace` 2 · `way`, `inquiry`, `connection` 3 · `session`, `current`, `open`, `policy`, `report` 4.
//! It does not choose sources, sites or retry times, and never calls the queue.

mod auth;
mod broken_tls;
mod capabilities;
mod connection;
mod content;
mod current;
pub mod dialogue;
mod inquiry;
mod leg;
mod open;
pub mod outcome;
mod outcome_rule;
mod plan;
mod policy;
pub mod reply;
mod report;
mod session;
pub mod trace;
mod transaction;
mod way;

pub use broken_tls::BrokenTls;
pub use outcome_rule::{Action, OutcomeRule, OutcomeRules};
pub use policy::Policing;
pub use report::Metrics;
pub use session::{Deps, Events, Path, Reader, Seat, run};
