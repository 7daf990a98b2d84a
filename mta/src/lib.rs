//! A lean queueing MTA that sends from many IP addresses.
//!
//! Rooms by the way of a message, with their floors in `docs/ARCHITECTURE.md`.

pub mod admin;
pub mod app;
pub mod bounce;
pub mod cli;
pub mod config;
pub mod controls;
pub mod delivery;
pub mod dns;
pub mod event;
pub mod intake;
pub mod memory;
pub mod message;
pub mod queue;
pub mod reception;
pub mod routing;
pub mod shaping;
pub mod sign;
pub mod spool;
pub mod tls_report;
pub mod users;
