//! A configuration is whole, or every complaint about it is told with its line.

use egret_shared::config::{markdown, parse};

use super::*;
use crate::routing::source::{Dialect, Way};

const MINIMAL: &str = "hostname = \"mail.example.com\"\n[spool]\npath = \"spool\"\n[event_log]\npath = \"events\"\n";

fn built(text: &str) -> Config {
    parse("mta.toml", text, build).unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn complaints(text: &str) -> Vec<String> {
    match parse("mta.toml", text, build) {
        Ok(_) => Vec::new(),
        Err(all) => all.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn five_lines_are_enough_and_mean_direct_delivery() {
    let config = built(MINIMAL);
    assert_eq!(config.pools.len(), 1);
    let (source, weight) = &config.pools[0].members[0];
    assert_eq!((source.ways.clone(), source.address, *weight), (vec![Way::Direct], None, 1));
    assert_eq!(&*source.ehlo_name, "mail.example.com");
    assert_eq!(config.default_pool, config.pools[0].name);
}

#[test]
fn names_are_resolved_from_proxy_to_route() {
    let config = built(&format!(
        "{}{MINIMAL}{}",
        "default_pool = \"p\"\n",
        "[proxy.x]\naddress = \"127.0.0.1:1080\"\n\
         [source.a]\naddress = \"192.0.2.1\"\nproxy = \"x\"\nehlo_name = \"a.example.com\"\n\
         [source.b]\naddress = \"192.0.2.2\"\n\
         [pool.p]\nsources = { a = 1, b = 3 }\n[pool.q]\nsources = { b = 1 }\n\
         [[route]]\ndomains = [\"*.test\"]\nhosts = [\"127.0.0.1:2526\"]\npool = \"q\"\n"
    ));
    let pool = config.pools.iter().find(|pool| &*pool.name == "p").expect("p");
    let Way::Proxy(proxy) = &pool.members[0].0.ways[0] else { panic!("a goes through x") };
    assert_eq!((proxy.dialect, pool.members[1].1), (Dialect::Socks5, 3));
    let route = config.routes.find("a.test").expect("a route");
    assert_eq!((route.hosts[0].port, route.pool.as_deref()), (Some(2526), Some("q")));
}

#[test]
fn each_wrong_reference_is_told_where_it_stands() {
    let found = complaints(&format!(
        "{MINIMAL}{}",
        "[source.a]\naddress = \"192.0.2.1\"\nproxy = \"y\"\n[pool.p]\nsources = { a = 0, c = 1 }\n[[route]]\ndomains = [\"*\"]\n"
    ));
    let expected = [
        "mta.toml:8: source.a.proxy: names the proxy \"y\", which is not in this file (there is none; add [proxy.y])",
        "mta.toml:10: pool.p.sources: gives a the weight 0, with which it is never used; remove it",
        "mta.toml:10: pool.p.sources: names the source \"c\", which is not in this file (known: a)",
        "mta.toml:11: route.hosts: is missing, and pool too: the route would do nothing",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (text, what) in [
        ("[queue]\nretry_interval = \"1h\"\nmax_retry_interval = \"1m\"\n", "shorter than retry_interval"),
        ("[queue]\nmax_ready = 0\n", "is 0"),
        ("[delivery]\nconnection_limit = 0\n", "is 0"),
        ("[routing]\ntenant_header = \"X-A\"\ncampaign_header = \"x-a\"\n", "is the tenant_header"),
        ("[routing]\ntenant_header = \"X-Tenant:\"\n", "without the colon"),
        ("[routing]\ndefault_tenant = \"a b\"\n", "letters, digits"),
        ("[[listener]]\naddress = \"127.0.0.1:25\"\nmax_future_release = \"40years\"\n", "999999999s"),
        ("[memory]\nsoft_limit = \"2GiB\"\nhard_limit = \"1GiB\"\n", "less than soft_limit"),
        ("[memory]\nsoft_limit = \"much\"\n", "or \"none\""),
        ("[delivery]\nenable_tls = \"maybe\"\n", "Opportunistic"),
        ("[delivery]\nconection_limit = 1\n", "did you mean `connection_limit`?"),
        ("[[listener]]\naddress = \"127.0.0.1:25\"\ntls_private_key = \"k\"\n", "tls_certificate belongs to it"),
        ("[[listener]]\naddress = \"127.0.0.1\"\n", "an address with a port"),
        (
            "[proxy.x]\naddress = \"127.0.0.1:1\"\nusername = \"u\"\npassword_file = \"/nowhere\"\n",
            "/nowhere cannot be read",
        ),
        ("[proxy.x]\naddress = \"127.0.0.1:1\"\n[source.a]\nproxy = \"x\"\n", "address: is missing"),
        ("[pool.p]\nsources = {}\n", "names no source"),
        ("[[route]]\ndomains = [\"a.b\", \"a.b\"]\nhosts = [\"127.0.0.1\"]\n", "has a route already"),
    ] {
        let found = complaints(&format!("{MINIMAL}{text}"));
        assert!(found.iter().any(|complaint| complaint.contains(what)), "{text:?}: {found:?}");
    }
}

#[test]
fn an_empty_file_lacks_three_keys() {
    let found = complaints("");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn the_reference_page_is_what_the_code_says() {
    let page = markdown("egret-mta: configuration", &keys());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/mta-config.md");
    let stored = std::fs::read_to_string(path).expect("the page is there");
    assert!(stored == page, "run: egret-mta config reference > docs/reference/mta-config.md");
}
