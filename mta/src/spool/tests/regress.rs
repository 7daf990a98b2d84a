//! Faults that were found by reading, each with the test that shows it.

use super::super::record::message_head;
use super::*;

#[test]
fn what_is_done_stays_done_when_its_copies_outlive_each_other() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        let store = async |n, length| drop(spool.store(numbered(n, length)).await.expect("stored"));
        let done = |n| (0..2).for_each(|part| spool.mark(numbered(n, 0).id, part, Mark::Done));
        // Thirty messages fill the first segments and stay.
        for n in 1..=30 {
            store(n, 1100).await;
        }
        // Then each segment keeps one small message; that of the first has a mark about segment 1, too.
        spool.mark(numbered(1, 0).id, 0, later(1));
        for n in 101..=140 {
            store(n, if n == 101 { 1 } else { 10 }).await;
            for passing in (n * 10)..(n * 10 + 4) {
                store(passing, 1100).await;
                done(passing);
            }
        }
        (101..=140).for_each(done);
        for passing in 2000..=2050 {
            store(passing, 1100).await;
            done(passing);
        }
        store(31, 10).await;
        spool.close().await;
        let (_, _, found) = open(&disk);
        let mut ids: Vec<_> = found.iter().map(|part| number(part.id)).collect();
        ids.dedup();
        assert_eq!(ids, (1..=31).collect::<Vec<_>>());
    });
}

#[test]
fn one_sector_that_cannot_be_read_does_not_stop_the_start() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        for (n, length) in [(1, 1000), (2, 9000), (3, 1000)] {
            let _stored = spool.store(Arc::new(message(n, length))).await.expect("stored");
        }
        spool.close().await;
        let first = disk.segments()[0].clone();
        disk.files(".idx").iter().for_each(|outline| disk.lose(outline));
        disk.spoil(&first, 6000);
        let (spool, report, found) = open(&disk);
        assert_eq!(open_parts(&found), [(1, 0, 0), (1, 1, 0), (3, 0, 0), (3, 1, 0)]);
        let told =
            |damage: &Damage| damage.file == first && damage.offset == 4096 && damage.why.contains("cannot read it");
        assert!(report.damaged.iter().any(told), "{report:?}");
        assert_eq!(*spool.read(message(1, 0).id).await.expect("readable"), message(1, 1000));
        spool.close().await;
    });
}

#[test]
fn damaged_first_bytes_of_a_segment_cost_no_message() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        let _stored = spool.store(Arc::new(message(1, 100))).await.expect("stored");
        spool.close().await;
        disk.flip(&disk.only_segment(), 3);
        disk.files(".idx").iter().for_each(|outline| disk.lose(outline));
        let (_, report, found) = open(&disk);
        assert_eq!(open_parts(&found), [(1, 0, 0), (1, 1, 0)]);
        assert!(matches!(&report.damaged[..], [damage] if damage.offset == 0), "{report:?}");
    });
}

#[test]
fn a_pipe_a_link_and_a_directory_with_a_segments_name_are_set_aside() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spool");
    std::fs::create_dir_all(path.join("0000000003.seg")).expect("made");
    std::os::unix::fs::symlink("/dev/zero", path.join("0000000004.seg")).expect("linked");
    nix::unistd::mkfifo(&path.join("0000000005.seg"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    // One that was set aside before under the same name is not overwritten.
    std::fs::create_dir(path.join("quarantine")).expect("made");
    std::fs::write(path.join("quarantine/0000000006.seg"), "the first").expect("written");
    std::fs::write(path.join("0000000006.seg"), "the second, which is no segment").expect("written");
    let (_spool, recovery) = Spool::open(options(path.clone()), Clock::system()).expect("opens");
    let report = recovery.run(|_| ControlFlow::Continue(())).expect("recovers");
    assert_eq!(report.damaged.len(), 4, "{report:?}");
    assert_eq!(std::fs::read_to_string(path.join("quarantine/0000000006.seg")).expect("kept"), "the first");
    assert!(path.join("quarantine/0000000006.seg.1").exists());
    assert!(std::fs::symlink_metadata(path.join("quarantine/0000000004.seg")).expect("moved").is_symlink());
}

#[test]
fn names_that_come_back_after_a_power_cut_bring_no_message_back() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        let store = async |n: u8| drop(spool.store(Arc::new(message(n, 1100))).await.expect("stored"));
        let done = |n: u8| (0..2).for_each(|part| spool.mark(message(n, 0).id, part, Mark::Done));
        store(1).await;
        let mut next = 2;
        // Segment 2 holds marks about segment 1, and nothing that lives.
        while disk.segments().len() < 3 {
            store(next).await;
            done(next);
            next += 1;
        }
        store(next).await;
        // Now the last of segment 1 is done, and both segments go.
        done(1);
        store(next + 1).await;
        spool.close().await;
        assert_eq!(disk.unsynced_removals_at_once(), 1, "removals that one power cut may take back in any order");
    });
}

