//! What is live and where: one entry a message, the marks on it, and what each segment still holds.
//! Pure. Floor 2.
//! Always: a segment's live bytes are those of the messages whose place is in it; a segment is spent
//! only when nothing in it is live and no mark in it is about a segment that is still there; a mark is
//! about every segment in which its message stands, also as a copy that compaction left behind; while
//! the start has not read all segments, none is spent.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::message::{Mark, MessageId};

/// The number of a segment; higher is younger.
pub(super) type SegmentId = u32;

/// Where a live message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: SegmentId,
    pub offset: u64,
    pub length: u64,
    /// Its parts.
    pub parts: u16,
    /// Those that are not done.
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
    marks: HashMap<(MessageId, u16), Mark>,
    /// Segments in which other copies of live messages stand: the next start reads those, too.
    copies: HashMap<MessageId, Vec<SegmentId>>,
    segments: BTreeMap<SegmentId, Holding>,
    /// Those in which nothing lives: few, and the only ones that may go.
    dead: BTreeSet<SegmentId>,
    live_bytes: u64,
    total_bytes: u64,
    /// While segments of before are being read.
    recovering: Option<Recovering>,
}

/// What must be known while segments of before are being read.
#[derive(Clone, Debug, Default)]
struct Recovering {
    /// The first segment that was begun since the start.
    first_new: SegmentId,
    /// Messages that were done since: copies of them may still be found.
    finished: HashSet<MessageId>,
}

/// The last mark on each part, as segments of before tell it, and where it stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted(HashMap<(MessageId, u16), (Mark, SegmentId)>);

impl Noted {
    /// A mark stands in `segment`; it replaces what was noted before.
    pub fn note(&mut self, segment: SegmentId, id: MessageId, part: u16, mark: Mark) {
        self.0.insert((id, part), (mark, segment));
    }

    fn of(&self, id: MessageId, parts: u16) -> impl Iterator<Item = (u16, &Mark, SegmentId)> {
        (0..parts).filter_map(move |part| self.0.get(&(id, part)).map(|(mark, segment)| (part, mark, *segment)))
    }
}

impl Index {
    /// An index of segments that are yet to be read, up to but without `first_new`.
    pub fn recovering(first_new: SegmentId) -> Self {
        let recovering = Some(Recovering { first_new, finished: HashSet::new() });
        Self { recovering, ..Self::default() }
    }

    pub fn is_recovering(&self) -> bool {
        self.recovering.is_some()
    }

    /// All segments of before have been read.
    pub fn recovered(&mut self) {
        self.recovering = None;
    }

    /// A segment of before holds a message at `place`; tells whether that is news, and the message is live.
    /// Segments are told from the oldest on.
    pub fn find(&mut self, id: MessageId, place: Place, noted: &Noted) -> bool {
        for (_, _, segment) in noted.of(id, place.parts) {
            self.aim(segment, place.segment);
        }
        let known = self.places.get(&id).copied();
        let is_finished = self.recovering.as_ref().is_some_and(|now| now.finished.contains(&id));
        if known.is_some() || is_finished {
            // Marks of it that were written since the start are about this copy, too.
            let first_new = self.recovering.as_ref().map_or(SegmentId::MAX, |now| now.first_new);
            let new: Vec<_> = self.segments.range(first_new..).map(|(segment, _)| *segment).collect();
            for segment in new {
                self.aim(segment, place.segment);
            }
        }
        match known {
            _ if is_finished => false,
            // A copy comes with its marks. One whose marks are older than itself was cut off in the middle:
            // the segment that holds them would go before it.
            Some(_) if noted.of(id, place.parts).any(|(_, _, segment)| segment < place.segment) => {
                self.copies.entry(id).or_default().push(place.segment);
                false
            }
            Some(_) => {
                self.put(id, place);
                false
            }
            None => self.find_new(id, place, noted),
        }
    }

    fn find_new(&mut self, id: MessageId, place: Place, noted: &Noted) -> bool {
        let done = noted.of(id, place.parts).filter(|(_, mark, _)| **mark == Mark::Done).count() as u16;
        let open = place.parts.saturating_sub(done);
        if open == 0 {
            return false;
        }
        self.put(id, Place { open, ..place });
        for (part, mark, _) in noted.of(id, place.parts) {
            self.marks.insert((id, part), mark.clone());
        }
        true
    }

