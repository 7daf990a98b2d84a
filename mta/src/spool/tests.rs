//! The spool's promises, over a disk that fails and loses power on cue, and over the real one.

mod disk;
mod regress;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proptest::prelude::*;

use self::disk::{FaultyDisk, Trouble};
use super::*;
use crate::message::{Address, Content, Part, QueueName};

/// A message of two parts whose body is `length` bytes that depend on `n`.
pub(super) fn message(n: u8, length: usize) -> Message {
    let part = |domain: &str| Part {
        queue: QueueName::of_domain(domain),
        pool: "p".into(),
        recipients: vec![Address::parse(&format!("u@{domain}")).expect("an address")],
    };
    let meta = Metadata {
        received: UnixMs(u64::from(n)),
        sender: None,
        eight_bit: false,
        smtputf8: false,
        not_before: None,
        parts: vec![part("a.test"), part("b.test")],
    };
    let body: Vec<u8> = (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(n)).collect();
    let content = Content { added: Bytes::from_static(b"Received: x\r\n"), body: Bytes::from(body) };
    Message { id: MessageId::from_bytes([n; 16]), meta, content }
}

fn options(path: PathBuf) -> Options {
    Options { segment_bytes: 4096, min_free_bytes: 0, body_cache_bytes: 0, ..Options::in_path(path) }
}

fn open(disk: &Arc<FaultyDisk>) -> (Spool, Report, Vec<Recovered>) {
    let mut found = Vec::new();
    let path = PathBuf::from("/spool");
    let opened = Spool::open_on(disk.clone(), options(path), Clock::system(), |part| found.push(part));
    let (spool, report) = opened.expect("opens");
    (spool, report, found)
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
    let disk = Arc::new(FaultyDisk::default());
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
    let disk = Arc::new(FaultyDisk::default());
    block_on(async {
        let (spool, ..) = open(&disk);
        for n in 1..=3 {
            let _stored = spool.store(Arc::new(message(n, 100))).await.expect("stored");
        }
        spool.close().await;
        let file = disk.only_segment();
        for at in [20, 30, 70, 200, 500] {
            disk.flip(&file, at);
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
    let disk = Arc::new(FaultyDisk::default());
    block_on(async {
        let (spool, ..) = open(&disk);
        let _stored = spool.store(Arc::new(message(1, 100))).await.expect("stored");
        disk.set(Trouble::NoRoom);
        assert!(matches!(spool.store(Arc::new(message(2, 100))).await, Err(StoreError::Full { .. })));
        assert!(spool.health().is_err());
        spool.mark(message(1, 0).id, 0, Mark::Done);
        disk.set(Trouble::None);
        let _stored = spool.store(Arc::new(message(3, 100))).await.expect("stored");
        assert_eq!(spool.health(), Ok(()));
        spool.close().await;
        let (_, report, found) = open(&disk);
        assert_eq!((open_parts(&found), report.damaged), (vec![(1, 1, 0), (3, 0, 0), (3, 1, 0)], vec![]));
    });
}

#[test]
fn after_a_failed_sync_the_segment_is_given_up_and_what_was_refused_stays_away() {
    let disk = Arc::new(FaultyDisk::default());
    block_on(async {
        let (spool, ..) = open(&disk);
        let _stored = spool.store(Arc::new(message(1, 100))).await.expect("stored");
        disk.set(Trouble::SyncFails);
        assert!(matches!(spool.store(Arc::new(message(2, 100))).await, Err(StoreError::Io(_))));
        disk.set(Trouble::None);
        let _stored = spool.store(Arc::new(message(3, 100))).await.expect("stored in a new segment");
        spool.close().await;
        assert_eq!(disk.segments().len(), 2);
        let (_, _, found) = open(&disk);
        assert_eq!(open_parts(&found), [(1, 0, 0), (1, 1, 0), (3, 0, 0), (3, 1, 0)]);
    });
}

#[test]
fn room_is_won_back() {
    let disk = Arc::new(FaultyDisk::default());
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
    let open = || Spool::open(options(path.clone()), Clock::system(), |_| {});
    let (_first, report) = open().expect("opens");
    assert!(report.damaged[0].why.contains("quarantine/0000000007.seg"), "{:?}", report.damaged);
    assert!(matches!(open(), Err(OpenError::Locked { .. })));
}

#[derive(Clone, Debug)]
enum Step {
    Store(usize),
    Mark(u8, u16, bool),
    Trouble(Trouble),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3000).prop_map(Step::Store),
        4 => (1u8..40, 0u16..2, any::<bool>()).prop_map(|(n, part, done)| Step::Mark(n, part, done)),
        1 => prop_oneof![Just(Trouble::None), Just(Trouble::NoRoom), Just(Trouble::SyncFails), Just(Trouble::WriteFails)]
            .prop_map(Step::Trouble),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever fails, and wherever the power is cut: what was acknowledged and not done is there, byte
    /// for byte; what was never offered is not; nothing panics.
    #[test]
    fn nothing_acknowledged_is_lost(steps in prop::collection::vec(step(), 1..40), cut in 0u64..60, tear: u64) {
        let disk = Arc::new(FaultyDisk::default());
        disk.cut_after.store(cut, Ordering::SeqCst);
        let (mut acknowledged, mut marked, mut offered) = (Vec::new(), Vec::new(), 0u8);
        block_on(async {
            let (spool, ..) = open(&disk);
            for step in &steps {
                match step {
                    Step::Store(length) => {
                        offered += 1;
                        let stored = spool.store(Arc::new(message(offered, *length))).await;
                        if stored.is_ok() && !disk.is_cut() {
                            acknowledged.push((offered, *length));
                        }
                    }
                    Step::Mark(n, part, done) => {
                        marked.push((*n, *part));
                        spool.mark(message(*n, 0).id, *part, if *done { Mark::Done } else { later(1) });
                    }
                    Step::Trouble(trouble) => disk.set(*trouble),
                }
            }
            // Half of the runs end in good order, the others with the power.
            if cut < 30 { spool.close().await; }
        });
        let after = Arc::new(disk.after_power_cut(tear));
        block_on(async {
            let (spool, _, found) = open(&after);
            for (n, length) in acknowledged {
                for part in (0..2).filter(|part| !marked.contains(&(n, *part))) {
                    let there = found.iter().any(|f| f.id == message(n, 0).id && f.part == part);
                    prop_assert!(there, "part {part} of message {n} is lost");
                    prop_assert_eq!(&*spool.read(message(n, 0).id).await.expect("readable"), &message(n, length));
                }
            }
            for part in &found {
                prop_assert!(part.id.as_bytes()[0] <= offered, "{:?} was never offered", part);
            }
            spool.close().await;
            Ok(())
        })?;
    }
}
