//! Claims and reports in Redis. Floor 4. One script for each proxy that a node has sessions through, and one for each
//! proxy; all of a beat in one round trip.
//! Always: all keys of a proxy share a slot of a cluster; what is not said again expires, claims after [`LIFE`], reports
//! after a few beats.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::claim::{self, Claim, Report, run_name};
use super::ledger::Draft;
use super::watch::Answer;
use super::{BEAT, LIFE};
use crate::redis::{Call, Redis, Script, Value, cmd};

/// How long a report is of use.
const FRESH: Duration = Duration::from_secs(5);
/// How long keys live that nobody touches.
const KEY_LIFE: Duration = Duration::from_secs(60);

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    redis: Redis,
    claim: Script,
    report: Script,
}

/// What a proxy hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Another one after Redis has lost its data.
    pub epoch: String,
    /// The claims on it.
    pub claims: Vec<Claim>,
}

impl Store {
    /// In this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis, claim: Script::new(include_str!("claim.lua")), report: Script::new(include_str!("report.lua")) }
    }

    /// A key of a proxy. Names of proxies are letters, digits and `.-_`.
    fn key(&self, proxy: &str, rest: &str) -> String {
        self.redis.key(&format!("{{sockets:{proxy}}}:{rest}"))
    }

    /// A node claims, and hears what proxies say. Of a proxy that could not be asked there is no answer.
    ///
    /// # Errors
    /// What Redis says, if of no proxy there is an answer.
    pub async fn claim(&self, node: &str, drafts: Vec<Draft>) -> Result<HashMap<Arc<str>, Vec<Report>>, String> {
        let (mut proxies, mut calls) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for Draft { proxy, number, mut ends } in drafts {
            let claim = format!("{number} {}", claim::write(&mut ends));
            let keys = vec![self.key(&proxy, "claims"), self.key(&proxy, &format!("to:{node}"))];
            let args = vec![node.to_owned(), claim, micros(FRESH), millis(KEY_LIFE)];
            calls.push(Call { script: &self.claim, keys, args });
            proxies.push(proxy);
        }
        let (mut answers, mut failure) = (HashMap::new(), None);
        for (proxy, outcome) in proxies.into_iter().zip(self.redis.scripts(&calls).await) {
            match outcome {
                Ok(value) => {
                    let reports = texts(value).iter().filter_map(|text| Report::read(text)).collect();
                    answers.insert(proxy, reports);
                }
                Err(why) => failure = Some(why.to_string()),
            }
        }
        failure.filter(|_| answers.is_empty()).map_or(Ok(answers), Err)
    }

    /// A proxy answers the last claims, and hears those of now.
    ///
    /// # Errors
    /// What Redis says.
    pub async fn report(&self, proxy: &str, run: u64, answers: Vec<Answer>) -> Result<Heard, String> {
        let mut keys = vec![self.key(proxy, "claims"), self.key(proxy, "epoch")];
        let mut args = vec![run_name(run), micros(LIFE), millis(KEY_LIFE)];
        for Answer { node, number, mut missing } in answers {
            keys.push(self.key(proxy, &format!("to:{node}")));
            args.push(format!("{number} {}", claim::write(&mut missing)));
        }
        let outcome = self.redis.scripts(&[Call { script: &self.report, keys, args }]).await.pop();
        let value = outcome.unwrap_or(Ok(Value::Nil)).map_err(|why| why.to_string())?;
        let mut texts = texts(value).into_iter();
        let epoch = texts.next().ok_or("an answer without an epoch")?;
        let (mut claims, rest) = (Vec::new(), texts.collect::<Vec<_>>());
        for pair in rest.chunks_exact(2) {
            claims.extend(Claim::read(&pair[0], &pair[1]));
        }
        Ok(Heard { epoch, claims })
    }

    /// A proxy that has ended its sessions takes its reports back. Who cannot be reached forgets by himself.
    pub async fn leave(&self, proxy: &str, run: u64, nodes: &[Arc<str>]) {
        let take_back = |node: &Arc<str>| {
            let mut command = cmd("HDEL");
            command.arg(self.key(proxy, &format!("to:{node}"))).arg(run_name(run));
            command
        };
        let _ = self.redis.pipeline(&nodes.iter().map(take_back).collect::<Vec<_>>()).await;
    }
}

fn micros(span: Duration) -> String {
    span.as_micros().to_string()
}

fn millis(span: Duration) -> String {
    span.as_millis().to_string()
}

fn texts(value: Value) -> Vec<String> {
    let Value::Array(values) = value else { return Vec::new() };
    let text = |value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    };
    values.into_iter().map(|value| text(value).unwrap_or_default()).collect()
}

const _: () = assert!(FRESH.as_millis() > 3 * BEAT.as_millis(), "a report outlives some beats that are late");