    /// A segment is there, and as yet nothing is known to live in it.
    pub fn begin_segment(&mut self, segment: SegmentId) {
        if let Entry::Vacant(vacant) = self.segments.entry(segment) {
            vacant.insert(Holding::default());
            self.dead.insert(segment);
        }
    }

    /// The segment's file has this length now.
    pub fn grow(&mut self, segment: SegmentId, total_bytes: u64) {
        if let Some(holding) = self.segments.get_mut(&segment) {
            self.total_bytes = self.total_bytes - holding.total_bytes + total_bytes;
            holding.total_bytes = total_bytes;
        }
    }

    /// A message is at `place`. One that is there already has been copied: its marks stay.
    pub fn put(&mut self, id: MessageId, mut place: Place) {
        if let Some(old) = self.places.get(&id).copied() {
            (place.parts, place.open) = (old.parts, old.open);
            self.leave(&old);
            if old.segment != place.segment {
                self.copies.entry(id).or_default().push(old.segment);
            }
        }
        self.begin_segment(place.segment);
        if let Some(holding) = self.segments.get_mut(&place.segment) {
            holding.live += 1;
            holding.live_bytes += place.length;
        }
        self.live_bytes += place.length;
        self.dead.remove(&place.segment);
        self.places.insert(id, place);
    }

    /// A mark was written in `segment`.
    pub fn mark(&mut self, segment: SegmentId, id: MessageId, part: u16, mark: &Mark) {
        let Some(place) = self.places.get(&id).copied().filter(|place| part < place.parts) else { return };
        let copies = self.copies.get(&id).into_iter().flatten().copied();
        let about = copies.filter(|copy| self.segments.contains_key(copy)).chain([place.segment]);
        let about: Vec<_> = about.filter(|target| *target != segment).collect();
        self.begin_segment(segment);
        if let Some(holding) = self.segments.get_mut(&segment) {
            holding.targets.extend(about);
        }
        let before = self.marks.insert((id, part), mark.clone());
        if *mark != Mark::Done || before == Some(Mark::Done) {
            return;
        }
        match self.places.get_mut(&id) {
            Some(place) if place.open > 1 => place.open -= 1,
            _ => self.forget(id),
        }
    }

    /// The message is done with.
    pub fn forget(&mut self, id: MessageId) {
        self.copies.remove(&id);
        if let Some(place) = self.places.remove(&id) {
            (0..place.parts).for_each(|part| drop(self.marks.remove(&(id, part))));
            self.leave(&place);
        }
        if let Some(now) = &mut self.recovering {
            now.finished.insert(id);
        }
    }

    fn leave(&mut self, place: &Place) {
        if let Some(holding) = self.segments.get_mut(&place.segment) {
            holding.live -= 1;
            holding.live_bytes -= place.length;
            self.live_bytes -= place.length;
            if holding.live == 0 {
                self.dead.insert(place.segment);
            }
        }
    }

