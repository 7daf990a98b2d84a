//! Damage in many places of a stopped spool: each is told with its file, and everything else is served.
//! Places are found by what stands there, not by offsets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::ledger::compare;
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::Plan;
use memchr::memmem;

use crate::support::{offer, send, sink, verify};

/// Messages that wait, each for a domain of its own.
const WAITING: usize = 400;
/// Messages that were delivered before.
const DONE: u64 = 10;
const DONE_DOMAIN: &str = "done.example";

/// Files of the spool with this ending, the oldest first.
fn files(fleet: &Fleet, ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(fleet.file("spool")).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut all: Vec<_> = all.filter(|path| path.extension().is_some_and(|is| is == ending)).collect();
    all.sort();
    all
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

/// Flips the bits of a byte of the `nth` place in `path` where `what` stands.
fn flip(path: &Path, what: &[u8], nth: usize) {
    let mut bytes = std::fs::read(path).expect("readable");
    let place = memmem::find_iter(&bytes, what).nth(nth);
    let at = place.unwrap_or_else(|| panic!("{what:?} does not stand {nth} times in {}", path.display()));
    bytes[at + what.len() / 2] ^= 0xFF;
    std::fs::write(path, bytes).expect("written");
}

/// The load's messages whose content stands in `path`.
fn messages_in(path: &Path) -> Vec<usize> {
    let bytes = std::fs::read(path).expect("readable");
    (0..WAITING).filter(|n| memmem::find(&bytes, subject(*n).as_bytes()).is_some()).collect()
}

fn subject(number: usize) -> String {
    format!("Subject: load {number}\r\n")
}

/// The sixteen bytes of the id of the message for `recipient`, from its event.
fn id_of(fleet: &Fleet, recipient: &str) -> Vec<u8> {
    let event = fleet.event("the reception", |e| e["type"] == "reception" && e["recipients"][0] == recipient);
    let hex = event["id"].as_str().expect("an id");
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// A stopped fleet: some mail is done, four segments of mail wait.
async fn stopped_fleet() -> Fleet {
    let tables = "[spool]\npath = \"PATH/spool\"\nsegment_size = \"1MiB\"\nmin_free = \"1MiB\"\n".to_owned();
    let mut fleet = Fleet::start(&Options { tables, ..Options::default() });
    let first = sink(&fleet, Behaviour::default()).await;
    for n in 0..DONE {
        assert!(offer(fleet.smtp, "s@good.example", &format!("u{n}@{DONE_DOMAIN}")).starts_with("250 "));
    }
    fleet.event("the last delivery", |_| first.stats().received == DONE);
    drop(first);
    let plan = Plan { domains: WAITING, ..Plan::new(fleet.smtp, WAITING) };
    assert_eq!(send(&fleet, plan).await.accepted, WAITING as u64);
    assert!(fleet.mta.terminate().success());
    fleet
}

/// What was damaged.
struct Damaged {
    /// Messages of the load that cannot be there any more.
    lost: BTreeSet<usize>,
    /// Files that hold damage, with how many places.
    files: Vec<(String, usize)>,
}

/// Damages everything that the story is about.
fn damage(fleet: &Fleet) -> Damaged {
    let segments = files(fleet, "seg");
    assert!(segments.len() >= 4, "{segments:?}");
    let in_first = messages_in(&segments[0]);
    let [by_header, by_meta, by_body] = [in_first[5], in_first[25], in_first[45]];
    let id = id_of(fleet, &format!("u0@d{by_header}.example"));
    flip(&segments[0], &id, 0);
    flip(&segments[0], format!("u0@d{by_meta}.example").as_bytes(), 0);
    flip(&segments[0], subject(by_body).as_bytes(), 0);
    // The first time in its record, the second time in its mark.
    flip(&segments[0], &id_of(fleet, &format!("u3@{DONE_DOMAIN}")), 1);
    flip(&segments[1], b"egret spool", 0);
    let mut lost = BTreeSet::from([by_header, by_meta, by_body]);
    lost.extend(messages_in(&segments[2]));
    std::fs::remove_file(&segments[2]).expect("removed");
    let unknown = fleet.file("spool/0000000777.seg");
    std::fs::write(&unknown, [b"egret spool v9\r\n", &[7; 4096][..]].concat()).expect("written");
    let names = [(&segments[0], 4), (&segments[1], 1), (&unknown, 1)];
    Damaged { lost, files: names.map(|(path, places)| (name(path).to_owned(), places)).into() }
}

/// Which messages of the load have arrived.
fn arrived(fleet: &Fleet) -> BTreeSet<usize> {
    let seen = std::fs::read_to_string(fleet.file("seen")).expect("a ledger");
    let number = |line: &str| line.split(' ').next()?.strip_prefix("m-")?.parse().ok();
    seen.lines().filter_map(number).collect()
}

/// Starts the damaged spool and waits until all that is left of it was delivered.
async fn serves_the_rest(fleet: &mut Fleet, lost: &BTreeSet<usize>) -> u64 {
    let sink = sink(fleet, Behaviour::default()).await;
    fleet.restart_mta();
    let left: BTreeSet<usize> = (0..WAITING).filter(|n| !lost.contains(n)).collect();
    eventually("delivery of the rest", || {
        sink.flush().expect("written");
        match arrived(fleet) {
            all if all == left => Ok(()),
            all => Err(format!("{} of {} arrived\n{}", all.len(), left.len(), fleet.mta.log())),
        }
    });
    assert!(fleet.mta.terminate().success());
    sink.flush().expect("written");
    let found = compare(&fleet.file("offered"), &fleet.file("seen")).expect("ledgers");
    assert_eq!((found.lost, found.duplicated), (lost.len(), 0), "{found:?}");
    assert!(fleet.file("spool/quarantine/0000000777.seg").exists(), "{}", fleet.mta.log());
    sink.stats().by_domain.get(DONE_DOMAIN).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_everywhere_is_told_and_the_rest_is_served() {
    let mut fleet = stopped_fleet().await;
    assert_eq!(verify(&fleet).0, WAITING as u64);
    let Damaged { lost, files: damaged } = damage(&fleet);
    // What stands beside the segments to make the start fast is damaged too: it must not be trusted.
    for index in files(&fleet, "idx") {
        let mut bytes = std::fs::read(&index).expect("readable");
        let middle = bytes.len() / 2;
        for at in [20, middle] {
            bytes[at] ^= 0xFF;
        }
        std::fs::write(&index, bytes).expect("written");
    }
    let (good, told) = verify(&fleet);
    for (name, places) in &damaged {
        let lines = told.lines().filter(|line| line.contains(&format!("{name}: byte "))).count();
        assert_eq!(lines, *places, "{name}: {told}");
    }
    // The mark of one that was done is gone.
    assert_eq!(good, (WAITING - lost.len() + 1) as u64, "{told}");
    let again = serves_the_rest(&mut fleet, &lost).await;
    assert_eq!(again, 1, "the one without its mark is sent again, and no other");
    let log = fleet.mta.log();
    for (name, _) in &damaged {
        assert!(log.lines().any(|line| line.contains("spool damage") && line.contains(name)), "{name}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_behind_a_sound_index_costs_no_other_message() {
    let mut fleet = stopped_fleet().await;
    let Damaged { lost, .. } = damage(&fleet);
    let again = serves_the_rest(&mut fleet, &lost).await;
    // Whether the index remembers the mark that is damaged in the segment is the index's affair.
    assert!(again <= 1, "{again} were sent again");
}
