//! Fresh messages in memory, within a budget, so that a first attempt does not read the disk.
//! Pure but for its lock. Floor 2.
//! Always: what it holds is at most its budget; what it does not hold is on the disk.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::message::{Message, MessageId};

/// What a message costs beside its bytes: its metadata, roughly.
const OVERHEAD_BYTES: u64 = 512;

pub(super) struct Cache {
    budget: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    messages: HashMap<MessageId, Arc<Message>>,
    bytes: u64,
}

impl Cache {
    pub fn new(budget: u64) -> Self {
        Self { budget, held: Mutex::default() }
    }

    /// Holds nothing any more, for now.
    pub fn clear(&self) {
        let gone = std::mem::take(&mut *self.held.lock());
        // Many bodies: they are freed here, with the lock given back.
        drop(gone);
    }

    /// Keeps a message if there is room.
    pub fn keep(&self, message: Arc<Message>) {
        let cost = cost(&message);
        let mut held = self.held.lock();
        if held.bytes + cost <= self.budget && held.messages.insert(message.id, message).is_none() {
            held.bytes += cost;
        }
    }

    pub fn get(&self, id: MessageId) -> Option<Arc<Message>> {
        self.held.lock().messages.get(&id).cloned()
    }

    pub fn forget(&self, id: MessageId) {
        let mut held = self.held.lock();
        let gone = held.messages.remove(&id);
        held.bytes -= gone.as_deref().map_or(0, cost);
        drop(held);
        // The body may be large: it is freed here, with the lock given back.
        drop(gone);
    }
}

fn cost(message: &Message) -> u64 {
    message.content.len() as u64 + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    #[test]
    fn it_holds_no_more_than_its_budget_and_gives_it_back() {
        let (a, b) = (Arc::new(message(1, 100)), Arc::new(message(2, 100)));
        let cache = Cache::new(cost(&a));
        cache.keep(a.clone());
        cache.keep(b.clone());
        assert_eq!((cache.get(a.id), cache.get(b.id)), (Some(a.clone()), None));
        cache.forget(a.id);
        cache.forget(a.id);
        cache.keep(b.clone());
        assert_eq!((cache.get(a.id), cache.get(b.id)), (None, Some(b.clone())));
        cache.clear();
        assert_eq!((cache.get(a.id), cache.get(b.id)), (None, None));
        cache.keep(a.clone());
        assert_eq!(cache.get(a.id), Some(a));
    }
}
