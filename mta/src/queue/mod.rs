//! The queues: scheduled by due time, ready for a session. `engine` and what it is made of are pure,
//! floor 2; `run` is the task that drives it, floor 4.
//! Knows neither SMTP nor DNS nor the spool's files: it gives out acts and is told what came of them.

mod ahead;
mod budget;
mod classes;
pub mod control;
mod engine;
pub mod floors;
mod flow;
mod lanes;
mod limits;
mod lines;
mod meter;
mod notice;
mod options;
mod parted;
mod parts;
mod pools;
mod ready;
mod reroute;
pub mod rules;
pub mod run;
mod scheduled;
mod settle;
mod sweep;
mod words;

pub use budget::Paths;
pub use engine::Engine;
pub use meter::Meter;
pub use options::{DelayNotice, QueueOptions};
pub use words::{Act, Admit, Cause, EntryKey, NoSite, Notice, PartKey, Readmit, Resolution};

#[cfg(test)]
mod tests;
