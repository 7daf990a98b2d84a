//! `[limits]`: how this node deals with the limits that a fleet keeps together. Floor 5.

use egret_shared::config::Section;

/// How limits are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// How much of a rate all nodes together may take in advance.
    pub max_batch_percent: u32,
    /// Whether the time is Redis's; otherwise that of each node.
    pub server_time: bool,
}

pub(super) fn build(root: &Section<'_>) -> LimitsConfig {
    let section = root.section("limits");
    let config = LimitsConfig {
        max_batch_percent: section.with_default(
            "max_batch_percent",
            "25",
            "How much of a rate all nodes together may take in advance, in percent of its burst, or of what it allows in a second if that is more. Less follows a rate more closely and asks Redis more often.",
        ),
        server_time: section.with_default(
            "server_time",
            "true",
            "Whether the time of the Redis server counts. `false` takes that of each node, for services that refuse TIME in scripts: then the nodes' clocks must agree.",
        ),
    };
    if !(1..=100).contains(&config.max_batch_percent) {
        section.complain("max_batch_percent", "is not between 1 and 100");
    }
    config
}
