//! What follows by itself from the answers of destinations: rules over answers, and the way back after a suspension.
//! `rule` floor 0 · `window`, `recovery` 1 · `set`, `store`, `watch` 2. Gives orders, does not carry them out.
//! Always: an answer that took the mail costs nothing; a failure costs one match of all patterns at once.

pub mod recovery;
pub mod rule;
pub mod set;
pub mod store;
pub mod watch;
mod window;

pub use recovery::Recovery;
pub use rule::{Action, Rule, Setting, Trigger};
pub use set::{BadPattern, Place, RuleSet, Rules, Scoped, Within};
pub use store::{Memory, Store};
pub use watch::{Automation, Fired, Given, Orders};
