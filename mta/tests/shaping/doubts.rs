//! What `shaping check` doubts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use egret_mta::shaping::blocks::{Match, Provider};
use egret_mta::shaping::lint::lint;
use egret_mta::shaping::patch::Patch;
use proptest::prelude::*;

use super::{files, read};

/// All doubts, each with its line.
fn doubts(text: &str) -> Vec<String> {
    let shaping = read(&[("f.toml", text)]).shaping;
    let found = lint(&shaping, &Patch::default(), None).into_iter();
    found.map(|one| format!("{} {}", one.place.line(), one.text)).collect()
}

#[test]
fn one_domain_in_two_spellings_is_told() {
    for other in ["[\"A.test\"]", "[\"a.test.\"]"] {
        let found = doubts(&format!("[\"a.test\"]\nconnection_limit = 1\n{other}\nconnection_limit = 2\n"));
        let begin = format!("3 {other} is the domain of [\"a.test\"] at ");
        assert!(found.len() == 1 && found[0].starts_with(&begin), "{found:?}");
    }
    let found =
        doubts("[\"b\u{fc}cher.test\"]\nconnection_limit = 1\n[\"xn--bcher-kva.test\"]\nconnection_limit = 2\n");
    assert!(
        found.len() == 1 && found[0].contains("both hold, and where both say something the later counts"),
        "{found:?}"
    );
    assert!(doubts("[\"a.test\"]\nconnection_limit = 1\n[\"b.test\"]\nconnection_limit = 2\n").is_empty());
}

#[test]
fn one_limit_of_two_sizes_is_told_and_a_later_file_may_say_something_else() {
    let text = "[provider.\"p\"]\nmatch = [{ MXSuffix = \".p.test\" }]\nadditional_connection_limits = { all = 20 }\n\
                [\"a.test\"]\nadditional_connection_limits = { all = 5, own = 1 }\n";
    let found = doubts(text);
    assert!(
        found.len() == 1 && found[0].starts_with("5 additional_connection_limits: \"all\" is 5 here and 20 at "),
        "{found:?}"
    );
    assert!(doubts(&text.replace("all = 5", "all = 20")).is_empty());
    let rate = "[\"a.test\"]\nadditional_message_rate_throttles = { all = \"60/min\" }\n\
                [\"a.test\".sources.\"s\"]\nadditional_message_rate_throttles = { all = \"1/s\" }\n";
    assert!(doubts(rate).iter().any(|told| told.contains("\"all\" is 1/s here and 60/min at ")), "{:?}", doubts(rate));
    let [earlier, later] =
        ["20", "5"].map(|size| format!("[\"a.test\"]\nadditional_connection_limits = {{ all = {size} }}\n"));
    let shaping = read(&[("a.toml", &earlier), ("b.toml", &later)]).shaping;
    assert!(lint(&shaping, &Patch::default(), None).is_empty());
}

#[test]
fn a_block_for_a_domain_with_a_route_to_hosts_is_doubted_and_the_configurations_unknown_keys_are_honoured() {
    let shaping = "[\"a.test\"]\nconnection_limit = 1\nfrob = 1\n[\"b.test\"]\nmx_rollup = false\nconnection_limit = 1\n[\"c.test\"]\nconnection_limit = 1\n";
    let main = "hostname = \"mail.example.com\"\n[spool]\npath = \"spool\"\n[event_log]\npath = \"events\"\n\
                [shaping]\nignore_unknown = [\"frob\"]\n[[route]]\ndomains = [\"a.test\", \"b.test\"]\nhosts = [\"192.0.2.1:25\"]\n";
    let (_directory, paths) = files(&[("f.toml", shaping), ("mta.toml", main)]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret-mta"));
    command
        .args(["shaping", "check", "--no-dns", "--ignore-unknown", "frog", "--config"])
        .arg(&paths[1])
        .arg(&paths[0]);
    let done = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(1), "warnings only: {told}");
    let led: Vec<_> = told.lines().filter(|line| line.contains("leads to hosts of its own")).collect();
    assert!(led.len() == 1 && led[0].contains("f.toml:1 ") && led[0].contains("mail to a.test"), "{told}");
    assert!(told.contains("does nothing here for \"frog\""), "{told}");
}

