//! What follows by itself from the answers of destinations: rules over answers, and the way back after a suspension.
//! Floor 2; `rule`, `reason`, `window` and `recovery` are lower, `fleet` is higher. Gives orders, does not carry them out.
//! Always: an answer that took the mail costs nothing; a failure costs one match of all patterns at once.

pub mod fleet;
pub mod reason;
pub mod recovery;
pub mod rule;
pub mod set;
pub mod share;
pub mod store;
pub mod watch;
mod window;

pub use fleet::FleetStore;
pub use recovery::Recovery;
pub use rule::{Action, Rule, Setting, Trigger};
pub use set::{BadPattern, Place, RuleSet, Rules, Scoped, Within};
pub use share::{Adopts, Sharing};
pub use store::{Heard, Memory, Probe, Store, Told};
pub use watch::{Automation, Fired, Given, Orders};
