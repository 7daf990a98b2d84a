//! What the store knows of all limits, for people.
//! Floor 4. Asks Redis; changes nothing.

use std::collections::BTreeSet;

use crate::redis::{Call, Redis, RedisFailure, Script, Value};

use super::super::words::SHARDS;
use super::{key, unescape};

/// Where the limit of a count stands in what stands of all together.
const MOST: usize = 6;

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
        /// How many there may be.
        #[serde(skip_serializing_if = "Option::is_none")]
        most: Option<u32>,
    },
    /// The quota of a day.
    Quota {
        /// Days since 1970-01-01.
        day: u32,
        /// How many are used.
        used: u64,
        /// How many there may be.
        #[serde(skip_serializing_if = "Option::is_none")]
        most: Option<u64>,
    },
}

impl Survey {
    /// The `most` fullest: first those for which somebody waits or nothing is left, the longest line first; then by how much of
    /// them is used.
    #[must_use]
    pub fn in_use(mut self, most: usize) -> Self {
        self.limits.retain(|limit| limit.place.fullness() > Fullness::default());
        self.limits.sort_by_key(|limit| std::cmp::Reverse(limit.place.fullness()));
        self.is_cut |= self.limits.len() > most;
        self.limits.truncate(most);
        self
    }
}

/// How full a limit is; in this order one is fuller than another.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Fullness {
    is_full: bool,
    waiting: u64,
    /// Of a thousand.
    part: u64,
    used: u64,
}

impl Fullness {
    fn of(used: u64, most: Option<u64>, waiting: u64) -> Self {
        let part = most.map_or(0, |most| used.saturating_mul(1000) / most.max(1));
        Self { is_full: waiting > 0 || most.is_some_and(|most| used >= most), waiting, part, used }
    }
}

impl Place {
    fn fullness(&self) -> Fullness {
        match self {
            Self::Rate { burst, left, .. } => {
                let used = i64::try_from(*burst).unwrap_or(i64::MAX).saturating_sub(*left).max(0).unsigned_abs();
                Fullness::of(used.min(*burst), Some(*burst), left.min(&0).unsigned_abs())
            }
            Self::Count { nodes, most } => {
                let held = nodes.iter().map(|(_, held, _)| u64::from(*held)).sum();
                let wait = nodes.iter().map(|(_, held, want)| u64::from(want.saturating_sub(*held))).sum();
                Fullness::of(held, most.map(u64::from), wait)
            }
            Self::Quota { used, most, .. } => Fullness::of(*used, *most, 0),
        }
    }
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
        let pattern = key(prefix, shard, "[rpq]:*");
        let args = vec![String::new(), String::new(), pattern, left.to_string()];
        let call = Call { script: &script, keys: vec![key(prefix, shard, "live")], args };
        let value = redis.scripts(&[call]).await.pop().unwrap_or(Ok(Value::Nil))?;
        let told = redis::from_redis_value::<(String, Vec<String>, Vec<(String, Vec<String>)>)>(value);
        let Ok((now, nodes, limits)) = told else { continue };
        let now: f64 = now.parse().unwrap_or(0.0);
        let skip = key(prefix, shard, "").len();
        let standing = |(key, fields): &(String, Vec<String>)| standing(key.get(skip..)?, fields, now, &nodes);
        survey.limits.extend(limits.iter().filter_map(standing));
        survey.nodes.extend(nodes);
    }
    survey.limits.sort_by(|a, b| a.name.cmp(&b.name));
    survey.is_cut = survey.limits.len() > most;
    survey.limits.truncate(most);
    Ok(survey)
}

fn standing(rest: &str, fields: &[String], now: f64, living: &[String]) -> Option<Standing> {
    let (kind, name) = rest.split_once(':')?;
    let (name, place) = match kind {
        "r" => (name, rate(fields, now)?),
        "p" => (name, count(fields, living)),
        _ => {
            let (day, name) = name.split_once(':')?;
            let mut numbers = fields.first()?.split(' ').map_while(|number| number.parse().ok());
            (name, Place::Quota { day: day.parse().ok()?, used: numbers.next()?, most: numbers.next() })
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

/// What a node held that is gone is free, although it stands there until somebody asks. What stands there of all together,
/// under no name, is nobody's.
fn count(fields: &[String], living: &[String]) -> Place {
    let node = |pair: &[String]| {
        let mut numbers = pair[1].split(' ').map_while(|number| number.parse::<u32>().ok());
        Some((pair[0].clone(), numbers.next()?, numbers.next()?)).filter(|(_, held, want)| held + want > 0)
    };
    let living = |pair: &&[String]| living.contains(&pair[0]);
    let mut nodes: Vec<_> = fields.chunks_exact(2).filter(living).filter_map(node).collect();
    nodes.sort();
    let together = fields.chunks_exact(2).find(|pair| pair[0].is_empty());
    let most = together.and_then(|pair| pair[1].split(' ').nth(MOST)?.parse().ok());
    Place::Count { nodes, most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_comes_first_and_what_nobody_uses_not_at_all() {
        let count = |name: &str, nodes: &[(u32, u32)]| {
            let nodes = nodes.iter().enumerate().map(|(n, (held, want))| (format!("n{n}"), *held, *want)).collect();
            Standing { name: name.to_owned(), place: Place::Count { nodes, most: Some(4) } }
        };
        let day = |name: &str, used| Standing {
            name: name.to_owned(),
            place: Place::Quota { day: 20_000, used, most: Some(100) },
        };
        let rate = |name: &str, left| Standing {
            name: name.to_owned(),
            place: Place::Rate { interval_us: 1e6, burst: 10, left },
        };
        let limits = vec![
            count("idle", &[]),
            count("held", &[(2, 2), (1, 1)]),
            rate("fresh", 10),
            rate("some", 8),
            rate("spent", -1),
            count("waits", &[(3, 3), (0, 4)]),
            day("full day", 100),
            day("day", 9),
            day("old day", 0),
        ];
        let survey = Survey { limits, ..Survey::default() };
        let names = |survey: Survey| survey.limits.into_iter().map(|limit| limit.name).collect::<Vec<_>>();
        assert_eq!(names(survey.clone().in_use(9)), ["waits", "spent", "full day", "held", "some", "day"]);
        let few = survey.in_use(2);
        assert!(few.is_cut);
        assert_eq!(names(few), ["waits", "spent"]);
    }

    #[test]
    fn what_the_dead_hold_is_not_held() {
        let all = ["", "7 3 1 4 9 0 8", "a", "2 2 0 0 7", "b", "1 3 5 0 7", "gone", "4 4 0 0 1", "idle", "0 0 0 0 1"];
        let fields = all.map(str::to_owned);
        let living = ["a", "b", "idle"].map(str::to_owned);
        let nodes = vec![("a".to_owned(), 2, 2), ("b".to_owned(), 1, 3)];
        assert_eq!(count(&fields, &living), Place::Count { nodes, most: Some(8) });
    }
}
