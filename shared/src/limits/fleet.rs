//! The limits of a fleet: the task that asks the store, and what happens when the store is away.
//! Floor 4. Asks Redis, a whole batch at a time; nobody waits for it.
//! Always: within a second of silence, each node goes on with its share; what is held and what was used meanwhile is
//! told to the store before anything new is asked of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::handle::{Health, Limits};
use super::purse::{Mode, Purse};
use super::store::{Store, answer};
use super::words::{Ask, Manner};
use crate::clock::Clock;
use crate::redis::{Redis, RedisFailure};

/// How often a node says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// Who has heard nothing of the store for so long asks whether it is there: that it is away is known within a second, also
/// by a node that has nothing else to ask.
const LISTEN: Duration = Duration::from_millis(250);
/// After so long without an answer the store is away. A hitch is shorter; what is at hand lasts about as long.
const PATIENCE: Duration = Duration::from_millis(600);
/// After an answer that did not come it is asked again so soon.
const AGAIN: Duration = Duration::from_millis(100);
/// Who ends waits so long for the store to hear of it.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Who was refused by the store, for want of rights or memory, asks again after so long.
const REFUSED: Duration = Duration::from_secs(3);
/// It is told again so often that the store is away.
const REMIND: Duration = Duration::from_secs(60);
/// Questions in one exchange.
const MAX_ASKS: usize = 1000;
/// Messages of other nodes that may wait.
const MAX_HEARD: usize = 1024;

/// How a node takes part in the fleet's limits.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The node. No two that run may have the same, also not one that runs and one that ended just now.
    pub node: String,
    /// How it deals with the limits.
    pub manner: Manner,
    /// Time is that of the Redis server; otherwise that of each node, whose clocks must then agree.
    pub server_time: bool,
    /// The name of the gauge that is 1 while the store is away.
    pub degraded_metric: &'static str,
}

/// The task that asks the store. Run it for as long as the limits are used.
pub struct Driver {
    limits: Limits,
    redis: Redis,
    store: Store,
    clock: Clock,
    degraded_metric: &'static str,
    /// The first of the exchanges in a row without an answer.
    failing: Option<Instant>,
    attempt: u32,
    why: String,
    reminded: Instant,
    /// When the store answered last.
    heard: tokio::time::Instant,
    /// Exchanges and questions so far.
    asked: Arc<Asked>,
}

/// How often the store was asked.
#[derive(Debug, Default)]
pub struct Asked {
    /// Batches.
    pub exchanges: std::sync::atomic::AtomicU64,
    /// Questions in them.
    pub asks: std::sync::atomic::AtomicU64,
}

impl Limits {
    /// Kept by all nodes that share this Redis. The driver is to be run.
    pub fn fleet(redis: Redis, options: FleetOptions, clock: Clock) -> (Self, Driver) {
        let store = Store::new(&redis, &options.node, options.server_time);
        let limits = Self::of(Purse::shared(options.manner.of_node(&options.node)));
        let driver = Driver {
            limits: limits.clone(),
            store,
            redis,
            degraded_metric: options.degraded_metric,
            failing: None,
            attempt: 0,
            why: String::new(),
            reminded: clock.now(),
            heard: tokio::time::Instant::now(),
            clock,
            asked: Arc::default(),
        };
        (limits, driver)
    }
}

impl Driver {
    /// How often the store was asked, for measurements.
    pub fn asked(&self) -> Arc<Asked> {
        self.asked.clone()
    }

    /// Asks until it is stopped; then what this node holds is free for others at once.
    pub async fn run(mut self, stop: CancellationToken) {
        metrics::gauge!(self.degraded_metric).set(0.0);
        let (sender, heard) = mpsc::channel(MAX_HEARD);
        let (redis, channel) = (self.redis.clone(), self.store.channel());
        tokio::select! {
            () = stop.cancelled() => {}
            () = redis.listen(&channel, sender) => {}
            () = self.work(heard) => {}
        }
        let asks = self.limits.with(Purse::leave);
        let calls: Vec<_> = asks.iter().map(|ask| self.store.call(ask, self.wall())).collect();
        if timeout(LAST_WORDS, self.redis.scripts(&calls)).await.is_err() {
            tracing::debug!("the store did not hear that this node ends; it will notice");
        }
    }

