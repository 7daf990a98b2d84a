//! What plans of warm-up let a message's sources send today, and how those are that its pool finds. Floor 6.

use egret_shared::clock::Clock;
use serde_json::{Value, json};

use crate::config::Config;
use crate::dns::site::Site;
use crate::message::Part;
use crate::routing::discover::{FoundWarmup, Selector};
use crate::routing::source::Source;
use crate::routing::warmup::{Quota, date, day_of, quotas};
use crate::shaping::Shaper;
use crate::shaping::per_site::unshaped;

/// What a source may send to the site today, by each of its plans.
pub(super) fn of(source: &Source, site: &Site, shaper: &Shaper) -> Vec<Value> {
    if source.warmup.is_empty() {
        return Vec::new();
    }
    let providers = shaper.effective(&source.name, site).providers.clone();
    let today = quotas(&source.warmup, unshaped(&site.name), &providers, day_of(Clock::system().wall()));
    let told = |Quota { name, day, most }: Quota| json!({ "limit": name, "day": date(day), "most": most });
    today.into_iter().map(told).collect()
}

/// The addresses that the part's pool finds, and how they are warmed up.
pub(super) fn found(config: &Config, part: &Part) -> Option<Value> {
    let selector = config.discovery.selectors.iter().find(|selector| selector.pool == part.pool)?;
    let Selector { tags, addresses, warmup, .. } = selector;
    let warmup =
        warmup.as_ref().map(|FoundWarmup { start, plan }| json!({ "start": start.map(date), "days": plan.days() }));
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    Some(json!({ "tags": tags, "addresses": addresses, "warmup": warmup }))
}
