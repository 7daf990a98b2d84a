//! Where mail comes in by SMTP (RFC 5321): from bytes to a message that is offered to whoever stores it.
//! Does not store, route or queue: an [`Acceptor`] does, and its [`Taken`] is the only way to a 250.
//!
//! All is pure and on floor 1, but `smtp`, which drives the machine over a socket, floor 5.

mod auth;
mod budget;
pub mod command;
mod fuzz;
mod hold;
pub mod line;
mod meters;
mod notification;
mod offer;
mod path;
mod reply;
pub mod session;
mod settings;
mod smtp;
mod trace;

pub use auth::{Auth, AuthSettings, Credentials, Verdict};
pub use budget::Budget;
pub use fuzz::fuzz_session;
pub use hold::MAX_HOLD;
pub use meters::Meters;
pub use notification::fuzz_notification;
pub use offer::{Acceptor, Asked, Offered, Refusal, Taken};
pub use settings::Settings;
pub use smtp::serve;
pub use trace::{count_received, received_header};
