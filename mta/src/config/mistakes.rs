//! What testers wrote that was taken in silence, or was answered with wrong advice. Tests. Floor 5.

use std::path::Path;

use super::tests::{MINIMAL, built, complaints};
use super::*;

/// The complaints and notes of shaping files, without their directory.
fn shaped(text: &str, ignored: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("f.toml");
    std::fs::write(&file, text).expect("written");
    let ignored: Vec<String> = ignored.iter().map(ToString::to_string).collect();
    let told = match read_shaping([file], &ignored) {
        Ok(read) => read.notes,
        Err(complaints) => complaints.0,
    };
    let own = format!("{}/", directory.path().display());
    told.iter().map(|one| one.to_string().replace(&own, "")).collect()
}

/// A directory with a shaping file, and the section that names it.
fn naming(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("shaping.toml");
    std::fs::write(&file, text).expect("written");
    let section = format!("[shaping]\nfiles = [\"{}\"]\n", file.display());
    (directory, section)
}

#[test]
fn a_wait_of_no_time_is_refused_where_it_stands() {
    let none = "is no time at all; write a time span like \"30s\"";
    for key in [
        "connect_timeout",
        "banner_timeout",
        "ehlo_timeout",
        "starttls_timeout",
        "auth_timeout",
        "mail_from_timeout",
        "rcpt_to_timeout",
        "data_timeout",
        "data_dot_timeout",
        "rset_timeout",
    ] {
        let found = shaped(&format!("[\"default\"]\n{key} = \"0s\"\n"), &[]);
        assert_eq!(found, [format!("f.toml:2: default.{key}: {none}")]);
        let found = complaints(&format!("{MINIMAL}[delivery]\n{key} = \"0ms\"\n"));
        assert_eq!(found, [format!("mta.toml:7: delivery.{key}: {none}")]);
    }
    for (section, key) in [
        ("dns", "timeout"),
        ("queue", "max_age"),
        ("redis", "timeout"),
        ("redis", "connect_timeout"),
        ("[listener]", "command_timeout"),
        ("[listener]", "data_timeout"),
    ] {
        let found = complaints(&format!("{MINIMAL}[{section}]\n{key} = \"0s\"\n"));
        assert!(found.iter().any(|told| told.ends_with(&format!("{key}: {none}"))), "{found:?}");
    }
    assert!(shaped("[\"default\"]\nidle_timeout = \"0s\"\nremember_broken_tls = \"0s\"\n", &[]).is_empty());
}

#[test]
fn numbers_are_seconds_in_files_of_kumomta_and_nowhere_else() {
    let rule = "[[\"default\".automation]]\nregex = \"x\"\naction = \"Suspend\"\nduration = 90\n";
    let text = format!("[\"default\"]\nidle_timeout = 60\n{rule}");
    let (_directory, section) = naming(&text);
    let config = built(&format!("{MINIMAL}{section}"));
    let idle = config.shaping.shaping.defaults[0].patch.over(&PathOptions::default()).smtp.timeouts.idle;
    assert_eq!(idle, Duration::from_secs(60));
    assert_eq!(config.automation.iter().map(|one| one.rule.duration.as_secs()).collect::<Vec<_>>(), [90]);
    let found = shaped("[\"default\"]\nconnect_timeout = 0\n", &[]);
    assert_eq!(found, ["f.toml:2: default.connect_timeout: is no time at all; write a time span like \"30s\""]);
    let found = complaints(&format!("{MINIMAL}[delivery]\nidle_timeout = 60\n"));
    assert!(
        found[0].contains("delivery.idle_timeout: is an integer, but a time span in quotes belongs here"),
        "{found:?}"
    );
}

#[test]
fn what_stands_at_a_wrong_place_is_told_the_right_one() {
    let outside = "stands outside of all blocks; write it below [\"default\"] if it is for all mail, or below [provider.\"NAME\"] or [\"example.com\"]";
    for (text, want) in [
        (
            "[\"Default\"]\nconnection_limit = 1\n",
            "f.toml:1: Default: is no domain; did you mean \"default\", in small letters and without an s?",
        ),
        (
            "[providers.\"a\"]\nconnection_limit = 1\n",
            "f.toml:1: providers: is no domain; did you mean \"provider\", in small letters and without an s?",
        ),
        ("\n[[floor]]\nlimit = \"x\"\n", "f.toml:2: floor: belongs into mta.toml, the file that names this one"),
        (
            "[[automation]]\nregex = \"x\"\n",
            "f.toml:1: automation: belongs to a block, as in [[\"default\".automation]], or into mta.toml",
        ),
        (
            "[[\"a.test\"]]\nconnection_limit = 1\n",
            "f.toml:1: a.test: is a list of tables, and a block stands once; write [\"a.test\"]",
        ),
        (
            "[[provider.\"p\"]]\nmatch = []\n",
            "f.toml:1: provider.p: is a list of tables, and a provider stands once in a file; write [provider.\"p\"]",
        ),
        ("connection_limit = 3\n[\"a.test\"]\n", &format!("f.toml:1: connection_limit: {outside}")),
        (
            "[provider]\nmatch = []\n",
            "f.toml:2: provider.match: stands outside of all providers; write it below [provider.\"NAME\"]",
        ),
    ] {
        assert_eq!(shaped(text, &[]), [want], "{text}");
    }
    let found = shaped("frob = 1\n", &["frob"]);
    assert_eq!(found, ["f.toml:1: frob: is not known here, and ignored because ignore_unknown names it"]);
}

