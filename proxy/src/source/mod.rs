//! The held addresses: which one a request means (`pick`, floor 1), in what state each is (`held`,
//! floor 1), and what the kernel tells of them (`watch`, floor 3).

pub mod held;
pub mod pick;
pub mod watch;

pub use held::{Held, State};
pub use pick::{HeldAddress, SourceSet, Sources};
