//! Routing rules: what an operator says of messages, in order, beyond their domains.
//! Pure. Floor 2.
//! Always: every condition of a rule must hold, one value of a condition is enough; later rules override earlier ones,
//! until one stops; a message is never refused by a rule.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use egret_shared::address::Network;
use egret_shared::text::Line;

use super::label::{HeaderName, Label, Labels, header_values, without_headers};
use super::matcher::{AddressPattern, TextPattern, UserPattern};
use crate::message::{Address, Priority};

/// What a rule looks at. An empty condition always holds.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// Headers, each with values of which one must fit one of its own.
    pub headers: Vec<(HeaderName, Vec<TextPattern>)>,
    /// The reverse-path.
    pub sender: Vec<AddressPattern>,
    /// The forward-path: the rule is for the recipients that fit.
    pub recipient: Vec<AddressPattern>,
    /// Where it came in.
    pub listener: Vec<SocketAddr>,
    /// From where.
    pub client: Vec<Network>,
    /// The user that the client has logged in as.
    pub user: Vec<UserPattern>,
    /// The tenant, as it stands when the rule's turn comes; `-` is none.
    pub tenant: Vec<TextPattern>,
    /// The campaign, likewise.
    pub campaign: Vec<TextPattern>,
}

/// What a rule does.
#[derive(Clone, Debug, Default)]
pub struct Then {
    /// Whose mail it is.
    pub tenant: Option<Label>,
    /// What it is sent for.
    pub campaign: Option<Label>,
    /// The pool that it leaves from.
    pub pool: Option<Arc<str>>,
    /// The route by which it goes, or the domain to whose hosts it goes.
    pub routing: Option<Arc<str>>,
    /// How soon it goes out where others wait.
    pub priority: Option<Priority>,
    /// Headers that are taken out.
    pub remove_headers: Vec<HeaderName>,
    /// Headers that are put in front, as `Name: value`.
    pub add_headers: Vec<Line>,
    /// No later rule is looked at.
    pub stop: bool,
}

/// One rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Its name, for people.
    pub name: String,
    /// What it looks at.
    pub when: When,
    /// What it does.
    pub then: Then,
}

/// All rules, in their order.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

/// What rules can know of a message.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The message as it was offered.
    pub message: &'a [u8],
    /// The reverse-path.
    pub sender: Option<&'a Address>,
    /// Where it came in; `None` for our own.
    pub listener: Option<SocketAddr>,
    /// From where; `None` for our own.
    pub client: Option<IpAddr>,
    /// The user that the client has logged in as.
    pub user: Option<&'a str>,
}

/// What becomes of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Tenant and campaign.
    pub labels: Labels,
    /// The pool, if a rule chose one.
    pub pool: Option<Arc<str>>,
    /// The route's name or the domain that leads it instead of its own domain, if a rule chose one.
    pub routing: Option<Arc<str>>,
    /// How soon it goes out where others wait.
    pub priority: Priority,
    /// The rules that applied, by their places.
    pub rules: Vec<usize>,
}

impl Rules {
    /// These, in this order.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pools that rules name.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().filter_map(|rule| rule.then.pool.as_ref())
    }

    /// A rule by its place.
    pub fn get(&self, place: usize) -> Option<&Rule> {
        self.0.get(place)
    }

    /// What becomes of a recipient of a message whose headers gave it `labels`.
    pub fn assign(&self, facts: &Facts<'_>, recipient: &Address, labels: &Labels) -> Assigned {
        let mut assigned = Assigned { labels: labels.clone(), ..Assigned::default() };
        for (place, Rule { when, then, .. }) in self.0.iter().enumerate() {
            if !when.holds(facts, recipient, &assigned.labels) {
                continue;
            }
            assigned.rules.push(place);
            for (slot, set) in
                [(&mut assigned.labels.tenant, &then.tenant), (&mut assigned.labels.campaign, &then.campaign)]
            {
                *slot = set.clone().or(slot.take());
            }
            assigned.pool = then.pool.clone().or(assigned.pool.take());
            assigned.routing = then.routing.clone().or(assigned.routing.take());
            assigned.priority = then.priority.unwrap_or(assigned.priority);
            if then.stop {
                break;
            }
        }
        assigned
    }

    /// The message with the header edits of the rules that applied to any of its recipients (such rules look at no
    /// recipient), and the headers that are put in front of it.
    pub fn edit(&self, message: Bytes, assigned: &[Assigned]) -> (Bytes, Vec<Line>) {
        let mut places: Vec<usize> = assigned.iter().flat_map(|one| one.rules.iter().copied()).collect();
        places.sort_unstable();
        places.dedup();
        let applied = || places.iter().filter_map(|place| self.0.get(*place));
        let remove: Vec<&HeaderName> = applied().flat_map(|rule| &rule.then.remove_headers).collect();
        let add: Vec<Line> = applied().flat_map(|rule| rule.then.add_headers.iter().cloned()).collect();
        let message = if remove.is_empty() { message } else { without_headers(message, &remove) };
        (message, add)
    }
}

