//! A configuration is whole and safe, or every complaint about it is told with its line. Floor 5.

use std::fs;

use egret_shared::config::{markdown, parse};

use super::*;
use crate::access::Who;
use crate::policy::DefaultSources;

const MINIMAL: &str = "[[listener]]\naddress = \"127.0.0.1:1080\"\n[sources]\naddresses = [\"192.0.2.1\"]\n";

fn complaints(text: &str) -> Vec<String> {
    match parse("proxy.toml", text, build) {
        Ok(_) => Vec::new(),
        Err(all) => all.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_defaults_are_safe() {
    let config = parse("proxy.toml", MINIMAL, build).unwrap_or_else(|complaints| panic!("{complaints}"));
    let Served { listeners, access, caps, .. } = config.served;
    let networks = &listeners[0].client_networks;
    assert!(networks.contains([10, 0, 0, 1].into()) && !networks.contains([8, 8, 8, 8].into()));
    let who = Who { client: [10, 0, 0, 1].into(), user: None };
    let check = |to: ([u8; 4], u16)| access.check(who, [192, 0, 2, 1].into(), to.into());
    assert!(check(([127, 0, 0, 1], 25)).is_err() && check(([93, 184, 216, 34], 443)).is_err());
    assert!(check(([93, 184, 216, 34], 25)).is_ok());
    assert!(caps.limits.iter().all(|limit| limit.connections.is_none() && limit.rate.is_none()));
}

#[test]
fn what_is_unsafe_or_cannot_work_is_refused_with_the_way_out() {
    let listener = |more: &str| MINIMAL.replace(":1080\"\n", &format!(":1080\"\n{more}"));
    for (text, what) in [
        (listener("client_networks = [\"0.0.0.0/0\"]\n"), "allow_open = true"),
        (listener("auth = \"password\"\n"), "add a [user.NAME]"),
        (
            listener("protocol = \"proxy\"\nauth = \"password\"\n") + "[user.u]\npassword = \"x\"\n",
            "not possible in the PROXY",
        ),
        (listener("protocol = \"http\"\n"), "\"socks5\", \"proxy\", \"auto\""),
        (listener("auth = \"certificate\"\n"), "wants users"),
        (listener("auth = \"certificate\"\n") + "[user.a]\n", "tls_client_authorities"),
        (listener("tls_certificate = \"/nowhere.pem\"\n"), "belong together"),
        (listener("tls_optional = true\n"), "does nothing"),
        (listener("default_sources = [\"192.0.2.7\"]\n"), "not all in sources.addresses"),
        (listener("source_by_port = { 99999 = \"192.0.2.1\" }\n"), "is not a port"),
        (listener("source_by_port = { 1080 = \"192.0.2.1\" }\n"), "twice"),
        (MINIMAL.to_owned() + "[limits.source]\nrate = \"often\"\n", "\"100/min\""),
        (MINIMAL.to_owned() + "[user.u]\npassword_hash = \"secret\"\n", "no password hash"),
        (MINIMAL.to_owned() + "[user.u]\npassword = \"x\"\npassword_hash = \"y\"\n", "given twice"),
        (MINIMAL.replace("[\"192.0.2.1\"]", "\"automatic\""), "neither \"auto\" nor a list"),
        (MINIMAL.replace("[\"192.0.2.1\"]", "\"auto\"\nfree_bind = true"), "makes no sense"),
        (MINIMAL.to_owned() + "[user.u]\n", "could never log in"),
        (MINIMAL.to_owned() + "[acces]\n", "did you mean `access`?"),
        ("[sources]\naddresses = []\n".to_owned(), "add a [[listener]]"),
        (MINIMAL.replace("192.0.2.1", "192.0.2.9-192.0.2.1"), "sources.addresses"),
    ] {
        let found = complaints(&text);
        assert!(found.iter().any(|complaint| complaint.contains(what)), "{text:?}: {found:?}");
    }
    assert_eq!(complaints(&listener("client_networks = [\"0.0.0.0/0\"]\nallow_open = true\n")), [""; 0]);
}

#[test]
fn a_proxy_is_announced_in_redis_and_an_address_that_is_misspelled_has_one_complaint() {
    let announced = |redis: &str| complaints(&format!("{MINIMAL}[announce]\nname = \"a\"\n{redis}"));
    let misspelled = announced("[redis]\nadress = [\"127.0.0.1:6379\"]\n");
    assert!(misspelled.len() == 1 && misspelled[0].contains("did you mean `address`?"), "{misspelled:?}");
    assert!(announced("").iter().any(|told| told.contains("redis.address belongs to it")));
}

#[test]
fn a_wait_of_no_time_is_refused_where_it_stands() {
    for key in ["handshake", "connect", "idle", "half_close"] {
        let found = complaints(&format!("{MINIMAL}[timeouts]\n{key} = \"0s\"\n"));
        let want = format!("timeouts.{key}: is no time at all; write a time span like \"30s\"");
        assert!(found.len() == 1 && found[0].ends_with(&want), "{found:?}");
    }
    assert_eq!(complaints(&format!("{MINIMAL}[timeouts]\ndrain = \"0s\"\n")), [""; 0]);
}

#[test]
fn the_reference_page_is_what_the_code_says() {
    let page = markdown("egret-proxy: configuration", &keys());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/proxy-config.md");
    let stored = fs::read_to_string(path).expect("the page is there");
    assert!(stored == page, "run: egret-proxy config reference > docs/reference/proxy-config.md");
}

#[test]
fn the_ready_made_file_is_good() {
    let text = include_str!("../../../config/proxy.toml");
    assert_eq!(complaints(text), [""; 0]);
}

#[test]
fn ports_choose_sources_and_users_come_from_a_file_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users");
    let hash = egret_shared::users::hash("secret").expect("hashed");
    fs::write(&file, format!("# users\n\nmta1:{hash}\n")).expect("written");
    let users_file = format!("users_file = \"{}\"\n", file.display());
    let more = "1080\"\nauth = \"password\"\nsource_by_port = { 1081 = \"192.0.2.1\" }\n";
    let text = users_file.clone() + &MINIMAL.replace("1080\"\n", more);
    let config = parse("proxy.toml", &text, build).unwrap_or_else(|complaints| panic!("{complaints}"));
    let ports: Vec<_> = config.served.listeners.iter().map(|listener| listener.address.port()).collect();
    assert_eq!(ports, [1080, 1081]);
    let DefaultSources::Set(set) = &config.served.listeners[1].default_sources else { panic!("no set") };
    assert!(set.contains([192, 0, 2, 1].into()) && set.count() == 1);
    assert!(config.served.users.has("mta1"));
    for (line, what) in [("mta1", "users:1: is not `name:hash`"), ("mta1:secret", "users:1: no password hash")] {
        fs::write(&file, line).expect("written");
        let found = complaints(&text);
        assert!(found.iter().any(|complaint| complaint.contains(what)), "{line}: {found:?}");
    }
}
