//! How much a path takes. Floor 5.

use std::sync::Arc;

use egret_shared::config::Value;
use egret_shared::limits::{Count, Throttle};

use super::Reader;
use crate::shaping::options::{Named, PathLimits, PathOptions};
use crate::shaping::patch::Setting;

pub(super) fn read(reader: &mut Reader<'_, '_>) {
    reader.plain(
        "connection_limit",
        "32",
        "Sessions at once to one site from one source. The nodes that share a Redis keep it together, unless \"local:\" stands in front.",
        |o| &mut limits(o).connection_limit,
    );
    named::<Count>(
        reader,
        "additional_connection_limits",
        "Further limits of sessions at once, by name, as in `{ \"all-of-it\" = 50 }`: all paths that name one share it.",
        |o| &mut limits(o).additional_connection_limits,
    );
    throttle(
        reader,
        "max_connection_rate",
        "How fast sessions are opened to one site from one source, like \"10/min\".",
        |o| &mut limits(o).max_connection_rate,
    );
    throttle(
        reader,
        "max_message_rate",
        "How fast messages are sent to one site from one source, like \"100/s\" or \"1000/h,max_burst=10\": not more than max_burst of them come at once. A message that may not go yet keeps its schedule, and no attempt is counted.",
        |o| &mut limits(o).max_message_rate,
    );
    named::<Throttle>(
        reader,
        "additional_message_rate_throttles",
        "Further rates of messages, by name, as in `{ \"all-of-it\" = \"500/s\" }`: all paths that name one share it.",
        |o| &mut limits(o).additional_message_rate_throttles,
    );
    throttle(
        reader,
        "source_selection_rate",
        "How often a source is chosen for a message to one site; beyond that the others of its pool are.",
        |o| &mut limits(o).source_selection_rate,
    );
    named::<Throttle>(
        reader,
        "additional_source_selection_rates",
        "Further rates of that, by name: all paths that name one share it.",
        |o| &mut limits(o).additional_source_selection_rates,
    );
    reader.count(
        "consecutive_connection_failures_before_delay",
        "1",
        "After so many sessions in a row that could not be opened at any address of the site, the path waits, longer each time.",
        |o| &mut limits(o).consecutive_connection_failures_before_delay,
    );
}

fn limits(options: &mut PathOptions) -> &mut PathLimits {
    Arc::make_mut(&mut options.limits)
}

fn throttle(
    reader: &mut Reader<'_, '_>,
    key: &'static str,
    doc: &'static str,
    slot: fn(&mut PathOptions) -> &mut Option<Throttle>,
) {
    reader.optional::<Throttle>(key, doc, move |options, throttle| *slot(options) = Some(*throttle));
}

/// What is named here takes the place of what bears that name; others stay.
fn named<T: Value + Copy + ToString + Send + Sync + 'static>(
    reader: &mut Reader<'_, '_>,
    key: &'static str,
    doc: &'static str,
    slot: fn(&mut PathOptions) -> &mut Named<T>,
) {
    for (name, limit) in reader.section.map::<T>(key, doc) {
        if name.trim().is_empty() {
            reader.section.complain(key, "holds a limit without a name");
        }
        let (place, told, name) = (reader.place(key), format!("{key}.{name}"), Arc::<str>::from(name));
        let apply = move |options: &mut PathOptions| {
            slot(options).insert(name.clone(), limit);
        };
        reader.patch.push(Setting::new(&told, &limit.to_string(), place, apply));
    }
}
