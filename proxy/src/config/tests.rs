//! A configuration is whole and safe, or every complaint about it is told with its line. Floor 5.

use egret_shared::config::{markdown, parse};

use super::*;

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
    let networks = &config.listeners[0].client_networks;
    assert!(networks.contains([10, 0, 0, 1].into()) && !networks.contains([8, 8, 8, 8].into()));
    assert!(config.access.check(([127, 0, 0, 1], 25).into()).is_err());
    assert!(config.access.check(([93, 184, 216, 34], 443).into()).is_err());
}

#[test]
fn what_is_unsafe_or_cannot_work_is_refused_with_the_way_out() {
    let listener = |more: &str| MINIMAL.replace(":1080\"\n", &format!(":1080\"\n{more}"));
    for (text, what) in [
        (listener("client_networks = [\"0.0.0.0/0\"]\n"), "allow_open = true"),
        (listener("auth = \"password\"\n"), "add [user.NAME]"),
        (
            listener("protocol = \"proxy\"\nauth = \"password\"\n") + "[user.u]\npassword = \"x\"\n",
            "not possible in the PROXY",
        ),
        (listener("protocol = \"http\"\n"), "\"socks5\" or \"proxy\""),
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
fn the_reference_page_is_what_the_code_says() {
    let page = markdown("egret-proxy: configuration", &keys());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/proxy-config.md");
    let stored = std::fs::read_to_string(path).expect("the page is there");
    assert!(stored == page, "run: egret-proxy config reference > docs/reference/proxy-config.md");
}

#[test]
fn the_ready_made_file_is_good() {
    let text = include_str!("../../../config/proxy.toml");
    assert_eq!(complaints(text), [""; 0]);
}
