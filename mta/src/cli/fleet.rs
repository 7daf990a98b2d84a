//! `egret-mta fleet`: nodes, proxies, sources and limits on one screen, as a running MTA sees them. Floor 6.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use egret_shared::check::render::table;
use serde_json::Value;

use super::queue::Admin;
use crate::routing::warmup::date;

/// Sources that are shown one by one.
const MAX_SOURCES: usize = 200;
/// Limits that are shown, of the queues and of proxies each.
const MAX_LIMITS: usize = 20;
/// Nodes that are named for a limit.
const MAX_HOLDERS: usize = 5;

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
    for (what, part) in [("limits of queues", "queues"), ("limits of proxies", "proxies")] {
        limits(what, &told["limits"][part], &mut out);
    }
    if let Some(why) = told["limits_unknown"].as_str() {
        let why = why.lines().next().unwrap_or_default();
        let _ = writeln!(
            out,
            "! limits are unknown, each node goes on with its share, and nodes and proxies are those seen last: {why}"
        );
    }
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
        let state = [state].into_iter().chain(suspended(source)).collect::<Vec<_>>().join("; ");
        let state = items(&source["warmup"]).map(warmup).fold(state, |state, plan| format!("{state}; {plan}"));
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

/// Which orders keep back what goes out from a source.
fn suspended(source: &Value) -> Option<String> {
    if let Some(by) = source["suspended_by"].as_str() {
        return Some(format!("suspended by control {by}"));
    }
    let sites: Vec<_> = items(&source["suspended_to"]).map(word).collect();
    match sites.as_slice() {
        [] => None,
        [site] => Some(format!("suspended to {site}")),
        [site, others @ ..] => Some(format!("suspended to {site} and {} more sites", others.len())),
    }
}

/// Where a source stands in a plan of warm-up.
fn warmup(plan: &Value) -> String {
    if plan["day"] == 0 {
        return format!("its warm-up begins on {}", word(&plan["start"]));
    }
    let messages = plan["messages"].as_u64().map(|most| format!(", {most} messages to a site")).unwrap_or_default();
    format!("day {} of {} of its warm-up{messages}", word(&plan["day"]), word(&plan["days"]))
}

/// What is used of limits, the fullest first.
fn limits(what: &str, told: &Value, out: &mut String) {
    let all: Vec<_> = items(&told["limits"]).collect();
    if all.is_empty() {
        return;
    }
    let row = |limit: &&Value| {
        let (used, by) = used(limit);
        vec![word(&limit["name"]), word(&limit["kind"]), used, by]
    };
    let rows: Vec<_> = all.iter().take(MAX_LIMITS).map(row).collect();
    section(out, what, &[what, "kind", "used", "by"], &rows);
    let more = all.len() - rows.len();
    if more > 0 || told["is_cut"] == true {
        let beyond = if told["is_cut"] == true { " and others" } else { "" };
        let _ = writeln!(out, "and {more} more{beyond} that are less full; --json shows more\n");
    }
}

/// How much of a limit is used, and by whom.
fn used(limit: &Value) -> (String, String) {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    match limit["kind"].as_str() {
        Some("rate") => {
            let each = std::time::Duration::try_from_secs_f64(number(&limit["interval_us"]) / 1e6).unwrap_or_default();
            let left = number(&limit["left"]).max(0.0);
            (format!("{left} of {} left, one each {each:?}", word(&limit["burst"])), "-".to_owned())
        }
        Some("count") => {
            let held: f64 = items(&limit["nodes"]).map(|node| number(&node[1])).sum();
            let wait: f64 = items(&limit["nodes"]).map(|node| (number(&node[2]) - number(&node[1])).max(0.0)).sum();
            let of = limit["most"].as_u64().map(|most| format!(" of {most}")).unwrap_or_default();
            let wanted = if wait > 0.0 { format!(", {wait} wanted") } else { String::new() };
            let used = format!("{held}{of} held{wanted}");
            let holders: Vec<_> = items(&limit["nodes"]).filter(|node| number(&node[1]) > 0.0).collect();
            // A member is a node and a number that tells its runs apart.
            let short = |node: &Value| word(node).split('/').next().unwrap_or_default().to_owned();
            let named = holders.iter().take(MAX_HOLDERS).map(|node| format!("{} {}", short(&node[0]), word(&node[1])));
            let mut by = named.collect::<Vec<_>>().join(", ");
            if holders.len() > MAX_HOLDERS {
                let _ = write!(by, " and {} more", holders.len() - MAX_HOLDERS);
            }
            (used, if by.is_empty() { "-".to_owned() } else { by })
        }
        _ => {
            let of = limit["most"].as_u64().map(|most| format!(" of {most}")).unwrap_or_default();
            let day = limit["day"].as_u64().and_then(|day| u32::try_from(day).ok()).map(date).unwrap_or_default();
            (format!("{}{of} on {day}", word(&limit["used"])), "-".to_owned())
        }
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
                { "source": "s", "suspended_by": "1a", "address": null, "pools": { "main": 1 }, "ways": [{ "proxy": null }], "is_usable": true, "sessions": 0 },
                { "source": "t", "address": "192.0.2.1", "pools": {}, "ways": [{ "proxy": "p", "why": "gone" }], "is_usable": false, "sessions": 0 },
                {
                    "source": "u", "address": "192.0.2.2", "pools": {}, "ways": [{ "proxy": "p" }], "is_usable": true, "sessions": 0,
                    "suspended_to": ["mx.test", "mx.b.test", "mx.c.test"], "warmup": [
                        { "start": "2026-12-01", "day": 3, "days": 9, "messages": 40 }, { "start": "2026-12-05", "day": 0, "days": 2 },
                    ],
                },
            ],
        });
        let limit = |name: String| json!({ "name": name, "kind": "quota", "day": 20_000, "used": 7, "most": 40 });
        let count =
            json!({ "name": "site", "kind": "count", "most": 2, "nodes": [["a.test/01", 2, 2], ["b.test/02", 0, 3]] });
        let rate = json!({ "name": "pace", "kind": "rate", "interval_us": 600_000.0, "burst": 5, "left": -1 });
        let mut told = told;
        let all: Vec<_> = [count, rate].into_iter().chain((0..20).map(|n| limit(n.to_string()))).collect();
        told["limits"] = json!({ "queues": { "limits": all, "is_cut": false }, "proxies": { "limits": [] } });
        told["limits_unknown"] = json!("Redis is not there\nat all");
        let text = text(&told);
        for part in [
            "a.test  1        3       1         degraded: url: no\n",
            "p      1        10.0.0.5:1080  warm eu  1/2   2/9       not used: it drains\n",
            "s       -          main   this host  0         ok; suspended by control 1a\n",
            "t       192.0.2.1         p          0         rests: gone\n",
            "u       192.0.2.2         p          0         ok; suspended to mx.test and 2 more sites; day 3 of 9 of its warm-up, 40 messages to a site; its warm-up begins on 2026-12-05\n",
            "limits of queues  kind   used                         by\n",
            "site              count  2 of 2 held, 3 wanted        a.test 2\n",
            "pace              rate   0 of 5 left, one each 600ms  -\n",
            "0                 quota  7 of 40 on 2024-10-04        -\n",
            "and 2 more that are less full; --json shows more\n",
            "and nodes and proxies are those seen last: Redis is not there\n",
            "! url: the last good version is in use: 404\n",
            "! 192.0.2.1 is announced by more than one proxy: p q\n",
            "! bad\n",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(super::text(&json!({})).starts_with("no nodes\n\nno proxies\n"));
    }
}
