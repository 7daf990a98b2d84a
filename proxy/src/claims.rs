//! Compares the sessions that run with what MTA nodes claim, ends those that nobody claims any more, and tells each node
//! which of its claims this proxy does not have. Floor 4. Speaks with Redis once a beat, whatever the number of sessions.
//! Always: a client that claims nothing is left alone; while Redis is away nothing is ended, and afterwards silence counts
//! anew.

use egret_shared::clock::Clock;
use egret_shared::redis::{Redis, RedisOptions};
use egret_shared::sockets::store::{Heard, Store};
use egret_shared::sockets::watch::{Open, Orphan, Watch, Why};
use egret_shared::sockets::{BEAT, LIFE};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::report::live::Sessions;
use crate::report::record::SessionId;

/// What compares.
pub struct Claims {
    /// The proxy's name in the fleet.
    pub name: String,
    /// This run of it: no other has the same.
    pub run: u64,
    /// Where claims are.
    pub redis: RedisOptions,
    /// What runs.
    pub sessions: Sessions,
    /// The clock.
    pub clock: Clock,
}

struct Metrics {
    claimed: Gauge,
    ended: [Counter; Why::ALL.len()],
}

impl Claims {
    /// Compares until `stop`; then it has no sessions any more, and says nothing of them.
    pub async fn compare(self, stop: CancellationToken) {
        let (store, mut watch) = (Store::new(Redis::new(self.redis.clone())), Watch::default());
        let metrics = Metrics {
            claimed: gauge!("egret_proxy_sessions_claimed"),
            ended: Why::ALL.map(|why| counter!("egret_proxy_sessions_orphaned_total", "why" => why.as_str())),
        };
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return store.leave(&self.name, self.run, &watch.nodes()).await,
                _ = beat.tick() => {}
            }
            let open = self.sessions.open();
            match store.report(&self.name, self.run, watch.answers(&open)).await {
                Ok(heard) => {
                    if std::mem::take(&mut is_away) {
                        info!("sessions are compared with claims again");
                    }
                    self.end(&mut watch, heard, &open, &metrics);
                }
                Err(why) => {
                    watch.away();
                    if !std::mem::replace(&mut is_away, true) {
                        warn!(why, "sessions are not compared with claims while Redis is away; none is ended");
                    }
                }
            }
            metrics.claimed.set(watch.claimed() as f64);
        }
    }

    fn end(&self, watch: &mut Watch, heard: Heard, open: &[Open], metrics: &Metrics) {
        for Orphan { session, node, why } in watch.heard(&heard.epoch, heard.claims, open, self.clock.now()) {
            metrics.ended[why as usize].increment(1);
            let words = match why {
                Why::Silent => format!("its MTA {node} is not heard of for {} s", LIFE.as_secs()),
                Why::Disowned => format!("its MTA {node} has it no more"),
            };
            self.sessions.orphan(SessionId(session), words);
        }
    }
}