impl When {
    fn holds(&self, facts: &Facts<'_>, recipient: &Address, labels: &Labels) -> bool {
        let (campaign, tenant) = labels.texts();
        let label = |patterns: &[TextPattern], label: Option<&str>| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.fits(label.unwrap_or("-")))
        };
        (self.listener.is_empty() || facts.listener.is_some_and(|at| self.listener.contains(&at)))
            && (self.client.is_empty()
                || facts.client.is_some_and(|client| self.client.iter().any(|network| network.0.contains(&client))))
            && (self.user.is_empty() || self.user.iter().any(|pattern| pattern.fits(facts.user)))
            && label(&self.tenant, tenant)
            && label(&self.campaign, campaign)
            && (self.sender.is_empty() || self.sender.iter().any(|pattern| pattern.fits(facts.sender)))
            && (self.recipient.is_empty() || self.recipient.iter().any(|pattern| pattern.fits(Some(recipient))))
            && self.headers.iter().all(|(name, patterns)| {
                header_values(facts.message, name).any(|value| patterns.iter().any(|pattern| pattern.fits(&value)))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, when: When, then: Then) -> Rule {
        Rule { name: name.to_owned(), when, then }
    }

    fn texts(patterns: &[&str]) -> Vec<TextPattern> {
        patterns.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn users(patterns: &[&str]) -> Vec<UserPattern> {
        patterns.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn addresses(patterns: &[&str]) -> Vec<AddressPattern> {
        patterns.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn label(text: &str) -> Option<Label> {
        text.parse().ok()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    const MESSAGE: &[u8] = b"X-Mailer: Bulk\r\n 7\r\nX-Mailer: second\r\n\r\nX-Body: no\r\n";

    #[test]
    fn every_condition_must_hold_and_one_value_is_enough() {
        let header = |name: &str, patterns: &[&str]| (name.parse::<HeaderName>().expect("a name"), texts(patterns));
        let sender = address("s@a.test");
        let facts = Facts {
            message: MESSAGE,
            sender: Some(&sender),
            listener: Some(([127, 0, 0, 1], 25).into()),
            client: Some([10, 1, 2, 3].into()),
            user: Some("shop"),
        };
        let network = |text: &str| vec![text.parse::<Network>().expect("a network")];
        for (when, holds) in [
            (When::default(), true),
            (When { headers: vec![header("x-mailer", &["bulk 7"])], ..When::default() }, true),
            (When { headers: vec![header("X-Mailer", &["nope", "second"])], ..When::default() }, true),
            (When { headers: vec![header("X-Mailer", &["bulk"])], ..When::default() }, false),
            (When { headers: vec![header("X-Body", &["*"])], ..When::default() }, false),
            (When { sender: addresses(&["a.test"]), recipient: addresses(&["*@b.test"]), ..When::default() }, true),
            (When { sender: addresses(&["a.test"]), recipient: addresses(&["c.test"]), ..When::default() }, false),
            (When { listener: vec![([127, 0, 0, 1], 25).into()], ..When::default() }, true),
            (When { listener: vec![([127, 0, 0, 1], 587).into()], ..When::default() }, false),
            (When { client: network("10.0.0.0/8"), tenant: texts(&["acme"]), ..When::default() }, true),
            (When { client: network("11.0.0.0/8"), ..When::default() }, false),
            (When { user: users(&["nobody", "sh*"]), ..When::default() }, true),
            (When { user: users(&["nobody"]), ..When::default() }, false),
            (When { campaign: texts(&["-"]), ..When::default() }, true),
            (When { campaign: texts(&["spring"]), ..When::default() }, false),
        ] {
            let rules = Rules::new(vec![rule("r", when.clone(), Then { pool: Some("p".into()), ..Then::default() })]);
            let labels = Labels { tenant: label("acme"), campaign: None };
            let assigned = rules.assign(&facts, &address("r@b.test"), &labels);
            assert_eq!(assigned.pool.is_some(), holds, "{when:?}");
        }
    }

    #[test]
    fn later_rules_override_see_what_earlier_ones_set_and_one_may_be_the_last() {
        let facts = Facts { message: MESSAGE, sender: None, listener: None, client: None, user: None };
        let then = |tenant: &str, pool: &str, stop| Then {
            tenant: label(tenant),
            pool: Some(pool).filter(|pool| !pool.is_empty()).map(Into::into),
            stop,
            ..Then::default()
        };
        let rules = Rules::new(vec![
            rule("all", When::default(), then("first", "a", false)),
            rule("of first", When { tenant: texts(&["first"]), ..When::default() }, then("second", "", false)),
            rule("of b", When { recipient: addresses(&["b.test"]), ..When::default() }, then("", "b", true)),
            rule("never for b", When::default(), then("third", "c", false)),
        ]);
        let told = |recipient: &str| {
            let assigned = rules.assign(&facts, &address(recipient), &Labels::default());
            let tenant = assigned.labels.texts().1.unwrap_or("-").to_owned();
            (tenant, assigned.pool.map(|pool| pool.to_string()), assigned.rules)
        };
        assert_eq!(told("r@b.test"), ("second".to_owned(), Some("b".to_owned()), vec![0, 1, 2]));
        assert_eq!(told("r@c.test"), ("third".to_owned(), Some("c".to_owned()), vec![0, 1, 3]));
    }

    #[test]
    fn headers_are_taken_out_and_put_in_once_for_all_recipients() {
        let then = Then {
            remove_headers: vec!["x-mailer".parse().expect("a name")],
            add_headers: vec![Line::new("X-Class: bulk").expect("a line")],
            ..Then::default()
        };
        let rules = Rules::new(vec![rule("edit", When::default(), then)]);
        let facts = Facts { message: MESSAGE, sender: None, listener: None, client: None, user: None };
        let assigned: Vec<_> =
            ["a@b.test", "c@d.test"].map(|to| rules.assign(&facts, &address(to), &Labels::default())).into();
        let (message, added) = rules.edit(Bytes::from_static(MESSAGE), &assigned);
        assert_eq!((&message[..], added.len()), (&b"\r\nX-Body: no\r\n"[..], 1));
    }
}
