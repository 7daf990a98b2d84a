//! The spool: accepted mail on stable storage, in append-only segments of its own.
//! `record` is pure, floor 1; all else touches the disk, floor 2. It does not schedule, route or send.
//! Always: a [`Durable`] exists only after the fdatasync that covers its message; what cannot be read
//! is told with file and offset, and nothing else is lost with it.

mod cache;
mod commit;
mod compact;
mod fuzz;
mod index;
mod inspect;
mod io;
mod metrics;
mod options;
mod outline;
mod outliner;
mod read;
mod record;
mod recover;
mod register;
mod scan;
mod segment;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use egret_shared::clock::{Clock, UnixMs};
use tokio::sync::oneshot;

use crate::message::{Mark, Message, MessageId, Metadata, Moved};
use cache::Cache;
use commit::{Committer, Job, Mailbox};
use io::Disk;
use outliner::Outliner;
use read::Shared;

pub use fuzz::fuzz_records;
pub use inspect::{Inspected, SegmentFacts};
pub use options::Options;
pub use read::ReadError;
pub use recover::Recovery;

/// The proof that a message is on stable storage. Made only by the committer, after the sync.
#[derive(Debug)]
#[must_use = "it is what a positive reply is made of"]
pub struct Durable(MessageId);

impl Durable {
    /// The message.
    pub fn id(&self) -> MessageId {
        self.0
    }
}

/// A part of a message that was found at the start and is not done.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The message.
    pub id: MessageId,
    /// What is stored beside its bytes.
    pub meta: Arc<Metadata>,
    /// Which of its parts.
    pub part: u16,
    /// Bytes of the message.
    pub size: u64,
    /// Attempts that counted.
    pub attempts: u16,
    /// When it is due; `None` is at once.
    pub due: Option<UnixMs>,
    /// Recipients that are settled, sorted.
    pub settled: Vec<u16>,
    /// Where it waits now, if it was moved.
    pub moved: Option<Arc<Moved>>,
}

/// Bytes of a segment that mean nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong, and what became of it.
    pub why: String,
}

/// What was found at the start.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Messages that are not done.
    pub messages: usize,
    /// Their parts that are not done.
    pub parts: usize,
    /// What could not be understood.
    pub damaged: Vec<Damage>,
}

/// The spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system says no.
    #[error("spool {path:?}: {error}; is it a directory that this user may write to? (spool.path)")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        error: std::io::Error,
    },
    /// Two processes on one spool would destroy it.
    #[error("spool {path:?} is in use by another process; stop that one, or change spool.path")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
}

/// A message was not stored. It may be offered again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full, or fuller than it may be.
    #[error("the spool's disk has no room: {free_bytes} bytes free")]
    Full {
        /// Bytes that were free.
        free_bytes: u64,
    },
    /// More waits for the disk than may.
    #[error("the spool's disk does not keep up")]
    Busy,
    /// The disk failed.
    #[error("the spool's disk failed: {0}")]
    Io(String),
    /// The program is stopping.
    #[error("the spool is closed")]
    Closed,
}

/// The spool. Cheap to clone.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
}

impl Spool {
    /// Opens the spool of `options.path`, which is made if it is not there. Messages can be stored at once;
    /// what was there before comes out of the [`Recovery`], and can be read as soon as it has come. Blocks.
    ///
    /// # Errors
    /// The directory, or a file in it, cannot be used; another process has it.
    pub fn open(options: Options, clock: Clock) -> Result<(Self, Recovery), OpenError> {
        Self::open_on(io::real(), options, clock)
    }

    fn open_on(disk: Arc<dyn Disk>, options: Options, clock: Clock) -> Result<(Self, Recovery), OpenError> {
        let directory = options.path.clone();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| OpenError::Io { path, error }
        };
        disk.create_dir(&directory).map_err(failed(&directory))?;
        let lock = disk.lock(&directory).map_err(failed(&directory))?;
        let lock = lock.ok_or_else(|| OpenError::Locked { path: directory.clone() })?;
        let listing = recover::list(&*disk, &directory)?;
        let cache = Cache::new(options.body_cache_bytes);
        let shared = Arc::new(Shared::new(listing.index, listing.files, cache));
        let recovery = Recovery::new(disk.clone(), directory.clone(), shared.clone(), listing.damaged);
        let outliner = Outliner::start(disk.clone(), directory, shared.clone(), options.outline_after);
        let outliner = outliner.map_err(failed(Path::new("spool-outline")))?;
        let mailbox = Arc::new(Mailbox::default());
        let committer = Committer::new(disk, options, clock, (shared.clone(), listing.next_segment), outliner, lock);
        let thread = mailbox.clone();
        std::thread::Builder::new()
            .name("spool-commit".to_owned())
            .spawn(move || committer.run(&thread))
            .map_err(failed(Path::new("spool-commit")))?;
        Ok((Self { shared, mailbox }, recovery))
    }

    /// Stores a message; returns when it is on stable storage.
    ///
    /// # Errors
    /// That it is not, and why. A message that was refused with [`StoreError::Io`] is never tried.
    pub async fn store(&self, message: Arc<Message>) -> Result<Durable, StoreError> {
        let head = record::message_head(&message);
        let (reply, answer) = oneshot::channel();
        self.mailbox.post_store(Job { message, head, reply }).inspect_err(|_| metrics::busy())?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Notes what became of a part; returns at once. It is on stable storage within
    /// [`Options::max_unsynced_mark`]; a crash before that repeats the attempt.
    pub fn mark(&self, id: MessageId, part: u16, mark: Mark) {
        self.mailbox.post_mark(id, part, mark);
    }

    /// Reads a message, from memory while its first attempt lasts, from the disk later.
    pub async fn read(&self, id: MessageId) -> Result<Arc<Message>, ReadError> {
        self.shared.read(id).await
    }

    /// The body is not kept in memory any longer.
    pub fn forget_body(&self, id: MessageId) {
        self.shared.cache.forget(id);
    }

    /// Bodies in memory give it back; they are read from the disk.
    pub fn clear_cache(&self) {
        self.shared.cache.clear();
    }

    /// What was there at the start is still being read.
    pub fn is_recovering(&self) -> bool {
        self.shared.index.lock().is_recovering()
    }

    /// # Errors
    /// Why messages cannot be stored now.
    pub fn health(&self) -> Result<(), String> {
        self.shared.health()
    }

    /// Brings what waits onto stable storage and ends the committer.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        self.mailbox.close(done);
        // A committer that is gone has nothing left to bring.
        let _ = closed.await;
    }
}

#[cfg(test)]
mod tests;
