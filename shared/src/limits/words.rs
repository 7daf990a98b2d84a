//! What is said about limits: a refusal, and the words between a node and the store that all nodes share.
//! Pure. Floor 0.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A limit that has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The limit.
    pub name: Arc<str>,
    /// When to ask again.
    pub when: When,
}

/// A limit of which no part has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Its place among those that were asked for.
    pub limit: usize,
    /// The earliest time at which a part of it has room. `None` is when one of its parts says so: no place is free, or the
    /// store has not answered yet.
    pub at: Option<Instant>,
}

/// When to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At this time; it is kept until a moment after it.
    At(Instant),
    /// When the limits say so: an answer of the store or a place that becomes free is waited for.
    Woken,
}

/// How much a node has used of a quota of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedQuota {
    /// The quota.
    pub name: Arc<str>,
    /// The day, in days since 1970-01-01 (UTC).
    pub day: u32,
    /// What was used.
    pub used: u64,
}

/// How a node deals with the limits of the fleet.
#[derive(Clone, Debug)]
pub struct Manner {
    /// How much of a rate all nodes together take in advance, at most: a part of its burst, or of what it allows in
    /// a second if that is more.
    pub max_batch_share: f64,
    /// How many nodes there are, as long as the store has not told.
    pub nodes: u32,
    /// Where this node stands among those that go by their shares, above 0 and up to 1: its first time of a rate comes
    /// after that part of the time from one to the next, and where places are fewer than nodes it has its turn by that.
    /// All that have the same place would send at the same moment.
    pub place: f64,
}

impl Manner {
    /// The same for the node of that name, with a place that others hardly have.
    #[must_use]
    pub fn of_node(self, node: &str) -> Self {
        // Names that are alike must not be near one another.
        let mut hasher = DefaultHasher::new();
        hasher.write(node.as_bytes());
        Self { place: hasher.finish() as f64 / u64::MAX as f64, ..self }
    }
}

impl Default for Manner {
    fn default() -> Self {
        Self { max_batch_share: 0.25, nodes: 1, place: 1.0 }
    }
}

/// Names are spread over so many parts of the store.
pub const SHARDS: u8 = 16;

/// The part of the store in which all about a name lies. The same in every version of the program.
pub fn shard(name: &str) -> u8 {
    (crc32c::crc32c(name.as_bytes()) % u32::from(SHARDS)) as u8
}

/// What a node asks of the store, about one name or one shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// The node lives and uses this shard: keep what it holds there. The first one makes it known.
    Live {
        /// The shard.
        shard: u8,
        /// Whether it may be made known, or must be known.
        join: bool,
    },
    /// The node uses this shard no more.
    Leave {
        /// The shard.
        shard: u8,
    },
    /// The next times of a rate, or, below zero, so many times back.
    Rate {
        /// The limit.
        name: Arc<str>,
        /// From one time to the next.
        interval: Duration,
        /// How many at once.
        burst: u64,
        /// How many times are wanted.
        tokens: i64,
        /// They were used already, and are only to be counted; afterwards so many are used, at least.
        used: Option<u64>,
    },
    /// Places of a count.
    Count {
        /// The limit.
        name: Arc<str>,
        /// Grows with each question of a node; the store passes over what is older than what it knows.
        turn: u64,
        /// How many places there are for all.
        limit: u32,
        /// How many the node has of those that it knows to have; the others of them are free from now on.
        keep: u32,
        /// How many it would like to have.
        want: u32,
    },
    /// A part of the quota of a day, or, below zero, so much back.
    Quota {
        /// The limit.
        name: Arc<str>,
        /// Days since 1970-01-01.
        day: u32,
        /// The quota of the day for all.
        most: u64,
        /// How many are wanted.
        units: i64,
    },
}

impl Ask {
    /// The shard that it is for.
    pub fn shard(&self) -> u8 {
        match self {
            Self::Live { shard, .. } | Self::Leave { shard } => *shard,
            Self::Rate { name, .. } | Self::Count { name, .. } | Self::Quota { name, .. } => shard(name),
        }
    }
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It does not know the node: it expired, or the store lost what it knew. Nothing was done.
    Unknown,
    /// To [`Ask::Live`].
    Live {
        /// How many nodes use the shard.
        nodes: u32,
        /// Another one means that the store lost what it knew.
        epoch: u64,
        /// How long the store has had it.
        age: Duration,
        /// How many of the nodes come before this one by their names, if it has asked to become known.
        before: Option<u32>,
    },
    /// To [`Ask::Leave`].
    Left,
    /// To [`Ask::Rate`].
    Rate {
        /// How many times the node has: those of now, and of later ones only what comes in a moment, but one at least.
        granted: u64,
        /// The first one, in microseconds from now on; those in the past can be used at once.
        first: i64,
    },
    /// To [`Ask::Count`].
    Count {
        /// How many places the node has.
        granted: u32,
        /// If others wait, how many it should have at most.
        fair: Option<u32>,
    },
    /// To [`Ask::Quota`]: how many of those wanted it has.
    Quota {
        /// So many.
        granted: u64,
    },
}
