//! `egret-mta fleet`: nodes, proxies and sources on one screen, as a running MTA sees them. Floor 6.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use egret_shared::check::render::table;
use serde_json::Value;

use super::queue::Admin;

/// Sources that are shown one by one.
const MAX_SOURCES: usize = 200;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Fleet {
    #[command(flatten)]
    admin: Admin,
}

/// Asks, and prints.
pub(super) fn run(asked: &Fleet) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(asked.admin.get("/v1/fleet"))?;
    if asked.admin.json {
        println!("{told:#}");
    } else {
        print!("{}", text(&told));
    }
    Ok(ExitCode::SUCCESS)
}

/// The screen.
fn text(told: &Value) -> String {
    let mut out = String::new();
    nodes(told, &mut out);
    proxies(told, &mut out);
    sources(told, &mut out);
    for (from, mistake) in told["mistakes"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "! {from}: the last good version is in use: {}", word(&mistake["why"]));
    }
    for (address, holders) in told["announced_twice"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "! {address} is announced by more than one proxy: {}", list(holders));
    }
    for why in items(&told["unreadable"]) {
        let _ = writeln!(out, "! {}", word(why));
    }
    out
}

fn nodes(told: &Value, out: &mut String) {
    let row = |node: &Value| {
        let state = match (node["draining"].as_bool(), items(&node["degraded"]).next()) {
            (Some(true), _) => "draining".to_owned(),
            (_, Some(why)) => format!("degraded: {}", word(why).lines().next().unwrap_or_default()),
            _ => "ok".to_owned(),
        };
        vec![word(&node["name"]), word(&node["version"]), word(&node["queued"]), word(&node["sessions"]), state]
    };
    section(
        out,
        "nodes",
        &["node", "version", "queued", "sessions", "state"],
        &items(&told["nodes"]).map(row).collect::<Vec<_>>(),
    );
}

fn proxies(told: &Value, out: &mut String) {
    let row = |proxy: &Value| {
        let addresses = items(&proxy["addresses"]).count();
        let held = items(&proxy["addresses"]).filter(|address| address["state"] == "held").count();
        let name = word(&proxy["name"]);
        let state = told["unused"].get(&name).map_or_else(|| "ok".to_owned(), |why| format!("not used: {}", word(why)));
        let endpoints = items(&proxy["endpoints"]).map(|endpoint| word(&endpoint["address"])).collect::<Vec<_>>();
        let load = format!("{}/{}", word(&proxy["sessions"]), word(&proxy["max_sessions"]));
        let version = word(&proxy["version"]);
        vec![name, version, endpoints.join(" "), list(&proxy["tags"]), format!("{held}/{addresses}"), load, state]
    };
    let header = ["proxy", "version", "endpoints", "tags", "held", "sessions", "state"];
    section(out, "proxies", &header, &items(&told["proxies"]).map(row).collect::<Vec<_>>());
}

fn sources(told: &Value, out: &mut String) {
    let row = |source: &Value| {
        let rests = items(&source["ways"]).filter_map(|way| way["why"].as_str()).collect::<Vec<_>>();
        let state = match (source["is_usable"].as_bool(), rests.first()) {
            (Some(true), None) => "ok".to_owned(),
            (Some(true), Some(why)) => format!("ok by another way: {why}"),
            (_, why) => format!("rests: {}", why.unwrap_or(&"")),
        };
        let held = items(&source["ways"]).map(|way| way["proxy"].as_str().unwrap_or("this host")).collect::<Vec<_>>();
        let pools = source["pools"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let pools = pools.collect::<Vec<_>>().join(" ");
        vec![word(&source["source"]), word(&source["address"]), pools, held.join(" "), word(&source["sessions"]), state]
    };
    let all: Vec<_> = items(&told["sources"]).map(row).collect();
    let more = all.len().saturating_sub(MAX_SOURCES);
    let header = ["source", "address", "pools", "held by", "sessions", "state"];
    section(out, "sources", &header, &all[..all.len() - more]);
    if more > 0 {
        let _ = writeln!(out, "and {more} more; --json shows all");
    }
}

fn section(out: &mut String, what: &str, header: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        let _ = writeln!(out, "no {what}");
    } else {
        out.push_str(&table(header, rows));
    }
    out.push('\n');
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn list(value: &Value) -> String {
    items(value).map(word).collect::<Vec<_>>().join(" ")
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_screen_shows_who_is_there_and_what_is_wrong() {
        let told = json!({
            "nodes": [{ "name": "a.test", "version": "1", "queued": 3, "sessions": 1, "degraded": ["url: no\nmore"] }],
            "proxies": [{
                "name": "p", "version": "1", "endpoints": [{ "address": "10.0.0.5:1080" }], "tags": ["warm", "eu"],
                "addresses": [{ "state": "held" }, { "state": "missing" }], "sessions": 2, "max_sessions": 9,
            }],
            "unused": { "p": "it drains" }, "announced_twice": { "192.0.2.1": ["p", "q"] }, "unreadable": ["bad"],
            "mistakes": { "url": { "why": "404" } },
            "sources": [
                { "source": "s", "address": null, "pools": { "main": 1 }, "ways": [{ "proxy": null }], "is_usable": true, "sessions": 0 },
                { "source": "t", "address": "192.0.2.1", "pools": {}, "ways": [{ "proxy": "p", "why": "gone" }], "is_usable": false, "sessions": 0 },
            ],
        });
        let text = text(&told);
        for part in [
            "a.test  1        3       1         degraded: url: no\n",
            "p      1        10.0.0.5:1080  warm eu  1/2   2/9       not used: it drains\n",
            "s       -          main   this host  0         ok\n",
            "t       192.0.2.1         p          0         rests: gone\n",
            "! url: the last good version is in use: 404\n",
            "! 192.0.2.1 is announced by more than one proxy: p q\n",
            "! bad\n",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(super::text(&json!({})).starts_with("no nodes\n\nno proxies\n"));
    }
}
