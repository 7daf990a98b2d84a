//! Memory over its limits: mail is refused for now, deliveries go on, and nothing is lost.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};

use egret_tests::harness::{Fleet, Options};
use egret_tests::peer::sink::Behaviour;

use crate::support::{get, offer, readiness, sink, smtp};

const SOFT: &str = "[memory]\nsoft_limit = \"1MiB\"\nhard_limit = \"none\"\n";
const HARD: &str = "[memory]\nsoft_limit = \"1MiB\"\nhard_limit = \"2MiB\"\n";

/// The first line that a client gets, and what follows it.
fn banner(address: SocketAddr) -> (String, usize) {
    let mut reader = BufReader::new(TcpStream::connect(address).expect("connects"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("readable");
    let more = reader.read_line(&mut String::new()).unwrap_or(0);
    (line, more)
}

/// Replaces one piece of mta.toml.
fn change(fleet: &Fleet, from: &str, to: &str) {
    let file = fleet.file("mta.toml");
    let text = std::fs::read_to_string(&file).expect("readable");
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).expect("written");
}

#[test]
fn over_the_soft_limit_new_mail_is_refused_for_now() {
    let fleet = Fleet::start(&Options { tables: SOFT.to_owned(), ..Options::default() });
    let told = readiness(&fleet, 503);
    assert!(told.contains("failed memory: ") && told.contains("memory.soft_limit is 1MiB"), "{told}");
    let answers = smtp(fleet.smtp, &["EHLO c.example", "MAIL FROM:<s@sender.example>", "QUIT"]);
    assert!(answers[2].starts_with("452 4.3.1 "), "{answers:?}");
    let (_, metrics) = get(fleet.mta_admin, "/metrics");
    assert!(metrics.contains("\negret_mta_memory_level 1\n"), "{metrics}");
    assert!(metrics.contains("\negret_mta_memory_soft_limit_bytes 1048576\n"), "{metrics}");
    assert!(fleet.mta.log().contains("memory is over its soft limit"), "{}", fleet.mta.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_hard_limit_clients_are_turned_away_and_what_waits_still_leaves() {
    let mut fleet = Fleet::start(&Options { tables: "[memory]\n".to_owned(), ..Options::default() });
    readiness(&fleet, 200);
    assert!(offer(fleet.smtp, "s@sender.example", "before@a.example").starts_with("250 "));
    change(&fleet, "[memory]\n", HARD);
    fleet.restart_mta();
    let told = readiness(&fleet, 503);
    assert!(told.contains("memory.hard_limit is 2MiB"), "{told}");
    let (line, more) = banner(fleet.smtp);
    assert!(line.starts_with("421 4.3.2 ") && more == 0, "{line}");
    let _destination = sink(&fleet, Behaviour::default()).await;
    fleet.event("the delivery of what waited", |event| {
        event["type"] == "delivery" && event["recipients"][0] == "before@a.example"
    });
    change(&fleet, HARD, "[memory]\n");
    fleet.restart_mta();
    readiness(&fleet, 200);
    assert!(offer(fleet.smtp, "s@sender.example", "after@a.example").starts_with("250 "));
}
