//! `[[rule]]`: what is said of messages beyond their domains. Floor 5.

use std::net::SocketAddr;
use std::sync::Arc;

use egret_shared::address::Network;
use egret_shared::config::{RawValue, Section, Value};
use egret_shared::text::Line;

use crate::routing::label::{HeaderName, Label};
use crate::routing::matcher::{AddressPattern, TextPattern};
use crate::routing::rule::{Rule, Rules, Then, When};

egret_shared::config_value_from_str!(TextPattern => "a pattern", AddressPattern => "an address pattern");

/// The longest header that is added.
const MAX_HEADER_BYTES: usize = 900;

/// One value, or a list of them.
struct Several<T>(Vec<T>);

impl<T: Value> Value for Several<T> {
    const KIND: &'static str = "a value or a list";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        if value.is_array() { Vec::read(value).map(Self) } else { T::read(value).map(|one| Self(vec![one])) }
    }
}

/// Reads all rules; `pools` (unless these were complained about) and `listeners` are what they may name.
pub(super) fn build(root: &Section<'_>, pools: Option<&[Arc<str>]>, listeners: &[SocketAddr]) -> Rules {
    let sections = root.repeated("rule");
    Rules::new(sections.iter().enumerate().map(|(n, section)| rule(n, section, pools, listeners)).collect())
}

fn rule(place: usize, section: &Section<'_>, pools: Option<&[Arc<str>]>, listeners: &[SocketAddr]) -> Rule {
    let name = section.optional::<String>("name", "What `egret-mta explain` calls it; its place if absent.");
    let when = when(section, listeners);
    let then = then(section, pools);
    let edits = !then.remove_headers.is_empty() || !then.add_headers.is_empty();
    if edits && !when.recipient.is_empty() {
        section.complain(
            "recipient",
            "stands beside add_headers or remove_headers: all recipients of a message share its headers, so make the condition another one",
        );
    }
    let does_nothing = !edits && then.tenant.is_none() && then.campaign.is_none() && then.pool.is_none() && !then.stop;
    if does_nothing {
        section.complain("name", "belongs to a rule that sets nothing; add set_pool, set_tenant, set_campaign, add_headers, remove_headers or stop");
    }
    Rule { name: name.unwrap_or_else(|| format!("rule {}", place + 1)), when, then }
}

fn when(section: &Section<'_>, listeners: &[SocketAddr]) -> When {
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
    if let Some(unknown) = listener.iter().find(|at| !listeners.contains(at)) {
        let known = listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        section.complain("listener", format!("names {unknown}, where nothing listens; known: {known}"));
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
        client: several::<Network>(section, "client", "Networks that the message came from."),
        tenant: several(section, "tenant", "The tenant, as headers or earlier rules have set it; `-` is none."),
        campaign: several(section, "campaign", "The campaign, likewise."),
    }
}

pub(super) fn several<T: Value>(section: &Section<'_>, key: &'static str, doc: &'static str) -> Vec<T> {
    section.optional::<Several<T>>(key, doc).map_or_else(Vec::new, |several| several.0)
}

fn then(section: &Section<'_>, pools: Option<&[Arc<str>]>) -> Then {
    let tenant = section.optional::<Label>("set_tenant", "Makes it this tenant's mail.");
    let campaign = section.optional::<Label>("set_campaign", "Makes it mail of this campaign.");
    let pool = section.optional::<String>("set_pool", "The pool that it leaves from, whatever a route says.");
    let pool = pool.and_then(|wanted| {
        let pools = pools?;
        let found = pools.iter().find(|pool| ***pool == *wanted).cloned();
        if found.is_none() {
            let known = pools.iter().map(|pool| &**pool).collect::<Vec<_>>().join(", ");
            section
                .complain("set_pool", format!("names the pool {wanted:?}, which is not in this file (known: {known})"));
        }
        found
    });
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
    Then { tenant, campaign, pool, remove_headers, add_headers, stop }
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
