//! Reports to the sender: of failure, of delay and, where it wants to hear of that, of success. `mime` is floor 1,
//! the others floor 2.
//! Decides nothing about what happened: it is told, and writes. A report goes into the spool as a new
//! message; this room knows neither the spool nor reception.

mod dsn;
mod letter;
mod mime;
mod returned;
mod status;

pub use dsn::{Dsn, News, Report, Told, fuzz_report, write};
