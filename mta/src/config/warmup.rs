//! `[source.NAME.warmup]` and `[pool.NAME.discover.warmup]`: the plan by which a new address sends more from day to day.
//! Floor 5.

use std::collections::BTreeMap;
use std::sync::Arc;

use egret_shared::config::Section;

use super::spelling::{check_provider, spelled};
use crate::routing::discover::FoundWarmup;
use crate::routing::warmup::{Day, Plan, Warmup};

/// A day as it is written: `"2026-12-01"`.
struct Date(Day);

impl std::str::FromStr for Date {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |error: jiff::Error| format!("{error}; write it like \"2026-12-01\"");
        let date: jiff::civil::Date = text.parse().map_err(wrong)?;
        let days = date.since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1))).map_err(wrong)?.get_days();
        u32::try_from(days).map(Self).map_err(|_| "is before 1970; write it like \"2026-12-01\"".to_owned())
    }
}

egret_shared::config_value_from_str!(Date => "a date");

/// The plan of the source `name`, if its section holds one.
pub(super) fn build(name: &str, source: &Section<'_>, providers: Option<&[Arc<str>]>) -> Option<Warmup> {
    let section = source.section("warmup");
    let start = section.optional::<Date>(
        "start",
        "The first day of the plan (UTC), like \"2026-12-01\"; before it the source sends nothing, after the last day as much as it can.",
    );
    let plan = plan(&section, providers);
    if section.is_present() && start.is_none() && !section.skip("start") {
        section.complain("start", "is missing; write the first day, like \"2026-12-01\"");
    }
    Some(Warmup { of: name.into(), start: start?.0, plan: plan?.into() })
}

/// The plan of addresses that are found, if the section of how they are found holds one.
pub(super) fn of_found(discover: &Section<'_>, providers: Option<&[Arc<str>]>) -> Option<FoundWarmup> {
    let section = discover.section("warmup");
    let start = section.optional::<Date>(
        "start",
        "The first day of the plan (UTC), like \"2026-12-01\", for all addresses that are found; without it each begins on the day on which the fleet first saw it here. Addresses that are warm already need it.",
    );
    let plan = plan(&section, providers);
    Some(FoundWarmup { start: start.map(|date| date.0), plan: plan?.into() })
}

fn plan(section: &Section<'_>, providers: Option<&[Arc<str>]>) -> Option<Plan> {
    let messages = section.with_default::<Vec<u64>>(
        "messages",
        "[]",
        "How many messages it sends to each site (or provider, where shaping knows one) on the first day, the second, and so on, like [50, 100, 200, 400]. The fleet keeps this together; what is more goes by other sources of the pool, or waits for the next day.",
    );
    let written = section.map::<Vec<u64>>(
        "by",
        "Other numbers for a provider or a site, like `{ google = [20, 40, 80] }`; those of a provider are for all its sites together.",
    );
    if !section.is_present() {
        return None;
    }
    if messages.is_empty() {
        section.complain("messages", "is missing; write how many messages each day may have, like [50, 100, 200]");
    }
    let mut by = BTreeMap::new();
    for (name, messages) in written {
        let whom = whom(section, name, providers);
        if by.insert(whom.clone(), messages).is_some() {
            section.complain("by", format!("names {whom:?} twice, in other letters; keep one of them"));
        }
    }
    Some(Plan { messages, by })
}

/// The provider or the site that a name means. A site has a dot in its name, or is an address.
fn whom(section: &Section<'_>, name: String, providers: Option<&[Arc<str>]>) -> String {
    let is_provider = providers.is_some_and(|known| known.iter().any(|one| **one == *name));
    if !is_provider && name.contains(['.', ':']) {
        return match spelled(&name) {
            Ok(site) => site,
            Err(why) => {
                section.complain("by", format!("names {name:?}, which is no site: {why}"));
                name
            }
        };
    }
    check_provider(section, "by", &name, providers);
    name
}
