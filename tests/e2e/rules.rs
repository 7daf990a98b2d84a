//! Routing rules decide about tenant, pool and headers, recipient by recipient, and `explain` says so before.

use std::process::Command;

use egret_tests::harness::{Fleet, Options, binary};
use egret_tests::peer::sink::Behaviour;
use serde_json::Value;

use crate::support::{sink, smtp};

const TABLES: &str = r#"
[source.plain]
[source.vip]
[pool.main]
sources = { plain = 1 }
[pool.vip]
sources = { vip = 3, plain = 1 }
[[rule]]
name = "bulk"
headers = { "X-Class" = ["bulk", "news*"] }
sender = "*.acme.test"
set_tenant = "acme"
set_campaign = "spring"
remove_headers = ["X-Class"]
add_headers = ["X-Sent-As: bulk"]
[[rule]]
name = "important"
recipient = ["boss@b.test", "c.test"]
tenant = "acme"
set_pool = "vip"
stop = true
[[rule]]
name = "rest"
set_tenant = "others"
tenant = "-"
"#;

fn fleet() -> Fleet {
    let tables = format!("{TABLES}\n[delivery]\nconnection_limit = 4\n");
    Fleet::start(&Options { root_keys: "default_pool = \"main\"".to_owned(), tables, ..Options::default() })
}

fn explain(fleet: &Fleet, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary("egret-mta"));
    let output = command.arg("explain").args(arguments).arg("--config").arg(fleet.file("mta.toml")).output();
    let output = output.expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_decide_for_each_recipient_and_explain_tells_it_before() {
    let fleet = fleet();
    let to = ["boss@b.test", "clerk@b.test", "x@c.test"];
    let recipients: Vec<&str> = to.iter().flat_map(|to| ["--to", to]).collect();
    let who = ["--from", "s@mail.acme.test", "--header", "x-class: NEWS-7", "--json"];
    let (good, told) = explain(&fleet, &[&who[..], &recipients].concat());
    assert!(good, "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let of = |n: usize| {
        let one = &told["recipients"][n];
        let names: Vec<&str> =
            one["rules"].as_array().into_iter().flatten().filter_map(|r| r["name"].as_str()).collect();
        (
            names.join(" "),
            one["queue"].as_str().unwrap_or("?").to_owned(),
            one["pool"]["name"].as_str().unwrap_or("?").to_owned(),
        )
    };
    let want = |rules: &str, queue: &str, pool: &str| (rules.to_owned(), queue.to_owned(), pool.to_owned());
    assert_eq!(of(0), want("bulk important", "spring:acme@b.test", "vip"));
    assert_eq!(of(1), want("bulk", "spring:acme@b.test", "main"));
    assert_eq!(of(2), want("bulk important", "spring:acme@c.test", "vip"));
    assert_eq!(told["added_headers"][0], "X-Sent-As: bulk");
    assert_eq!(told["removed_headers"][0], "X-Class");
    let limit = &told["recipients"][0]["options"][0];
    assert!(limit["option"] == "connection_limit" && limit["value"] == "4" && limit["by"] == "delivery", "{told}");

    let kept = fleet.path().join("kept");
    std::fs::create_dir(&kept).expect("made");
    let sink = sink(&fleet, Behaviour { keep: Some(kept.clone()), ..Behaviour::default() }).await;
    let rcpts: Vec<String> = to.iter().map(|to| format!("RCPT TO:<{to}>")).collect();
    let mut lines = vec!["EHLO x", "MAIL FROM:<s@mail.acme.test>"];
    lines.extend(rcpts.iter().map(String::as_str));
    lines.extend(["DATA", "X-Class: NEWS-7\r\nSubject: x\r\n\r\nbody\r\n.", "QUIT"]);
    let answers = smtp(fleet.smtp, &lines);
    assert!(answers[7].starts_with("250 "), "{answers:?}");
    for (n, to) in to.iter().enumerate() {
        let delivery = fleet.event("delivery", |event| {
            let there = event["recipients"].as_array().is_some_and(|all| all.iter().any(|one| one == to));
            event["type"] == "delivery" && there
        });
        assert_eq!(delivery["queue"].as_str(), Some(&*of(n).1));
        assert_eq!(delivery["source"] == "vip" || of(n).2 == "vip", of(n).2 == "vip", "{delivery}");
    }
    assert_eq!(sink.stats().received, 3);
    for file in std::fs::read_dir(kept).expect("readable").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("text");
        assert!(text.contains("\r\nX-Sent-As: bulk\r\n") && !text.contains("X-Class"), "{text}");
    }
}

#[test]
fn explain_is_readable_and_mistakes_are_told_with_their_place() {
    let fleet = fleet();
    let (good, told) = explain(&fleet, &["--from", "<>", "--to", "r@b.test", "--no-dns"]);
    let lines = ["r@b.test", "  rules     rest", "  tenant    others", "  queue     others@b.test", "  pool      main"];
    for line in lines.iter().chain(&["  source    plain (any address) directly: 1 of 1", "signed by: none"]) {
        assert!(good && told.contains(line), "{line:?} is missing in:\n{told}");
    }
    let (good, told) = explain(&fleet, &["--from", "nobody", "--to", "r@b.test"]);
    assert!(!good && told.contains("\"nobody\" is no address"), "{told}");
    let file = fleet.file("mta.toml");
    let text = std::fs::read_to_string(&file).expect("readable");
    for (from, to, says) in [
        (
            "set_pool = \"vip\"",
            "set_pool = \"vip2\"",
            "set_pool: names the pool \"vip2\", which is not in this file (did you mean \"vip\"? known: main, vip)",
        ),
        ("tenant = \"-\"", "tenant = \"/(/\"", "tenant: \"/(/\" is not a pattern: is no regular expression"),
        ("add_headers = [\"X-Sent-As: bulk\"]", "add_headers = [\"From: x\"]", "add_headers: holds \"From: x\""),
        ("stop = true", "stopp = true", "did you mean `stop`?"),
        (
            "sender = \"*.acme.test\"",
            "recipient = \"b.test\"",
            "recipient: stands beside add_headers or remove_headers",
        ),
    ] {
        std::fs::write(&file, text.replace(from, to)).expect("written");
        let (good, told) = explain(&fleet, &["--from", "<>", "--to", "r@b.test", "--no-dns"]);
        assert!(!good && told.contains("mta.toml:") && told.contains(says), "{says:?} is missing in:\n{told}");
    }
}
