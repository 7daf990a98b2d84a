//! Whose mail a message is, and where it leaves from: labels, sources, the ways to reach them, pools. `source` is
//! floor 0, `pool`, `health`, `pattern` and `label` floor 1, `route` floor 2.

pub mod health;
pub mod label;
pub mod pattern;
pub mod pool;
pub mod route;
pub mod source;
