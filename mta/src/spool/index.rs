//! What is live and where: one entry a message, the marks on it, and what each segment still holds.
//! Pure. Floor 2.
//! Always: a segment's live bytes are those of the messages whose place is in it; a segment is spent
//! only when nothing in it is live and no mark in it is about a segment that is still there; a mark is
//! about every segment in which its message stands, also as a copy that compaction left behind.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::message::{Mark, MessageId};

/// The number of a segment; higher is younger.
pub(super) type SegmentId = u32;

/// Where a live message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: SegmentId,
    pub offset: u64,
    pub length: u64,
    /// Parts that are not done.
    pub open: u16,
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holding {
    pub live_bytes: u64,
    pub live: usize,
    pub total_bytes: u64,
    /// Older segments that marks in this one are about.
    targets: BTreeSet<SegmentId>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    places: HashMap<MessageId, Place>,
    /// The last mark on each part that has one, of live messages only.
    marks: HashMap<MessageId, Vec<(u16, Mark)>>,
    /// Segments in which earlier copies of live messages stand: the next start reads those, too.
    copies: HashMap<MessageId, Vec<SegmentId>>,
    segments: BTreeMap<SegmentId, Holding>,
}

impl Index {
    pub fn begin_segment(&mut self, segment: SegmentId) {
        self.segments.entry(segment).or_default();
    }

    pub fn grow(&mut self, segment: SegmentId, total_bytes: u64) {
        self.segments.entry(segment).or_default().total_bytes = total_bytes;
    }

    /// A message is at `place`. One that is there already has been copied: its marks stay.
    pub fn put(&mut self, id: MessageId, mut place: Place) {
        if let Some(old) = self.places.get(&id).copied() {
            place.open = old.open;
            self.leave(&old);
            if old.segment != place.segment {
                self.copies.entry(id).or_default().push(old.segment);
            }
        }
        let holding = self.segments.entry(place.segment).or_default();
        holding.live += 1;
        holding.live_bytes += place.length;
        self.places.insert(id, place);
    }

    /// A mark was written in `segment`.
    pub fn mark(&mut self, segment: SegmentId, id: MessageId, part: u16, mark: &Mark) {
        let Some(place) = self.places.get_mut(&id) else { return };
        let copies = self.copies.get(&id).into_iter().flatten().copied();
        let about = copies.filter(|copy| self.segments.contains_key(copy)).chain([place.segment]);
        let about: Vec<_> = about.filter(|target| *target != segment).collect();
        self.segments.entry(segment).or_default().targets.extend(about);
        let marks = self.marks.entry(id).or_default();
        let before = marks.iter().position(|(p, _)| *p == part);
        let was_done = before.is_some_and(|at| marks[at].1 == Mark::Done);
        match before {
            Some(at) => marks[at].1 = mark.clone(),
            None => marks.push((part, mark.clone())),
        }
        if *mark == Mark::Done && !was_done {
            place.open = place.open.saturating_sub(1);
        }
        if place.open == 0 {
            self.forget(id);
        }
    }

    /// The message is done with.
    pub fn forget(&mut self, id: MessageId) {
        self.marks.remove(&id);
        self.copies.remove(&id);
        if let Some(place) = self.places.remove(&id) {
            self.leave(&place);
        }
    }

    fn leave(&mut self, place: &Place) {
        if let Some(holding) = self.segments.get_mut(&place.segment) {
            holding.live -= 1;
            holding.live_bytes -= place.length;
        }
    }

    pub fn place(&self, id: MessageId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    pub fn marks(&self, id: MessageId) -> &[(u16, Mark)] {
        self.marks.get(&id).map_or(&[], Vec::as_slice)
    }

    /// A mark in `segment` is about a message in `target` that is not in the index.
    pub fn aim(&mut self, segment: SegmentId, target: SegmentId) {
        if segment != target {
            self.segments.entry(segment).or_default().targets.insert(target);
        }
    }

    /// Segments other than `head` that may go, and forgets them.
    pub fn take_spent(&mut self, head: SegmentId) -> Vec<SegmentId> {
        let mut spent = Vec::new();
        // From the oldest on: one that goes may set younger ones free.
        let all: Vec<_> = self.segments.keys().copied().filter(|id| *id != head).collect();
        for id in all {
            let free = self.segments.get(&id).is_some_and(|holding| {
                holding.live == 0 && !holding.targets.iter().any(|target| self.segments.contains_key(target))
            });
            if free {
                self.segments.remove(&id);
                spent.push(id);
            }
        }
        spent
    }

    pub fn segments(&self) -> &BTreeMap<SegmentId, Holding> {
        &self.segments
    }

    /// Messages that are live.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of live messages.
    pub fn live_bytes(&self) -> u64 {
        self.segments.values().map(|holding| holding.live_bytes).sum()
    }

    /// Bytes of all segments.
    pub fn total_bytes(&self) -> u64 {
        self.segments.values().map(|holding| holding.total_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use egret_shared::clock::UnixMs;

    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([n; 16])
    }

    fn at(segment: SegmentId, open: u16) -> Place {
        Place { segment, offset: 0, length: 10, open }
    }

    #[test]
    fn a_segment_stays_while_its_marks_are_needed() {
        let mut index = Index::default();
        (1..=3).for_each(|segment| index.begin_segment(segment));
        index.put(id(1), at(1, 1));
        index.put(id(2), at(1, 1));
        index.mark(2, id(1), 0, &Mark::Done);
        // Without segment 2, the next start would find message 1 in segment 1 and send it again.
        assert!(index.take_spent(3).is_empty());
        index.mark(3, id(2), 0, &Mark::Done);
        assert_eq!(index.take_spent(3), [1, 2]);
        assert_eq!((index.len(), index.live_bytes()), (0, 0));
    }

    #[test]
    fn a_mark_stays_while_an_earlier_copy_of_its_message_stands() {
        let mut index = Index::default();
        (1..=5).for_each(|segment| index.begin_segment(segment));
        index.put(id(1), at(1, 1));
        index.put(id(2), at(2, 1));
        let later = Mark::Later { attempts: 1, due: UnixMs(5), settled: vec![], moved: None };
        index.mark(2, id(1), 0, &later);
        index.put(id(2), at(3, 1));
        index.mark(4, id(2), 0, &Mark::Done);
        // Segment 2 is needed for its mark about message 1, and with it segment 4: without that the next
        // start would find message 2 in segment 2 and send it again.
        assert_eq!(index.take_spent(5), [3]);
        index.mark(5, id(1), 0, &Mark::Done);
        assert_eq!(index.take_spent(5), [1, 2, 4]);
    }

    #[test]
    fn a_message_is_gone_with_its_last_part_and_a_copy_keeps_its_marks() {
        let mut index = Index::default();
        index.put(id(1), at(1, 2));
        index.mark(1, id(1), 0, &Mark::Done);
        index.mark(1, id(1), 0, &Mark::Done);
        let later = Mark::Later { attempts: 1, due: UnixMs(5), settled: vec![0], moved: None };
        index.mark(1, id(1), 1, &later);
        index.put(id(1), at(2, 2));
        assert_eq!(index.place(id(1)).map(|place| (place.segment, place.open)), Some((2, 1)));
        assert_eq!(index.marks(id(1)), [(0, Mark::Done), (1, later)]);
        assert_eq!(index.take_spent(2), [1]);
        index.mark(2, id(1), 1, &Mark::Done);
        assert_eq!((index.place(id(1)), index.marks(id(1)).len()), (None, 0));
    }
}
