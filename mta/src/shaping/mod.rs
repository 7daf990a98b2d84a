//! The limits and options of an egress path. `options` and `per_site` are plain data, floor 1.

pub mod options;
pub mod per_site;
