//! What the path of a ready queue may take, by the names under which the fleet knows it. Pure. Floor 2.
//! Always: a name stands for one budget, whoever uses it: those of a path bear the path's name, those that a person named
//! bear that name alone.

use std::sync::Arc;

use egret_shared::limits::{Count, Throttle};

use super::floors::{Floor, concerns};
use super::parted::Parted;
use crate::dns::site::Site;
use crate::shaping::options::{Named, PathLimits};

/// What limits each path.
pub trait Paths: Send {
    /// The limits of the path from a source to a site.
    fn limits(&self, source: &str, site: &Site) -> Arc<PathLimits>;
    /// The providers that the site is of.
    fn providers(&self, _source: &str, _site: &Site) -> Arc<[Arc<str>]> {
        Arc::default()
    }
    /// What is kept of limits for tenants and priorities.
    fn floors(&self) -> Arc<[Floor]> {
        Arc::default()
    }
}

/// So many sessions on each path, and nothing else.
impl Paths for u32 {
    fn limits(&self, _: &str, _: &Site) -> Arc<PathLimits> {
        Arc::new(PathLimits { connection_limit: (*self).into(), ..PathLimits::default() })
    }
}

/// Limits under their names.
pub(super) type List<T> = Box<[(Arc<str>, T)]>;

/// What a path may take.
#[derive(Debug)]
pub(super) struct Budget {
    /// Sessions at once, as far as this node knows of them.
    pub sessions: usize,
    /// Failed sessions in a row before the path waits.
    pub patience: u32,
    /// Places that each session takes.
    pub places: List<Count>,
    /// How fast sessions are opened.
    pub opening: List<Throttle>,
    /// How fast messages are sent.
    pub messages: List<Throttle>,
    /// How often the source is chosen.
    pub choosing: List<Throttle>,
    /// The providers of the site.
    pub providers: Arc<[Arc<str>]>,
    /// What mail of which something is kept may take, if there is any. Then `places` and `messages` are what is left for
    /// all.
    pub parted: Option<Box<Parted>>,
}

impl Budget {
    /// The budget of the path from `source` to `site`. With `is_shared` other nodes use the path, too.
    pub fn new(source: &str, site: &str, limits: &PathLimits, is_shared: bool, floors: &[Floor]) -> Self {
        let name = |kind: &str| Arc::from(format!("{kind} {source}->{site}"));
        // What only this node keeps, and only for this path, is kept by the ready queue's own count.
        let is_counted =
            |own: &Count| is_shared && !own.local || !floors.is_empty() && concerns(floors, &name("connection_limit"));
        let own = Some(limits.connection_limit).filter(is_counted);
        let rates = |kind: &str, own: Option<Throttle>, named: &Named<Throttle>| {
            let own = own.map(|own| (name(kind), own));
            let mut all: Vec<_> = own.into_iter().chain(by_name(named)).collect();
            // The slowest refuses most: it is asked first.
            all.sort_by_key(|(_, throttle)| std::cmp::Reverse(throttle.rate.interval()));
            all.into_boxed_slice()
        };
        let mut budget = Self {
            sessions: limits.connection_limit.count as usize,
            patience: limits.consecutive_connection_failures_before_delay.max(1),
            places: own
                .map(|own| (name("connection_limit"), own))
                .into_iter()
                .chain(by_name(&limits.additional_connection_limits))
                .collect(),
            opening: rates("max_connection_rate", limits.max_connection_rate, &Named::new()),
            messages: rates("max_message_rate", limits.max_message_rate, &limits.additional_message_rate_throttles),
            choosing: rates(
                "source_selection_rate",
                limits.source_selection_rate,
                &limits.additional_source_selection_rates,
            ),
            providers: Arc::default(),
            parted: None,
        };
        if !floors.is_empty() {
            let parted = Parted::divide(&mut budget.places, &mut budget.messages, floors);
            budget.parted = parted.map(Box::new);
        }
        budget
    }

    /// Whether its sessions or its messages take something of that name.
    pub fn takes(&self, name: &str) -> bool {
        self.takes_place_of(name) || self.messages.iter().chain(&self.opening).any(|(rate, _)| &**rate == name)
    }

    /// Whether its sessions take places of that name.
    pub fn takes_place_of(&self, name: &str) -> bool {
        let is_part = || self.parted.as_ref().is_some_and(|parted| parted.whose(name).is_some());
        self.places.iter().any(|(place, _)| &**place == name) || is_part()
    }
}

fn by_name<T: Copy>(named: &Named<T>) -> impl Iterator<Item = (Arc<str>, T)> {
    named.iter().map(|(name, limit)| (name.clone(), *limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paths_own_limits_bear_its_name_and_named_ones_their_own() {
        let throttle = |text: &str| text.parse::<Throttle>().expect("a throttle");
        let limits = PathLimits {
            connection_limit: 5.into(),
            additional_connection_limits: [("all".into(), 9.into())].into(),
            max_message_rate: Some(throttle("100/s")),
            additional_message_rate_throttles: [("all".into(), throttle("10/s"))].into(),
            ..PathLimits::default()
        };
        let names = |list: &[(Arc<str>, Throttle)]| list.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        let shared = Budget::new("a1", "mx.test", &limits, true, &[]);
        assert_eq!(names(&shared.messages), ["all", "max_message_rate a1->mx.test"], "the slowest first");
        assert!(shared.takes_place_of("connection_limit a1->mx.test") && shared.takes_place_of("all"));
        let alone = Budget::new("a1", "mx.test", &limits, false, &[]);
        assert_eq!((alone.sessions, alone.places.len()), (5, 1), "its own count is enough for its own limit");
        let local = PathLimits { connection_limit: "local:3".parse().expect("a count"), ..limits };
        assert!(!Budget::new("a1", "mx.test", &local, true, &[]).takes_place_of("connection_limit a1->mx.test"));
    }
}
