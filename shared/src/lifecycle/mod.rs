//! Start and stop of a program: the stop token, signals, logging, an output that nobody reads. Floor 1.
//! Stopping is: stop taking, drain up to a deadline, join. Nothing here sleeps to wait for a task.

mod log;
pub mod notify;
mod signals;
mod unread;

pub use log::{LogFormat, init_logging};
pub use signals::{Stop, on_terminate};
pub use unread::{end_when_unread, write_out};
