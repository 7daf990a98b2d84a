//! What the store knows of all limits, for people.
//! Floor 4. Asks Redis; changes nothing.

use std::collections::BTreeSet;

use crate::redis::{Call, Redis, RedisFailure, Script, Value};

use super::super::words::SHARDS;
use super::{key, unescape};

/// What the store knows.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Survey {
    /// Nodes that live.
    pub nodes: BTreeSet<String>,
    /// Limits, in the order of their names.
    pub limits: Vec<Standing>,
    /// There may be more than were asked for.
    pub is_cut: bool,
}

/// How one limit stands.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Standing {
    /// The limit.
    pub name: String,
    /// What it limits, and how it stands.
    #[serde(flatten)]
    pub place: Place,
}

/// How one limit stands.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Place {
    /// A rate.
    Rate {
        /// From one to the next, in microseconds.
        interval_us: f64,
        /// How many at once.
        burst: u64,
        /// How many of them are left now; below zero, so many are promised beyond.
        left: i64,
    },
    /// Things held at once.
    Count {
        /// By node: how many it holds, how many it would like to hold.
        nodes: Vec<(String, u32, u32)>,
    },
    /// The quota of a day.
    Quota {
        /// Days since 1970-01-01.
        day: u32,
        /// How many are used.
        used: u64,
    },
}

/// Asks for at most `most` limits.
///
/// # Errors
/// The first call that failed.
pub async fn survey(redis: &Redis, most: usize) -> Result<Survey, RedisFailure> {
    let script = Script::new(&format!("{}{}", include_str!("common.lua"), include_str!("survey.lua")));
    let prefix = &redis.options().prefix;
    let mut survey = Survey::default();
    for shard in 0..SHARDS {
        let left = most.saturating_sub(survey.limits.len()) + 1;
        let pattern = key(prefix, shard, "[rcq]:*");
        let args = vec![String::new(), String::new(), pattern, left.to_string()];
        let call = Call { script: &script, keys: vec![key(prefix, shard, "live")], args };
        let value = redis.scripts(&[call]).await.pop().unwrap_or(Ok(Value::Nil))?;
        let told = redis::from_redis_value::<(String, Vec<String>, Vec<(String, Vec<String>)>)>(value);
        let Ok((now, nodes, limits)) = told else { continue };
        let now: f64 = now.parse().unwrap_or(0.0);
        survey.nodes.extend(nodes);
        let skip = key(prefix, shard, "").len();
        survey.limits.extend(limits.iter().filter_map(|(key, fields)| standing(key.get(skip..)?, fields, now)));
    }
    survey.limits.sort_by(|a, b| a.name.cmp(&b.name));
    survey.is_cut = survey.limits.len() > most;
    survey.limits.truncate(most);
    Ok(survey)
}

fn standing(rest: &str, fields: &[String], now: f64) -> Option<Standing> {
    let (kind, name) = rest.split_once(':')?;
    let (name, place) = match kind {
        "r" => (name, rate(fields, now)?),
        "c" => (name, count(fields)),
        _ => {
            let (day, name) = name.split_once(':')?;
            (name, Place::Quota { day: day.parse().ok()?, used: fields.first()?.parse().ok()? })
        }
    };
    Some(Standing { name: unescape(name), place })
}

fn rate(fields: &[String], now: f64) -> Option<Place> {
    let field = |name: &str| fields.chunks_exact(2).find(|pair| pair[0] == name)?[1].parse::<f64>().ok();
    let (tat, interval_us, burst) = (field("tat")?, field("interval")?, field("burst")?);
    let used = ((tat - now).max(0.0) / interval_us).ceil();
    let left = (burst - used) as i64;
    Some(Place::Rate {
        interval_us,
        burst: fields.chunks_exact(2).find(|pair| pair[0] == "burst")?[1].parse().ok()?,
        left,
    })
}

fn count(fields: &[String]) -> Place {
    let node = |pair: &[String]| {
        let mut numbers = pair[1].split(' ').map_while(|number| number.parse::<u32>().ok());
        Some((pair[0].clone(), numbers.next()?, numbers.next()?)).filter(|(_, held, want)| held + want > 0)
    };
    let mut nodes: Vec<_> = fields.chunks_exact(2).filter_map(node).collect();
    nodes.sort();
    Place::Count { nodes }
}
