//! `[[rule]]`: what is said of messages beyond their domains. Floor 5.

use std::net::SocketAddr;
use std::sync::Arc;

use egret_shared::address::Network;
use egret_shared::config::{RawValue, Section, Value};
use egret_shared::text::Line;

use super::listener::ListenerConfig;
use super::spelling::told;
use crate::message::{Address, Priority, is_domain};
use crate::reception::Auth;
use crate::routing::label::{HeaderName, Label};
use crate::routing::matcher::{AddressPattern, TextPattern, UserPattern};
use crate::routing::rule::{Rule, Rules, Then, When};

egret_shared::config_value_from_str!(TextPattern => "a pattern", AddressPattern => "an address pattern", UserPattern => "a pattern", Priority => "a priority");

/// The longest header that is added.
const MAX_HEADER_BYTES: usize = 900;

/// The name of a rule, and the keys that say what it is for. All others say what it does.
const CONDITIONS: [&str; 9] =
    ["name", "headers", "sender", "recipient", "listener", "user", "client", "tenant", "campaign"];
/// Keys with the values by which they do nothing.
const IDLE: [(&str, &str); 3] = [("add_headers", "[]"), ("remove_headers", "[]"), ("stop", "false")];

/// One value, or a list of them.
struct Several<T>(Vec<T>);

impl<T: Value> Value for Several<T> {
    const KIND: &'static str = "a value or a list";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        if value.is_array() { Vec::read(value).map(Self) } else { T::read(value).map(|one| Self(vec![one])) }
    }
}

/// What rules may name; pools and routes unless they were complained about.
pub(super) struct Known<'a> {
    pub pools: Option<Vec<Arc<str>>>,
    pub routes: Option<Vec<Arc<str>>>,
    pub listeners: Vec<&'a ListenerConfig>,
}

/// Reads all rules.
pub(super) fn build(root: &Section<'_>, known: &Known<'_>) -> Rules {
    let sections = root.repeated("rule");
    Rules::new(sections.iter().enumerate().map(|(n, section)| rule(n, section, known)).collect())
}

fn rule(place: usize, section: &Section<'_>, known: &Known<'_>) -> Rule {
    let name = section.optional::<String>("name", "What `egret-mta explain` calls it; its place if absent.");
    let when = when(section, &known.listeners);
    let then = then(section, known);
    let edits = !then.remove_headers.is_empty() || !then.add_headers.is_empty();
    if edits && !when.recipient.is_empty() {
        section.complain(
            "recipient",
            "stands beside add_headers or remove_headers: all recipients of a message share its headers, so make the condition another one",
        );
    }
    if !says_something(section) {
        section.complain("name", "belongs to a rule that sets nothing; add set_pool, set_route, set_routing_domain, set_priority, set_tenant, set_campaign, add_headers, remove_headers or stop");
    }
    Rule { name: name.unwrap_or_else(|| format!("rule {}", place + 1)), when, then }
}

/// Whether a key says what the rule does. One whose value was refused, or that is misspelled, has a complaint of its own.
fn says_something(section: &Section<'_>) -> bool {
    let idle = IDLE.iter().filter(|(key, value)| section.words_of(key).as_deref() == Some(*value));
    let others: Vec<&str> = CONDITIONS.iter().copied().chain(idle.map(|(key, _)| *key)).collect();
    section.holds_more_than(&others)
}

fn when(section: &Section<'_>, listeners: &[&ListenerConfig]) -> When {
    let headers = section.map::<Several<TextPattern>>(
        "headers",
        "Headers that must be there, each with the value or values of which one must fit: `{ \"X-Class\" = \"bulk\" }`. The value is unfolded and trimmed; encoded words are not decoded. All patterns: exact in any case, with `*` and `?`, or `/regular expression/`.",
    );
    let mut named = Vec::new();
    for (name, Several(patterns)) in headers {
        match HeaderName::to_look_for(&name) {
            Ok(name) => named.push((name, patterns)),
            Err(why) => section.complain("headers", format!("names {name:?}: {why}")),
        }
    }
    let listener = several::<SocketAddr>(section, "listener", "The listener's address and port, as in `[[listener]]`.");
    if let Some(unknown) = listener.iter().find(|at| !listeners.iter().any(|known| known.address == **at)) {
        let known = listeners.iter().map(|known| known.address.to_string()).collect::<Vec<_>>().join(", ");
        section.complain("listener", format!("names {unknown}, where nothing listens; known: {known}"));
    }
    let user = several::<UserPattern>(
        section,
        "user",
        "The user that the client has logged in as, in any case; `-` is none, and `*` is any.",
    );
    if !user.is_empty() && listeners.iter().all(|listener| listener.auth.auth == Auth::None) {
        section.complain(
            "user",
            "asks for a user, but nobody can log in: no [[listener]] has auth = \"optional\" or \"required\"",
        );
    }
    When {
        headers: named,
        sender: several(
            section,
            "sender",
            "The reverse-path: `a@example.com`, `*@example.com`, `example.com`, `*.example.com` (all below it), `<>` (the null sender), or `/regular expression/`.",
        ),
        recipient: several(
            section,
            "recipient",
            "The forward-path, likewise. The rule is for those recipients of a message that fit.",
        ),
        listener,
        user,
        client: several::<Network>(section, "client", "Networks that the message came from."),
        tenant: several(section, "tenant", "The tenant, as headers or earlier rules have set it; `-` is none."),
        campaign: several(section, "campaign", "The campaign, likewise."),
    }
}

