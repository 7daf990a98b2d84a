//! Agrees with the other nodes, by Redis, on which day addresses were there first. Floor 4.
//! Always: whoever asks first has the day of Redis' clock, and all who ask later have the same, or an earlier one that
//! somebody knows; nothing is agreed on between clocks that differ by more than a day; all keys share a slot of a cluster.

use std::net::IpAddr;

use super::first_days::{Day, KEPT_DAYS, Question};
use super::store::Registry;
use crate::redis::{Call, Redis, Script, Value, cmd};

/// Addresses in one call.
const AT_ONCE: usize = 256;
const DAY_MS: u64 = 86_400_000;

/// Agrees. Keep it: it knows whether others have told something since.
pub struct Agreement {
    redis: Redis,
    script: Script,
    /// The version that was heard last; `None` if everything is to be told.
    heard: Option<i64>,
}

/// Why nothing is agreed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// The days of two clocks.
    #[error(
        "the clocks of this host and of Redis differ by days (it is day {own} of 1970 here and {theirs} there); set them right"
    )]
    Clocks {
        /// This host's.
        own: Day,
        /// That of Redis.
        theirs: Day,
    },
    /// What Redis, or the connection to it, says.
    #[error("{0}")]
    Redis(String),
}

impl Registry {
    /// Agrees by this registry.
    pub fn agreement(&self) -> Agreement {
        let script = Script::new(include_str!("agree.lua"));
        Agreement { redis: self.redis().clone(), script, heard: None }
    }
}

impl Agreement {
    fn version_key(&self) -> String {
        self.redis.key("{registry}:first-days-version")
    }

    fn key(&self, address: IpAddr) -> String {
        self.redis.key(&format!("{{registry}}:first-day:{address}"))
    }

    /// Everything is to be told again.
    pub fn forget(&mut self) {
        self.heard = None;
    }

    /// Whether everything is to be told: nothing was yet, Redis has lost its memory, or another node knew better.
    ///
    /// # Errors
    /// That Redis cannot be asked.
    pub async fn is_stale(&self) -> Result<bool, Disagreement> {
        let Some(heard) = self.heard else { return Ok(true) };
        let asked = self.redis.command(cmd("GET").arg(self.version_key())).await;
        let value = asked.map_err(|failure| Disagreement::Redis(failure.to_string()))?;
        let known = if let Value::BulkString(text) = value { String::from_utf8(text).ok() } else { None };
        Ok(known.and_then(|text| text.parse().ok()) != Some(heard))
    }

    /// Asks about some, or about all that this node knows, and tells what it knows of them.
    ///
    /// # Errors
    /// Why nothing is agreed on.
    pub async fn ask(
        &mut self,
        questions: &[Question],
        is_all: bool,
        today: Day,
    ) -> Result<Vec<(IpAddr, Day)>, Disagreement> {
        // Whoever asks about all begins anew: what comes between two parts of it makes it stale.
        let mut heard = if is_all { None } else { self.heard.take() };
        let (mut found, mut is_whole) = (Vec::with_capacity(questions.len()), is_all || heard.is_some());
        self.heard = None;
        for questions in questions.chunks(AT_ONCE) {
            let answer = match self.ask_some(questions, today).await {
                Ok(answer) => answer,
                Err(why) if found.is_empty() => return Err(why),
                // The rest is asked about again.
                Err(_) => return Ok(found),
            };
            is_whole &= heard.is_none_or(|heard| heard == answer.before);
            heard = Some(answer.version);
            found.extend(questions.iter().map(|question| question.address).zip(answer.firsts));
        }
        self.heard = heard.filter(|_| is_whole);
        Ok(found)
    }

    async fn ask_some(&self, questions: &[Question], today: Day) -> Result<Answer, Disagreement> {
        let mut keys = vec![self.version_key()];
        let mut args = vec![today.to_string(), (u64::from(KEPT_DAYS + 1) * DAY_MS).to_string()];
        for question in questions {
            keys.push(self.key(question.address));
            args.push(question.first.map_or_else(|| "-1".to_owned(), |first| first.to_string()));
            args.push((u64::from(question.gone) * DAY_MS).to_string());
        }
        let answer = self.redis.scripts(&[Call { script: &self.script, keys, args }]).await.pop();
        let value = answer.unwrap_or(Ok(Value::Nil)).map_err(|failure| Disagreement::Redis(failure.to_string()))?;
        match Answer::read(&value) {
            Some(Answer { version: -1, day: theirs, .. }) => Err(Disagreement::Clocks { own: today, theirs }),
            Some(answer) if answer.firsts.len() == questions.len() => Ok(answer),
            _ => Err(Disagreement::Redis("an answer that names no first days".to_owned())),
        }
    }
}

/// What the script says.
struct Answer {
    before: i64,
    version: i64,
    day: Day,
    firsts: Vec<Day>,
}

impl Answer {
    fn read(value: &Value) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        let number = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
        let numbers = values.iter().map(number).collect::<Option<Vec<i64>>>()?;
        let [before, version, day, firsts @ ..] = &numbers[..] else { return None };
        let firsts = firsts.iter().map(|first| Day::try_from(*first).ok()).collect::<Option<_>>()?;
        Some(Self { before: *before, version: *version, day: Day::try_from(*day).ok()?, firsts })
    }
}
