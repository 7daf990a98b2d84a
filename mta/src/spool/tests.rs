//! The spool's promises, over a disk that fails and loses power on cue, and over the real one.

mod crash;
mod regress;
mod sim;

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proptest::prelude::*;

use self::sim::{Call, Sim};
use super::*;
use crate::message::{Address, Content, MessageWish, Part, Priority, QueueName, Wishes};

/// A message of two parts whose body is `length` bytes that depend on `n`.
pub(super) fn message(n: u8, length: usize) -> Message {
    let part = |domain: &str| Part {
        queue: QueueName::of_domain(domain),
        pool: "p".into(),
        priority: Priority::Normal,
        recipients: vec![Address::parse(&format!("u@{domain}")).expect("an address")],
        wishes: Wishes::default(),
    };
    let meta = Metadata {
        received: UnixMs(u64::from(n)),
        sender: None,
        eight_bit: false,
        smtputf8: false,
        not_before: None,
        wish: MessageWish::default(),
        parts: vec![part("a.test"), part("b.test")],
    };
    let body: Vec<u8> = (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(n)).collect();
    let content = Content { added: Bytes::from_static(b"Received: x\r\n"), body: Bytes::from(body) };
    Message { id: MessageId::from_bytes([n; 16]), meta, content }
}

/// A message with an id of its own: there are more than 255 in some tests.
fn numbered(n: u16, length: usize) -> Arc<Message> {
    let [high, low] = n.to_be_bytes();
    let mut id = [0; 16];
    (id[0], id[1]) = (high, low);
    Arc::new(Message { id: MessageId::from_bytes(id), ..message(low, length) })
}

fn number(id: MessageId) -> u16 {
    u16::from_be_bytes([id.as_bytes()[0], id.as_bytes()[1]])
}

fn options(path: PathBuf) -> Options {
    let options = Options { segment_bytes: 4096, min_free_bytes: 0, body_cache_bytes: 0, ..Options::in_path(path) };
    Options { outline_after: std::time::Duration::ZERO, ..options }
}

fn open(disk: &Arc<Sim>) -> (Spool, Report, Vec<Recovered>) {
    open_with(disk, options(PathBuf::from("/spool")))
}

fn open_with(disk: &Arc<Sim>, options: Options) -> (Spool, Report, Vec<Recovered>) {
    let mut found = Vec::new();
    let opened = Spool::open_on(disk.clone(), options, Clock::system());
    let (spool, recovery) = opened.expect("opens");
    let report = recovery.run(|part| {
        found.push(part);
        ControlFlow::Continue(())
    });
    (spool, report.expect("recovers"), found)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn later(attempts: u16) -> Mark {
    Mark::Later { attempts, due: UnixMs(77), settled: vec![], moved: None }
}

/// What is open: message number, part, attempts.
fn open_parts(found: &[Recovered]) -> Vec<(u8, u16, u16)> {
    found.iter().map(|part| (part.id.as_bytes()[0], part.part, part.attempts)).collect()
}

#[test]
fn what_was_stored_is_there_after_a_restart_with_its_marks() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        for n in 1..=3 {
            assert_eq!(spool.store(Arc::new(message(n, 100))).await.expect("stored").id(), message(n, 0).id);
        }
        spool.mark(message(1, 0).id, 0, Mark::Done);
        spool.mark(message(1, 0).id, 1, Mark::Done);
        spool.mark(message(2, 0).id, 0, later(4));
        spool.mark(message(3, 0).id, 1, Mark::Done);
        spool.close().await;
        let (spool, report, found) = open(&disk);
        assert_eq!((report.messages, report.parts, report.damaged), (2, 3, vec![]));
        assert_eq!(open_parts(&found), [(2, 0, 4), (2, 1, 0), (3, 0, 0)]);
        assert_eq!(*spool.read(message(2, 0).id).await.expect("readable"), message(2, 100));
        assert!(matches!(spool.read(message(1, 0).id).await, Err(ReadError::Gone(_))));
    });
}

