//! Egret and its peers under the same load in one run. Floor 2. Touches processes, files, sockets.
//! Always: what is compared takes turns on the same machine, and the load tools are the same for all.

mod extremes;
mod process;
mod proxies;
mod relays;
mod table;

pub use extremes::{Extremes, extremes};
pub use process::{Server, Usage};
pub use proxies::{ProxyResult, proxies};
pub use relays::{RelayResult, relays};
pub use table::{print_extremes, print_proxies, print_relays};

use std::time::Duration;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Messages of one relay run.
    pub count: usize,
    /// How long one proxy run takes.
    pub time: Duration,
    /// Runs of each; the median counts.
    pub rounds: usize,
}

/// The middle of some values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
