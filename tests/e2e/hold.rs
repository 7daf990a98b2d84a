//! A sender has a message held (FUTURERELEASE): it waits, also over a restart, and then leaves.

use std::time::Duration;

use egret_shared::clock::{Clock, UnixMs};
use egret_tests::harness::{Fleet, Options};
use egret_tests::peer::sink::Behaviour;

use crate::support::{sink, smtp};

/// Longer than a restart takes, and than the age at which the mail of a test expires.
const HOLD: Duration = Duration::from_secs(8);

fn fleet(max_age: &str) -> Fleet {
    let queue = format!("[queue]\nretry_interval = \"1s\"\nmax_retry_interval = \"1s\"\nmax_age = \"{max_age}\"\n");
    let listener_keys = "max_future_release = \"1h\"".to_owned();
    Fleet::start(&Options { listener_keys, tables: queue, ..Options::default() })
}

/// Offers a message that is to be held; returns when that was.
fn offer(fleet: &Fleet) -> UnixMs {
    let mail = format!("MAIL FROM:<s@sender.example> HOLDFOR={}", HOLD.as_secs());
    let lines = ["EHLO c.example", &mail, "RCPT TO:<r@a.example>", "DATA", "Subject: later\r\n\r\nx\r\n.", "QUIT"];
    let before = Clock::system().wall();
    let answers = smtp(fleet.smtp, &lines);
    assert!(answers[2].starts_with("250 ") && answers[5].starts_with("250 "), "{answers:?}");
    before
}

/// Its first attempt works, and is not made before its time.
fn leaves_in_time(fleet: &Fleet, offered: UnixMs) {
    let end = fleet.event("the end", |event| event["type"] == "delivery" || event["type"] == "expiry");
    assert_eq!((&end["type"], &end["attempt"]), (&"delivery".into(), &1.into()), "{end}");
    let at = UnixMs(end["time_ms"].as_u64().expect("a time"));
    assert!(at.since(offered) + Duration::from_millis(500) >= HOLD, "delivered after {:?}", at.since(offered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_survives_a_restart() {
    // What it may wait counts from the end of the hold, also after the restart.
    let mut fleet = fleet("3s");
    let _destination = sink(&fleet, Behaviour::default()).await;
    let offered = offer(&fleet);
    fleet.restart_mta();
    leaves_in_time(&fleet, offered);
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_is_held_longer_than_it_may_wait_is_tried() {
    let fleet = fleet("3s");
    let _destination = sink(&fleet, Behaviour::default()).await;
    let offered = offer(&fleet);
    leaves_in_time(&fleet, offered);
}
