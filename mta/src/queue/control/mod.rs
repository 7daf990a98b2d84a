//! Orders over the queues, an operator's and those of automation: suspend, bounce, move, requeue, set. Floor 2.
//! Pure, a part of the engine. `words` is what is said, `block` what may not go out, `orders` takes
//! orders, `automatic` those of automation, `recover` lets paths come back step by step, `job` works on entries in
//! slices, `view` shows, `why` says what keeps mail back, `ways` what keeps sources, `kept` what limits keep for others.
//! Always: what an order blocks is in no ready queue, and waits in its due list with its schedule unchanged.

mod automatic;
mod block;
mod job;
mod kept;
mod orders;
mod recover;
pub mod sources;
mod view;
mod ways;
mod why;
pub mod words;

use std::collections::VecDeque;

use egret_shared::clock::UnixMs;

pub(super) use block::Blocks;
pub use job::JobView;
use job::{Chore, Job};
use recover::Recoveries;
pub use view::{Filter, PartRow, QueueRow, ReadyRow, SumRow, Summary};
pub use why::{Blocker, Setter, What, Why};
use words::{Control, ControlId, ControlKind, Scope};

/// Orders in force, and work that they have left to do.
#[derive(Debug, Default)]
pub(super) struct Controls {
    /// Those that last.
    kept: Vec<Control>,
    /// Those that work on entries, running ones and the last that ended.
    jobs: Vec<Job>,
    chores: VecDeque<Chore>,
    /// Grows whenever what is blocked may have changed.
    epoch: u64,
    last_id: u64,
    /// A timer for the next slice of work is set.
    is_armed: bool,
    /// Paths on their way back, and limits that are set for a time.
    recoveries: Recoveries,
}

impl Controls {
    fn next_id(&mut self, now: UnixMs) -> ControlId {
        self.last_id = now.0.max(self.last_id + 1);
        ControlId(self.last_id)
    }

    /// The orders that last have changed.
    fn kept_changed(&mut self) {
        self.epoch += 1;
        self.recoveries.set_limits(&self.kept);
    }

    /// What may not go out, and by which order: what is suspended, and what an order is about to bounce
    /// or to move.
    fn blocking(&self) -> impl Iterator<Item = (ControlId, &Scope)> {
        let suspended = self.kept.iter().filter(|c| c.kind == ControlKind::Suspend).map(|c| (c.id, &c.scope));
        suspended.chain(self.jobs.iter().filter(|job| job.is_blocking()).map(|job| (job.id, &job.scope)))
    }

    /// Orders that last, and jobs that run: for gauges.
    pub fn counts(&self) -> [usize; 2] {
        [self.kept.len(), self.jobs.iter().filter(|job| job.ended.is_none()).count()]
    }
}
