//! A wrong configuration is told with file, line, key and what to write.

use std::process::Command;

use egret_tests::harness::{Fleet, Options, binary};

fn check(program: &str, text: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("x.toml");
    std::fs::write(&file, text).expect("written");
    let output = Command::new(binary(program)).args(["config", "check", "--config"]).arg(&file).output().expect("runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_wrong_key_names_file_line_and_the_nearest_key() {
    let proxy =
        "[[listener]]\naddress = \"127.0.0.1:1\"\nprotokol = \"socks5\"\n[sources]\naddresses = [\"127.0.0.1\"]\n";
    let (code, words) = check("egret-proxy", proxy);
    assert_eq!(code, Some(78));
    assert!(words.contains("x.toml:3: ") && words.contains("did you mean `protocol`?"), "{words}");
    let mta = "hostnam = \"a\"\n[spool]\npath = \"s\"\n[event_log]\npath = \"e\"\n[queue]\nmax_age = 5\n";
    let (code, words) = check("egret-mta", mta);
    assert_eq!(code, Some(78));
    for part in [
        "x.toml:1: hostnam: unknown key; did you mean `hostname`?",
        "x.toml:7: queue.max_age: ",
        "hostname: is missing",
    ] {
        assert!(words.contains(part), "{part:?} is missing in {words}");
    }
}

#[test]
fn the_ready_made_files_are_good() {
    for (program, file) in [("egret-proxy", "proxy.toml"), ("egret-mta", "mta.toml")] {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(file);
        let output =
            Command::new(binary(program)).args(["config", "check", "--config"]).arg(&file).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The blocks of a page in one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let pieces = page.split("\n```").skip(1).step_by(2);
    pieces.filter_map(|piece| piece.strip_prefix(&format!("{language}\n")).map(str::to_owned)).collect()
}

#[test]
fn the_guide_to_routing_is_one_good_file_and_explain_says_what_it_shows() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/routing.md");
    let page = std::fs::read_to_string(page).expect("readable");
    let own = "hostname = \"mail.test\"\ndefault_pool = \"main\"\n[spool]\npath = \"s\"\n[event_log]\npath = \"e\"\n";
    let text = format!("{own}{}", blocks(&page, "toml").join("\n"));
    let (code, words) = check("egret-mta", &text);
    assert_eq!(code, Some(0), "{words}");
    let shown = blocks(&page, "console");
    let (command, expected) = shown[0].split_once('\n').expect("a command and what it prints");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("mta.toml");
    std::fs::write(&file, &text).expect("written");
    let quoted: Vec<&str> = command.split('\'').collect();
    let arguments: Vec<&str> = quoted[0].split_whitespace().skip(2).chain(quoted.get(1).copied()).collect();
    let output = Command::new(binary("egret-mta")).args(&arguments).arg("--config").arg(&file).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected.trim_end(), "{arguments:?}");
}

#[test]
fn a_port_or_a_spool_that_is_in_use_is_told() {
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    for (program, file, part) in
        [("egret-proxy", "proxy.toml", fleet.socks5.to_string()), ("egret-mta", "mta.toml", fleet.smtp.to_string())]
    {
        let output =
            Command::new(binary(program)).args(["serve", "--config"]).arg(fleet.file(file)).output().expect("runs");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.contains(&part) && words.contains("cannot be bound"), "{words}");
    }
    let text = std::fs::read_to_string(fleet.file("mta.toml")).expect("readable");
    let moved = text
        .replace(&format!("{}\"", fleet.smtp), "127.0.0.1:0\"")
        .replace(&fleet.mta_admin.to_string(), "127.0.0.1:0");
    std::fs::write(fleet.file("second.toml"), moved).expect("written");
    let output = Command::new(binary("egret-mta"))
        .args(["serve", "--config"])
        .arg(fleet.file("second.toml"))
        .output()
        .expect("runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("in use by another process"), "{words}");
}

#[test]
fn the_guide_to_the_fleet_shows_good_files() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/fleet.md");
    let shown = blocks(&std::fs::read_to_string(page).expect("readable"), "toml");
    let (proxy, mta) = (&shown[2], &shown[3]);
    assert!(proxy.contains("[announce]") && mta.contains("[discover]"), "{shown:?}");
    let listener = "[[listener]]\naddress = \"10.0.0.5:1080\"\n[sources]\naddresses = [\"192.0.2.1\"]\n";
    let (code, words) = check("egret-proxy", &format!("{listener}{proxy}"));
    assert_eq!(code, Some(0), "{words}");
    let own = "hostname = \"mail.test\"\ndefault_pool = \"warm\"\n[spool]\npath = \"s\"\n[event_log]\npath = \"e\"\n";
    let (code, words) = check("egret-mta", &format!("{own}{mta}"));
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = check(
        "egret-mta",
        &format!("{own}{}", mta.replace("[redis]", "[log]").replace("address = [", "level = \"info\" #")),
    );
    assert!(code == Some(78) && words.contains("redis: is missing"), "{words}");
}
