//! Users of both programs: their passwords, the file that holds them, and how wrong passwords are slowed.
//! Floor 1.
//! Always: whether a user exists cannot be told from an answer or from its time; a password is in no message and no log.

mod edit;
mod file;
mod passwords;
mod penalties;

pub use edit::{add, ask_password, remove};
pub use file::read;
pub use passwords::{Passwords, Secret, check_hash, hash};
pub use penalties::{Penalties, network};

/// The longest name and password, which SOCKS5 has room for (RFC 1929).
pub const MAX_BYTES: usize = 255;
