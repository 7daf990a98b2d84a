//! The limits and options of an egress path, and what decides about them. `options`, `per_site`, `patch`, `blocks`,
//! `resolve`, `ceiling`, `lint` and `automation` are pure, floor 1; `shaper` holds what the DNS said, floor 2.

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
