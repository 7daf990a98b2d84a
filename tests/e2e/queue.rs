//! An operator's orders to a running MTA, by its command line.

use std::process::Command;

use egret_tests::harness::{Fleet, Options, binary, eventually};
use egret_tests::peer::sink::Behaviour;
use serde_json::Value;

use crate::support::{offer, sink};

/// Runs `egret-mta queue …` against the fleet; exit code, standard output, standard error.
fn queue(fleet: &Fleet, arguments: &[&str]) -> (Option<i32>, String, String) {
    let admin = fleet.mta_admin.to_string();
    let output = Command::new(binary("egret-mta")).arg("queue").args(arguments).args(["--admin", &admin]).output();
    let output = output.expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What `egret-mta why` prints, on either stream.
fn asked_why(fleet: &Fleet, about: &[&str]) -> String {
    let mut command = Command::new(binary("egret-mta"));
    let output = command.arg("why").args(about).args(["--admin", &fleet.mta_admin.to_string()]).output();
    let output = output.expect("runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A command that must work, with its JSON.
fn asked(fleet: &Fleet, arguments: &[&str]) -> Value {
    let (code, out, why) = queue(fleet, &[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {out}{why}\n{}", fleet.mta.log());
    serde_json::from_str(&out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_suspended_over_a_restart_moved_bounced_and_sent_on() {
    let mut fleet = Fleet::start(&Options::default());
    let given = asked(&fleet, &["suspend", "--domain", "A.example", "--reason", "listed there", "--for", "1h"]);
    let id = given["id"].as_str().expect("an id").to_owned();
    let destination = sink(&fleet, Behaviour::default()).await;
    let stays = offer(fleet.smtp, "s@sender.example", "r@a.example");
    let stays = stays.rsplit(' ').next().expect("an id").to_owned();
    offer(fleet.smtp, "s@sender.example", "r@b.example");
    let is_delivery = |event: &Value, to: &str| event["type"] == "delivery" && event["recipients"][0] == to;
    fleet.event("the other domain's delivery", |event| is_delivery(event, "r@b.example"));

    fleet.restart_mta();
    let shown = eventually("the spool to be read", || {
        let (code, out, why) = queue(&fleet, &["show", &stays, "--json"]);
        let shown: Value = serde_json::from_str(&out).unwrap_or_default();
        // Before it is, nobody says that the message is gone.
        assert!(code == Some(0) || why.contains("ask again in a moment"), "{why}");
        if shown["queued"].as_array().is_some_and(|parts| !parts.is_empty()) { Ok(shown) } else { Err(why) }
    });
    let why = shown["queued"][0]["waits_for"][0].as_str().unwrap_or_default();
    assert!(why.contains("listed there") && shown["queued"][0]["attempts"] == 0, "{shown}");
    let (code, table, _) = queue(&fleet, &["list", "--domain", "a.example"]);
    assert!(code == Some(0) && table.contains("@a.example") && table.contains(&id), "{table}");
    for about in [["--message", &stays], ["--domain", "a.example"]] {
        let told = asked_why(&fleet, &about);
        assert!(told.contains("1. suspension, by the operator, for ") && told.contains("listed there"), "{told}");
        assert!(told.contains("can go: at "), "{told}");
    }
    assert!(asked_why(&fleet, &["--source", "direct"]).contains("nothing blocks it"));
    let (_, content, _) = queue(&fleet, &["show", &stays, "--content"]);
    assert!(content.starts_with("Received: ") && content.contains("hello"), "{content}");

    let job = asked(&fleet, &["rebind", "--domain", "a.example", "--to-domain", "c.example", "--wait"]);
    assert!(job["done"] == 1 && job["running"] == false, "{job}");
    fleet.event("delivery of what was moved out of the suspension", |event| is_delivery(event, "r@a.example"));

    offer(fleet.smtp, "", "cancelled@a.example");
    let (code, told, _) = queue(&fleet, &["bounce", "--queue", "@a.example", "--reason", "cancelled", "--wait"]);
    assert!(code == Some(0) && told.starts_with("bounce: 1 of 1 parts"), "{told}");
    let event = fleet.event("the bounce", |event| event["type"] == "bounce");
    assert!(event["response"]["code"] == 554 && event["response"]["text"] == "cancelled", "{event}");

    offer(fleet.smtp, "s@sender.example", "again@a.example");
    let (code, told, _) = queue(&fleet, &["resume", &id]);
    assert!(code == Some(0) && told.starts_with(&format!("ended: suspend {id}")), "{told}");
    fleet.event("delivery of what was suspended", |event| is_delivery(event, "again@a.example"));
    eventually("an empty queue", || match asked(&fleet, &["summary"])["held"].as_u64() {
        Some(0) => Ok(()),
        held => Err(format!("{held:?}\n{}", fleet.mta.log())),
    });
    drop(destination);
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let mut fleet = Fleet::start(&Options::default());
    assert!(asked_why(&fleet, &["--source", "nowhere"]).contains("no pool has a source \"nowhere\""));
    assert!(asked_why(&fleet, &["--domain", "a.example"]).contains("nothing of it is queued"));
    assert!(asked_why(&fleet, &[]).contains("ask about one thing"));
    for (arguments, says) in [
        (&["suspend"][..], "--everything"),
        (&["rebind", "--everything", "--to-pool", "nowhere"], "there is no pool \"nowhere\""),
        (&["show", "0123456789abcdef0123456789abcdef"], "is not in the spool"),
        (&["resume", "f00"], "there is no control f00"),
    ] {
        let (code, _, why) = queue(&fleet, arguments);
        assert!(code == Some(1) && why.contains(says), "{arguments:?}: {why}");
    }
    assert!(fleet.mta.terminate().success());
    let (code, _, why) = queue(&fleet, &["list"]);
    assert!(code == Some(1) && why.contains("does it run"), "{why}");
}