#[test]
fn a_recovered_tail_is_synced_before_it_counts() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        let _stored = spool.store(Arc::new(message(1, 10))).await.expect("stored");
        spool.close().await;
        // A killed program wrote it and did not sync: it is in the system's memory only.
        let mut tail = message_head(&message(2, 30));
        tail.extend_from_slice(&message(2, 30).content.added);
        tail.extend_from_slice(&message(2, 30).content.body);
        disk.append(&disk.only_segment(), &tail);
        disk.files(".idx").iter().for_each(|outline| disk.lose(outline));
        let (_, _, found) = open(&disk);
        let seen: Vec<_> = open_parts(&found);
        let (_, _, after) = open(&disk.after_power_cut());
        assert_eq!(open_parts(&after), seen, "what the start gave out is gone after a power cut");
    });
}

#[test]
fn mail_is_stored_and_done_with_before_the_old_is_read() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        let _stored = spool.store(Arc::new(message(1, 10))).await.expect("stored");
        spool.close().await;
        let opened = Spool::open_on(disk.clone(), options(PathBuf::from("/spool")), Clock::system());
        let (spool, recovery) = opened.expect("opens");
        for n in [2, 3] {
            let _stored = spool.store(Arc::new(message(n, 10))).await.expect("stored");
        }
        (0..2).for_each(|part| spool.mark(message(2, 0).id, part, Mark::Done));
        assert!(spool.is_recovering());
        assert!(matches!(spool.read(message(1, 0).id).await, Err(ReadError::Unread(_))));
        let mut found = Vec::new();
        let report = recovery.run(|part| {
            found.push(part);
            ControlFlow::Continue(())
        });
        assert_eq!((report.expect("recovers").messages, spool.is_recovering()), (1, false));
        assert_eq!(open_parts(&found), [(1, 0, 0), (1, 1, 0)], "only what was there before is given out");
        assert_eq!(*spool.read(message(1, 0).id).await.expect("readable"), message(1, 10));
        spool.close().await;
        assert_eq!(open_parts(&open(&disk).2), [(1, 0, 0), (1, 1, 0), (3, 0, 0), (3, 1, 0)]);
    });
}

#[test]
fn a_missing_segment_is_told_by_name_and_only_once() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        for n in 1..=3 {
            let _stored = spool.store(Arc::new(message(n, 4100))).await.expect("stored");
        }
        spool.close().await;
        let lost = disk.segments()[1].clone();
        disk.lose(&lost);
        let (spool, report, found) = open(&disk);
        assert!(matches!(&report.damaged[..], [damage] if damage.file == lost), "{report:?}");
        assert_eq!(open_parts(&found), [(1, 0, 0), (1, 1, 0), (3, 0, 0), (3, 1, 0)]);
        let _stored = spool.store(Arc::new(message(4, 10))).await.expect("stored");
        spool.close().await;
        assert_eq!(open(&disk).1.damaged, []);
    });
}

#[test]
fn an_outline_or_register_that_is_damaged_anywhere_costs_nothing_and_is_told() {
    let disk = Sim::new(1);
    block_on(async {
        let (spool, ..) = open(&disk);
        for n in 1..=2 {
            let _stored = spool.store(Arc::new(message(n, 20))).await.expect("stored");
        }
        spool.mark(message(1, 0).id, 1, later(3));
        spool.close().await;
        let outlines = disk.files(".idx");
        assert_eq!(outlines.len(), 1, "a stop leaves an outline of what it sealed");
        for file in [outlines[0].clone(), PathBuf::from("/spool/segments")] {
            for at in 0..disk.length(&file) {
                let copy = disk.copied();
                copy.flip(&file, at);
                let (spool, report, found) = open(&copy);
                assert_eq!(open_parts(&found), [(1, 0, 0), (1, 1, 3), (2, 0, 0), (2, 1, 0)], "byte {at}");
                assert!(report.damaged.iter().any(|damage| damage.file == file), "byte {at}: {report:?}");
                spool.close().await;
            }
        }
    });
}
