//! Room: copies what lives in a sparse segment to the head, a little at a time, so that the disk holds
//! at most twice the live bytes and four segments. Floor 2.
//! Always: the copy and the marks on it are durable before the segment it came from is removed.

use std::io::IoSlice;

use tracing::{info, warn};

use super::commit::Committer;
use super::index::{Holding, Place, SegmentId};
use super::io::read_exact;
use super::record::{Header, Kind, SEGMENT_MAGIC, Scan, next_magic, verify, write_mark};
use crate::message::MessageId;

/// Bytes that are copied in one turn: messages that wait for the disk wait that much longer.
const TURN_BYTES: usize = 4 << 20;
/// Segments that the disk may hold beyond twice the live bytes.
const SPARE_SEGMENTS: u64 = 4;

/// A segment that is being copied.
pub(super) struct Compaction {
    segment: SegmentId,
    bytes: Vec<u8>,
    at: usize,
}

impl Committer {
    /// Does one turn, if there is something to do.
    pub(super) fn compact_a_little(&mut self) {
        let Some(mut compaction) = self.compaction.take().or_else(|| self.choose()) else { return };
        let moved = self.collect(&mut compaction);
        if !moved.is_empty() && !self.copy(&compaction, &moved) {
            // The disk has no room or fails: the segment stays as it is, and is chosen again later.
            return;
        }
        if compaction.at < compaction.bytes.len() {
            self.compaction = Some(compaction);
        } else {
            info!(segment = compaction.segment, "segment is copied");
        }
    }

    /// The sparsest segment, if the disk holds too much.
    fn choose(&mut self) -> Option<Compaction> {
        let index = self.shared.index.lock();
        if index.is_recovering() {
            return None;
        }
        let spare = SPARE_SEGMENTS * self.options.segment_bytes;
        if index.total_bytes() <= 2 * index.live_bytes() + spare {
            return None;
        }
        let share = |holding: &Holding| holding.live_bytes * 1000 / holding.total_bytes.max(1);
        let sealed = index.segments().iter().filter(|(id, h)| {
            h.live > 0 && h.total_bytes >= self.options.segment_bytes && !self.unmovable.contains(id)
        });
        let segment = sealed.min_by_key(|(_, holding)| share(holding)).map(|(segment, _)| *segment)?;
        drop(index);
        let file = self.shared.files.lock().get(&segment)?.file.clone();
        let mut bytes = vec![0; usize::try_from(file.length().ok()?).ok()?];
        if let Err(error) = read_exact(&*file, &mut bytes, 0) {
            warn!(segment, %error, "sparse segment cannot be read, its room is not won back");
            return None;
        }
        Some(Compaction { segment, bytes, at: SEGMENT_MAGIC.len() })
    }

    /// The next live messages of the segment, with their places in it.
    fn collect(&mut self, compaction: &mut Compaction) -> Vec<(MessageId, usize, usize)> {
        let shared = self.shared.clone();
        let index = shared.index.lock();
        let (mut moved, mut collected) = (Vec::new(), 0);
        while compaction.at < compaction.bytes.len() && collected < TURN_BYTES {
            let (at, rest) = (compaction.at, &compaction.bytes[compaction.at..]);
            let Scan::Header(header) = Header::scan(rest) else {
                compaction.at += next_magic(rest).unwrap_or(rest.len());
                continue;
            };
            let length = usize::try_from(header.record_bytes()).unwrap_or(usize::MAX);
            let lives = index
                .place(header.id)
                .is_some_and(|place| place.segment == compaction.segment && place.offset == at as u64);
            let record = rest.get(..length).filter(|_| header.kind == Kind::Message && lives);
            if let Some(record) = record {
                match verify(&header, record) {
                    Ok(()) => moved.push((header.id, at, length)),
                    // It stays where it is, and the segment with it.
                    Err(why) => {
                        warn!(id = %header.id, segment = compaction.segment, offset = at, why, "damaged message");
                        self.unmovable.insert(compaction.segment);
                    }
                }
                collected += length;
            }
            compaction.at = at.saturating_add(length).min(compaction.bytes.len());
        }
        moved
    }

    /// Writes copies and their marks to the head; `false` if the disk would not.
    fn copy(&mut self, compaction: &Compaction, moved: &[(MessageId, usize, usize)]) -> bool {
        let mut notes = Vec::new();
        let index = self.shared.index.lock();
        for (id, ..) in moved {
            index.marks(*id).for_each(|(part, mark)| write_mark(*id, part, mark, &mut notes));
        }
        drop(index);
        let records = moved.iter().map(|(_, at, length)| IoSlice::new(&compaction.bytes[*at..*at + *length]));
        let mut pieces: Vec<_> = records.collect();
        if !notes.is_empty() {
            pieces.push(IoSlice::new(&notes));
        }
        let appended = self.append(&mut pieces);
        match appended {
            Ok((segment, offset)) => self.copied(compaction, moved, (segment, offset), &notes),
            Err(failed) => {
                warn!(error = %failed.error, "a sparse segment cannot be copied now");
                self.give_up_head(&failed);
                return false;
            }
        }
        self.seal_if_full();
        true
    }

    /// The copies are durable at `offset` of `segment`.
    fn copied(
        &mut self,
        compaction: &Compaction,
        moved: &[(MessageId, usize, usize)],
        (segment, mut offset): (SegmentId, u64),
        notes: &[u8],
    ) {
        let shared = self.shared.clone();
        let mut index = shared.index.lock();
        let mut outline = self.outline();
        if let Some(outline) = &mut outline {
            outline.add_marks(notes);
        }
        for (id, at, length) in moved {
            let record = &compaction.bytes[*at..*at + *length];
            if let (Some(outline), Scan::Header(header)) = (&mut outline, Header::scan(record)) {
                outline.add_message(offset, &record[..header.head_bytes()]);
            }
            let length = *length as u64;
            // What its parts are, and which are open, is known by the index and stays.
            index.put(*id, Place { segment, offset, length, parts: 0, open: 0 });
            offset += length;
        }
    }
}
