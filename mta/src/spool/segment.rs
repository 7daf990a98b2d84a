//! The segment that is being written: bytes go to its end and are synced, or it is as if nothing had
//! been written. Floor 2.
//! Always: after a failed write the file is cut back or given up; after a failed sync it is given up
//! (the kernel may have dropped the pages and will say nothing the second time).

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::SegmentId;
use super::io::{Disk, DiskFile, write_all};
use super::outline::Outline;
use super::record::SEGMENT_MAGIC;

/// The file of a segment in `directory`.
pub(super) fn path_of(directory: &Path, segment: SegmentId) -> PathBuf {
    directory.join(format!("{segment:010}.seg"))
}

/// The segment that a file's name stands for.
pub(super) fn number_of(path: &Path) -> Option<SegmentId> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    digits.parse().ok().filter(|_| digits.len() == 10)
}

/// The head of the spool.
pub(super) struct Head {
    pub segment: SegmentId,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub length: u64,
    /// Of what is in it.
    pub outline: Outline,
}

/// A write failed.
pub(super) struct Failed {
    pub error: io::Error,
    /// The segment may not be written to any more.
    pub is_lost: bool,
}

impl Failed {
    pub fn is_full(&self) -> bool {
        matches!(self.error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl Head {
    /// Makes a segment; its existence is durable on return.
    pub fn create(disk: &dyn Disk, directory: &Path, segment: SegmentId) -> io::Result<Self> {
        let path = path_of(directory, segment);
        let file = disk.create(&path)?;
        let head = Self { segment, path, file, length: SEGMENT_MAGIC.len() as u64, outline: Outline::default() };
        let begun = write_all(&*head.file, &mut [IoSlice::new(SEGMENT_MAGIC)], 0)
            .and_then(|()| head.file.sync())
            .and_then(|()| disk.sync_dir(directory));
        if begun.is_err() {
            // Left behind, it would be an empty segment at the next start: harmless.
            let _ = disk.remove(&head.path);
        }
        begun.map(|()| head)
    }

    /// Appends `pieces` durably; returns where they begin.
    pub fn append(&mut self, pieces: &mut [IoSlice<'_>]) -> Result<u64, Failed> {
        let start = self.length;
        let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        if let Err(error) = write_all(&*self.file, pieces, start) {
            let is_lost = self.file.truncate(start).is_err();
            return Err(Failed { error, is_lost });
        }
        self.file.sync().map_err(|error| Failed { error, is_lost: true })?;
        self.length = start + bytes;
        Ok(start)
    }
}
