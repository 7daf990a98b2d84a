//! The limits and options of an egress path, what decides about them, and what follows by itself from answers.
//! `per_site` is plain data, floor 0; `options`, `patch`, `blocks`, `resolve`, `ceiling`, `lint` and `overlap` are pure,
//! floor 1; of `automation` the rules are floor 0, machines floor 1, what looks and shares floor 2; `shaper` holds what the
//! DNS said, floor 2.

pub mod automation;
pub mod blocks;
pub mod ceiling;
pub mod lint;
pub mod options;
mod overlap;
pub mod patch;
pub mod per_site;
pub mod resolve;
pub mod shaper;

pub use shaper::Shaper;
