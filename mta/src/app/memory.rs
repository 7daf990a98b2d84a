//! The program's memory: its limits, who asks about them, and who gives some back. Floor 6.

use std::time::Duration;

use metrics::gauge;
use tokio::task::JoinHandle;
use tracing::info;

use egret_shared::units::Size;

use crate::config::Config;
use crate::dns::resolver::Resolver;
use crate::memory::{self, Level, Limits, Pressure, Relief};
use crate::reception::{Asked, Budget, Refusal};
use crate::spool::Spool;

/// How often the program's memory is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Memory as the parts of the program know it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Memory {
    /// How much there is against its limits.
    pub pressure: Pressure,
    /// What messages that are being received hold.
    pub budget: Budget,
}

impl Memory {
    /// The limits that `config` means on this host.
    pub fn new(config: &Config) -> Self {
        let limits = limits(config);
        Self { pressure: Pressure::new(limits), budget: Budget::new(limits.reception) }
    }

    /// Looks again and again, until it is aborted. Each of `reliefs` is a cache that can shrink.
    pub fn watch(&self, reliefs: Vec<Relief>) -> JoinHandle<()> {
        let (budget, receiving) = (self.budget.clone(), gauge!("egret_mta_memory_reception_bytes"));
        let look = move || {
            receiving.set(budget.used() as f64);
            memory::resident()
        };
        tokio::spawn(memory::watch(self.pressure.clone(), PERIOD, look, reliefs))
    }

    /// Why something cannot begin now, in the words of the reply.
    pub fn refusal(&self, asked: Asked) -> Option<Refusal> {
        let is_refused = match asked {
            Asked::Mail => self.pressure.level() >= Level::Soft,
            Asked::Text => self.pressure.level() >= Level::Hard,
        };
        is_refused.then(|| Refusal::new(452, (4, 3, 1), "too little memory, try again later"))
    }

    /// Whether clients are turned away.
    pub fn is_closed(&self) -> bool {
        self.pressure.level() == Level::Hard
    }
}

/// The caches that shrink when memory is short, one line for each.
pub(super) fn reliefs(resolver: &Resolver, spool: &Spool) -> Vec<Relief> {
    let (resolver, spool) = (resolver.clone(), spool.clone());
    vec![Box::new(move || resolver.clear_cache()), Box::new(move || spool.clear_cache())]
}

fn limits(config: &Config) -> Limits {
    let limits = config.memory.limits(memory::total());
    let told = |bytes: u64| if bytes == u64::MAX { "none".to_owned() } else { Size(bytes).to_string() };
    let (soft, hard, reception) = (told(limits.soft), told(limits.hard), told(limits.reception));
    info!(%soft, %hard, %reception, "limits of memory");
    limits
}
