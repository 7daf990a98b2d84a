//! Compares the sessions through proxies with the sockets that the proxies have: claims them once a second, hears what the
//! proxies say, and asks for proxies that are not in the registry any more. Floor 6.
//! Always: while Redis is away nothing is ended; one round trip a second, whatever the number of sessions.

use std::collections::HashSet;
use std::net::SocketAddr;

use egret_shared::redis::{Redis, RedisOptions};
use egret_shared::sockets::BEAT;
use egret_shared::sockets::store::Store;
use metrics::{Counter, counter, gauge};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::fleet::Fleet;
use crate::delivery::Claims;

/// Compares until it is aborted, after the last session.
pub(super) async fn compare(claims: Claims, fleet: Fleet, redis: RedisOptions, node: String) {
    let (store, seen) = (Store::new(Redis::new(redis)), gauge!("egret_mta_sessions_compared"));
    let ended = |why: &'static str| counter!("egret_mta_sessions_lost_total", "why" => why);
    let (missing, mut probes) = (ended("missing"), Probes { asked: HashSet::new(), tasks: JoinSet::new() });
    let proxy_gone = ended("proxy_gone");
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        beat.tick().await;
        let drafts = claims.drafts(&fleet.endpoints());
        if !drafts.is_empty() {
            match store.claim(&node, drafts).await {
                Ok(answers) => {
                    if std::mem::take(&mut is_away) {
                        info!("sessions are compared with the sockets of proxies again");
                    }
                    let lost = claims.heard(&answers);
                    if lost > 0 {
                        warn!(lost, "sessions are ended that their proxies have no more; their ends were not heard");
                        missing.increment(lost as u64);
                    }
                }
                Err(why) => {
                    if !std::mem::replace(&mut is_away, true) {
                        warn!(
                            why,
                            "sessions are not compared with the sockets of proxies while Redis is away; none is ended"
                        );
                    }
                }
            }
        }
        seen.set(claims.seen() as f64);
        probes.start(&claims, &proxy_gone);
    }
}

/// Questions to proxies that are not in the registry any more, one for each.
struct Probes {
    asked: HashSet<SocketAddr>,
    tasks: JoinSet<SocketAddr>,
}

impl Probes {
    fn start(&mut self, claims: &Claims, ended: &Counter) {
        while let Some(done) = self.tasks.try_join_next() {
            if let Ok(endpoint) = done {
                self.asked.remove(&endpoint);
            }
        }
        for suspect in claims.gone() {
            let endpoint = suspect.endpoint;
            if !self.asked.insert(endpoint) {
                continue;
            }
            let (claims, ended) = (claims.clone(), ended.clone());
            self.tasks.spawn(async move {
                let proxy = suspect.proxy().map(|proxy| proxy.name.clone());
                let lost = claims.probe(suspect).await;
                if lost > 0 {
                    warn!(?proxy, %endpoint, lost, "the proxy is not in the registry and does not answer; its sessions are ended");
                    ended.increment(lost as u64);
                }
                endpoint
            });
        }
    }
}
