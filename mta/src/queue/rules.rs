//! What is said of scheduled queues, by domain, tenant and campaign. Plain data with the order in which it holds.
//! Pure. Floor 1.
//! Always: of each option the most specific word counts: that of the campaign, then of the tenant at the domain, of the
//! tenant, of the domain, of all queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::limits::Throttle;

use super::options::{DelayNotice, QueueOptions};
use crate::message::QueueName;

/// One option that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    /// The value.
    pub value: T,
    /// The value, as it stands in the file.
    pub words: Arc<str>,
    /// File and line.
    pub place: Arc<str>,
}

/// What is said of queues at one place, or of one queue at all places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuePatch {
    /// The wait after the first attempt that counts.
    pub retry_interval: Option<Said<Duration>>,
    /// The longest wait.
    pub max_retry_interval: Option<Said<Duration>>,
    /// After this a message expires.
    pub max_age: Option<Said<Duration>>,
    /// After which times the sender is told that a message is late.
    pub delay_notice: Option<Said<DelayNotice>>,
    /// How fast the messages of each queue leave it.
    pub max_message_rate: Option<Said<Throttle>>,
    /// The pool that they leave from.
    pub egress_pool: Option<Said<Arc<str>>>,
}

/// What is said of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantBlock {
    /// For its queues, one by one.
    pub patch: QueuePatch,
    /// How fast the messages of all its queues leave them, together.
    pub overall_max_message_rate: Option<Said<Throttle>>,
}

/// What is said of a tenant at a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantAtDomain {
    /// For all its campaigns.
    pub patch: QueuePatch,
    /// For single ones.
    pub campaigns: HashMap<Arc<str>, QueuePatch>,
}

/// What is said of a domain, or of all that are below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainBlock {
    /// For all mail to it.
    pub patch: QueuePatch,
    /// For single tenants, by the name that queues bear.
    pub tenants: HashMap<Arc<str>, TenantAtDomain>,
}

/// All that is said of queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRules {
    /// For all queues.
    pub default: QueuePatch,
    /// For tenants, by the name that queues bear.
    pub tenants: HashMap<Arc<str>, TenantBlock>,
    /// For domains (canonical).
    pub domains: HashMap<String, DomainBlock>,
    /// For what is below domains.
    pub below: HashMap<String, DomainBlock>,
    /// The files with their texts, to see whether they changed.
    pub texts: Vec<(String, String)>,
}

impl QueuePatch {
    /// Says what `other` says, over what was said.
    pub fn lay(&mut self, other: &Self) {
        fn over<T: Clone>(slot: &mut Option<Said<T>>, other: Option<&Said<T>>) {
            if let Some(other) = other {
                *slot = Some(other.clone());
            }
        }
        over(&mut self.retry_interval, other.retry_interval.as_ref());
        over(&mut self.max_retry_interval, other.max_retry_interval.as_ref());
        over(&mut self.max_age, other.max_age.as_ref());
        over(&mut self.delay_notice, other.delay_notice.as_ref());
        over(&mut self.max_message_rate, other.max_message_rate.as_ref());
        over(&mut self.egress_pool, other.egress_pool.as_ref());
    }

    /// What `base` becomes. A first wait that is longer than the longest one that nobody meant for it is the longest.
    #[must_use]
    pub fn over(&self, base: &QueueOptions) -> QueueOptions {
        let or = |said: &Option<Said<Duration>>, base| said.as_ref().map_or(base, |said| said.value);
        let retry_interval = or(&self.retry_interval, base.retry_interval);
        QueueOptions {
            retry_interval,
            max_retry_interval: or(&self.max_retry_interval, base.max_retry_interval).max(retry_interval),
            max_age: or(&self.max_age, base.max_age),
            max_ready: base.max_ready,
            delay_notice: self.delay_notice.as_ref().map_or(base.delay_notice, |said| said.value),
        }
    }

    /// Each option that is said: its key, its value in words, where it stands.
    pub fn told(&self) -> Vec<(&'static str, &str, &str)> {
        fn told<'s, T>(key: &'static str, said: Option<&'s Said<T>>) -> Option<(&'static str, &'s str, &'s str)> {
            said.map(|said| (key, &*said.words, &*said.place))
        }
        let all = [
            told("egress_pool", self.egress_pool.as_ref()),
            told("retry_interval", self.retry_interval.as_ref()),
            told("max_retry_interval", self.max_retry_interval.as_ref()),
            told("max_age", self.max_age.as_ref()),
            told("delay_notice", self.delay_notice.as_ref()),
            told("max_message_rate", self.max_message_rate.as_ref()),
        ];
        all.into_iter().flatten().collect()
    }
}

impl QueueRules {
    /// The block of a domain: its own, else that of the nearest domain that it is below.
    fn domain(&self, domain: &str) -> Option<&DomainBlock> {
        let parents = domain.match_indices('.').filter_map(|(at, _)| domain.get(at + 1..));
        self.domains.get(domain).or_else(|| parents.filter_map(|parent| self.below.get(parent)).next())
    }

    /// What is said of a queue beyond what is said of all, the less specific first.
    fn specific(&self, queue: &QueueName) -> impl Iterator<Item = &QueuePatch> {
        let domain = self.domain(queue.domain());
        let tenant = queue.tenant().and_then(|tenant| self.tenants.get(tenant));
        let both = domain.zip(queue.tenant()).and_then(|(domain, tenant)| domain.tenants.get(tenant));
        let campaign = both.zip(queue.campaign()).and_then(|(both, campaign)| both.campaigns.get(campaign));
        let steps = [domain.map(|d| &d.patch), tenant.map(|t| &t.patch), both.map(|b| &b.patch), campaign];
        steps.into_iter().flatten()
    }

