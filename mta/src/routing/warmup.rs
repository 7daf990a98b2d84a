//! How much a new source may send on each day, until it is warm. Pure: told the day. Floor 0.
//! Always: before its first day a source sends nothing under its plan, after the last one as much as it can.

use std::collections::BTreeMap;
use std::sync::Arc;

use egret_shared::clock::UnixMs;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// A day, counted from 1970-01-01 (UTC).
pub type Day = u32;

/// A source's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warmup {
    /// The first day.
    pub start: Day,
    /// Messages to each site on each day from the first on.
    pub messages: Vec<u64>,
    /// Other numbers, by provider or by site; those of a provider are for all its sites together.
    pub by: BTreeMap<String, Vec<u64>>,
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

impl Warmup {
    /// What `source` may send to a site, of a provider if one is known, on a day; `None` is as much as it can.
    pub fn quota(&self, source: &str, site: &str, provider: Option<&str>, day: Day) -> Option<Quota> {
        let of_provider = provider.and_then(|name| Some((name, self.by.get(name)?)));
        let (scope, messages) = of_provider
            .or_else(|| Some((site, self.by.get(site)?)))
            .unwrap_or((provider.unwrap_or(site), &self.messages));
        let most = match day.checked_sub(self.start) {
            None => 0,
            Some(passed) => *messages.get(passed as usize)?,
        };
        Some(Quota { name: format!("warmup {source}->{scope}").into(), day, most })
    }

    /// Whether the plan says nothing any more from a day on.
    pub fn is_over(&self, day: Day) -> bool {
        let days = self.by.values().chain([&self.messages]).map(Vec::len).max().unwrap_or(0);
        day.checked_sub(self.start).is_some_and(|passed| passed as usize >= days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_how_much_by_day_and_by_provider() {
        let plan = Warmup {
            start: 100,
            messages: vec![10, 20, 40],
            by: [("google".to_owned(), vec![5, 6, 7, 8]), ("mx.b.test".to_owned(), vec![1])].into(),
        };
        let most = |site, provider, day| plan.quota("a1", site, provider, day).map(|quota| quota.most);
        assert_eq!([99, 100, 102, 103].map(|day| most("mx.a.test", None, day)), [Some(0), Some(10), Some(40), None]);
        assert_eq!([100, 103, 104].map(|day| most("mx.a.test", Some("google"), day)), [Some(5), Some(8), None]);
        assert_eq!(most("mx.b.test", Some("other"), 100), Some(1), "a site's own numbers");
        let name = |provider| plan.quota("a1", "mx.a.test", provider, 100).map(|quota| quota.name.to_string());
        assert_eq!(name(Some("google")).as_deref(), Some("warmup a1->google"), "all sites of a provider together");
        assert_eq!(name(Some("yahoo")).as_deref(), Some("warmup a1->yahoo"));
        assert_eq!(name(None).as_deref(), Some("warmup a1->mx.a.test"));
        assert!(!plan.is_over(103) && plan.is_over(104));
        assert_eq!(day_of(end_of(20_000)), 20_001);
        assert_eq!(day_of(UnixMs(end_of(20_000).0 - 1)), 20_000);
    }
}
