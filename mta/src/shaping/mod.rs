//! The limits and options of an egress path, and what changes them by itself. `automation::rule` is plain data, floor 0;
//! `options` and `per_site` are plain data, floor 1; `automation` is floors 0 to 2.

pub mod automation;
pub mod options;
pub mod per_site;
