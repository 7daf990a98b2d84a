//! The limits and options of an egress path, and what follows by itself from answers. `options` and `per_site` are
//! plain data, floor 1; of `automation` the rules are floor 0, machines floor 1, what looks and shares floor 2.

pub mod automation;
pub mod options;
pub mod per_site;