#[test]
fn an_address_may_be_found_but_a_name_that_no_pool_has_is_doubted() {
    let shaping =
        "[\"a.test\".sources.\"192.0.2.7\"]\nconnection_limit = 1\n[\"a.test\".sources.\"s7\"]\nconnection_limit = 1\n";
    let main = "hostname = \"mail.example.com\"\n[spool]\npath = \"spool\"\n[event_log]\npath = \"events\"\n";
    let found = "[pool.warm.discover]\ntag = \"warm\"\n[redis]\naddress = [\"127.0.0.1:6379\"]\n";
    for (finds, doubted) in [("", vec!["192.0.2.7", "s7"]), (found, vec!["s7"])] {
        let (_directory, paths) = files(&[("f.toml", shaping), ("mta.toml", &format!("{main}{finds}"))]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_egret-mta"));
        command.args(["shaping", "check", "--no-dns", "--config"]).arg(&paths[1]).arg(&paths[0]);
        let done = command.output().expect("it runs");
        let told = String::from_utf8_lossy(&done.stdout);
        let lines = told.lines().filter_map(|line| line.split_once("there is no source ")?.1.split('"').nth(1));
        assert_eq!(lines.collect::<Vec<_>>(), doubted, "{told}{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Whether one of two matches lies in the other.
fn meet(one: &Match, other: &Match) -> bool {
    let within = |narrow: &Match, wide: &Match| match (narrow, wide) {
        (Match::DomainSuffix(narrow), Match::DomainSuffix(wide))
        | (Match::MxSuffix(narrow) | Match::HostName(narrow), Match::MxSuffix(wide)) => narrow.ends_with(wide.as_str()),
        (Match::HostName(one), Match::HostName(other)) => one == other,
        _ => false,
    };
    within(one, other) || within(other, one)
}

fn all_meet(one: &Provider, other: &Provider) -> bool {
    let matches = |provider: &Provider| -> Vec<Match> {
        provider.blocks.iter().flat_map(|block| block.matches.clone()).collect()
    };
    matches(one).iter().any(|one| matches(other).iter().any(|other| meet(one, other)))
}

proptest! {
    /// What is found by sorting is what a look at each pair finds.
    #[test]
    fn providers_that_meet_are_those_that_a_look_at_each_pair_finds(
        matches in prop::collection::vec(prop::collection::vec((0usize..3, "[ab]{1,2}(\\.[ab]{1,2}){0,2}"), 1..3), 1..7),
    ) {
        let mut text = String::new();
        for (number, own) in matches.iter().enumerate() {
            let own: Vec<_> = own.iter().map(|(kind, name)| {
                format!("{{ {} = \"{name}\" }}", ["DomainSuffix", "MXSuffix", "HostName"][*kind])
            }).collect();
            let _ = writeln!(text, "[provider.\"p{number}\"]\nmatch = [{}]", own.join(", "));
        }
        let shaping = read(&[("f.toml", &text)]).shaping;
        let doubts = lint(&shaping, &Patch::default(), None);
        let found: BTreeSet<String> =
            doubts.iter().filter(|one| one.text.contains("holds for mail of provider")).map(|one| {
                let parts: Vec<&str> = one.text.split('"').collect();
                format!("{} {}", parts[1], parts[3])
            }).collect();
        let mut expected = BTreeSet::new();
        for (at, later) in shaping.providers.iter().enumerate() {
            for earlier in shaping.providers[..at].iter().filter(|earlier| all_meet(earlier, later)) {
                expected.insert(format!("{} {}", later.name, earlier.name));
            }
        }
        prop_assert_eq!(found, expected);
    }
}
