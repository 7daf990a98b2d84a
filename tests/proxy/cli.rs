//! The command line, against a running proxy.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use egret_tests::harness::binary;
use serde_json::Value;

use super::support::{House, egret_proxy, run, text};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn check_says_whether_it_can_work() {
    let house = House::start("", "");
    let config = text(&house.config());
    let remote = house.remote(2525);
    let target = remote.address().to_string();
    let greeting = std::thread::spawn(move || {
        for _ in 0..8 {
            let (mut client, _) = remote.accept();
            client.say(b"220 hello\r\n");
        }
        remote
    });
    let (code, shown) = egret_proxy(&["check", "--config", &config, "--target", &target, "--json"]);
    let findings = json(&shown);
    let findings = findings.as_array().expect("a list");
    let sources: Vec<_> =
        findings.iter().filter(|f| f["name"].as_str().is_some_and(|n| n.starts_with("source "))).collect();
    assert!(sources.len() == 8 && sources.iter().all(|f| f["state"] == "ok"), "{shown}");
    assert!(code <= 1, "the host's own settings may be worth a warning: {shown}");
    drop(greeting.join());
    let (code, shown) = egret_proxy(&["check", "--config", &config, "--target", &target]);
    assert!(code == 2 && shown.contains("connection_refused") && shown.contains("8 failed"), "{shown}");
    let (_, shown) = egret_proxy(&["check", "--config", &config, "--no-dial"]);
    assert!(shown.contains("on this host, can be bound") && shown.contains("accepts connections"), "{shown}");
    let (code, shown) = egret_proxy(&["check", "--config", "/nowhere.toml"]);
    assert!(code == 2 && shown.contains("/nowhere.toml"), "{shown}");
}

#[test]
fn test_dial_walks_all_ways() {
    let house = House::start("protocol = \"auto\"", "");
    let remote = house.remote(2525);
    let (to, via, source) = (remote.address().to_string(), house.at.to_string(), house.sources[2].to_string());
    let greeting = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut client, from) = remote.accept();
            client.say(format!("220 you are {from}\r\n").as_bytes());
        }
    });
    let ways: [&[&str]; 3] = [&[], &["--via", &via], &["--via", &via, "--dialect", "proxy"]];
    for way in ways {
        let (code, shown) = egret_proxy(&[&["test-dial", "--source", &source, "--to", &to], way].concat());
        assert!(code == 0 && shown.contains(&format!("220 you are {source}")), "{way:?}: {shown}");
    }
    greeting.join().expect("greeted");
    for way in ways {
        let (code, shown) = egret_proxy(&[&["test-dial", "--source", &source, "--to", &to, "--json"], way].concat());
        assert_eq!(
            (code, json(&shown)["fault"]["reason"].as_str()),
            (2, Some("connection_refused")),
            "{way:?}: {shown}"
        );
    }
    let (code, shown) = egret_proxy(&["test-dial", "--source", "192.0.2.77", "--to", &to]);
    assert!(code == 2 && shown.contains("source is at fault: source_not_plumbed"), "{shown}");
}

#[test]
fn sources_and_sessions_are_shown_and_changed() {
    let house = House::start("", "");
    let config = text(&house.config());
    let ask = |arguments: &[&str]| egret_proxy(&[arguments, &["--config", &config]].concat());
    let remote = house.remote(2525);
    let client = house.connected(remote.address());
    let (code, shown) = ask(&["sessions"]);
    assert!(code == 0 && shown.contains(&client.address().to_string()) && shown.contains("open"), "{shown}");
    let (code, shown) = ask(&["sessions", &client.address().to_string()]);
    assert!(code == 0 && json(&shown)["destination"] == remote.address().to_string(), "{shown}");
    let source = house.sources[7].to_string();
    assert_eq!(ask(&["sources", "drain", &source]), (0, format!("{source}: draining\n")));
    let (_, shown) = ask(&["sources"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines.len() == 9 && lines[8].contains("draining"), "{shown}");
    assert_eq!(ask(&["sources", "undrain", &source]), (0, format!("{source}: in service\n")));
    assert_eq!(ask(&["reload"]), (0, "reloaded\n".to_owned()));
    let away: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let (code, shown) = egret_proxy(&["sources", "--admin", &away.to_string()]);
    assert!(code == 1 && shown.contains("http://127.0.0.1:1/v1/sources: "), "{shown}");
}

#[test]
fn users_are_made_and_log_in_after_a_reload() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = text(&dir.path().join("users"));
    let user = |arguments: &[&str], password: &str| {
        let mut child = Command::new(binary("egret-proxy"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        // A command that asks for no password does not read it.
        let _ = child.stdin.take().expect("piped").write_all(password.as_bytes());
        let output = child.wait_with_output().expect("ends");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.code(), text)
    };
    assert_eq!(user(&["user", "add", "mta1", "--file", &file], "secret\n").0, Some(0));
    let house = House::start_under(&format!("users_file = \"{file}\""), "auth = \"password\"", "");
    let remote = house.remote(2525);
    let login = |house: &House, password: &str| {
        run(Command::new("curl")
            .args(["-sS", "-m", "5", "--proxy", &format!("socks5://{}", house.at), "--proxy-user"])
            .arg(format!("mta1:{password}"))
            .arg(format!("telnet://{}", remote.address())))
        .0
    };
    assert_eq!(login(&house, "wrong"), 97);
    assert_eq!(user(&["user", "add", "mta1", "--file", &file], "other\n").0, Some(0));
    assert_eq!(house.post("/v1/reload").0, 200);
    let greeting = std::thread::spawn({
        let remote = super::support::Remote(remote.0.try_clone().expect("a second handle"));
        move || drop(remote.accept())
    });
    assert_eq!(login(&house, "secret"), 97);
    assert_eq!(login(&house, "other"), 0);
    greeting.join().expect("accepted");
    assert_eq!(user(&["user", "list", "--file", &file], "").1, "mta1\n");
    assert_eq!(user(&["user", "remove", "mta2", "--file", &file], "").0, Some(1));
    assert_eq!(user(&["user", "add", "a:b", "--file", &file], "x").0, Some(1));
    assert_eq!(user(&["user", "remove", "mta1", "--file", &file], "").0, Some(0));
    assert_eq!(user(&["user", "list", "--file", &file], "").1, "");
}

#[test]
fn manuals_and_completions_are_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, shown) = egret_proxy(&["man", &text(dir.path())]);
    assert_eq!(code, 0, "{shown}");
    let page = std::fs::read_to_string(dir.path().join("egret-proxy-test-dial.1")).expect("a page");
    assert!(page.contains("\\-\\-source") && dir.path().join("egret-proxy.1").exists(), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let (code, shown) = egret_proxy(&["completion", shell]);
        assert!(code == 0 && shown.contains("test-dial"), "{shell}");
    }
    let (code, shown) = egret_proxy(&["--help"]);
    assert!(code == 0 && shown.contains("Examples:"), "{shown}");
}