    async fn work(&mut self, mut heard: mpsc::Receiver<String>) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if matches!(self.limits.with(|purse| purse.mode()), Mode::Away { .. }) {
                self.try_again().await;
                continue;
            }
            let limits = self.limits.clone();
            tokio::select! {
                () = limits.0.asks.notified() => {}
                _ = beat.tick() => limits.with(|purse| purse.tick(self.clock.now())),
                Some(name) = heard.recv() => self.hear(&name, &mut heard),
                () = sleep_until(self.heard + LISTEN) => {
                    self.heard = tokio::time::Instant::now();
                    limits.with(Purse::listen);
                }
            }
            self.exchange().await;
        }
    }

    /// There is room somewhere, or somebody waits for what we have.
    fn hear(&self, first: &str, heard: &mut mpsc::Receiver<String>) {
        let now = self.clock.now();
        self.limits.with(|purse| {
            purse.nudge(first, now);
            while let Ok(name) = heard.try_recv() {
                purse.nudge(&name, now);
            }
        });
    }

    fn wall(&self) -> u64 {
        self.clock.wall().0.saturating_mul(1000)
    }

    /// Asks all that there is to ask, until nothing is left or the store is away.
    async fn exchange(&mut self) {
        loop {
            let asks = self.limits.with(|purse| purse.asks(self.clock.now()));
            if asks.is_empty() {
                // Who waits for an answer to what is asked no more shall not wait for the next beat.
                self.limits.heard();
                return;
            }
            let started = self.clock.now();
            let mut failure = None;
            for asks in asks.chunks(MAX_ASKS) {
                failure = self.ask(asks, failure).await;
            }
            self.limits.heard();
            match failure {
                None => self.is_well(),
                Some(failure) => {
                    let since = *self.failing.get_or_insert(started);
                    let lasts = self.clock.now().saturating_duration_since(since);
                    if lasts >= PATIENCE || failure.is_refusal {
                        self.is_away(&failure);
                        return;
                    }
                    tokio::time::sleep(AGAIN.min(PATIENCE.saturating_sub(lasts))).await;
                }
            }
        }
    }

    /// One batch. After a failure in one before, the rest is not asked at all.
    async fn ask(&self, asks: &[Ask], failure: Option<RedisFailure>) -> Option<RedisFailure> {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        self.asked.exchanges.fetch_add(1, relaxed);
        self.asked.asks.fetch_add(asks.len() as u64, relaxed);
        let calls: Vec<_> = asks.iter().map(|ask| self.store.call(ask, self.wall())).collect();
        let outcomes = match &failure {
            Some(_) => None,
            None => Some(self.redis.scripts(&calls).await),
        };
        let now = self.clock.now();
        let Some(outcomes) = outcomes else {
            self.limits.with(|purse| asks.iter().for_each(|ask| purse.lost(ask, now)));
            return failure;
        };
        let mut worst: Option<RedisFailure> = None;
        self.limits.with(|purse| {
            for (ask, outcome) in asks.iter().zip(outcomes) {
                let told = match outcome {
                    Ok(value) => answer(ask, &value).ok_or_else(|| {
                        RedisFailure::plain(self.redis.options(), format!("an answer that is none: {value:?}"))
                    }),
                    Err(failure) => Err(failure),
                };
                match told {
                    Ok(answer) => purse.answered(ask, &answer, now),
                    Err(failure) => {
                        purse.lost(ask, now);
                        if worst.as_ref().is_none_or(|worst| !worst.is_refusal) {
                            worst = Some(failure);
                        }
                    }
                }
            }
        });
        worst
    }

    fn is_well(&mut self) {
        self.failing = None;
        self.heard = tokio::time::Instant::now();
        let mut health = self.limits.0.health.lock();
        if let Health::Degraded { since, .. } = &*health {
            let lasted = self.clock.wall().since(*since);
            tracing::info!(?lasted, "limits are those of the whole fleet again");
            *health = Health::Ok;
            metrics::gauge!(self.degraded_metric).set(0.0);
        }
    }

    fn is_away(&mut self, failure: &RedisFailure) {
        self.limits.with(|purse| purse.away(self.clock.now()));
        self.limits.heard();
        self.attempt = if failure.is_refusal { u32::MAX } else { 0 };
        self.failing = None;
        self.why = failure.to_string();
        let nodes = self.limits.nodes();
        let mut health = self.limits.0.health.lock();
        if *health == Health::Ok {
            self.reminded = self.clock.now();
            tracing::warn!(why = self.why, nodes, "limits are degraded: this node goes on with its share of each");
        }
        let since = match &*health {
            Health::Ok => self.clock.wall(),
            Health::Degraded { since, .. } => *since,
        };
        *health = Health::Degraded { since, why: self.why.clone(), nodes };
        metrics::gauge!(self.degraded_metric).set(1.0);
    }

    /// After a while, asks whether the store takes questions again; nothing else is asked of it meanwhile.
    async fn try_again(&mut self) {
        if self.attempt == u32::MAX {
            tokio::time::sleep(REFUSED).await;
        } else {
            Redis::back_off(self.attempt).await;
            self.attempt = (self.attempt + 1).min(16);
        }
        self.limits.with(|purse| purse.time_passes(self.clock.now()));
        let ask = Ask::Live { shard: 0, join: true };
        let calls = [self.store.call(&ask, self.wall())];
        let outcome = self.redis.scripts(&calls).await.pop();
        if let Some(Ok(value)) = outcome
            && answer(&ask, &value).is_some()
        {
            self.limits.with(|purse| purse.back(self.clock.now()));
            self.exchange().await;
            return;
        }
        let now = self.clock.now();
        if now.saturating_duration_since(self.reminded) >= REMIND {
            self.reminded = now;
            tracing::warn!(why = self.why, "limits are still degraded: this node goes on with its share of each");
        }
    }
}
