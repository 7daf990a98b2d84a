//! `[sources]`, `[access]` and `[limits]`. Floor 5.

use egret_shared::address::{Network, Networks, Range};
use egret_shared::config::Section;
use egret_shared::limits::{Count, Rate, Throttle};

use super::Addresses;
use crate::access::{Access, Rule};
use crate::limit::{Caps, Limit, Scope, Widths};
use crate::policy::{DefaultSources, ListenerPolicy};

pub(super) fn sources(root: &Section<'_>) -> Option<(Addresses, bool)> {
    let section = root.section("sources");
    let addresses = section.required::<Addresses>(
        "addresses",
        "The held addresses, which alone can be sources: addresses, ranges like `192.0.2.1-192.0.2.9`, networks like `192.0.2.0/28`. \"auto\" holds every address of global scope that the host has, and follows it.",
    );
    let free_bind = section.with_default(
        "free_bind",
        "false",
        "Binds listed addresses although they are not on the host (IP_FREEBIND), for networks that are routed to it whole, like an IPv6 /64. A missing address is then told as a timeout.",
    );
    let addresses = addresses?;
    match &addresses {
        Addresses::Listed(ranges) if ranges.is_empty() => {
            section.complain("addresses", "is empty; without a source nothing can be dialed");
        }
        Addresses::Auto if free_bind => {
            section.complain("free_bind", "makes no sense with addresses = \"auto\": list the networks");
        }
        _ => {}
    }
    Some((addresses, free_bind))
}

/// Sources of listeners must be held.
pub(super) fn check_subsets(root: &Section<'_>, addresses: &Addresses, listeners: &[ListenerPolicy]) {
    let Addresses::Listed(held) = addresses else { return };
    let is_held = |range: &Range| {
        let (first, last) = (range.nth(0), range.nth(range.len().saturating_sub(1)));
        let contains =
            |held: &Range| first.is_some_and(|ip| held.contains(ip)) && last.is_some_and(|ip| held.contains(ip));
        held.iter().any(contains) || range.len() <= 4096 && range.iter().all(|ip| held.iter().any(|r| r.contains(ip)))
    };
    for listener in listeners {
        if let DefaultSources::Set(set) = &listener.default_sources
            && !set.ranges().iter().all(is_held)
        {
            let address = listener.address;
            root.complain("listener", format!("{address}: its default_sources are not all in sources.addresses"));
        }
    }
}

pub(super) fn access(root: &Section<'_>) -> Access {
    let section = root.section("access");
    let destination_ports =
        section.with_default::<Vec<u16>>("destination_ports", "[25, 465, 587, 2525]", "Ports that may be dialed.");
    let special = section.with_default::<Vec<Network>>(
        "allow_special_destinations",
        "[]",
        "Networks of special use (loopback, private, link-local, metadata services …) that may be dialed.",
    );
    let rules = section.repeated("rule").iter().map(rule).collect();
    Access { destination_ports, allow_special_destinations: Networks::new(special), rules }
}

fn rule(section: &Section<'_>) -> Rule {
    let networks = |key, doc| section.optional::<Vec<Network>>(key, doc).map(Networks::new);
    Rule {
        users: section
            .optional(
                "users",
                "Users that this rule lets through; all, and none, if absent. With any rule, a session must fit one.",
            )
            .unwrap_or_default(),
        client_networks: networks("client_networks", "Clients that it lets through; all if absent."),
        sources: section.optional("sources", "Sources that it lets them use; all if absent.").unwrap_or_default(),
        destination_networks: networks("destination_networks", "Destinations that it lets them dial; all if absent."),
        destination_ports: section
            .optional(
                "destination_ports",
                "Ports that it lets them dial, of those that access.destination_ports has; all if absent.",
            )
            .unwrap_or_default(),
    }
}

pub(super) fn limits(root: &Section<'_>) -> (usize, Caps) {
    let section = root.section("limits");
    let max_sessions = section.with_default(
        "max_sessions",
        "20000",
        "The most sessions at once; each takes two descriptors. More are told that the proxy is overloaded.",
    );
    let mut caps = Caps::default();
    for (cap, scope) in caps.limits.iter_mut().zip(Scope::ALL) {
        let section = section.section(scope.as_str());
        *cap = limit(&section, scope);
        if scope == Scope::SourceDestination {
            caps.widths = widths(&section);
        }
    }
    (max_sessions, caps)
}

fn widths(section: &Section<'_>) -> Widths {
    let width = |key, default, most, doc| {
        let bits = section.with_default::<u8>(key, default, doc);
        if bits > most {
            section.complain(key, format!("is {bits}; an address has only {most} bits"));
        }
        bits
    };
    let ipv4 = "How many bits of an IPv4 destination tell one from another: with 24, a network of 256 addresses counts as one.";
    let ipv6 = "The same for IPv6; a site often has a network of 64 bits.";
    Widths { ipv4: width("ipv4_prefix", "32", 32, ipv4), ipv6: width("ipv6_prefix", "128", 128, ipv6) }
}

fn limit(section: &Section<'_>, scope: Scope) -> Limit {
    if scope.can_be_shared() {
        let (connections, rate) = match scope {
            Scope::SourceDestination => (
                "The same for each source and destination, address or network.",
                "The same for each source and destination, address or network.",
            ),
            _ => (
                "The same for each source: of all proxies that have the same [redis] together, or with \"local:\" in front of this one.",
                "The same for each source: of all proxies together, or with \"local:\" in front of this one.",
            ),
        };
        return Limit {
            connections: section.optional("connections", connections),
            rate: section.optional("rate", rate),
        };
    }
    let (connections, rate) = match scope {
        Scope::Client => ("The same for each client address.", "The same for each client address."),
        Scope::User => ("The same for each user.", "The same for each user."),
        _ => ("Connections to destinations at once, in all.", "New connections, in all."),
    };
    // The clients and users of another proxy are others.
    let connections = section.optional::<u32>("connections", connections);
    let rate = section.optional::<Rate>("rate", rate);
    Limit {
        connections: connections.map(|count| Count { count, local: true }),
        rate: rate.map(|rate| Throttle { rate, local: true }),
    }
}
