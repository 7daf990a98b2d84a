//! What may not go out. Pure. Floor 2.
//! Always: each queue's answer is worked out once for each change of the orders, not once a message.

use std::sync::Arc;

use super::words::{ControlId, Scope};
use crate::message::QueueName;
use crate::queue::engine::{Engine, QueueKey};
use crate::queue::words::EntryKey;
use crate::shaping::per_site::names_site;

/// What blocks a queue, as of an epoch of the orders.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Blocks {
    epoch: u64,
    /// Nothing of it goes out.
    pub whole: Option<ControlId>,
    /// Paths that it may not take.
    paths: Box<[BlockedPath]>,
}

#[derive(Clone, Debug)]
struct BlockedPath {
    id: ControlId,
    source: Option<Arc<str>>,
    site: Option<Arc<str>>,
}

impl Blocks {
    fn of<'a>(name: &QueueName, epoch: u64, blocking: impl Iterator<Item = (ControlId, &'a Scope)>) -> Self {
        let mut whole = None;
        let mut paths = Vec::new();
        for (id, scope) in blocking.filter(|(_, scope)| scope.fits_name(name)) {
            if scope.is_of_path() {
                paths.push(BlockedPath { id, source: scope.source.clone(), site: scope.site.clone() });
            } else {
                whole = whole.or(Some(id));
            }
        }
        Self { epoch, whole, paths: paths.into() }
    }

    /// What blocks the path from `source` to `site`, for this queue.
    pub fn path(&self, source: &str, site: &str) -> Option<ControlId> {
        let is_from = |path: &BlockedPath| path.source.as_deref().is_none_or(|wanted| wanted == source);
        let is_to = |path: &BlockedPath| path.site.as_deref().is_none_or(|wanted| names_site(wanted, site));
        let blocked = self.paths.iter().find(|path| is_from(path) && is_to(path));
        self.whole.or(blocked.map(|path| path.id))
    }
}

impl Engine {
    /// What blocks a queue now.
    pub(in crate::queue) fn blocks(&mut self, queue: QueueKey) -> Option<&Blocks> {
        let (controls, scheduled) = (&self.controls, self.queues.get_mut(queue)?);
        if scheduled.blocks.epoch != controls.epoch {
            scheduled.blocks = Blocks::of(&scheduled.key.0, controls.epoch, controls.blocking());
        }
        Some(&scheduled.blocks)
    }

    /// Whether nothing of a queue goes out now.
    pub(in crate::queue) fn is_blocked(&mut self, queue: QueueKey) -> bool {
        self.blocks(queue).is_some_and(|blocks| blocks.whole.is_some())
    }

    /// Puts what a scope covers back from the ready queues: no session gets it.
    pub(super) fn withdraw(&mut self, scope: &Scope) {
        self.controls.epoch += 1;
        let mut back: Vec<EntryKey> = Vec::new();
        let Self { ready, sites, entries, queues, .. } = self;
        for ready in ready.values_mut() {
            let site = sites.get(ready.site).map_or("", |slot| &*slot.site.name);
            if !scope.fits_path(&ready.source.name, site) {
                continue;
            }
            let queue = |entry| entries.get(entry).and_then(|entry| queues.get(entry.queue));
            let out = ready.waiting.take_out(|e| queue(e).is_some_and(|q| scope.fits_name(&q.key.0)));
            back.extend(out.into_iter().rev());
        }
        for entry in back {
            self.return_due(entry);
        }
    }

    /// What no order blocks any longer goes on, a slice at a time.
    pub(super) fn release(&mut self, scope: &Scope) {
        self.controls.epoch += 1;
        let fits = self.queues.iter().filter(|(_, queue)| queue.waiting > 0 && scope.fits_name(&queue.key.0));
        let queues = fits.map(|(key, _)| key).collect();
        self.wake_queues(queues);
    }
}
