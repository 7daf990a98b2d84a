//! What `explain` tells, in words. Floor 6.

use std::fmt::Write as _;

use serde_json::Value;

/// The words.
pub(super) fn of(told: &Value) -> String {
    let mut text = String::new();
    for one in each(&told["recipients"]) {
        recipient(one, &mut text);
    }
    for (key, what) in
        [("removed_headers", "headers removed"), ("added_headers", "headers added"), ("signatures", "signed by")]
    {
        let all: Vec<&str> = each(&told[key]).filter_map(Value::as_str).collect();
        let _ = writeln!(text, "{what}: {}", if all.is_empty() { "none".to_owned() } else { all.join(", ") });
    }
    text
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn recipient(one: &Value, text: &mut String) {
    let rules: Vec<&str> = each(&one["rules"]).map(|rule| words(&rule["name"])).collect();
    let rules = if rules.is_empty() { "none".to_owned() } else { rules.join(", ") };
    let _ = writeln!(text, "{}", words(&one["recipient"]));
    for (key, value) in [
        ("rules", rules.as_str()),
        ("tenant", words(&one["tenant"])),
        ("campaign", words(&one["campaign"])),
        ("queue", words(&one["queue"])),
        ("priority", words(&one["priority"])),
        ("route", &route(one)),
        ("pool", words(&one["pool"]["name"])),
    ] {
        let _ = writeln!(text, "  {key:<9} {value}");
        if key == "queue" {
            for said in each(&one["queue_options"]) {
                let (option, value, by) = (words(&said["option"]), words(&said["value"]), words(&said["by"]));
                let _ = writeln!(text, "  of queue  {option} = {value} (by {by})");
            }
        }
    }
    for source in each(&one["pool"]["sources"]) {
        let _ = writeln!(text, "  source    {}", source_line(source));
        for plan in each(&source["warmup"]) {
            let [limit, day] = ["limit", "day"].map(|key| words(&plan[key]));
            let _ = writeln!(text, "  warm-up   {limit}: at most {} on {day}", plan["most"]);
        }
    }
    if one["pool"]["found"].is_object() {
        let _ = writeln!(text, "  source    {}", found_line(&one["pool"]["found"]));
    }
    let destination = &one["destination"];
    if let Some(site) = destination["site"].as_str() {
        let _ = writeln!(text, "  site      {site}");
    }
    let _ = writeln!(text, "  goes to   {}", destination_line(destination));
    for option in each(&one["options"]) {
        let by = match words(&option["by"]) {
            "route" => "its route",
            "delivery" => "[delivery]",
            place => place,
        };
        let of: Vec<&str> = each(&option["sources"]).filter_map(Value::as_str).collect();
        let of = if of.is_empty() { String::new() } else { format!(", for {}", of.join(", ")) };
        let _ = writeln!(text, "  option    {} = {} (by {by}{of})", words(&option["option"]), words(&option["value"]));
    }
    for floor in each(&one["floors"]) {
        let may = if floor["is_its"] == true { ": this mail may take it" } else { "" };
        let [part, of, limit] = ["part", "of", "limit"].map(|key| words(&floor[key]));
        let (whose, by) = (words(&floor["for"]), words(&floor["by"]));
        let _ = writeln!(text, "  kept      {part} of {of} of {limit:?} for {whose} (by {by}){may}");
    }
}

fn route(one: &Value) -> String {
    let route = &one["route"];
    let place = || match route["name"].as_str() {
        Some(name) => format!("{name} ([[route]] {})", route["place"]),
        None => format!("[[route]] {}", route["place"]),
    };
    match (one["routing_domain"].as_str(), route.is_null(), route["by"] == "rule") {
        (Some(domain), true, _) => format!("as {domain}, by a rule"),
        (Some(domain), false, _) => format!("{}, as {domain}, by a rule", place()),
        (None, true, _) => "-".to_owned(),
        (None, false, true) => format!("{}, by a rule", place()),
        (None, false, false) => format!("{}, by its domain", place()),
    }
}

fn source_line(source: &Value) -> String {
    let proxies: Vec<&str> = each(&source["proxies"]).filter_map(Value::as_str).collect();
    let way = if proxies.is_empty() { "directly".to_owned() } else { format!("by {}", proxies.join(", then ")) };
    let address = source["address"].as_str().unwrap_or("any address");
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    let fits = match source["fits"].as_bool() {
        Some(false) => format!(", but there is no {family} address to go to"),
        _ => String::new(),
    };
    format!("{} ({address}) {way}: {} of {}{fits}", words(&source["source"]), source["weight"], source["of"])
}

/// The addresses that a pool finds: which those are now, a running MTA knows.
fn found_line(found: &Value) -> String {
    let all = |key: &str| each(&found[key]).filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let tagged = if all("tags").is_empty() { String::new() } else { format!(" tagged {}", all("tags")) };
    let within = if all("addresses").is_empty() { String::new() } else { format!(" in {}", all("addresses")) };
    let warmup = &found["warmup"];
    let warmed = match (warmup.is_object(), warmup["start"].as_str()) {
        (false, _) => String::new(),
        (true, Some(start)) => format!(", warmed up for {} days from {start} on", warmup["days"]),
        (true, None) => format!(", each warmed up for {} days from the day it is seen first", warmup["days"]),
    };
    format!("the addresses of proxies{tagged}{within}{warmed}; `egret-mta fleet` shows them")
}

fn destination_line(destination: &Value) -> String {
    let by = destination["by"].as_str().map_or_else(String::new, |by| format!(" (by {by})"));
    for (key, what) in [("bounces", "bounces"), ("waits", "waits")] {
        if let Some(words) = destination[key].as_str() {
            return format!("nowhere, it {what}: {words}{by}");
        }
    }
    let host = |host: &Value| {
        let addresses: Vec<&str> = each(&host["addresses"]).filter_map(Value::as_str).collect();
        let protocol = if host["protocol"] == "lmtp" { " by LMTP" } else { "" };
        let policy = host["tls_policy"].as_str().map(|policy| format!(", TLS by {policy}")).unwrap_or_default();
        format!("{} [{}] port {}{protocol}{policy}", words(&host["host"]), addresses.join(" "), host["port"])
    };
    let hosts: Vec<String> = each(&destination["hosts"]).map(host).collect();
    format!("{}{by}", hosts.join(", then ")).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pool_finds_and_what_is_warmed_up_is_told() {
        let found = json!({ "tags": ["new", "eu"], "addresses": [], "warmup": { "start": null, "days": 9 } });
        let plan = json!({ "limit": "warmup a1->mx.b.test", "day": "2026-12-01", "most": 50 });
        let source = json!({ "source": "a1", "address": "192.0.2.1", "weight": 1, "of": 1, "warmup": [plan] });
        let told = of(&json!({ "recipients": [{ "pool": { "name": "p", "sources": [source], "found": found } }] }));
        for line in [
            "  warm-up   warmup a1->mx.b.test: at most 50 on 2026-12-01\n",
            "  source    the addresses of proxies tagged new, eu, each warmed up for 9 days from the day it is seen first; `egret-mta fleet` shows them\n",
        ] {
            assert!(told.contains(line), "{line} in\n{told}");
        }
        let dated =
            json!({ "tags": [], "addresses": ["192.0.2.0/28"], "warmup": { "start": "2026-12-01", "days": 9 } });
        assert!(found_line(&dated).starts_with("the addresses of proxies in 192.0.2.0/28, warmed up for 9 days from"));
        assert!(found_line(&json!({ "tags": ["x"], "addresses": [] })).contains("proxies tagged x; "));
    }
}
