//! The limits and options of an egress path, what decides about them, and what follows by itself from answers.
//! `options`, `per_site`, `patch`, `blocks`, `resolve`, `ceiling` and `lint` are pure, floor 1; of `automation` the rules
//! are floor 0, machines floor 1, what looks and shares floor 2; `shaper` holds what the DNS said, floor 2.

pub mod automation;
pub mod blocks;
pub mod ceiling;
pub mod lint;
pub mod options;
pub mod patch;
pub mod per_site;
pub mod resolve;
pub mod shaper;

pub use shaper::Shaper;
