//! Faults that were found by reading, each with the test that shows it.

use super::*;

/// A message with an id of its own: there are more than 255 here.
fn numbered(n: u16, length: usize) -> Arc<Message> {
    let [high, low] = n.to_be_bytes();
    let mut id = [0; 16];
    (id[0], id[1]) = (high, low);
    Arc::new(Message { id: MessageId::from_bytes(id), ..message(low, length) })
}

#[test]
fn what_is_done_stays_done_when_its_copies_outlive_each_other() {
    let disk = Arc::new(FaultyDisk::default());
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
        let mut ids: Vec<_> =
            found.iter().map(|part| u16::from_be_bytes([part.id.as_bytes()[0], part.id.as_bytes()[1]])).collect();
        ids.dedup();
        assert_eq!(ids, (1..=31).collect::<Vec<_>>());
    });
}

#[test]
fn names_that_come_back_after_a_power_cut_bring_no_message_back() {
    let disk = Arc::new(FaultyDisk::default());
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
