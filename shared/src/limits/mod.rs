//! Limits of rates and of things held at once. Floor 0. Knows no clock: time is handed in.

pub mod gcra;
pub mod rate;
pub mod spec;

pub use gcra::Gcra;
pub use rate::Rate;
pub use spec::{Count, Throttle};
