//! The limits and options of an egress path. `options` is plain data, floor 1.

pub mod options;