#[test]
fn a_flipped_bit_costs_one_record_and_is_told_with_its_place() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        for n in 1..=3 {
            let _stored = spool.store(Arc::new(message(n, 100))).await.expect("stored");
        }
        spool.close().await;
        let file = disk.only_segment();
        for at in [20, 30, 70, 200, 500] {
            disk.flip(&file, at);
            // With its outline, the damage would show when the message is read.
            disk.files(".idx").iter().for_each(|outline| disk.lose(outline));
            let (spool, report, found) = open(&disk);
            assert_eq!((report.messages, report.damaged.len()), (2, 1), "byte {at}: {:?}", report.damaged);
            assert!(report.damaged[0].offset <= at as u64);
            assert_eq!(found.len(), 4);
            spool.close().await;
            disk.flip(&file, at);
        }
    });
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        let _stored = spool.store(Arc::new(message(1, 100))).await.expect("stored");
        disk.break_down(Call::Write, ErrorKind::StorageFull);
        assert!(matches!(spool.store(Arc::new(message(2, 100))).await, Err(StoreError::Full { .. })));
        assert!(spool.health().is_err());
        spool.mark(message(1, 0).id, 0, Mark::Done);
        disk.heal();
        let _stored = spool.store(Arc::new(message(3, 100))).await.expect("stored");
        assert_eq!(spool.health(), Ok(()));
        spool.close().await;
        let (_, report, found) = open(&disk);
        assert_eq!((open_parts(&found), report.damaged), (vec![(1, 1, 0), (3, 0, 0), (3, 1, 0)], vec![]));
    });
}

#[test]
fn after_a_failed_sync_the_segment_is_given_up_and_what_was_refused_stays_away() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        let _stored = spool.store(Arc::new(message(1, 100))).await.expect("stored");
        disk.break_down(Call::Sync, ErrorKind::Other);
        assert!(matches!(spool.store(Arc::new(message(2, 100))).await, Err(StoreError::Io(_))));
        disk.heal();
        let _stored = spool.store(Arc::new(message(3, 100))).await.expect("stored in a new segment");
        spool.close().await;
        assert_eq!(disk.segments().len(), 2);
        let (_, _, found) = open(&disk);
        assert_eq!(open_parts(&found), [(1, 0, 0), (1, 1, 0), (3, 0, 0), (3, 1, 0)]);
    });
}

#[test]
fn room_is_won_back() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        for n in 1..=200 {
            let _stored = spool.store(Arc::new(message(n, 1000))).await.expect("stored");
            // Every tenth stays, so that no segment is ever empty by itself.
            for part in 0..2 {
                if n % 10 != 0 {
                    spool.mark(message(n, 0).id, part, Mark::Done);
                }
            }
        }
        spool.mark(message(10, 0).id, 0, later(3));
        let _stored = spool.store(Arc::new(message(201, 1000))).await.expect("stored");
        spool.close().await;
        let live: u64 = 21 * 1400;
        assert!(disk.bytes() <= 2 * live + 5 * (4096 + 1400), "{} bytes on the disk", disk.bytes());
        let (spool, report, found) = open(&disk);
        assert_eq!((report.messages, report.damaged), (21, vec![]));
        assert!(open_parts(&found).contains(&(10, 0, 3)), "the mark of a copied message is lost");
        for n in (10..=200).step_by(10) {
            assert_eq!(*spool.read(message(n, 0).id).await.expect("readable"), message(n, 1000));
        }
    });
}

#[test]
fn a_second_process_is_kept_out_and_a_foreign_file_is_set_aside() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spool");
    std::fs::create_dir(&path).expect("made");
    std::fs::write(path.join("0000000007.seg"), "something else entirely").expect("written");
    let open = || Spool::open(options(path.clone()), Clock::system());
    let (_first, recovery) = open().expect("opens");
    let report = recovery.run(|_| ControlFlow::Continue(())).expect("recovers");
    assert!(report.damaged[0].why.contains("quarantine/0000000007.seg"), "{:?}", report.damaged);
    assert!(matches!(open(), Err(OpenError::Locked { .. })));
}
