//! Where a message leaves from: sources, the ways to reach them, pools. `source` is
//! floor 0, `pool` and `health` floor 1, `route` floor 2.

pub mod health;
pub mod pool;
pub mod route;
pub mod source;
