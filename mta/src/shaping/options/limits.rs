//! How much a path takes: sessions at once, and rates. Plain data. Floor 1.

use std::collections::BTreeMap;
use std::sync::Arc;

use egret_shared::limits::{Count, Throttle};

/// Limits that have names of their own: who names one shares it, whatever the path.
pub type Named<T> = BTreeMap<Arc<str>, T>;

/// The limits of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathLimits {
    /// Sessions at once.
    pub connection_limit: Count,
    /// Further limits of sessions, by name.
    pub additional_connection_limits: Named<Count>,
    /// How fast sessions are opened.
    pub max_connection_rate: Option<Throttle>,
    /// How fast messages are sent.
    pub max_message_rate: Option<Throttle>,
    /// Further rates of messages, by name.
    pub additional_message_rate_throttles: Named<Throttle>,
    /// How often the source is chosen for a message to the site.
    pub source_selection_rate: Option<Throttle>,
    /// Further rates of that, by name.
    pub additional_source_selection_rates: Named<Throttle>,
    /// Failed sessions in a row before the path waits.
    pub consecutive_connection_failures_before_delay: u32,
}

impl Default for PathLimits {
    fn default() -> Self {
        Self {
            connection_limit: Count::from(32),
            additional_connection_limits: BTreeMap::new(),
            max_connection_rate: None,
            max_message_rate: None,
            additional_message_rate_throttles: BTreeMap::new(),
            source_selection_rate: None,
            additional_source_selection_rates: BTreeMap::new(),
            consecutive_connection_failures_before_delay: 1,
        }
    }
}

impl PathLimits {
    /// Whether one of the named limits of its sessions and messages is called that.
    pub fn is_named(&self, name: &str) -> bool {
        self.additional_connection_limits.contains_key(name)
            || self.additional_message_rate_throttles.contains_key(name)
    }
}
