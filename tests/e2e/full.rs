//! A full disk refuses new mail and keeps the old.

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::source::Plan;

use crate::mount::fleet_on_small_disk;
use crate::support::{all_delivered, offer, readiness, send, sink, verify};

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

fn small_segments(min_free: &str) -> Options {
    let tables = format!("[spool]\npath = \"PATH/spool\"\nsegment_size = \"1MiB\"\nmin_free = \"{min_free}\"\n");
    Options { tables, ..Options::default() }
}

/// Waits until mail is taken again.
fn taken_again(fleet: &Fleet) {
    eventually("acceptance", || match offer(fleet.smtp, "s@good.example", "r@good.example") {
        answer if answer.starts_with("250 ") => Ok(()),
        answer => Err(format!("{answer}\n{}", fleet.mta.log())),
    });
    readiness(fleet, 200);
}

/// Everything is done, and the disk knows it.
fn nothing_is_left(fleet: &mut Fleet, sink: &Sink) {
    eventually("delivery of the offers", || if sink.stats().unidentified > 0 { Ok(()) } else { Err(fleet.mta.log()) });
    assert!(fleet.mta.terminate().success());
    let (left, told) = verify(fleet);
    assert_eq!(left, 0, "{told}\n{}", fleet.mta.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_runs_full_refuses_before_anything_breaks_and_recovers_by_itself() {
    let Some((mut fleet, disk)) = fleet_on_small_disk("24m", &small_segments("8MiB")) else { return };
    // Nobody takes the mail yet, and there is more of it than fits. Free space is asked once a second.
    let rate = Some(600.0);
    let summary = send(&fleet, Plan { concurrency: 20, rate, ..Plan::new(fleet.smtp, 3_000) }).await;
    assert_eq!((summary.failed, summary.accepted + summary.refused), (0, 3_000));
    assert!(summary.accepted > 500 && summary.refused > 100, "{summary:?}");
    let answer = offer(fleet.smtp, "s@good.example", "r@good.example");
    assert!(answer.starts_with("452 4.3.1 "), "{answer}");
    assert!(disk.free() > 0, "it was filled up to the last byte");
    assert!(readiness(&fleet, 503).contains("no room"));
    assert!(!fleet.mta.log().contains("nothing could be written"), "{}", fleet.mta.log());
    let sink = sink(&fleet, Behaviour::default()).await;
    let found = all_delivered(&fleet, &sink);
    assert_eq!((found.accepted as u64, found.duplicated), (summary.accepted, 0));
    // What is delivered makes room.
    taken_again(&fleet);
    nothing_is_left(&mut fleet, &sink);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_byte_nothing_is_lost_and_the_mta_starts() {
    let Some((mut fleet, disk)) = fleet_on_small_disk("24m", &small_segments("1MiB")) else { return };
    let plan = Plan { concurrency: 20, ..Plan::new(fleet.smtp, 600) };
    assert_eq!(send(&fleet, plan).await.accepted, 600);
    disk.fill();
    // A block that was begun may still take a few.
    let refused = |fleet: &Fleet| {
        eventually("a refusal", || match offer(fleet.smtp, "s@good.example", "r@good.example") {
            answer if answer.starts_with("452 4.3.1 ") => Ok(()),
            answer => Err(answer),
        });
    };
    refused(&fleet);
    fleet.restart_mta();
    refused(&fleet);
    let sink = sink(&fleet, Behaviour::default()).await;
    let found = all_delivered(&fleet, &sink);
    assert_eq!((found.accepted, found.duplicated), (600, 0));
    // Marks may have had no place: what they are about is sent again after a crash, once.
    fleet.restart_mta();
    refused(&fleet);
    disk.make_room();
    taken_again(&fleet);
    nothing_is_left(&mut fleet, &sink);
    let found = all_delivered(&fleet, &sink);
    assert!(found.duplicated <= 600, "{found:?}");
}
