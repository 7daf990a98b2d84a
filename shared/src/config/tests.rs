//! Complaints say file, line, key and what to do; nothing is silently ignored.

use std::time::Duration;

use super::*;
use crate::units::Span;

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
