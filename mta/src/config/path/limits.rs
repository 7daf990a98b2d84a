//! How much a path takes. Floor 5.

use egret_shared::config::{Section, Value};
use egret_shared::limits::{Count, Throttle};

use crate::shaping::options::{Named, PathLimits};

pub(super) fn replace(section: &Section<'_>, limits: &mut PathLimits) {
    section.replace(
        "connection_limit",
        "32",
        "Sessions at once to one site from one source. The nodes that share a Redis keep it together, unless \"local:\" stands in front.",
        &mut limits.connection_limit,
    );
    named::<Count>(
        section,
        "additional_connection_limits",
        "Further limits of sessions at once, by name, as in `{ \"all-of-it\" = 50 }`: all paths that name one share it.",
        &mut limits.additional_connection_limits,
    );
    throttle(
        section,
        "max_connection_rate",
        "How fast sessions are opened to one site from one source, like \"10/min\".",
        &mut limits.max_connection_rate,
    );
    throttle(
        section,
        "max_message_rate",
        "How fast messages are sent to one site from one source, like \"100/s\" or \"1000/h,max_burst=10\": not more than max_burst of them come at once. A message that may not go yet keeps its schedule, and no attempt is counted.",
        &mut limits.max_message_rate,
    );
    named::<Throttle>(
        section,
        "additional_message_rate_throttles",
        "Further rates of messages, by name, as in `{ \"all-of-it\" = \"500/s\" }`: all paths that name one share it.",
        &mut limits.additional_message_rate_throttles,
    );
    throttle(
        section,
        "source_selection_rate",
        "How often a source is chosen for a message to one site; beyond that the others of its pool are.",
        &mut limits.source_selection_rate,
    );
    named::<Throttle>(
        section,
        "additional_source_selection_rates",
        "Further rates of that, by name: all paths that name one share it.",
        &mut limits.additional_source_selection_rates,
    );
    super::count(
        section,
        "consecutive_connection_failures_before_delay",
        "1",
        "After so many sessions in a row that could not be opened at any address of the site, the path waits, longer each time.",
        &mut limits.consecutive_connection_failures_before_delay,
    );
}

fn throttle(section: &Section<'_>, key: &'static str, doc: &'static str, slot: &mut Option<Throttle>) {
    if let Some(throttle) = section.optional(key, doc) {
        *slot = Some(throttle);
    }
}

/// What is named here takes the place of what bears that name; others stay.
fn named<T: Value>(section: &Section<'_>, key: &'static str, doc: &'static str, slot: &mut Named<T>) {
    for (name, limit) in section.map::<T>(key, doc) {
        if name.trim().is_empty() {
            section.complain(key, "holds a limit without a name");
        }
        slot.insert(name.into(), limit);
    }
}
