//! Whose mail a message is, and where it leaves from: labels, sources, the ways to reach them, pools. `source` is
//! floor 0, `pool`, `discover`, `health`, `pattern`, `matcher` and `label` floor
//! 1, `route`, `rule` and `ways` floor 2.

pub mod discover;
pub mod health;
pub mod label;
pub mod matcher;
pub mod pattern;
pub mod pool;
pub mod route;
pub mod rule;
pub mod source;
pub mod warmup;
pub mod ways;
