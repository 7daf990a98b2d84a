//! `[announce]`: what MTA nodes are told of this proxy. Floor 5.

use std::net::{IpAddr, SocketAddr};

use egret_shared::config::Section;
use egret_shared::redis::RedisOptions;
use egret_shared::registry::record::is_name;

use crate::announce::Announced;
use crate::policy::ListenerPolicy;

pub(super) fn build(
    root: &Section<'_>,
    listeners: Option<&[ListenerPolicy]>,
    admin: Option<SocketAddr>,
    redis: Option<&RedisOptions>,
) -> Option<Announced> {
    let section = root.section("announce");
    let name = section.optional::<String>(
        "name",
        "The name of this proxy, one in the fleet: it is announced in Redis, and MTA nodes that look for it use it. Not announced if absent.",
    );
    let tags = section.with_default::<Vec<String>>("tags", "[]", "Words that pools choose proxies by, like \"warm\".");
    let address = section.optional::<IpAddr>(
        "address",
        "How MTA nodes reach this host; needed where a listener or the admin address is 0.0.0.0 or [::].",
    );
    let Some(name) = name else {
        if section.is_present() {
            section.complain("name", "is missing; without it nothing is announced");
        }
        return None;
    };
    for (key, text) in std::iter::once(("name", &name)).chain(tags.iter().map(|tag| ("tags", tag))) {
        if !is_name(text) {
            section.complain(key, format!("{text:?} is no name; write it of letters, digits and `.-_`"));
        }
    }
    let mut listening = listeners.into_iter().flatten().map(|listener| listener.address).chain(admin);
    if let Some(open) = listening.find(|open| open.ip().is_unspecified() && address.is_none()) {
        section.complain("address", format!("is missing; {open} does not say how others reach this host"));
    }
    // An address that was refused or misspelled is no absent one.
    if redis.is_none() && !root.is_refused("redis") {
        section.complain("name", "stands alone; redis.address belongs to it");
    }
    Some(Announced { name, tags, address, redis: redis?.clone() })
}
