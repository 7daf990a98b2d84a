//! Egret and its peers under the same load in one run. Floor 2. Touches processes, files, sockets.
//! Always: what is compared takes turns on the same machine, and the load tools are the same for all.

mod acceptance;
mod backlog;
mod extremes;
mod figures;
mod fleet;
mod large;
mod mtas;
mod process;
mod proxies;
mod relays;
mod restart;
pub mod simulation;
mod table;
mod turns;

pub use acceptance::acceptance;
pub use backlog::{Wanted, backlog};
pub use extremes::{Extremes, extremes};
pub use figures::{Figure, Figures, Goal};
pub use fleet::fleet;
pub use large::{large, sites};
pub use process::{Server, Usage};
pub use proxies::{ProxyResult, proxies};
pub use relays::{RelayResult, relays};
pub use table::{print_extremes, print_figures, print_proxies, print_relays};

use std::time::Duration;

/// To accept alone is faster than to deliver, too: so many times the messages of a relay run, so that a run
/// takes seconds.
const ACCEPTED_FOR_DELIVERED: usize = 5;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Messages of one relay run.
    pub count: usize,
    /// Messages that wait when an MTA starts again, and while it takes more.
    pub queued: usize,
    /// How long one proxy run takes.
    pub time: Duration,
    /// Runs of each; the median counts.
    pub rounds: usize,
}
