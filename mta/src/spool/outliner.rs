//! Writes the outlines of sealed segments, beside the committer and after a while: most segments are
//! spent before that. Floor 2.
//! Always: an outline is written of a segment whose every byte is on stable storage.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::warn;

use super::index::SegmentId;
use super::io::{Disk, remove_if_there};
use super::outline::{Outline, path_of};
use super::read::Shared;

/// Outlines that may wait; of a segment whose outline finds no room, the next start reads all.
const MAX_WAITING: usize = 64;

/// A segment that is sealed.
pub(super) struct Sealed {
    pub segment: SegmentId,
    pub length: u64,
    pub outline: Outline,
    pub at: Instant,
}

/// The thread that writes outlines.
pub(super) struct Outliner {
    to: SyncSender<Sealed>,
    thread: JoinHandle<()>,
}

struct Work {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    shared: Arc<Shared>,
    patience: Duration,
}

impl Outliner {
    /// Starts it; an outline is written `patience` after its segment was sealed, if that is still there.
    pub fn start(disk: Arc<dyn Disk>, directory: PathBuf, shared: Arc<Shared>, patience: Duration) -> io::Result<Self> {
        let (to, from) = sync_channel(MAX_WAITING);
        let work = Work { disk, directory, shared, patience };
        let thread = std::thread::Builder::new().name("spool-outline".to_owned()).spawn(move || work.run(&from))?;
        Ok(Self { to, thread })
    }

    /// The segment is sealed.
    pub fn sealed(&self, sealed: Sealed) {
        // Without one the start takes longer, and that is all.
        let _ = self.to.try_send(sealed);
    }

    /// Writes what waits, and ends.
    pub fn finish(self) {
        drop(self.to);
        if self.thread.join().is_err() {
            warn!("the thread that writes outlines has panicked; the next start reads the segments themselves");
        }
    }
}

impl Work {
    fn run(self, from: &Receiver<Sealed>) {
        let mut waiting: VecDeque<Sealed> = VecDeque::new();
        loop {
            let due = waiting.front().map(|sealed| sealed.at + self.patience);
            let next = match due {
                None => from.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => from.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match next {
                Ok(sealed) => waiting.push_back(sealed),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(sealed) = waiting.pop_front() {
                        self.write(&sealed);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    for sealed in &waiting {
                        self.write(sealed);
                    }
                    return;
                }
            }
            // Those that are spent by now give their memory back.
            waiting.retain(|sealed| self.is_there(sealed.segment));
        }
    }

    fn is_there(&self, segment: SegmentId) -> bool {
        self.shared.index.lock().segments().contains_key(&segment)
    }

    fn write(&self, sealed: &Sealed) {
        let Sealed { segment, length, outline, .. } = sealed;
        if !self.is_there(*segment) {
            return;
        }
        if let Err(error) = outline.write(&*self.disk, &self.directory, *segment, *length) {
            warn!(segment, %error, "a segment's outline cannot be written; the next start takes longer");
        }
        // The segment may have gone meanwhile, with nobody there to remove this.
        if !self.is_there(*segment) && remove_if_there(&*self.disk, &path_of(&self.directory, *segment)).is_err() {
            warn!(segment, "the outline of a segment that is gone stays until the next start");
        }
    }
}
