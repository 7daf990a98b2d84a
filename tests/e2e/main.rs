//! Stories of the two real binaries with real peers over real sockets. One file a story.

mod clock;
mod config;
mod crash;
mod damage;
mod disk_errors;
mod dkim;
mod drain;
mod dsn;
mod faults;
mod full;
mod health;
mod hold;
mod labels;
mod memory;
mod mount;
mod pause;
mod power;
mod queue;
mod relay;
mod reload;
mod rules;
mod spool;
mod support;
mod swaks;
mod trace;
mod ways;
