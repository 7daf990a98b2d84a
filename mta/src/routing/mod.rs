//! Where a message leaves from: sources, the ways to reach them, pools. Floors 1 and 2.

pub mod health;
pub mod pool;
pub mod route;
pub mod source;
