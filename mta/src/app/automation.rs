//! What automation has done by others: its orders go to the queues, and to the other nodes of a fleet. Floor 6.

use std::sync::Arc;

use egret_shared::clock::Clock;
use egret_shared::redis::Redis;

use crate::queue::control::words::{Control, Order};
use crate::queue::run::Queues;
use crate::shaping::automation::share::Way;
use crate::shaping::automation::store::Doing;
use crate::shaping::automation::{Adopts, Automation, FleetStore, Given, Memory, Orders, Rules, Sharing, Store, Told};

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

impl Adopts for ToQueues {
    fn adopt(&self, told: Told) -> Doing<'_, Result<(), String>> {
        Box::pin(async move {
            let Told { control, is_ended } = told;
            let taken = self.0.ask(move |engine, now, acts| match is_ended {
                true => {
                    engine.end_like(&control, now, acts);
                    Ok(())
                }
                false => engine.adopt(control, now, acts),
            });
            taken.await.map_err(|stopped| stopped.to_string())?.map_err(|refused| refused.to_string())
        })
    }

    fn probes(&self) -> Doing<'_, [Vec<Way>; 2]> {
        // A program that ends has no paths to probe.
        Box::pin(async { self.0.ask(|engine, now, _| engine.probes(now)).await.unwrap_or_default() })
    }

    fn allow(&self, (source, site): Way, is_proven: bool) -> Doing<'_, ()> {
        Box::pin(async move {
            let _ = self.0.ask(move |engine, _, _| engine.allow_probe(&source, &site, is_proven)).await;
        })
    }
}

/// What nodes share by that Redis; without one, what this node knows.
pub(super) fn store(fleet: Option<(Redis, String)>, clock: &Clock) -> Arc<dyn Store> {
    match fleet {
        Some((redis, node)) => Arc::new(FleetStore::new(redis, node, clock.clone())),
        None => Arc::new(Memory::default()),
    }
}

/// Automation by these rules over the queues; with others, if `store` is shared. `controls` are in force already.
pub(super) fn start(
    rules: Rules,
    queues: Queues,
    store: Arc<dyn Store>,
    controls: &[Control],
    clock: &Clock,
) -> (Automation, Sharing) {
    let sharing = Sharing::new(store.clone(), clock.clone());
    sharing.set(controls);
    let queues = Arc::new(ToQueues(queues));
    tokio::spawn(sharing.clone().run(queues.clone()));
    (Automation::new(rules, store, queues), sharing)
}
