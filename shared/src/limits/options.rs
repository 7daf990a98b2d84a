//! How a node takes part in the limits of a fleet: keys of the section `[redis]` of both programs. Pure. Floor 4.

use super::Manner;
use crate::config::Section;

/// How limits are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// How much of a rate all nodes together may have at hand.
    pub max_batch_percent: u32,
    /// Whether the time is Redis's; otherwise that of each node.
    pub server_time: bool,
    /// How many nodes there are, as long as Redis has not told.
    pub nodes: Option<u32>,
}

impl Sharing {
    /// Asks `[redis]` for its keys.
    pub fn read(section: &Section<'_>) -> Self {
        let sharing = Self {
            max_batch_percent: section.with_default(
                "max_batch_percent",
                "25",
                "How much of a rate all nodes together may have at hand, in percent of its burst, or of what it allows in a second if that is more. Less follows a rate more closely and asks Redis more often.",
            ),
            server_time: section.with_default(
                "server_time",
                "true",
                "Whether the time of the Redis server counts. `false` takes that of each node, for services that refuse TIME in scripts: then the nodes' clocks must agree.",
            ),
            nodes: section.optional(
                "nodes",
                "How many nodes there are (of proxies: how many proxies), for one that starts while Redis is away: it takes one part of so many of each limit. Absent, an MTA node takes the number that it knew last, and a proxy or a new node the whole.",
            ),
        };
        if !(1..=100).contains(&sharing.max_batch_percent) {
            section.complain("max_batch_percent", "is not between 1 and 100");
        }
        if sharing.nodes == Some(0) {
            section.complain("nodes", "is 0, but this one is a node itself");
        }
        sharing
    }

    /// The same for the limits. `known` is how many nodes there were when this one ran last.
    pub fn manner(&self, known: Option<u32>) -> Manner {
        let nodes = self.nodes.or(known).unwrap_or(1).max(1);
        Manner { max_batch_share: f64::from(self.max_batch_percent) / 100.0, nodes, ..Manner::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn read(keys: &str) -> Result<Sharing, String> {
        let text = format!("[redis]\n{keys}");
        let read = config::parse("x.toml", &text, |root| Some(Sharing::read(&root.section("redis"))));
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_counts_before_what_was_known() {
        let nodes = |keys: &str, known| read(keys).expect("good").manner(known).nodes;
        assert_eq!([nodes("", None), nodes("", Some(4)), nodes("nodes = 3", Some(4))], [1, 4, 3]);
        let manner = read("max_batch_percent = 10").expect("good").manner(None);
        assert!((manner.max_batch_share - 0.1).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (keys, told) in [
            ("nodes = 0", "x.toml:2: redis.nodes: is 0, but this one is a node itself"),
            ("max_batch_percent = 0", "x.toml:2: redis.max_batch_percent: is not between 1 and 100"),
            ("max_batch_percent = 101", "is not between 1 and 100"),
        ] {
            let error = read(keys).expect_err("wrong");
            assert!(error.contains(told), "{error}");
        }
    }
}
