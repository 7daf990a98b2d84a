//! Redis, in whichever shape it comes: one server, Sentinel, Cluster. Commands, pipelines, scripts, and messages.
//! Floor 3. Opens connections by itself and whenever they break; each call has a deadline of its own.
//! Always: a call ends within `connect_timeout` and `timeout`; a connection that does not answer is not used on, and
//! one to a server that is read-only is made anew.
//! Does not retry what failed: who calls knows whether a thing may be done twice.

mod failure;
mod link;
mod listen;
mod options;
mod script;

pub use failure::RedisFailure;
pub use options::{Mode, RedisOptions};
pub use redis::{Cmd, Parser, Value, cmd};
pub use script::{Call, Script};

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::timeout;

use link::Link;

/// After so many calls in a row without an answer the connection is made anew.
const MAX_SILENT: u32 = 2;

struct Inner {
    options: RedisOptions,
    /// The connection, with a number that each new one counts up.
    link: tokio::sync::Mutex<(u64, Option<Link>)>,
    silent: AtomicU32,
    health: Mutex<Result<(), String>>,
}

/// A way to Redis. Cheap to clone; all clones use one connection.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

impl Redis {
    /// Opens nothing yet: the first call does.
    pub fn new(options: RedisOptions) -> Self {
        if options.tls {
            // Another part of the program may have done so before: that is fine.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        Self(Arc::new(Inner {
            options,
            link: tokio::sync::Mutex::new((0, None)),
            silent: AtomicU32::new(0),
            health: Mutex::new(Ok(())),
        }))
    }

    /// As it is configured.
    pub fn options(&self) -> &RedisOptions {
        &self.0.options
    }

    /// A key, or a channel, of this installation: `egret:rest`.
    pub fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.0.options.prefix)
    }

    /// How the last call went.
    pub fn health(&self) -> Result<(), String> {
        self.0.health.lock().clone()
    }

    /// One command.
    ///
    /// # Errors
    /// What the server or the connection to it says.
    pub async fn command(&self, command: &Cmd) -> Result<Value, RedisFailure> {
        self.pipeline(std::slice::from_ref(command)).await.pop().unwrap_or(Ok(Value::Nil))
    }

    /// Commands in one go, each with its own outcome. In a cluster they may go to several servers.
    pub async fn pipeline(&self, commands: &[Cmd]) -> Vec<Result<Value, RedisFailure>> {
        let (number, link) = match self.link().await {
            Ok(link) => link,
            Err(failure) => return commands.iter().map(|_| Err(failure.clone())).collect(),
        };
        let calls = commands.iter().map(|command| {
            let mut link = link.clone();
            async move {
                match timeout(self.0.options.timeout, link.call(command)).await {
                    Err(_) => Err(RedisFailure::silent(&self.0.options, command)),
                    Ok(answer) => answer
                        .and_then(Value::extract_error)
                        .map_err(|error| RedisFailure::of(&self.0.options, Some(command), &error)),
                }
            }
        });
        let outcomes = join_all(calls).await;
        self.judge(number, &outcomes).await;
        outcomes
    }

    /// Keeps the connection, or gives it up.
    async fn judge(&self, number: u64, outcomes: &[Result<Value, RedisFailure>]) {
        let failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        let worst = failed.max_by_key(|failure| (failure.breaks, failure.silent));
        let Some(worst) = worst else {
            self.0.silent.store(0, Ordering::Relaxed);
            *self.0.health.lock() = Ok(());
            return;
        };
        *self.0.health.lock() = Err(worst.to_string());
        let silent = if worst.silent { self.0.silent.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        if worst.breaks || silent >= MAX_SILENT {
            self.0.silent.store(0, Ordering::Relaxed);
            let mut link = self.0.link.lock().await;
            if link.0 == number {
                link.1 = None;
            }
        }
    }

    /// The connection; a new one if there is none.
    async fn link(&self) -> Result<(u64, Link), RedisFailure> {
        let opened = timeout(self.0.options.connect_timeout, async {
            let mut kept = self.0.link.lock().await;
            if let Some(link) = &kept.1 {
                return Ok((kept.0, link.clone()));
            }
            let link = Link::open(&self.0.options).await?;
            *kept = (kept.0 + 1, Some(link.clone()));
            Ok((kept.0, link))
        });
        let opened = opened.await.unwrap_or_else(|_| Err(RedisFailure::unreachable(&self.0.options)));
        if let Err(failure) = &opened {
            *self.0.health.lock() = Err(failure.to_string());
        }
        opened
    }

    /// Calls of scripts in one go, each with its own outcome.
    pub async fn scripts(&self, calls: &[Call<'_>]) -> Vec<Result<Value, RedisFailure>> {
        let short: Vec<Cmd> = calls.iter().map(Call::by_hash).collect();
        let mut outcomes = self.pipeline(&short).await;
        // A server that was restarted or flushed does not know a script: tell it, together with the same call.
        let unknown: Vec<usize> = (0..outcomes.len())
            .filter(|at| outcomes[*at].as_ref().is_err_and(|failure| failure.is_unknown_script))
            .collect();
        if !unknown.is_empty() {
            let whole: Vec<Cmd> = unknown.iter().map(|at| calls[*at].by_text()).collect();
            for (at, outcome) in unknown.into_iter().zip(self.pipeline(&whole).await) {
                outcomes[at] = outcome;
            }
        }
        outcomes
    }

    /// Waits a while, each time longer and never in step with others, before something is tried again.
    pub async fn back_off(attempt: u32) {
        let longest = Duration::from_millis(100) * 2u32.pow(attempt.min(5));
        let mut byte = [0u8; 2];
        // Without luck all wait equally long, which is bearable.
        let _ = aws_lc_rs::rand::fill(&mut byte);
        let part = f64::from(u16::from_be_bytes(byte)) / f64::from(u16::MAX);
        tokio::time::sleep(longest.mul_f64(0.5 + part / 2.0).min(Duration::from_secs(2))).await;
    }
}

/// Asks whether a server answers.
pub fn ping() -> Cmd {
    redis::cmd("PING")
}
