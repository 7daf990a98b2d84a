//! Looks at the program's memory again and again, tells what changed, and has caches shrunk.
//! A task; floor 2.
//! Always: a look that fails changes nothing and is told once.

use std::time::Duration;

use egret_shared::units::Size;
use metrics::{Gauge, gauge};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::pressure::{Level, Pressure};

/// Gives back memory that can be had again. Called when a limit is passed, and now and then while it is.
pub type Relief = Box<dyn Fn() + Send + Sync>;

/// While a limit is passed, at every so-manieth look caches shrink again.
const RELIEF_EVERY: u32 = 30;

/// The gauges of memory.
struct Gauges {
    resident: Gauge,
    soft: Gauge,
    hard: Gauge,
    level: Gauge,
}

impl Gauges {
    fn new() -> Self {
        Self {
            resident: gauge!("egret_mta_memory_resident_bytes"),
            soft: gauge!("egret_mta_memory_soft_limit_bytes"),
            hard: gauge!("egret_mta_memory_hard_limit_bytes"),
            level: gauge!("egret_mta_memory_level"),
        }
    }

    fn show(&self, pressure: &Pressure) {
        let limit = |bytes: u64| if bytes == u64::MAX { 0.0 } else { bytes as f64 };
        let (soft, hard) = pressure.limits();
        self.resident.set(pressure.used() as f64);
        self.soft.set(limit(soft));
        self.hard.set(limit(hard));
        self.level.set(f64::from(pressure.level() as u8));
    }
}

/// Looks every `period`, until it is dropped. `look` says how many bytes the program has.
pub async fn watch(
    pressure: Pressure,
    period: Duration,
    mut look: impl FnMut() -> Result<u64, String>,
    reliefs: Vec<Relief>,
) {
    let gauges = Gauges::new();
    let (mut is_blind, mut looks) = (false, 0_u32);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match look() {
            Ok(used) => {
                is_blind = false;
                if let Some(level) = pressure.found(used) {
                    tell(level, &pressure);
                    looks = 0;
                }
            }
            Err(why) if !is_blind => {
                is_blind = true;
                warn!(%why, "the memory of the program cannot be seen; its limits do nothing");
            }
            Err(_) => {}
        }
        if pressure.level() > Level::Good && looks.is_multiple_of(RELIEF_EVERY) {
            for relief in &reliefs {
                relief();
            }
        }
        looks = looks.wrapping_add(1);
        gauges.show(&pressure);
    }
}

fn tell(level: Level, pressure: &Pressure) {
    let (soft, hard) = pressure.limits();
    let limit = |bytes: u64| if bytes == u64::MAX { "none".to_owned() } else { Size(bytes).to_string() };
    let (resident, soft, hard) = (Size(pressure.used()), limit(soft), limit(hard));
    match level {
        Level::Good => info!(%resident, %soft, %hard, "memory is within its limits again: mail is taken"),
        Level::Soft => warn!(%resident, %soft, %hard, "memory is over its soft limit: new mail is refused with 452"),
        Level::Hard => {
            warn!(%resident, %soft, %hard, "memory is over its hard limit: new clients are refused with 421");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::super::pressure::Limits;
    use super::*;

    #[tokio::test]
    async fn caches_shrink_while_a_limit_is_passed_and_blindness_changes_nothing() {
        let pressure = Pressure::new(Limits { soft: 100, hard: 200, reception: 0 });
        let (used, shrunk) = (Arc::new(AtomicU64::new(50)), Arc::new(AtomicUsize::new(0)));
        let (seen, counted) = (used.clone(), shrunk.clone());
        let look = move || match seen.load(Ordering::SeqCst) {
            0 => Err("no /proc".to_owned()),
            used => Ok(used),
        };
        let relief: Relief = Box::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let watching = tokio::spawn(watch(pressure.clone(), Duration::from_millis(1), look, vec![relief]));
        let reaches = async |level: Level| {
            while pressure.level() != level {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        reaches(Level::Good).await;
        assert_eq!(shrunk.load(Ordering::SeqCst), 0);
        used.store(100, Ordering::SeqCst);
        reaches(Level::Soft).await;
        used.store(0, Ordering::SeqCst);
        while shrunk.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(pressure.level(), Level::Soft);
        used.store(94, Ordering::SeqCst);
        reaches(Level::Good).await;
        watching.abort();
    }
}
