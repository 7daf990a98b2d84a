//! The committer: one thread that brings everything that waits onto stable storage in one go, and only
//! then answers. While it syncs, the next group gathers. Floor 2.
//! Always: an answer of success comes after the sync; a mark is never dropped, it waits for the disk.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::compact::Compaction;
use super::index::{Place, SegmentId};
use super::io::{Disk, Lock, remove_if_there};
use super::metrics::Metrics;
use super::outline::{self, Outline};
use super::outliner::{Outliner, Sealed};
use super::read::{Segment, Shared};
use super::record::write_mark;
use super::segment::{Failed, Head};
use super::{Durable, Options, StoreError, register};
use crate::message::{Mark, Message, MessageId};

/// Bytes of messages that may wait for the disk, if there is more than one.
const MAX_WAITING_BYTES: usize = 128 << 20;
/// How long an answer about free space is good for.
const SPACE_CHECK: Duration = Duration::from_secs(1);
/// The wait after a disk that failed.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// A message that waits.
pub(super) struct Job {
    pub message: Arc<Message>,
    /// Header and metadata of its record.
    pub head: Vec<u8>,
    pub reply: oneshot::Sender<Result<Durable, StoreError>>,
}

/// A mark that waits.
pub(super) type Marked = (MessageId, u16, Mark);

#[derive(Default)]
struct Waiting {
    stores: Vec<Job>,
    marks: Vec<Marked>,
    bytes: usize,
    is_closed: bool,
    /// The committer has ended.
    is_over: bool,
    /// Who waits for that.
    closing: Vec<oneshot::Sender<()>>,
}

/// Where the committer is told its work.
#[derive(Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Mailbox {
    pub fn post_store(&self, job: Job) -> Result<(), StoreError> {
        let bytes = job.head.len() + job.message.content.len();
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Err(StoreError::Closed);
        }
        if waiting.bytes > 0 && waiting.bytes + bytes > MAX_WAITING_BYTES {
            return Err(StoreError::Busy);
        }
        waiting.bytes += bytes;
        waiting.stores.push(job);
        if waiting.stores.len() == 1 {
            self.wake.notify_one();
        }
        Ok(())
    }

    pub fn post_mark(&self, id: MessageId, part: u16, mark: Mark) {
        let mut waiting = self.waiting.lock();
        waiting.marks.push((id, part, mark));
        if waiting.marks.len() == 1 && waiting.stores.is_empty() {
            self.wake.notify_one();
        }
    }

    pub fn close(&self, closed: oneshot::Sender<()>) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        if !waiting.is_over {
            waiting.closing.push(closed);
        }
        self.wake.notify_one();
    }

    /// The committer has ended: who waits for that need not any more.
    fn over(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_over = true;
        waiting.closing.clear();
    }

    /// All that waits, as soon as something does; marks alone wait `patience` for company.
    fn collect(&self, patience: Duration, until: Option<Duration>) -> Waiting {
        let mut waiting = self.waiting.lock();
        let is_empty = |w: &mut Waiting| w.stores.is_empty() && w.marks.is_empty() && !w.is_closed;
        match until {
            Some(until) => drop(self.wake.wait_while_for(&mut waiting, is_empty, until)),
            None => self.wake.wait_while(&mut waiting, is_empty),
        }
        self.wake.wait_while_for(
            &mut waiting,
            |w| w.stores.is_empty() && !w.is_closed && !w.marks.is_empty(),
            patience,
        );
        let (is_closed, closing) = (waiting.is_closed, std::mem::take(&mut waiting.closing));
        std::mem::replace(&mut *waiting, Waiting { is_closed, closing, ..Waiting::default() })
    }
}

/// What writes.
pub(super) struct Committer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) compaction: Option<Compaction>,
    head: Option<Head>,
    /// A segment that was made and could not be registered.
    unregistered: Option<Head>,
    outliner: Outliner,
    next_segment: SegmentId,
    /// Marks that are not written yet because the disk failed.
    unwritten: Vec<Marked>,
    /// Messages that were refused though they may stand in a segment that was given up, with the number
    /// of their parts: they must not come back at the next start.
    refused: Vec<(MessageId, u16, SegmentId)>,
    /// Segments with a damaged message in them, which cannot be copied.
    pub(super) unmovable: BTreeSet<SegmentId>,
    /// Segments that nothing needs, to be removed in this order: marks in one are about those before it.
    spent: VecDeque<SegmentId>,
    /// When a removal that failed may be tried again.
    remove_after: Option<Instant>,
    space: Option<(Instant, u64)>,
    pub(super) metrics: Metrics,
    _lock: Lock,
}

