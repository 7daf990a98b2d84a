//! Dials mail servers from the source address that its client asks for, and says why when it fails.
//!
//! Rooms by the way of a session, with their floors in `docs/ARCHITECTURE.md`.

pub mod access;
pub mod admin;
pub mod announce;
pub mod app;
pub mod auth;
pub mod check;
pub mod claims;
pub mod cli;
pub mod config;
pub mod dial;
pub mod handshake;
pub mod leg;
pub mod limit;
pub mod listener;
pub mod policy;
pub mod relay;
pub mod report;
pub mod session;
pub mod source;
pub mod test_dial;
