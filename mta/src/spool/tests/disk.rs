//! A disk in memory that fails on cue and forgets, or tears, what was not synced.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::super::io::{Disk, DiskFile, Lock};

/// What is wrong with the disk now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    NoRoom,
    WriteFails,
    SyncFails,
}

/// A file: what its readers see, and what a power cut would leave.
#[derive(Clone, Default)]
struct Contents {
    seen: Vec<u8>,
    synced: Vec<u8>,
    is_listed: bool,
}

#[derive(Default)]
pub struct FaultyDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Contents>>>,
    trouble: Arc<Mutex<Trouble>>,
    /// Calls until the power goes; 0 is never.
    pub cut_after: Arc<AtomicU64>,
    is_cut: Arc<Mutex<bool>>,
    /// A byte that cannot be read.
    pub bad_sector: Arc<Mutex<Option<(PathBuf, u64)>>>,
    removals: Arc<Mutex<(u32, u32)>>,
}

struct FaultyFile {
    bad_sector: Arc<Mutex<Option<(PathBuf, u64)>>>,

    path: PathBuf,
    files: Arc<Mutex<BTreeMap<PathBuf, Contents>>>,
    trouble: Arc<Mutex<Trouble>>,
    cut_after: Arc<AtomicU64>,
    is_cut: Arc<Mutex<bool>>,
}

impl FaultyDisk {
    pub fn set(&self, trouble: Trouble) {
        *self.trouble.lock() = trouble;
    }

    pub fn is_cut(&self) -> bool {
        *self.is_cut.lock()
    }

    pub fn segments(&self) -> Vec<PathBuf> {
        self.files.lock().keys().cloned().collect()
    }

    pub fn only_segment(&self) -> PathBuf {
        let [one] = &self.segments()[..] else { panic!("one segment") };
        one.clone()
    }

    pub fn bytes(&self) -> u64 {
        self.files.lock().values().map(|file| file.seen.len() as u64).sum()
    }

    pub fn append(&self, path: &Path, bytes: &[u8]) {
        self.files.lock().get_mut(path).expect("there").seen.extend_from_slice(bytes);
    }

    /// The most removals that waited for a sync of the directory together.
    pub fn unsynced_removals_at_once(&self) -> u32 {
        self.removals.lock().1
    }

    pub fn flip(&self, path: &Path, at: usize) {
        self.files.lock().get_mut(path).expect("there").seen[at] ^= 0x10;
    }

    /// The disk as the next start finds it: of what was not synced, some bytes are there, some are
    /// zero, the rest is missing.
    pub fn after_power_cut(&self, tear: u64) -> Self {
        let mut files = self.files.lock().clone();
        files.retain(|_, file| file.is_listed);
        for file in files.values_mut() {
            let unsynced = file.seen.len().saturating_sub(file.synced.len());
            let kept = usize::try_from(tear).unwrap_or(0) % (unsynced + 1);
            let mut left = file.synced.clone();
            left.extend_from_slice(file.seen.get(file.synced.len()..file.synced.len() + kept).unwrap_or_default());
            if tear.is_multiple_of(3) {
                left.iter_mut().skip(file.synced.len()).step_by(2).for_each(|byte| *byte = 0);
            }
            (file.seen, file.synced) = (left.clone(), left);
        }
        Self { files: Arc::new(Mutex::new(files)), ..Self::default() }
    }
}

impl FaultyFile {
    fn call(&self, fails_with: &[Trouble]) -> io::Result<()> {
        if self.cut_after.load(Ordering::SeqCst) > 0 && self.cut_after.fetch_sub(1, Ordering::SeqCst) == 1 {
            *self.is_cut.lock() = true;
        }
        if *self.is_cut.lock() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let trouble = *self.trouble.lock();
        match fails_with.contains(&trouble) {
            true if trouble == Trouble::NoRoom => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut files = self.files.lock();
        let file = files.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?;
        let offset = usize::try_from(offset).expect("small");
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        // A short write each time, and a failing one leaves half of it.
        let part = &all[..all.len().div_ceil(2)];
        file.seen.truncate(offset);
        file.seen.extend_from_slice(part);
        drop(files);
        self.call(&[Trouble::NoRoom, Trouble::WriteFails])?;
        Ok(part.len())
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        let range = offset..offset + room.len() as u64;
        if self.bad_sector.lock().as_ref().is_some_and(|(path, at)| *path == self.path && range.contains(at)) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let files = self.files.lock();
        let file = files.get(&self.path).ok_or(io::ErrorKind::NotFound)?;
        let rest = file.seen.get(usize::try_from(offset).expect("small")..).unwrap_or_default();
        let read = rest.len().min(room.len());
        room[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        self.call(&[Trouble::SyncFails])?;
        let mut files = self.files.lock();
        let file = files.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?;
        file.synced.clone_from(&file.seen);
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.call(&[])?;
        let mut files = self.files.lock();
        let file = files.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?;
        file.seen.truncate(usize::try_from(length).expect("small"));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let files = self.files.lock();
        Ok(files.get(&self.path).ok_or(io::ErrorKind::NotFound)?.seen.len() as u64)
    }
}

impl FaultyDisk {
    fn file(&self, path: &Path) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile {
            path: path.to_owned(),
            files: self.files.clone(),
            trouble: self.trouble.clone(),
            cut_after: self.cut_after.clone(),
            is_cut: self.is_cut.clone(),
            bad_sector: self.bad_sector.clone(),
        })
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _directory: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Lock::none()))
    }

    fn list(&self, _directory: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.segments())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if *self.is_cut.lock() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.files.lock().insert(path.to_owned(), Contents::default());
        Ok(self.file(path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path))
    }

    fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
        if *self.is_cut.lock() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.files.lock().values_mut().for_each(|file| file.is_listed = true);
        self.removals.lock().0 = 0;
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !*self.is_cut.lock() {
            self.files.lock().remove(path);
            let mut removals = self.removals.lock();
            removals.0 += 1;
            removals.1 = removals.1.max(removals.0);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, _to: &Path) -> io::Result<()> {
        self.remove(from)
    }

    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}
