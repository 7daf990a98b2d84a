//! What automation has done by others: its orders go to the queues. Floor 6.

use std::sync::Arc;

use crate::queue::control::words::Order;
use crate::queue::run::Queues;
use crate::shaping::automation::store::Doing;
use crate::shaping::automation::{Automation, Given, Memory, Orders, Rules};

/// The queues, which carry orders out.
struct ToQueues(Queues);

impl Orders for ToQueues {
    fn give(&self, order: Order) -> Doing<'_, Given> {
        Box::pin(async move {
            let given = self.0.ask(move |engine, now, acts| engine.automatic(order, now, acts)).await;
            given.map_err(|stopped| stopped.to_string())?.map_err(|refused| refused.to_string())
        })
    }
}

/// Automation by these rules over the queues.
pub(super) fn start(rules: Rules, queues: Queues) -> Automation {
    Automation::new(rules, Arc::new(Memory::default()), Arc::new(ToQueues(queues)))
}