    pub fn place(&self, id: MessageId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// The last mark on each part that has one.
    pub fn marks(&self, id: MessageId) -> impl Iterator<Item = (u16, &Mark)> {
        let parts = self.places.get(&id).map_or(0, |place| place.parts);
        (0..parts).filter_map(move |part| self.marks.get(&(id, part)).map(|mark| (part, mark)))
    }

    /// A mark in `segment` is about a message in `target`, which is older.
    pub fn aim(&mut self, segment: SegmentId, target: SegmentId) {
        if target < segment
            && let Some(holding) = self.segments.get_mut(&segment)
        {
            holding.targets.insert(target);
        }
    }

    /// The segment is not there any more, or was none.
    pub fn drop_segment(&mut self, segment: SegmentId) {
        self.dead.remove(&segment);
        if let Some(holding) = self.segments.remove(&segment) {
            self.total_bytes -= holding.total_bytes;
        }
    }

    /// Segments other than `head` that may go, and forgets them.
    pub fn take_spent(&mut self, head: SegmentId) -> Vec<SegmentId> {
        let mut spent = Vec::new();
        if self.is_recovering() {
            return spent;
        }
        // From the oldest on: one that goes may set younger ones free.
        let dead: Vec<_> = self.dead.iter().copied().filter(|id| *id != head).collect();
        for id in dead {
            let is_free = self
                .segments
                .get(&id)
                .is_some_and(|holding| !holding.targets.iter().any(|target| self.segments.contains_key(target)));
            if is_free {
                self.drop_segment(id);
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
        self.live_bytes
    }

    /// Bytes of all segments.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
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
        Place { segment, offset: 0, length: 10, parts: open, open }
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
        assert_eq!(index.marks(id(1)).collect::<Vec<_>>(), [(0, &Mark::Done), (1, &later)]);
        assert_eq!(index.take_spent(2), [1]);
        index.mark(2, id(1), 1, &Mark::Done);
        assert_eq!((index.place(id(1)), index.marks(id(1)).count()), (None, 0));
    }

    fn noted(marks: &[(SegmentId, u8, u16, Mark)]) -> Noted {
        let mut noted = Noted::default();
        for (segment, n, part, mark) in marks {
            noted.note(*segment, id(*n), *part, mark.clone());
        }
        noted
    }

    fn recovering() -> Index {
        let mut index = Index::recovering(8);
        (1..=8).for_each(|segment| index.begin_segment(segment));
        index
    }

    #[test]
    fn what_was_done_since_the_start_is_not_found_again_in_a_copy() {
        let mut index = recovering();
        assert!(index.find(id(1), at(1, 1), &Noted::default()));
        index.mark(8, id(1), 0, &Mark::Done);
        assert!(!index.find(id(1), at(3, 1), &Noted::default()));
        assert!(index.take_spent(9).is_empty(), "not all is read");
        index.recovered();
        // Segment 8 says that it is done: it goes after all that hold a copy.
        assert_eq!(index.take_spent(9), [1, 2, 3, 4, 5, 6, 7, 8]);
        let mut index = recovering();
        assert!(index.find(id(1), at(1, 1), &Noted::default()));
        index.mark(8, id(1), 0, &Mark::Done);
        index.find(id(1), at(3, 1), &Noted::default());
        index.find(id(2), at(3, 1), &Noted::default());
        index.recovered();
        assert!(!index.take_spent(9).contains(&8), "segment 3 is needed, and with it the mark in segment 8");
    }

    #[test]
    fn a_copy_that_was_cut_off_before_its_marks_is_not_taken_for_the_message() {
        let later = Mark::Later { attempts: 7, due: UnixMs(5), settled: vec![], moved: None };
        let noted = noted(&[(4, 1, 0, later.clone())]);
        let mut index = recovering();
        assert!(index.find(id(1), at(3, 1), &noted));
        assert!(!index.find(id(1), at(6, 1), &noted));
        index.recovered();
        assert_eq!(index.place(id(1)).map(|place| place.segment), Some(3));
        let spent = index.take_spent(8);
        assert!(!spent.contains(&3) && !spent.contains(&4), "{spent:?}");
        index.mark(8, id(1), 0, &Mark::Done);
        assert_eq!(index.take_spent(9), [3, 4, 8]);
    }

    #[test]
    fn a_whole_copy_is_taken_and_what_is_done_is_no_news() {
        let later = Mark::Later { attempts: 7, due: UnixMs(5), settled: vec![], moved: None };
        let noted = noted(&[(6, 1, 0, later.clone()), (5, 2, 0, Mark::Done)]);
        let mut index = recovering();
        assert!(index.find(id(1), at(3, 1), &noted));
        assert!(!index.find(id(1), at(6, 1), &noted));
        assert!(!index.find(id(2), at(4, 1), &noted));
        index.recovered();
        assert_eq!(index.place(id(1)).map(|place| place.segment), Some(6));
        assert_eq!(index.marks(id(1)).collect::<Vec<_>>(), [(0, &later)]);
        assert_eq!(index.take_spent(8), [1, 2, 3, 4, 5, 7]);
    }
}