#[test]
fn keys_that_may_be_unknown_and_are_not_there_are_told() {
    let (directory, section) = naming("[\"default\"]\nfrob = 1\n");
    let config = built(&format!("{MINIMAL}{section}ignore_unknown = [\"frob\", \"frog\"]\n"));
    let own = format!("{}/", directory.path().display());
    let notes: Vec<_> = config.notes().map(|note| note.to_string().replace(&own, "")).collect();
    let expected = [
        "shaping.toml:2: default.frob: is not known here, and ignored because ignore_unknown names it",
        "mta.toml:8: shaping.ignore_unknown: does nothing here for \"frog\": no shaping file holds that key, or it is a known one",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn what_a_rule_says_in_vain_is_told() {
    let rule = |more: &str| format!("[[automation]]\nregex = \"x\"\nduration = \"1h\"\n{more}\n");
    let sets = rule("action = {SetConfig={name=\"enable_mta_sts\", value=true}}");
    let off = format!("{MINIMAL}[delivery]\nenable_mta_sts = false\n{sets}");
    let notes: Vec<_> = built(&off).notes().map(ToString::to_string).collect();
    let vain = "mta.toml:8: enable_mta_sts: is set by a rule over answers, and has no effect while [delivery] does not set enable_mta_sts: it decides whether policies are looked for";
    assert_eq!(notes, [vain]);
    assert_eq!(built(&off.replace("= false", "= true")).notes().count(), 0);
    let burst = "action = \"Suspend\"\ntrigger = {Threshold=\"5/hr,max_burst=2\"}";
    let found = complaints(&format!("{MINIMAL}{}", rule(burst)));
    let why =
        "automation.trigger: has a max_burst, which means nothing for answers: 5 of them in the period are counted";
    assert_eq!(found, [format!("mta.toml:10: {why}; leave it out")]);
    let found = shaped(&rule(burst).replace("[automation]", "[default.automation]"), &[]);
    assert_eq!(found, [format!("f.toml:5: default.{why}; the burst does nothing")]);
}

#[test]
fn a_directory_is_named_from_that_of_the_main_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let more = directory.path().join("more");
    std::fs::create_dir(&more).expect("made");
    std::fs::write(more.join("a.toml"), "[source.found]\n").expect("written");
    let main = directory.path().join("mta.toml");
    std::fs::write(&main, format!("{MINIMAL}[egress]\ndirectory = \"more\"\n")).expect("written");
    let config = read(&main).unwrap_or_else(|complaints| panic!("{complaints}"));
    assert_eq!(&*config.pools[0].members[0].0.name, "found");
    assert_eq!(config.elsewhere.directory.as_deref(), Some(more.as_path()), "which is followed");
    assert!(!Path::new("more").exists(), "it is not that of the test");
}

#[test]
fn an_expression_that_takes_too_much_is_told_what_to_do() {
    let automation = "[[automation]]\nregex = '(a{1000}){1000}'\naction = \"Suspend\"\nduration = \"1h\"\n";
    let rule = "[[rule]]\nsender = \"/(a{1000}){1000}/\"\nset_tenant = \"t\"\n";
    for text in [automation, rule] {
        let found = complaints(&format!("{MINIMAL}{text}"));
        assert!(found.len() == 1 && found[0].contains("takes more than 1MiB of memory; repeat less"), "{found:?}");
    }
}

#[test]
fn a_name_that_is_not_there_is_told_with_the_nearest() {
    let (_directory, section) = naming("[provider.google]\nmatch = [{ MXSuffix = \".google.test\" }]\n");
    let rule = |key: &str| format!("[[automation]]\nregex = \"x\"\naction = \"Suspend\"\nduration = \"1h\"\n{key}\n");
    for (key, want) in [
        ("provider = \"gogle\"", "(did you mean \"google\"? known: google)"),
        ("source = \"out1\"", "(did you mean \"out-1\"? known: out-1, warm)"),
        ("source = \"else\"", "(known: out-1, warm)"),
    ] {
        let found = complaints(&format!("{MINIMAL}{section}[source.out-1]\n[source.warm]\n{}", rule(key)));
        assert!(found.len() == 1 && found[0].ends_with(want), "{found:?}");
    }
}

#[test]
fn default_in_large_letters_is_no_queue() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("queues.toml");
    std::fs::write(&file, "[queue.Default]\nmax_age = \"1h\"\n").expect("written");
    let found = complaints(&format!("{MINIMAL}[queues]\nfiles = [\"{}\"]\n", file.display()));
    let want = "queues.toml:1: queue.Default: is no domain; write [queue.default], in small letters, for what holds for all queues";
    assert!(found.len() == 1 && found[0].ends_with(want), "{found:?}");
}