pub(super) fn several<T: Value>(section: &Section<'_>, key: &'static str, doc: &'static str) -> Vec<T> {
    section.optional::<Several<T>>(key, doc).map_or_else(Vec::new, |several| several.0)
}

fn then(section: &Section<'_>, known: &Known<'_>) -> Then {
    let tenant = section.optional::<Label>("set_tenant", "Makes it this tenant's mail.");
    let campaign = section.optional::<Label>("set_campaign", "Makes it mail of this campaign.");
    let pool = section.optional::<String>("set_pool", "The pool that it leaves from, whatever a route says.");
    let pool = pool.and_then(|wanted| find(section, "set_pool", "pool", &wanted, known.pools.as_deref()));
    let routing = routing(section, known);
    let priority = section.optional::<Priority>(
        "set_priority",
        "\"high\", \"normal\" or \"low\": which goes first where mail waits for room or for a session. What is lower still has a tenth of the turns.",
    );
    let remove_headers = section.with_default::<Vec<HeaderName>>(
        "remove_headers",
        "[]",
        "Headers that are taken out. A signature that covers them would break.",
    );
    let add = section.with_default::<Vec<String>>(
        "add_headers",
        "[]",
        "Headers that are put in front, like `\"X-Class: bulk\"`. They are not signed.",
    );
    let mut add_headers = Vec::new();
    for header in add {
        match header_line(&header) {
            Ok(line) => add_headers.push(line),
            Err(why) => section.complain("add_headers", format!("holds {header:?}, which {why}")),
        }
    }
    let stop = section.with_default("stop", "false", "Whether later rules are left out for what this one is for.");
    Then { tenant, campaign, pool, routing, priority, remove_headers, add_headers, stop }
}

/// The route, or the domain to whose hosts it goes.
fn routing(section: &Section<'_>, known: &Known<'_>) -> Option<Arc<str>> {
    let route = section.optional::<String>(
        "set_route",
        "The name of the route by which it goes, whatever routes say of its domain: its hosts, protocol, options, and its pool unless a rule sets one.",
    );
    let domain = section.optional::<String>(
        "set_routing_domain",
        "The domain to whose hosts it goes, as that domain's own mail does; an address in brackets is one, too.",
    );
    match (route, domain) {
        (Some(_), Some(_)) => {
            section.complain("set_routing_domain", "stands beside set_route; write one of the two");
            None
        }
        (Some(name), None) => find(section, "set_route", "route", &name, known.routes.as_deref()),
        (None, Some(text)) => match Address::parse(&format!("x@{text}")).map(|address| address.canonical_domain()) {
            Ok(domain) if is_domain(&domain) => Some(domain.into()),
            _ => {
                let what =
                    "is not a domain with a dot or an address in brackets; the name of a route belongs to set_route";
                section.complain("set_routing_domain", format!("{text:?} {what}"));
                None
            }
        },
        (None, None) => None,
    }
}

/// What `wanted` names, or a complaint that tells what there is; nothing where that was complained about.
pub(super) fn find(
    section: &Section<'_>,
    key: &'static str,
    kind: &str,
    wanted: &str,
    known: Option<&[Arc<str>]>,
) -> Option<Arc<str>> {
    let known = known?;
    let found = known.iter().find(|name| ***name == *wanted).cloned();
    if found.is_none() {
        let known = told(wanted, known.iter().map(|name| &**name)).unwrap_or_else(|| "there is none".to_owned());
        section.complain(key, format!("names the {kind} {wanted:?}, which is not in this file ({known})"));
    }
    found
}

/// A header as it is written.
fn header_line(text: &str) -> Result<Line, String> {
    let (name, value) = text.split_once(':').ok_or("has no colon behind a name")?;
    name.parse::<HeaderName>().map_err(|why| format!("has a name that cannot be used: {why}"))?;
    if !text.is_ascii() || text.len() > MAX_HEADER_BYTES || value.trim().is_empty() {
        return Err(format!("needs a value of ASCII letters, and up to {MAX_HEADER_BYTES} bytes in all"));
    }
    Line::new(text).map_err(|error| error.to_string())
}
