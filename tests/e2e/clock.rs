//! The wall clock jumps while mail waits: nothing expires, nothing is lost. Skipped, with a message, where
//! Debian's libfaketime is not installed.

use std::path::PathBuf;

use egret_shared::clock::Clock;
use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::Plan;

use crate::support::{all_delivered, get, offer, send, sink};

const COUNT: usize = 2_000;
/// Jumps of the clock against the true time, in seconds.
const JUMPS: [i64; 4] = [3_600, -3_600, 10 * YEAR, -10 * YEAR];
const YEAR: i64 = 365 * 86_400;

/// The library that moves the clock of a process with several threads.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let found = folders.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: libfaketime is not installed");
    }
    found
}

/// A clock for the MTA that is read from a file.
struct WallClock {
    directory: tempfile::TempDir,
}

impl WallClock {
    fn new() -> Self {
        let clock = Self { directory: tempfile::tempdir().expect("a directory") };
        clock.jump(0);
        clock
    }

    /// From now on it is wrong by so many seconds.
    fn jump(&self, seconds: i64) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("written");
        std::fs::rename(new, self.directory.path().join("clock")).expect("renamed");
    }

    fn environment(&self, library: PathBuf) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.into_os_string().into_string().expect("UTF-8");
        vec![
            ("LD_PRELOAD", text(library)),
            ("FAKETIME_TIMESTAMP_FILE", text(self.directory.path().join("clock"))),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

/// How many seconds the MTA's wall clock is wrong: from the event of a message that it is given now.
fn offset(fleet: &Fleet, name: &str) -> i64 {
    let recipient = format!("{name}@jump.example");
    assert!(offer(fleet.smtp, "s@good.example", &recipient).starts_with("250 "));
    let event = fleet.event("the reception", |e| e["type"] == "reception" && e["recipients"][0] == *recipient);
    let told = event["time_ms"].as_i64().expect("a time");
    (told - Clock::system().wall().0.cast_signed()) / 1_000
}

/// Parts in the queues.
fn parts(fleet: &Fleet) -> usize {
    let (_, metrics) = get(fleet.mta_admin, "/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix("egret_mta_queue_parts "));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count: {metrics}"))
}

fn attempts(fleet: &Fleet) -> usize {
    fleet.events().iter().filter(|event| event["type"] == "transient_failure").count()
}

fn nothing_waits(fleet: &Fleet) {
    eventually("an empty queue", || match parts(fleet) {
        0 => Ok(()),
        n => Err(format!("{n} parts\n{}", fleet.mta.log())),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn jumps_of_the_wall_clock_expire_and_lose_nothing_that_waits() {
    let Some(library) = faketime() else { return };
    let clock = WallClock::new();
    let fleet = Fleet::start(&Options { environment: clock.environment(library), ..Options::default() });
    let later = (0..100).map(|n| (format!("d{n}.example"), 451)).collect();
    let busy = sink(&fleet, Behaviour { fail_domains: later, ..Behaviour::default() }).await;
    assert_eq!(send(&fleet, Plan { size: 1_000, ..Plan::new(fleet.smtp, COUNT) }).await.accepted, COUNT as u64);
    for seconds in JUMPS {
        clock.jump(seconds);
        let wrong = offset(&fleet, &format!("by{seconds}"));
        assert!((wrong - seconds).abs() < 60, "the clock is wrong by {wrong} s instead of {seconds} s");
        let before = attempts(&fleet);
        fleet.event("more attempts", |_| attempts(&fleet) > before + 100);
        assert!(parts(&fleet) >= COUNT, "{}", fleet.mta.log());
    }
    drop(busy);
    let sink = sink(&fleet, Behaviour::default()).await;
    let found = all_delivered(&fleet, &sink);
    assert_eq!((found.accepted, found.duplicated), (COUNT, 0));
    nothing_waits(&fleet);
    let of_load = |event: &serde_json::Value| event["sender"] == "source@load.example" && event["type"] == "expiry";
    let expired: Vec<_> = fleet.events().into_iter().filter(of_load).collect();
    assert!(expired.is_empty(), "{expired:?}");
}
