//! Where the limits of sources are kept: by this proxy for itself, or by all proxies that share a Redis. Floor 6.
//! Always: places that this proxy has are free for others when it has ended.

use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::Clock;
use egret_shared::limits::{self, FleetOptions, Health, PROXIES};
use egret_shared::redis::{self, Redis};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::StartError;
use crate::config::Config;
use crate::limit::Limits;

/// The name of the gauge that is 1 while each proxy goes on with its share.
const DEGRADED: &str = "egret_proxy_limits_degraded";
/// How long Redis may take to hear that this proxy ends.
const GOODBYE: Duration = Duration::from_millis(600);

/// Limits, and the task that asks the store. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Kept {
    fleet: Option<limits::Limits>,
    asking: Arc<Mutex<Option<JoinHandle<()>>>>,
    stop: CancellationToken,
}

impl Kept {
    /// Those of a fleet if there is a Redis.
    pub async fn start(config: &Config, clock: &Clock) -> Result<Self, StartError> {
        let Some(options) = &config.redis else { return Ok(Self::default()) };
        if options.required {
            let answer = Redis::new(options.clone()).command(&redis::ping()).await;
            answer.map_err(|failure| {
                StartError::Redis(format!("{failure}; redis.required is true, so that nothing starts without it"))
            })?;
        }
        let node = member(config.announced.as_ref().map(|announced| announced.name.as_str()));
        info!(redis = options.place(), node, "limits of sources are kept together with other proxies");
        let (manner, server_time) = (config.sharing.manner(None), config.sharing.server_time);
        let fleet = FleetOptions { node, manner, server_time, degraded_metric: DEGRADED };
        let (limits, driver) = limits::Limits::fleet(Redis::new(options.part(PROXIES)), fleet, clock.clone());
        let stop = CancellationToken::new();
        let asking = Arc::new(Mutex::new(Some(tokio::spawn(driver.run(stop.clone())))));
        Ok(Self { fleet: Some(limits), asking, stop })
    }

    /// What sessions take.
    pub fn limits(&self) -> Limits {
        self.fleet.clone().map_or_else(Limits::default, Limits::of_fleet)
    }

    /// How the limits stand, in words, if not as they should.
    pub fn degraded(&self) -> Option<String> {
        match self.fleet.as_ref()?.health() {
            Health::Ok => None,
            Health::Degraded { why, nodes, .. } => {
                Some(format!("limits: this proxy goes on with its share, 1 of {nodes}: {}", why.replace('\n', "; ")))
            }
        }
    }

    /// Leaves the fleet.
    pub async fn end(self) {
        self.stop.cancel();
        let asking = self.asking.lock().take();
        if let Some(asking) = asking {
            let _ = timeout(GOODBYE, asking).await;
        }
    }
}

/// A name that no other proxy has, and this one not again when it is started anew.
fn member(name: Option<&str>) -> String {
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = name.map(str::to_owned).or_else(host).unwrap_or_else(|| "proxy".to_owned());
    format!("{name}/{:016x}", run())
}

/// A number that no other run has.
pub(super) fn run() -> u64 {
    let mut seed = [0; 8];
    // Without random numbers the time and the process are what tells runs apart.
    if aws_lc_rs::rand::fill(&mut seed).is_err() {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as u64;
        seed = (now ^ u64::from(std::process::id()) << 48).to_be_bytes();
    }
    u64::from_be_bytes(seed)
}
