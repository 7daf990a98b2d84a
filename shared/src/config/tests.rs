//! Complaints say file, line, key and what to do; nothing is silently ignored.

use std::time::Duration;

use super::*;
use crate::units::{Seconds, Span, Wait};

struct Small {
    idle: Duration,
    names: Vec<(String, u32)>,
}

#[expect(clippy::unnecessary_wraps, reason = "every build function has this shape")]
fn build(root: &Section<'_>) -> Option<Small> {
    let timeouts = root.section("timeouts");
    let idle = timeouts.with_default::<Span>("idle", "\"15m\"", "How long a silent session lives.");
    let sources = root.named("source");
    let names =
        sources.iter().filter_map(|(name, s)| Some((name.clone(), s.required("weight", "Its share.")?))).collect();
    Some(Small { idle: idle.0, names })
}

fn complaints(text: &str) -> Vec<String> {
    match parse("p.toml", text, build) {
        Ok(_) => Vec::new(),
        Err(all) => all.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn defaults_and_values_are_read() {
    let small = parse("p.toml", "[source.a]\nweight = 3\n", build).map_err(|e| e.to_string());
    let small = small.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((small.idle, small.names), (Duration::from_secs(900), vec![("a".to_owned(), 3)]));
}

#[test]
fn every_complaint_is_told_at_once_with_its_line() {
    let text = "[timeouts]\nidel = \"3s\"\n\n[source.a]\nweight = \"x\"\n[source.b]\n[sauce.c]\n";
    assert_eq!(
        complaints(text),
        [
            "p.toml:2: timeouts.idel: unknown key; did you mean `idle`?",
            "p.toml:5: source.a.weight: is a string, but a whole number belongs here",
            "p.toml:6: source.b.weight: is missing; a whole number belongs here",
            "p.toml:7: sauce: unknown key; did you mean `source`?",
        ]
    );
}

#[test]
fn a_bad_value_and_bad_syntax_name_their_line() {
    assert!(
        complaints("[timeouts]\nidle = \"soon\"")[0]
            .starts_with("p.toml:2: timeouts.idle: \"soon\" is not a time span")
    );
    assert!(complaints("\n\n[timeouts\n")[0].starts_with("p.toml:3: "), "{:?}", complaints("\n\n[timeouts\n"));
}

#[test]
fn the_reference_lists_each_key_once_with_its_default() {
    let page = markdown("x", &describe(build));
    assert!(page.contains("| `idle` | a time span | `\"15m\"` | How long a silent session lives. |"), "{page}");
    assert!(page.contains("## `[source.NAME]`"), "{page}");
}
#[test]
fn what_stands_twice_is_named_with_both_lines() {
    for (text, want) in [
        ("a = 1\nb = 2\na = 3\n", "p.toml:3: a: stands in p.toml:1 already; keep one of the two"),
        ("[a]\nb.c = 1\n[b]\nc = 1\n[a.b]\nc = 2\n", "p.toml:5: a.b: stands in p.toml:2 already"),
        ("[x]\nk = 1\n[y]\nk = 2\nz = { k = 3 }\nk = 4\n", "p.toml:6: y.k: stands in p.toml:4 already"),
        ("[\"a.b\"]\n\n['a.b']\n", "p.toml:3: a.b: stands in p.toml:1 already"),
        ("[[r]]\nk = 1\n[[r]]\n\"k\" = 1\nk = 2\n", "p.toml:5: r.k: stands in p.toml:4 already"),
        ("[a]\nb.c = 1\nb.c = 2\n", "p.toml:3: a.b.c: stands in p.toml:2 already"),
        ("[[r]]\n[r]\n", "p.toml:2: r: stands in p.toml:1 already"),
        ("x = { k = 1, k = 2 }\n", "p.toml:1: k: stands twice in one table; keep one of the two"),
    ] {
        let told = complaints(text);
        assert!(told.iter().any(|line| line.starts_with(want)), "{want}\nis not told by {told:?}");
    }
    let told = parse_lenient("p.json", "{\n\"a\": 1,\n\"a\": 2\n}", &[], build).0.map(|_| ()).expect_err("twice");
    assert_eq!(told.to_string(), "p.json:3: a: stands in p.json:2 already; keep one of the two");
}

#[test]
fn no_time_at_all_is_no_wait_and_numbers_are_seconds_where_they_may_be() {
    let read = |text: &str| {
        parse("p.toml", text, |root| {
            let wait = root.optional::<Wait>("wait", "").map(|wait| wait.0);
            let number = root.optional::<Seconds>("number", "").map(|number| number.0);
            Some((wait, number))
        })
        .map_err(|all| all.to_string())
    };
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(read("wait = \"3s\"\nnumber = 5\n"), Ok((seconds(3), seconds(5))));
    assert_eq!(read("number = \"1m\"\n"), Ok((None, seconds(60))));
    let none = "p.toml:1: wait: is no time at all; write a time span like \"30s\"";
    assert_eq!(read("wait = \"0ms\"\n"), Err(none.to_owned()));
    assert!(read("wait = 3\n").is_err(), "a number alone says no unit");
    assert!(read("number = -1\n").is_err_and(|told| told.contains("is not between 0 and")));
}
