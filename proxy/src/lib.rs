//! Dials mail servers from the source address that its client asks for, and says why when it fails.
//!
//! Rooms by the way of a session, with their floors in `docs/ARCHITECTURE.md`.

pub mod access;
pub mod app;
pub mod cli;
pub mod config;
pub mod dial;
pub mod handshake;
pub mod listener;
pub mod relay;
pub mod report;
pub mod session;
pub mod source;
