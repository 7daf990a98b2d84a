//! A full disk refuses new mail and keeps the old.

use egret_tests::harness::{Fleet, Options};
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::Plan;

use crate::support::{all_delivered, offer, send, sink};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_answers_452_and_what_was_accepted_is_delivered() {
    let mut fleet = Fleet::start(&Options::default());
    // Nobody takes the mail yet.
    let summary = send(&fleet, Plan { size: 1_000, ..Plan::new(fleet.smtp, 20) }).await;
    assert_eq!(summary.accepted, 20);
    let config = std::fs::read_to_string(fleet.file("mta.toml")).expect("readable");
    std::fs::write(fleet.file("mta.toml"), config.replace("min_free = \"1MiB\"", "min_free = \"1000TiB\""))
        .expect("written");
    fleet.restart_mta();
    let answer = offer(fleet.smtp, "s@good.example", "r@good.example");
    assert!(answer.starts_with("452 4.3.1 "), "{answer}");
    let sink = sink(&fleet, Behaviour::default()).await;
    let found = all_delivered(&fleet, &sink);
    assert_eq!((found.accepted, found.duplicated), (20, 0));
}
