//! Looking at a stopped or copied spool without changing it. Floor 2.
//! Always: nothing is written; what is told is what the next start would find.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::Cache;
use super::io::{Disk, DiskFile, Lock, real};
use super::read::{ReadError, Shared, read_from};
use super::recover::{Recovery, list};
use super::{Damage, OpenError, Recovered, Report};
use crate::message::{Message, MessageId};

/// A spool as it was found.
pub struct Inspected {
    shared: Arc<Shared>,
    report: Report,
    /// The parts that are not done, oldest message first.
    pub parts: Vec<Recovered>,
    _lock: Lock,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SegmentFacts {
    /// Its file.
    pub file: PathBuf,
    /// The length of the file.
    pub total_bytes: u64,
    /// Bytes of messages that are not done.
    pub live_bytes: u64,
    /// Messages that are not done.
    pub live: usize,
}

impl Inspected {
    /// Reads the spool in `directory`, every checksum verified. Blocks.
    ///
    /// # Errors
    /// That it cannot be read, or that a process uses it now.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Io { path: directory.to_owned(), error };
        let disk = LookOnly(real());
        let lock = disk.lock(directory).map_err(failed)?;
        let lock = lock.ok_or_else(|| OpenError::Locked { path: directory.to_owned() })?;
        let listing = list(&disk, directory)?;
        let shared = Arc::new(Shared::new(listing.index, listing.files, Cache::new(0)));
        let recovery = Recovery::new(Arc::new(disk), directory.to_owned(), shared.clone(), listing.damaged);
        let mut parts = Vec::new();
        let report = recovery.read_all().run(|part| {
            parts.push(part);
            ControlFlow::Continue(())
        })?;
        Ok(Self { shared, report, parts, _lock: lock })
    }

    /// How many messages are not done.
    pub fn messages(&self) -> usize {
        self.report.messages
    }

    /// What is damaged.
    pub fn damaged(&self) -> &[Damage] {
        &self.report.damaged
    }

    /// The segments in their order.
    pub fn segments(&self) -> Vec<SegmentFacts> {
        let files = self.shared.files.lock();
        let facts = |(id, holding): (&u32, &super::index::Holding)| {
            let file = files.get(id).map(|segment| segment.path.clone()).unwrap_or_default();
            let (total_bytes, live_bytes, live) = (holding.total_bytes, holding.live_bytes, holding.live);
            SegmentFacts { file, total_bytes, live_bytes, live }
        };
        self.shared.index.lock().segments().iter().map(facts).collect()
    }

    /// A message that is not done. Blocks.
    ///
    /// # Errors
    /// That it is not there, damaged, or cannot be read.
    pub fn message(&self, id: MessageId) -> Result<Message, ReadError> {
        let (place, file) = self.shared.find(id).ok_or(ReadError::Gone(id))?;
        read_from(&*file, id, place)
    }
}

/// A disk to which nothing is written.
struct LookOnly(Arc<dyn Disk>);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for LookOnly {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    /// A copy need not have the file of the lock; it is not made.
    fn lock(&self, directory: &Path) -> io::Result<Option<Lock>> {
        let file = match File::open(directory.join("lock")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Lock::none())),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock::held_by(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(directory)
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        refused()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.0.free_bytes(directory)
    }
}