    /// What is said of a queue.
    pub fn of(&self, queue: &QueueName) -> QueuePatch {
        let mut patch = self.default.clone();
        self.specific(queue).for_each(|step| patch.lay(step));
        patch
    }

    /// What all queues of a queue's tenant share.
    pub fn overall(&self, queue: &QueueName) -> Option<&Said<Throttle>> {
        self.tenants.get(queue.tenant()?)?.overall_max_message_rate.as_ref()
    }

    /// The rates of a queue under their names, the slowest first: it refuses most.
    pub fn rates(&self, queue: &QueueName) -> Box<[(Arc<str>, Throttle)]> {
        let own = self.of(queue).max_message_rate.map(|said| (format!("max_message_rate {queue}"), said.value));
        let tenant = queue.tenant().unwrap_or_default();
        let overall = self.overall(queue).map(|said| (format!("overall_max_message_rate tenant {tenant}"), said.value));
        let mut all: Vec<_> = own.into_iter().chain(overall).map(|(name, rate)| (name.into(), rate)).collect();
        all.sort_by_key(|(_, throttle): &(Arc<str>, Throttle)| std::cmp::Reverse(throttle.rate.interval()));
        all.into_boxed_slice()
    }

    /// The pool that is said of a queue in particular; it counts before what a route says.
    pub fn pool(&self, queue: &QueueName) -> Option<Arc<str>> {
        let pools = self.specific(queue).filter_map(|step| step.egress_pool.as_ref());
        pools.last().map(|said| said.value.clone())
    }

    /// The pool that is said of all queues; it counts where no route says one.
    pub fn default_pool(&self) -> Option<Arc<str>> {
        self.default.egress_pool.as_ref().map(|said| said.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said<T>(value: T) -> Option<Said<T>> {
        Some(Said { value, words: "w".into(), place: "f:1".into() })
    }

    fn age(secs: u64) -> QueuePatch {
        QueuePatch { max_age: said(Duration::from_secs(secs)), ..QueuePatch::default() }
    }

    /// Each of the five places says another age, if it is among `said`.
    fn rules(said: [bool; 5]) -> QueueRules {
        let step = |n: usize| if said[n] { age(n as u64 + 1) } else { QueuePatch::default() };
        let at_domain = TenantAtDomain { patch: step(3), campaigns: [("c".into(), step(4))].into() };
        let domain = DomainBlock { patch: step(1), tenants: [("t".into(), at_domain)].into() };
        let tenant = TenantBlock { patch: step(2), overall_max_message_rate: None };
        QueueRules {
            default: step(0),
            tenants: [("t".into(), tenant)].into(),
            domains: [("a.test".to_owned(), domain.clone())].into(),
            below: [("b.test".to_owned(), domain)].into(),
            texts: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn the_most_specific_word_counts(
            all: [bool; 5], tenant in prop::option::of("[tu]"), campaign in prop::option::of("[cd]"),
            domain in prop::sample::select(vec!["a.test", "b.test", "x.b.test", "y.x.b.test", "z.test"]),
        ) {
            let is_domain = domain != "b.test" && domain != "z.test";
            let is_tenant = tenant.as_deref() == Some("t");
            let fits = [true, is_domain, is_tenant, is_domain && is_tenant, is_domain && is_tenant && campaign.as_deref() == Some("c")];
            let expected = (0..5).rev().find(|n| all[*n] && fits[*n]).map(|n| Duration::from_secs(n as u64 + 1));
            let queue = QueueName::new(campaign.as_deref(), tenant.as_deref(), domain);
            prop_assert_eq!(rules(all).of(&queue).max_age.map(|said| said.value), expected);
        }
    }

    #[test]
    fn the_nearest_domain_counts_and_a_first_wait_may_be_the_longest() {
        let mut rules = rules([true; 5]);
        rules.below.insert("x.b.test".to_owned(), DomainBlock { patch: age(9), ..DomainBlock::default() });
        let of = |domain: &str| rules.of(&QueueName::of_domain(domain)).max_age.map(|said| said.value.as_secs());
        assert_eq!([of("y.x.b.test"), of("x.b.test"), of("xb.test")], [Some(9), Some(2), Some(1)]);
        let secs = Duration::from_secs;
        let base = QueueOptions {
            retry_interval: secs(1),
            max_retry_interval: secs(4),
            max_age: secs(9),
            max_ready: 1,
            delay_notice: DelayNotice::default(),
        };
        let patch = QueuePatch { retry_interval: said(secs(6)), ..QueuePatch::default() };
        assert_eq!(patch.over(&base).retry_after(1, 0), secs(6) * 95 / 100);
        assert_eq!(QueuePatch::default().over(&base), base);
    }

    #[test]
    fn a_queues_rate_bears_its_name_and_a_tenants_the_tenants() {
        let rate = |text: &str| text.parse::<Throttle>().expect("a throttle");
        let mut rules = rules([false; 5]);
        rules.default.max_message_rate = said(rate("1/s"));
        let tenant = rules.tenants.get_mut("t").expect("a tenant");
        tenant.overall_max_message_rate = said(rate("1/min"));
        let names = |queue: &QueueName| rules.rates(queue).iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        let own = "max_message_rate c:t@a.test".to_owned();
        let overall = "overall_max_message_rate tenant t".to_owned();
        assert_eq!(names(&QueueName::new(Some("c"), Some("t"), "a.test")), [overall, own], "the slowest first");
        assert_eq!(names(&QueueName::of_domain("z.test")), ["max_message_rate @z.test"]);
    }
}
