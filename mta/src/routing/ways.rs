//! What decides about the way of a message, as one value that a reload replaces: labels, rules, routes.
//! Pure. Floor 2.
//! Always: what a rule says counts before what is said of queues, that before what a route says of a domain, and that
//! before what is said of all queues; a route that a rule has chosen takes the place
//! of its domain's.

use std::collections::HashMap;
use std::sync::Arc;

use super::label::LabelHeaders;
use super::route::{Route, Routes};
use super::rule::{Assigned, Rules};
use crate::message::{Address, Leads, Part, Priority, QueueName, Wishes};
use crate::queue::rules::QueueRules;

/// What decides about the way of a message.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// Which headers say whose mail a message is.
    pub labels: LabelHeaders,
    /// Routing rules.
    pub rules: Rules,
    /// Static routes.
    pub routes: Routes,
    /// What is said of queues.
    pub queues: Arc<QueueRules>,
    /// The pool of mail for which nothing chooses.
    pub default_pool: Arc<str>,
}

/// A queue bears the name of a route that is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {0} is not in the configuration; add it again, or move its mail with `queue rebind --to-routing`")]
pub struct UnknownRoute(pub String);

impl Ways {
    /// Where a queue's mail is led: the domain that the DNS would be asked about, and the route.
    ///
    /// # Errors
    /// The route is not there.
    pub fn lead<'a>(&'a self, queue: &'a QueueName) -> Result<(&'a str, Option<&'a Route>), UnknownRoute> {
        match queue.leads() {
            Leads::Domain(domain) => Ok((domain, self.routes.find(domain))),
            Leads::Route(name) => match self.routes.named(name) {
                Some(route) => Ok((queue.domain(), Some(route))),
                None => Err(UnknownRoute(name.to_owned())),
            },
        }
    }

    /// The pool of a queue's mail where no rule chooses one.
    fn pool_of(&self, queue: &QueueName) -> Arc<str> {
        let by_route = || self.lead(queue).ok()?.1?.pool.clone();
        let said = self.queues.pool(queue).or_else(by_route).or_else(|| self.queues.default_pool());
        said.unwrap_or_else(|| self.default_pool.clone())
    }

    /// One part for each queue, pool and priority, in the order in which they come first.
    pub fn split(&self, recipients: Vec<Address>, assigned: &[Assigned], wishes: &Wishes) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut known: HashMap<(QueueName, Arc<str>, Priority), usize> = HashMap::new();
        let nobodys = Assigned::default();
        for (at, recipient) in recipients.into_iter().enumerate() {
            let assigned = assigned.get(at).or(assigned.first()).unwrap_or(&nobodys);
            let (domain, (campaign, tenant)) = (recipient.canonical_domain(), assigned.labels.texts());
            let queue = QueueName::new(campaign, tenant, &domain).led_by(assigned.routing.as_deref());
            let pool = assigned.pool.clone().unwrap_or_else(|| self.pool_of(&queue));
            let key = (queue, pool, assigned.priority);
            if let Some(part) = known.get(&key).and_then(|at| parts.get_mut(*at)) {
                wishes.copy_to(at, &mut part.wishes, part.recipients.len());
                part.recipients.push(recipient);
                continue;
            }
            let (queue, pool, priority) = key.clone();
            let mut own = Wishes::default();
            wishes.copy_to(at, &mut own, 0);
            parts.push(Part { queue, pool, priority, recipients: vec![recipient], wishes: own });
            known.insert(key, parts.len() - 1);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::Labels;
    use super::super::route::Pattern;
    use super::*;
    use crate::message::{Notify, RecipientWish};
    use crate::queue::rules::{QueuePatch, Said, TenantBlock};

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).expect("an address")).collect()
    }

    fn ways() -> Ways {
        let mut routes = Routes::default();
        let warm = Route { pool: Some("warm".into()), ..Route::default() };
        assert!(routes.add(Pattern::Domain("b.test".to_owned()), Arc::new(warm)));
        let relay = Route { name: Some("relay".into()), pool: Some("relays".into()), ..Route::default() };
        assert!(routes.add_named(Arc::new(relay)));
        Ways { routes, default_pool: "main".into(), ..Ways::default() }
    }

    #[test]
    fn recipients_are_split_by_domain_and_each_part_has_its_pool() {
        let ways = ways();
        let parts =
            ways.split(addresses(&["1@a.test", "2@b.test", "3@A.TEST", "4@[192.0.2.1]"]), &[], &Wishes::default());
        let found: Vec<_> =
            parts.iter().map(|part| (part.queue.as_str(), &*part.pool, part.recipients.len())).collect();
        assert_eq!(found, [("@a.test", "main", 2), ("@b.test", "warm", 1), ("@[192.0.2.1]", "main", 1)]);
        let labels = Labels { tenant: "T".parse().ok(), campaign: "c".parse().ok() };
        let all = Assigned { labels, ..Assigned::default() };
        let parts = ways.split(addresses(&["1@a.test", "2@b.test"]), std::slice::from_ref(&all), &Wishes::default());
        let found: Vec<_> = parts.iter().map(|part| (part.queue.as_str(), &*part.pool)).collect();
        assert_eq!(found, [("c:t@a.test", "main"), ("c:t@b.test", "warm")]);
        let other = Assigned { pool: Some("vip".into()), ..all.clone() };
        let parts = ways.split(
            addresses(&["1@b.test", "2@b.test", "3@b.test"]),
            &[all.clone(), other, all],
            &Wishes::default(),
        );
        let found: Vec<_> = parts.iter().map(|part| (&*part.pool, part.recipients.len())).collect();
        assert_eq!(found, [("warm", 2), ("vip", 1)], "what a rule says counts before the route");
    }

    #[test]
    fn what_is_said_of_a_queue_counts_before_its_route_and_what_is_said_of_all_behind_it() {
        let pool = |name: &str| {
            let said = Said { value: name.into(), words: name.into(), place: "f:1".into() };
            QueuePatch { egress_pool: Some(said), ..QueuePatch::default() }
        };
        let tenant = TenantBlock { patch: pool("of-tenant"), ..TenantBlock::default() };
        let rules =
            QueueRules { tenants: [("t".into(), tenant)].into(), default: pool("all"), ..QueueRules::default() };
        let ways = Ways { queues: rules.into(), ..ways() };
        let of = |tenant: Option<&str>, pool: Option<&str>, to: &str| {
            let labels = Labels { tenant: tenant.and_then(|tenant| tenant.parse().ok()), campaign: None };
            let assigned = Assigned { labels, pool: pool.map(Into::into), ..Assigned::default() };
            ways.split(addresses(&[to]), &[assigned], &Wishes::default())[0].pool.to_string()
        };
        assert_eq!(of(Some("t"), Some("vip"), "1@b.test"), "vip", "a rule");
        assert_eq!(of(Some("t"), None, "1@b.test"), "of-tenant");
        assert_eq!(of(None, None, "1@b.test"), "warm", "its route");
        assert_eq!(of(None, None, "1@a.test"), "all");
    }

    #[test]
    fn other_routes_and_priorities_are_other_parts_and_a_chosen_route_takes_the_place_of_the_domains() {
        let ways = ways();
        let by = |routing: Option<&str>| Assigned { routing: routing.map(Into::into), ..Assigned::default() };
        let low = Assigned { priority: Priority::Low, ..by(None) };
        let assigned = [by(None), by(Some("relay")), by(Some("b.test")), low, by(Some("relay")), by(Some("gone"))];
        let to = ["1@a.test", "2@b.test", "3@a.test", "4@a.test", "5@b.test", "6@a.test"];
        let parts = ways.split(addresses(&to), &assigned, &Wishes::default());
        let found: Vec<_> =
            parts.iter().map(|p| (p.queue.as_str(), &*p.pool, p.priority.as_str(), p.recipients.len())).collect();
        let expected = [
            ("@a.test", "main", "normal", 1),
            ("@b.test!relay", "relays", "normal", 2),
            ("@a.test!b.test", "warm", "normal", 1),
            ("@a.test", "main", "low", 1),
            ("@a.test!gone", "main", "normal", 1),
        ];
        assert_eq!(found, expected);
        let domain = |part: &Part| ways.lead(&part.queue).map(|(domain, _)| domain.to_owned());
        assert_eq!(domain(&parts[1]), Ok("b.test".to_owned()));
        assert_eq!(domain(&parts[2]), Ok("b.test".to_owned()));
        assert_eq!(domain(&parts[4]), Err(UnknownRoute("gone".to_owned())), "a route without a dot is no domain");
    }

    #[test]
    fn what_was_said_of_a_recipient_goes_with_it_into_its_part() {
        let ways = Ways { default_pool: "main".into(), ..Ways::default() };
        let mut wishes = Wishes::default();
        for (at, text) in [(0, "NEVER"), (3, "SUCCESS"), (4, "DELAY")] {
            wishes.push(at, RecipientWish { notify: Notify::parse(text), original: None });
        }
        let all = addresses(&["1@a.test", "2@b.test", "3@a.test", "4@a.test", "5@b.test"]);
        let parts = ways.split(all, &[], &wishes);
        let said = |part: &Part, at| part.wishes.get(at).and_then(|w| w.notify).map(|n| n.to_string());
        let found: Vec<_> = parts.iter().map(|part| [0, 1, 2].map(|at| said(part, at))).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found, [[some("NEVER"), None, some("SUCCESS")], [None, some("DELAY"), None]]);
    }
}
