//! How much memory the program may take before it takes no more mail. `pressure` is pure and on floor 1,
//! `probe` reads what the system says and `watch` looks again and again, both on floor 2.
//! Does not free anything itself: who has a cache gives a function that shrinks it.

mod pressure;
mod probe;
mod watch;

pub use pressure::{Level, Limit, Limits, Options, Pressure};
pub use probe::{resident, total};
pub use watch::{Relief, watch};
