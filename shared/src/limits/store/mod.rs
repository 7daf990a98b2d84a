//! The store in Redis: what a question is as a call of a script, and an answer back.
//! Floor 4. Sends nothing itself.
//! Always: all keys of a name lie in the shard of the name, so in one slot of a cluster; no byte of a name that means
//! something to Redis stands in a key.

mod survey;

use std::fmt::Write as _;
use std::time::Duration;

use super::words::{Answer, Ask};
use crate::redis::{Call, Redis, Script, Value};

pub use survey::{Place, Standing, Survey, survey};

/// A node that is not heard of for so long is gone, and what it holds is free.
const LIFE_MICROS: u64 = 15_000_000;
/// A longer name stands in a key by its hash.
const MAX_NAME: usize = 160;

/// The scripts, as one node calls them. For the driver, and for simulations, which have a clock of their own.
pub struct Store {
    live: Script,
    leave: Script,
    rate: Script,
    count: Script,
    quota: Script,
    /// With what the channels of nodes begin.
    channel: String,
    prefix: String,
    node: String,
    server_time: bool,
}

impl Store {
    /// Of a node whose keys and channel are those of `redis`; with `server_time` the time is the server's.
    pub fn new(redis: &Redis, node: &str, server_time: bool) -> Self {
        let script = |text: &str| Script::new(&format!("{}{text}", include_str!("common.lua")));
        Self {
            live: script(include_str!("live.lua")),
            leave: script(include_str!("leave.lua")),
            rate: script(include_str!("rate.lua")),
            count: script(include_str!("count.lua")),
            quota: script(include_str!("quota.lua")),
            channel: redis.key("wake:"),
            prefix: redis.options().prefix.clone(),
            node: node.to_owned(),
            server_time,
        }
    }

    /// The channel on which this node is told of room, by the name of the limit.
    pub fn channel(&self) -> String {
        format!("{}{}", self.channel, self.node)
    }

    /// The call that asks; `wall` is the node's time in microseconds, used if the server's is not.
    pub fn call(&self, ask: &Ask, wall: u64) -> Call<'_> {
        let key = |rest: &str| key(&self.prefix, ask.shard(), rest);
        let time = if self.server_time { String::new() } else { wall.to_string() };
        let mut keys = vec![key("live")];
        let mut args = vec![self.node.clone(), time];
        let script = match ask {
            Ask::Live { join, .. } => {
                keys.push(key("epoch"));
                args.extend([LIFE_MICROS.to_string(), u8::from(*join).to_string()]);
                &self.live
            }
            Ask::Leave { .. } => {
                keys.push(key("left"));
                &self.leave
            }
            Ask::Rate { name, interval, burst, tokens, used } => {
                keys.push(key(&format!("r:{}", escape(name))));
                let micros = format!("{:.3}", interval.as_nanos() as f64 / 1000.0);
                let level = used.map(|level| level.to_string()).unwrap_or_default();
                args.extend([micros, burst.to_string(), tokens.to_string(), level]);
                &self.rate
            }
            Ask::Count { name, turn, limit, keep, want } => {
                let escaped = escape(name);
                keys.extend([key(&format!("p:{escaped}")), key(&format!("w:{escaped}")), key("left")]);
                args.extend([turn.to_string(), limit.to_string(), keep.to_string(), want.to_string()]);
                args.extend([self.channel.clone(), name.to_string()]);
                &self.count
            }
            Ask::Quota { name, day, most, units } => {
                keys.push(key(&format!("q:{day}:{}", escape(name))));
                let used = *most == u64::MAX;
                args.extend([most.to_string(), units.to_string(), u8::from(used).to_string()]);
                &self.quota
            }
        };
        Call { script, keys, args }
    }
}

