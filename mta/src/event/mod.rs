//! Events: one record of each thing that happened to a message. `record` is floor 1, `log` floor 3.

pub mod log;
pub mod record;
