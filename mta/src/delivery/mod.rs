//! Delivery: one session carries tickets over one way to one site, and says what became of each.
//! `reply` and `content` floor 1 · `auth`, `capabilities`, `dialogue`, `act`, `doubt`, `transaction`, `outcome`,
//! `looks`, `manner`, `outcome_rule`, `plan`, `hosts`, `leg`, `trace`, `wish` 2 · `way`, `inquiry`, `claims`,
//! `connection` 3 · `session`, `current`, `deliver`, `open`, `policy`, `transact`, `learn`, `react`,
//! `report` 4. It does not choose sources, sites or retry times, and never calls
//! the queue.

mod act;
mod auth;
mod capabilities;
mod claims;
mod connection;
mod content;
mod current;
mod deliver;
pub mod dialogue;
mod doubt;
mod hosts;
mod inquiry;
mod learn;
mod leg;
mod looks;
mod manner;
mod open;
pub mod outcome;
mod outcome_rule;
mod plan;
mod policy;
mod react;
pub mod reply;
mod report;
mod session;
pub mod trace;
mod transact;
mod transaction;
mod way;
mod wish;

pub use claims::{Claims, Suspect};
pub use hosts::{Habit, HostMemory};
pub use outcome_rule::{Action, OutcomeRule, OutcomeRules};
pub use policy::Policing;
pub use report::Metrics;
pub use session::{Deps, Events, Path, Reader, Seat, run};