impl Committer {
    pub fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        clock: Clock,
        (shared, next_segment): (Arc<Shared>, SegmentId),
        outliner: Outliner,
        lock: Lock,
    ) -> Self {
        Self {
            disk,
            options,
            clock,
            shared,
            compaction: None,
            head: None,
            unregistered: None,
            outliner,
            next_segment,
            unwritten: Vec::new(),
            refused: Vec::new(),
            unmovable: BTreeSet::new(),
            spent: VecDeque::new(),
            remove_after: None,
            space: None,
            metrics: Metrics::new(),
            _lock: lock,
        }
    }

    /// Works until the mailbox is closed and empty.
    pub fn run(mut self, mailbox: &Mailbox) {
        loop {
            let busy = self.compaction.is_some().then_some(Duration::ZERO);
            let behind = (!self.unwritten.is_empty() || !self.refused.is_empty()).then_some(RETRY_WAIT);
            let Waiting { stores, marks, is_closed, .. } =
                mailbox.collect(self.options.max_unsynced_mark, busy.or(behind));
            self.commit(stores, marks);
            if is_closed {
                self.end();
                return mailbox.over();
            }
            self.compact_a_little();
            self.remove_spent();
            self.metrics.show(&self.shared.index.lock());
        }
    }

    fn end(mut self) {
        if !self.unwritten.is_empty() {
            let marks = self.unwritten.len();
            error!(marks, "marks could not be written; what they are about is tried again");
        }
        self.seal();
        self.outliner.finish();
    }

    fn commit(&mut self, stores: Vec<Job>, marks: Vec<Marked>) {
        self.unwritten.extend(marks);
        let stores = if stores.is_empty() { stores } else { self.with_room(stores) };
        if stores.is_empty() && self.unwritten.is_empty() && self.refused.is_empty() {
            return;
        }
        let mut notes = Vec::new();
        for (id, part, mark) in &self.unwritten {
            write_mark(*id, *part, mark, &mut notes);
        }
        for (id, parts, _) in &self.refused {
            (0..*parts).for_each(|part| write_mark(*id, part, &Mark::Done, &mut notes));
        }
        let mut pieces = Vec::with_capacity(stores.len() * 3 + 1);
        for job in &stores {
            let content = &job.message.content;
            pieces.extend([&job.head[..], &content.added, &content.body].map(IoSlice::new));
        }
        pieces.push(IoSlice::new(&notes));
        // An empty piece at the end would look like a disk that takes nothing.
        pieces.retain(|piece| !piece.is_empty());
        match self.append(&mut pieces) {
            Ok((segment, offset)) => self.committed(segment, offset, stores, &notes),
            Err(failed) => self.refuse(stores, &failed),
        }
        self.seal_if_full();
    }

    /// Writes `pieces` durably to the head; tells where.
    pub(super) fn append(&mut self, pieces: &mut [IoSlice<'_>]) -> Result<(SegmentId, u64), Failed> {
        let head = match self.head.take() {
            Some(head) => head,
            None => self.begin().map_err(|error| Failed { error, is_lost: false })?,
        };
        let head = self.head.insert(head);
        let (before, started) = (head.length, self.clock.now());
        let offset = head.append(pieces)?;
        let (segment, length) = (head.segment, head.length);
        self.metrics.synced(length - before, self.clock.now().saturating_duration_since(started));
        self.shared.index.lock().grow(segment, length);
        Ok((segment, offset))
    }

    fn begin(&mut self) -> io::Result<Head> {
        let head = match self.unregistered.take() {
            Some(head) => head,
            None => {
                // A number is never used twice, also if its file cannot be removed after an error.
                self.next_segment += 1;
                Head::create(&*self.disk, &self.options.path, self.next_segment - 1)?
            }
        };
        let mut registered = self.needed();
        registered.insert(head.segment);
        if let Err(error) = register::write(&*self.disk, &self.options.path, &registered) {
            // It may be in the register all the same, and would be missed if it were removed.
            self.unregistered = Some(head);
            return Err(error);
        }
        let file = Segment { path: head.path.clone(), file: head.file.clone() };
        self.shared.files.lock().insert(head.segment, file);
        self.shared.index.lock().begin_segment(head.segment);
        Ok(head)
    }

    pub(super) fn seal_if_full(&mut self) {
        if self.head.as_ref().is_some_and(|head| head.length >= self.options.segment_bytes) {
            self.seal();
        }
    }

    /// Nothing more is written to the head; its outline is kept.
    fn seal(&mut self) {
        if let Some(Head { segment, length, outline, .. }) = self.head.take() {
            self.outliner.sealed(Sealed { segment, length, outline, at: Instant::now() });
        }
    }

    /// The outline of what was written to the head.
    pub(super) fn outline(&mut self) -> Option<&mut Outline> {
        self.head.as_mut().map(|head| &mut head.outline)
    }

    fn committed(&mut self, segment: SegmentId, mut offset: u64, stores: Vec<Job>, notes: &[u8]) {
        self.metrics.committed(stores.len(), self.unwritten.len());
        if let Some(head) = &mut self.head {
            head.outline.add_marks(notes);
        }
        let mut index = self.shared.index.lock();
        for job in &stores {
            let length = (job.head.len() + job.message.content.len()) as u64;
            let open = job.message.meta.parts.len() as u16;
            index.put(job.message.id, Place { segment, offset, length, parts: open, open });
            if let Some(head) = &mut self.head {
                head.outline.add_message(offset, &job.head);
            }
            offset += length;
        }
        for (id, part, mark) in self.unwritten.drain(..) {
            index.mark(segment, id, part, &mark);
        }
        for (_, _, lost) in self.refused.drain(..) {
            index.aim(segment, lost);
        }
        drop(index);
        self.shared.set_trouble(None);
        for Job { message, reply, .. } in stores {
            let id = message.id;
            self.shared.cache.keep(message);
            // A client that is gone still has its message delivered: it was told nothing.
            let _ = reply.send(Ok(Durable(id)));
        }
    }

    fn refuse(&mut self, stores: Vec<Job>, failed: &Failed) {
        let why = match failed.is_full() {
            true => StoreError::Full { free_bytes: self.free_bytes() },
            false => StoreError::Io(failed.error.to_string()),
        };
        if let Some(lost) = self.give_up_head(failed) {
            let parts = |job: &Job| (job.message.id, job.message.meta.parts.len() as u16, lost);
            self.refused.extend(stores.iter().map(parts));
        } else {
            warn!(error = %failed.error, stores = stores.len(), "nothing could be written");
        }
        self.shared.set_trouble(Some(why.to_string()));
        self.answer(stores, &why);
    }

    /// After an error that leaves it in doubt, nothing more is written to the head.
    pub(super) fn give_up_head(&mut self, failed: &Failed) -> Option<SegmentId> {
        let head = self.head.take_if(|_| failed.is_lost)?;
        error!(file = %head.path.display(), error = %failed.error, "segment given up after an error; a new one is begun");
        Some(head.segment)
    }

    fn answer(&self, stores: Vec<Job>, why: &StoreError) {
        self.metrics.refused(why, stores.len());
        for job in stores {
            let _ = job.reply.send(Err(why.clone()));
        }
    }

    /// The jobs, if the disk has room for them; otherwise they are answered.
    fn with_room(&mut self, stores: Vec<Job>) -> Vec<Job> {
        let free_bytes = self.free_bytes();
        if free_bytes >= self.options.min_free_bytes {
            return stores;
        }
        let why = StoreError::Full { free_bytes };
        self.shared.set_trouble(Some(why.to_string()));
        self.answer(stores, &why);
        Vec::new()
    }

    fn free_bytes(&mut self) -> u64 {
        let now = self.clock.now();
        if let Some((asked, free)) = self.space
            && now.saturating_duration_since(asked) < SPACE_CHECK
        {
            return free;
        }
        // A disk that cannot be asked is told of by its writes.
        let free = self.disk.free_bytes(&self.options.path).unwrap_or(u64::MAX);
        self.space = Some((now, free));
        free
    }

    /// Removes segments that nothing needs.
    fn remove_spent(&mut self) {
        let head = self.head.as_ref().map_or(SegmentId::MAX, |head| head.segment);
        self.spent.extend(self.shared.index.lock().take_spent(head));
        let now = self.clock.now();
        if self.spent.is_empty() || self.remove_after.is_some_and(|after| now < after) {
            return;
        }
        self.remove_after = None;
        if let Err(error) = register::write(&*self.disk, &self.options.path, &self.needed()) {
            warn!(%error, "the register cannot be written; spent segments wait");
            self.remove_after = Some(now + RETRY_WAIT);
            return;
        }
        while let Some(segment) = self.spent.front().copied() {
            if let Err(error) = self.remove_segment(segment) {
                warn!(segment, %error, "spent segment cannot be removed; it and younger ones wait");
                self.remove_after = Some(now + RETRY_WAIT);
                return;
            }
            self.spent.pop_front();
        }
    }

    /// The segments that are there, without those that may go: of these some may be gone already.
    fn needed(&self) -> BTreeSet<SegmentId> {
        let files = self.shared.files.lock();
        files.keys().copied().filter(|segment| !self.spent.contains(segment)).collect()
    }

    /// Removes a segment durably. A power cut that brought it back without the younger segment that holds
    /// the marks about it would bring its messages back.
    fn remove_segment(&self, segment: SegmentId) -> io::Result<()> {
        let Some(Segment { path, .. }) = self.shared.files.lock().get(&segment).cloned() else {
            return Ok(());
        };
        // It is gone already, when only the sync failed.
        remove_if_there(&*self.disk, &path)?;
        self.disk.sync_dir(&self.options.path)?;
        self.shared.files.lock().remove(&segment);
        // One that comes back after a power cut is removed at the next start.
        remove_if_there(&*self.disk, &outline::path_of(&self.options.path, segment))?;
        info!(file = %path.display(), "segment is spent");
        Ok(())
    }
}
