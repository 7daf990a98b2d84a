//! The limits that the queues keep: by this node for itself, or by all nodes that share a Redis. Floor 6.
//! Always: places that this node has are free for others when it has ended.

use egret_shared::clock::Clock;
use egret_shared::limits::{FleetOptions, Health, Limits};
use egret_shared::redis::{Redis, RedisOptions};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::used_quotas::UsedQuotas;
use super::{ADMIN_WAIT, StartError};
use crate::config::Config;
use crate::delivery::Claims;
use crate::elsewhere::kept;

/// The name of the gauge that is 1 while each node goes on with its share.
const DEGRADED: &str = "egret_mta_limits_degraded";

/// Limits, and the task that asks the store.
pub(super) struct Kept {
    pub limits: Limits,
    pub is_shared: bool,
    /// What the nodes share it by, and what this one is called there.
    pub fleet: Option<(Redis, String)>,
    /// Sessions through proxies: they hold places, and are compared with the proxies' sockets.
    pub claims: Claims,
    asking: Option<JoinHandle<()>>,
    used: UsedQuotas,
    keeping: JoinHandle<()>,
    stop: CancellationToken,
}

impl Kept {
    /// Those of a fleet if there is a Redis. `seed` makes this run of the node another member than the one before.
    pub fn start(config: &Config, seed: u64, clock: &Clock) -> Self {
        let stop = CancellationToken::new();
        let Some(options) = &config.redis else {
            let (limits, claims) = (Limits::memory(), Claims::default());
            let (used, keeping) = keeping(config, &limits, clock);
            return Self { limits, is_shared: false, fleet: None, claims, asking: None, used, keeping, stop };
        };
        let known = kept::read_nodes(&config.spool.path, &options.place());
        let (manner, server_time) = (config.sharing.manner(known), config.sharing.server_time);
        let node = format!("{}/{seed:016x}", config.hostname);
        let fleet = FleetOptions { node, manner, server_time, degraded_metric: DEGRADED };
        info!(redis = options.place(), node = fleet.node, "limits are kept together with other nodes");
        let redis = Redis::new(options.clone());
        let shared = Some((redis.clone(), fleet.node.clone()));
        let (limits, driver) = Limits::fleet(redis, fleet, clock.clone());
        let (used, keeping) = keeping(config, &limits, clock);
        let asking = Some(tokio::spawn(driver.run(stop.clone())));
        let claims = Claims::compared(clock.clone());
        Self { limits, is_shared: true, fleet: shared, claims, asking, used, keeping, stop }
    }

    /// What this run of the node is called in the fleet.
    pub fn node(&self) -> String {
        self.fleet.as_ref().map(|(_, node)| node.clone()).unwrap_or_default()
    }

    /// Leaves the fleet.
    pub async fn end(mut self) {
        self.keeping.abort();
        self.used.keep().await;
        self.stop.cancel();
        if let Some(asking) = self.asking {
            let _ = timeout(3 * ADMIN_WAIT, asking).await;
        }
    }
}

/// Remembers what was used of quotas, and keeps it from now on.
fn keeping(config: &Config, limits: &Limits, clock: &Clock) -> (UsedQuotas, JoinHandle<()>) {
    let used = UsedQuotas::remember(config.spool.path.clone(), limits.clone(), clock.clone());
    (used.clone(), tokio::spawn(used.follow()))
}

/// Whether Redis answers, where the program must not start without it.
pub(super) async fn check(redis: Option<&RedisOptions>) -> Result<(), StartError> {
    let Some(options) = redis.filter(|options| options.required) else { return Ok(()) };
    let answer = Redis::new(options.clone()).command(&egret_shared::redis::ping()).await;
    answer.map(drop).map_err(|failure| {
        StartError::Redis(format!("{failure}; redis.required is true, so that nothing starts without it"))
    })
}

/// How the limits stand, in words, if not as they should.
pub(super) fn degraded(limits: &Limits) -> Option<String> {
    match limits.health() {
        Health::Ok => None,
        Health::Degraded { why, nodes, .. } => {
            Some(format!("limits: this node goes on with its share, 1 of {nodes}: {}", why.replace('\n', "; ")))
        }
    }
}
