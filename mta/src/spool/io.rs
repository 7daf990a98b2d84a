//! The few calls that the spool makes of a disk, behind a trait so that tests can let each of them fail
//! or cut the power. Floor 2.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of segments.
pub(super) trait Disk: Send + Sync {
    /// Makes the directory if it is not there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Locks the directory for as long as the token lives; `None` if another process has it.
    fn lock(&self, directory: &Path) -> io::Result<Option<Lock>>;
    /// The names of the files in it.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes a file that is not there yet.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading; `InvalidData` if it is a link, a pipe, a directory or the like.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Moves a file to another name on the same disk; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Bytes that are free for this user on the directory's disk.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
}

/// One segment file.
pub(super) trait DiskFile: Send + Sync {
    /// Writes some of `pieces` at `offset`; tells how much.
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Reads some bytes at `offset`; 0 is the end.
    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Brings data and length onto stable storage.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Its length.
    fn length(&self) -> io::Result<u64>;
}

/// Keeps other processes out while it lives.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock is held by the open file")] Option<File>);

impl Lock {
    /// For a disk that no other process can see, or a copy that nobody has locked.
    pub fn none() -> Self {
        Self(None)
    }

    /// By a file that is locked.
    pub fn held_by(file: File) -> Self {
        Self(Some(file))
    }
}

/// The operating system's.
pub(super) fn real() -> Arc<dyn Disk> {
    Arc::new(Real)
}

struct Real;

impl Disk for Real {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn lock(&self, directory: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(Some(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?.map(|entry| entry.map(|e| e.path())).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file");
        // Opening a pipe would wait for a writer.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
        let file = opened.map_err(|error| if error.raw_os_error() == Some(libc::ELOOP) { strange() } else { error })?;
        if file.metadata()?.is_file() { Ok(Arc::new(file)) } else { Err(strange()) }
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let found = nix::sys::statvfs::statvfs(directory)?;
        Ok(found.blocks_available().saturating_mul(found.fragment_size()))
    }
}

impl DiskFile for File {
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(nix::sys::uio::pwritev(self, pieces, offset)?)
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, room, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Pieces of one write (IOV_MAX of Linux).
const MAX_PIECES: usize = 1024;
/// Bytes that are tried at a time when a file cannot be read in one go.
const BLOCK_BYTES: usize = 4096;

/// What could be read of a file.
pub(super) struct Read {
    /// All of it; blocks that the disk cannot read are zeros.
    pub bytes: Vec<u8>,
    /// Where those begin, and what the system said.
    pub unreadable: Vec<(u64, io::Error)>,
}

/// The whole file, as far as the disk can read it; an error if it can read none of several blocks: that
/// is not the damage of one file.
pub(super) fn read_whole(file: &dyn DiskFile) -> io::Result<Read> {
    let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
    let mut unreadable = Vec::new();
    if read_exact(file, &mut bytes, 0).is_ok() {
        return Ok(Read { bytes, unreadable });
    }
    let mut any_read = false;
    for (block, offset) in bytes.chunks_mut(BLOCK_BYTES).zip((0..).step_by(BLOCK_BYTES)) {
        match read_exact(file, block, offset) {
            Ok(()) => any_read = true,
            Err(error) => {
                block.fill(0);
                unreadable.push((offset, error));
            }
        }
    }
    match unreadable.pop_if(|(at, _)| !any_read && *at > 0) {
        Some((_, error)) => Err(error),
        None => Ok(Read { bytes, unreadable }),
    }
}

/// Fills `room` from `offset`; an end before that is an error.
pub(super) fn read_exact(file: &dyn DiskFile, room: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < room.len() {
        match file.read_at(&mut room[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `pieces` from `offset` on.
pub(super) fn write_all(file: &dyn DiskFile, mut pieces: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    // Empty pieces at the front would look like a disk that takes nothing.
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match file.write_at(&pieces[..pieces.len().min(MAX_PIECES)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut pieces, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the file at `path` hold `pieces`, whole or not at all. Its name is durable when the directory
/// is synced.
pub(super) fn replace(disk: &dyn Disk, path: &Path, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    remove_if_there(disk, &draft)?;
    let file = disk.create(&draft)?;
    let done = write_all(&*file, pieces, 0).and_then(|()| file.sync()).and_then(|()| disk.rename(&draft, path));
    if done.is_err() {
        // What is left of it is removed at the next try.
        let _ = disk.remove(&draft);
    }
    done
}

/// Removes a file; it is well if there is none.
pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
