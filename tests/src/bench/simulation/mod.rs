//! A fleet in one process, on a clock of its own: real purses, real scripts in a real Redis, simulated nodes, sessions
//! and network. Floors 0 to 4.
//! Always: the same seed gives the same work; time passes only from one event to the next.

mod chance;
mod check;
mod costs;
mod fleet;
mod hours;
mod model;
mod node;
mod plan;
mod report;
mod sessions;
mod store;
mod tally;
mod world;

pub use chance::Chance;
pub use costs::costs;
pub use model::Model;
pub use report::simulate;
pub use store::{Asked, Cost, Life, RealStore, Told};

use std::time::Duration;

/// Microseconds.
const SECOND: u64 = 1_000_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Setup {
    /// MTA nodes.
    pub nodes: usize,
    /// Sources that all of them use.
    pub sources: usize,
    /// Sites; the first ones have more work than their limits let through.
    pub sites: usize,
    /// Messages of a day to the other sites.
    pub messages: f64,
    /// How long the day takes: its curve is compressed, the work of each second stays the same.
    pub day: Duration,
    /// From a node to the store, at least and at most, in microseconds.
    pub delay: (u64, u64),
    /// Batches of messages for each saturated site that wait or go at each node.
    pub depth: usize,
    /// Whether anything goes wrong.
    pub faults: bool,
    /// Of chance.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 200,
            sources: 500,
            sites: 1_000,
            messages: 20e6,
            day: Duration::from_secs(86_400),
            delay: (250, 1_000),
            depth: 3,
            faults: true,
            seed: 1,
        }
    }
}
