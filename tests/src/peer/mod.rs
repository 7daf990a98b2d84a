//! Peers of the programs under test: load source, counting sink, short sessions, Postfix. Floor 1.

mod counts;
pub mod postfix;
pub(crate) mod reply;
pub mod sessions;
pub mod sink;
pub mod source;
pub mod tls;

pub use counts::{Kept, Stats};