/// What the store answered; `None` if it is no answer to the question.
pub fn answer(ask: &Ask, value: &Value) -> Option<Answer> {
    let Value::Array(values) = value else { return None };
    let numbers: Option<Vec<i64>> =
        values.iter().map(|value| if let Value::Int(number) = value { Some(*number) } else { None }).collect();
    let numbers = numbers?;
    match (ask, &numbers[..]) {
        (_, [-1]) => Some(Answer::Unknown),
        (Ask::Live { .. }, [nodes, epoch, age, before]) => Some(Answer::Live {
            nodes: u32::try_from(*nodes).ok()?,
            epoch: u64::try_from(*epoch).ok()?,
            age: Duration::from_micros(u64::try_from(*age).ok()?),
            before: u32::try_from(*before).ok(),
        }),
        (Ask::Leave { .. }, _) => Some(Answer::Left),
        (Ask::Rate { .. }, [0, granted, first]) => {
            Some(Answer::Rate { granted: u64::try_from(*granted).ok()?, first: *first })
        }
        (Ask::Count { .. }, [0, granted, fair]) => {
            Some(Answer::Count { granted: u32::try_from(*granted).ok()?, fair: u32::try_from(*fair).ok() })
        }
        (Ask::Quota { .. }, [0, granted]) => Some(Answer::Quota { granted: u64::try_from(*granted).ok()? }),
        _ => None,
    }
}

/// A key of a shard: `egret:{07}:rest`.
fn key(prefix: &str, shard: u8, rest: &str) -> String {
    format!("{prefix}:{{{shard:02}}}:{rest}")
}

/// A name as it stands in a key.
fn escape(name: &str) -> String {
    if name.len() > MAX_NAME {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
        return digest.as_ref().iter().fold("%".to_owned(), |mut hash, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hash, "{byte:02x}");
            hash
        });
    }
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.:@/!+=,>".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// The name that stands in a key; a hash stays one.
fn unescape(escaped: &str) -> String {
    let bytes = escaped.as_bytes();
    let (mut name, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = escaped.get(at + 1..at + 3).filter(|_| *byte == b'%' && escaped.len() <= MAX_NAME * 3);
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| !is_hash(escaped)) {
            Some(byte) => {
                name.push(byte);
                at += 3;
            }
            None => {
                name.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&name).into_owned()
}

fn is_hash(escaped: &str) -> bool {
    escaped.len() == 65
        && escaped.starts_with('%')
        && escaped[1..].bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_key() {
        for name in ["a{b}c", "x\r\ny", "\0", "*?[", "ü", "%41", ""] {
            let escaped = escape(name);
            assert!(escaped.bytes().all(|b| b.is_ascii_graphic() && !b"{}*?[]".contains(&b)), "{escaped}");
            assert_eq!(unescape(&escaped), name);
        }
        let long = "{".repeat(65_536);
        assert!(escape(&long).len() == 65 && is_hash(&escape(&long)));
        assert_ne!(escape(&long), escape(&long[1..]));
        assert_eq!(key("egret", 7, "r:a"), "egret:{07}:r:a");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let ask = Ask::Live { shard: 0, join: true };
        let ints = |all: &[i64]| Value::Array(all.iter().map(|n| Value::Int(*n)).collect());
        assert_eq!(answer(&ask, &ints(&[-1])), Some(Answer::Unknown));
        let live = |before| Answer::Live { nodes: 2, epoch: 9, age: Duration::from_micros(3), before };
        assert_eq!(answer(&ask, &ints(&[2, 9, 3, 1])), Some(live(Some(1))));
        assert_eq!(answer(&ask, &ints(&[2, 9, 3, -1])), Some(live(None)));
        for wrong in [
            ints(&[]),
            ints(&[1, 2, 3]),
            ints(&[1, 2, 3, 4, 5]),
            ints(&[-5, 1, 2, 0]),
            ints(&[1, 2, -1, 0]),
            Value::Nil,
            Value::Array(vec![Value::Okay]),
        ] {
            assert_eq!(answer(&ask, &wrong), None, "{wrong:?}");
        }
    }
}
