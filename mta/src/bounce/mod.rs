//! Reports of failure to the sender. `mime` is floor 1, `dsn` floor 2.
//! Decides nothing about who failed: it is told, and writes. A report goes into the spool as a new
//! message; this room knows neither the spool nor reception.

mod dsn;
mod mime;

pub use dsn::{Dsn, Failure, Report, fuzz_report, write};
