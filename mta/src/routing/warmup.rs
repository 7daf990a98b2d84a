//! How much a new source may send on each day, until it is warm. Pure: told the day. Floor 0.
//! Always: before its first day a source sends nothing under its plan, after the last one as much as it can; of several
//! plans each one holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
pub use egret_shared::registry::first_days::Day;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// How much, from day to day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Messages to each site on each day from the first on.
    pub messages: Vec<u64>,
    /// Other numbers, by provider or by site; those of a provider are for all its sites together.
    pub by: BTreeMap<String, Vec<u64>>,
}

/// A source's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warmup {
    /// The source by whose name the fleet counts what is sent.
    pub of: Arc<str>,
    /// The first day.
    pub start: Day,
    /// How much from then on.
    pub plan: Arc<Plan>,
}

/// What may be sent in a day, and under which name the fleet counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The name.
    pub name: Arc<str>,
    /// The day that it is for.
    pub day: Day,
    /// The most.
    pub most: u64,
}

/// The day of a point of time.
pub fn day_of(now: UnixMs) -> Day {
    u32::try_from(now.0 / DAY_MS).unwrap_or(u32::MAX)
}

/// When the day after `day` begins.
pub fn end_of(day: Day) -> UnixMs {
    UnixMs((u64::from(day) + 1).saturating_mul(DAY_MS))
}

impl Plan {
    /// How many days it has.
    pub fn days(&self) -> usize {
        self.by.values().chain([&self.messages]).map(Vec::len).max().unwrap_or(0)
    }
}

impl Warmup {
    /// What the source may send to a site of these providers on a day; nothing is as much as it can. Each number that the
    /// plan has for one of them, or for the site, holds; if it has none, that for all, which is for the last provider.
    fn quotas(&self, site: &str, providers: &[Arc<str>], day: Day) -> Vec<Quota> {
        let Plan { messages, by } = &*self.plan;
        let scopes = providers.iter().map(|name| &**name).chain([site]);
        let mut numbers: Vec<_> = scopes.filter_map(|scope| Some((scope, by.get(scope)?))).collect();
        if numbers.is_empty() {
            numbers.push((providers.last().map_or(site, |name| &**name), messages));
        }
        let quota = |(scope, messages): (&str, &Vec<u64>)| {
            let most = match day.checked_sub(self.start) {
                None => 0,
                Some(passed) => *messages.get(passed as usize)?,
            };
            Some(Quota { name: format!("warmup {}->{scope}", self.of).into(), day, most })
        };
        numbers.into_iter().filter_map(quota).collect()
    }

    /// Which day of the plan it is, counted from one: zero before the first, `None` after the last.
    pub fn day_of_plan(&self, day: Day) -> Option<usize> {
        let at = day.checked_sub(self.start).map_or(0, |passed| passed as usize + 1);
        (at <= self.plan.days()).then_some(at)
    }
}

/// What each of the plans lets through; of those that are counted under one name the least.
pub fn quotas(plans: &[Warmup], site: &str, providers: &[Arc<str>], day: Day) -> Vec<Quota> {
    let mut quotas: Vec<Quota> = Vec::new();
    for quota in plans.iter().flat_map(|plan| plan.quotas(site, providers, day)) {
        match quotas.iter_mut().find(|known| known.name == quota.name) {
            Some(known) => known.most = known.most.min(quota.most),
            None => quotas.push(quota),
        }
    }
    quotas
}

/// A day as people write it: `2026-12-01`.
pub fn date(day: Day) -> String {
    let span = jiff::Span::new().try_days(i64::from(day));
    let date = span.and_then(|days| jiff::civil::date(1970, 1, 1).checked_add(days));
    // No clock says such a day.
    date.map_or_else(|_| format!("day {day}"), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warmup(messages: &[u64], by: &[(&str, &[u64])]) -> Warmup {
        let by = by.iter().map(|(name, messages)| ((*name).to_owned(), messages.to_vec())).collect();
        Warmup { of: "a1".into(), start: 100, plan: Plan { messages: messages.to_vec(), by }.into() }
    }

    #[test]
    fn a_plan_says_how_much_by_day_and_by_provider() {
        let plan = warmup(&[10, 20, 40], &[("google", &[5, 6, 7, 8]), ("mx.b.test", &[1])]);
        let told = |site, providers: &[&str], day| {
            let providers: Vec<_> = providers.iter().map(|name| Arc::from(*name)).collect();
            let quotas = plan.quotas(site, &providers, day).into_iter();
            let words = quotas.map(|quota| format!("{} {}", quota.name.replace("warmup a1->", ""), quota.most));
            words.collect::<Vec<_>>().join(", ")
        };
        let days = [99, 100, 102, 103].map(|day| told("mx.a.test", &[], day));
        assert_eq!(days, ["mx.a.test 0", "mx.a.test 10", "mx.a.test 40", ""]);
        assert_eq!([100, 103, 104].map(|day| told("mx.a.test", &["google"], day)), ["google 5", "google 8", ""]);
        assert_eq!(told("mx.a.test", &["yahoo"], 100), "yahoo 10", "all sites of a provider together");
        assert_eq!(told("mx.b.test", &["other"], 100), "mx.b.test 1", "a site's own numbers");
        assert_eq!(
            told("mx.a.test", &["google", "big"], 100),
            "google 5",
            "the one that the plan names, also if not the last"
        );
        assert_eq!(told("mx.a.test", &["small", "big"], 100), "big 10");
        assert_eq!(told("mx.b.test", &["google"], 100), "google 5, mx.b.test 1", "what is said of both holds");
        assert_eq!([99, 100, 103, 104].map(|day| plan.day_of_plan(day)), [Some(0), Some(1), Some(4), None]);
        assert_eq!(day_of(end_of(20_000)), 20_001);
        assert_eq!(day_of(UnixMs(end_of(20_000).0 - 1)), 20_000);
        assert_eq!(date(20_784), "2026-11-27");
    }

    #[test]
    fn of_several_plans_each_holds() {
        let wide = warmup(&[10, 20, 40], &[("google", &[5])]);
        let late = Warmup { start: 101, ..warmup(&[30, 30], &[("mx.a.test", &[2, 2])]) };
        let told = |provider: Option<&str>, day| {
            let providers: Vec<_> = provider.into_iter().map(Arc::from).collect();
            let all = quotas(&[wide.clone(), late.clone()], "mx.a.test", &providers, day);
            all.iter().map(|quota| (quota.name.replace("warmup a1->", ""), quota.most)).collect::<Vec<_>>()
        };
        let is = |all: &[(&str, u64)]| all.iter().map(|(name, most)| ((*name).to_owned(), *most)).collect::<Vec<_>>();
        assert_eq!(told(None, 101), is(&[("mx.a.test", 2)]), "one name, the least");
        assert_eq!(told(Some("google"), 100), is(&[("google", 5), ("mx.a.test", 0)]));
        assert_eq!(told(Some("yahoo"), 102), is(&[("yahoo", 40), ("mx.a.test", 2)]));
        assert_eq!(told(None, 103), is(&[]), "both are over");
    }
}
