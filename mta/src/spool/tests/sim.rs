//! A disk in memory that fails on cue and forgets what was not synced.
//! Always: after a power cut a file holds its synced bytes, and of each later write any pieces; a name
//! that was not synced may be there or not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::super::io::{Disk, DiskFile, Lock};

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Create,
    Write,
    Sync,
    SyncDirectory,
    Remove,
    Rename,
}

#[derive(Default)]
struct Content {
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>, keep: impl Fn(usize) -> bool) {
        match self {
            Self::SetLen(len) => to.resize(*len, 0),
            Self::Write(offset, bytes) => {
                to.resize(to.len().max(offset + bytes.len()), 0);
                for (n, byte) in bytes.iter().enumerate().filter(|(n, _)| keep(*n)) {
                    to[offset + n] = *byte;
                }
            }
        }
    }
}

type Names = BTreeMap<PathBuf, Arc<Mutex<Content>>>;

#[derive(Default)]
struct State {
    seen: Names,
    durable: Names,
    /// Calls that fail: of which kind, after how many of it, with what.
    faults: Vec<(Call, u32, io::ErrorKind)>,
    /// A kind of call that fails until told otherwise.
    broken: Option<(Call, io::ErrorKind)>,
    /// A byte that cannot be read.
    bad_sector: Option<(PathBuf, u64)>,
    /// Removals of segments since the last sync of the directory, and the most that there ever were.
    removals: (u32, u32),
    random: u64,
    /// A power cut before each call is kept here, with the moment at which it was.
    cuts: Option<Vec<(usize, Arc<Sim>)>>,
}

/// The disk.
pub struct Sim {
    me: Weak<Sim>,
    state: Mutex<State>,
    /// How far the test is; it tells by itself.
    pub moment: AtomicUsize,
}

struct SimFile {
    path: PathBuf,
    disk: Arc<Sim>,
    content: Arc<Mutex<Content>>,
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("small in tests")
}

impl Sim {
    /// An empty disk whose choices depend on `seed`.
    pub fn new(seed: u64) -> Arc<Self> {
        Self::with(State { random: seed, ..State::default() })
    }

    fn with(state: State) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { me: me.clone(), state: Mutex::new(state), moment: AtomicUsize::new(0) })
    }

    /// The `nth` next call (from 0) of this kind fails.
    pub fn fail(&self, call: Call, nth: u32, error: io::ErrorKind) {
        self.state.lock().faults.push((call, nth, error));
    }

    /// Every call of this kind fails from now on.
    pub fn break_down(&self, call: Call, error: io::ErrorKind) {
        self.state.lock().broken = Some((call, error));
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.broken = None;
    }

    /// From now on the power is cut before each call, as it were.
    pub fn keep_cuts(&self) {
        self.state.lock().cuts = Some(Vec::new());
    }

    /// What each of those cuts left, and the moment of each.
    pub fn take_cuts(&self) -> Vec<(usize, Arc<Sim>)> {
        self.state.lock().cuts.take().unwrap_or_default()
    }

    /// The disk as it may be after a power cut now.
    pub fn after_power_cut(&self) -> Arc<Self> {
        self.state.lock().cut()
    }

    /// Another disk with the same files.
    pub fn copied(&self) -> Arc<Self> {
        let copy = |(path, content): (&PathBuf, &Arc<Mutex<Content>>)| {
            let bytes = content.lock().seen.clone();
            let content = Content { seen: bytes.clone(), synced: bytes, unsynced: Vec::new() };
            (path.clone(), Arc::new(Mutex::new(content)))
        };
        let seen: Names = self.state.lock().seen.iter().map(copy).collect();
        Self::with(State { seen: seen.clone(), durable: seen, ..State::default() })
    }

    /// Changes one bit.
    pub fn flip(&self, path: &Path, at: usize) {
        let state = self.state.lock();
        let mut content = state.seen[path].lock();
        content.seen[at] ^= 0x10;
        content.synced = content.seen.clone();
    }

    /// Puts bytes at the end of a file that are not synced.
    pub fn append(&self, path: &Path, bytes: &[u8]) {
        let content = self.state.lock().seen[path].clone();
        let mut content = content.lock();
        let change = Change::Write(content.seen.len(), bytes.to_vec());
        change.apply(&mut content.seen, |_| true);
        content.unsynced.push(change);
    }

    /// A byte of a file cannot be read.
    pub fn spoil(&self, path: &Path, at: u64) {
        self.state.lock().bad_sector = Some((path.to_owned(), at));
    }

    /// The files whose names end so.
    pub fn files(&self, ending: &str) -> Vec<PathBuf> {
        let state = self.state.lock();
        state.seen.keys().filter(|path| path.to_string_lossy().ends_with(ending)).cloned().collect()
    }

    pub fn segments(&self) -> Vec<PathBuf> {
        self.files(".seg")
    }

    pub fn only_segment(&self) -> PathBuf {
        let [one] = &self.segments()[..] else { panic!("one segment, not {:?}", self.segments()) };
        one.clone()
    }

    pub fn length(&self, path: &Path) -> usize {
        self.state.lock().seen[path].lock().seen.len()
    }

    /// Takes a file away for good.
    pub fn lose(&self, path: &Path) {
        let mut state = self.state.lock();
        state.seen.remove(path);
        state.durable.remove(path);
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        let segments = self.segments();
        let state = self.state.lock();
        segments.iter().map(|path| state.seen[path].lock().seen.len() as u64).sum()
    }

    /// The most removals of segments that one power cut could have taken back in any order.
    pub fn unsynced_removals_at_once(&self) -> u32 {
        self.state.lock().removals.1
    }

    /// Answers whether the call goes on.
    fn call(&self, call: Call) -> io::Result<()> {
        let mut state = self.state.lock();
        let moment = self.moment.load(Ordering::SeqCst);
        if state.cuts.is_some() {
            let cut = state.cut();
            state.cuts.iter_mut().for_each(|cuts| cuts.push((moment, cut.clone())));
        }
        if let Some((_, error)) = state.broken.filter(|(broken, _)| *broken == call) {
            return Err(error.into());
        }
        let mut failing = None;
        for (_, left, error) in state.faults.iter_mut().filter(|(of, ..)| *of == call) {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => failing = Some(*error),
            }
        }
        state.faults.retain(|(of, left, _)| failing.is_none() || *of != call || *left > 0);
        failing.map_or(Ok(()), |error| Err(error.into()))
    }

    fn random(&self) -> u64 {
        next(&mut self.state.lock().random)
    }

    fn file(&self, path: &Path, content: Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        let disk = self.me.upgrade().expect("it is being called");
        Arc::new(SimFile { path: path.to_owned(), disk, content })
    }
}

impl State {
    fn cut(&mut self) -> Arc<Sim> {
        let mut random = self.random;
        let names: BTreeSet<_> = self.seen.keys().chain(self.durable.keys()).cloned().collect();
        let mut after = Names::new();
        for name in names {
            let (seen, durable) = (self.seen.get(&name), self.durable.get(&name));
            let kept = if next(&mut random).is_multiple_of(2) { seen } else { durable };
            if let Some(content) = kept {
                let bytes = content.lock().after_power_cut(&mut random);
                let content = Content { seen: bytes.clone(), synced: bytes, unsynced: Vec::new() };
                after.insert(name, Arc::new(Mutex::new(content)));
            }
        }
        self.random = random;
        Sim::with(State { seen: after.clone(), durable: after, random, ..State::default() })
    }
}

impl Content {
    fn after_power_cut(&self, random: &mut u64) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.unsynced {
            let (way, place, width) = (next(random) % 4, next(random), next(random) % 600 + 1);
            change.apply(&mut bytes, |n| match (way, change) {
                (0, _) => true,
                (1, _) => false,
                (2, Change::Write(_, all)) => n < place as usize % (all.len() + 1),
                _ => (n as u64 / width + place % 2).is_multiple_of(2),
            });
        }
        bytes
    }
}

impl Disk for Sim {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _directory: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Lock::none()))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.state.lock().seen.keys().filter(|path| path.parent() == Some(directory)).cloned().collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.call(Call::Create)?;
        let content: Arc<Mutex<Content>> = Arc::default();
        let mut state = self.state.lock();
        if state.seen.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.seen.insert(path.to_owned(), content.clone());
        drop(state);
        Ok(self.file(path, content))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.state.lock().seen.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        Ok(self.file(path, content))
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.call(Call::SyncDirectory)?;
        let mut state = self.state.lock();
        let State { seen, durable, .. } = &mut *state;
        durable.retain(|path, _| path.parent() != Some(directory));
        let here = seen.iter().filter(|(path, _)| path.parent() == Some(directory));
        durable.extend(here.map(|(path, content)| (path.clone(), content.clone())));
        state.removals.0 = 0;
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove)?;
        let mut state = self.state.lock();
        state.seen.remove(path).ok_or(io::ErrorKind::NotFound)?;
        if path.extension().is_some_and(|ending| ending == "seg") {
            state.removals.0 += 1;
            state.removals.1 = state.removals.1.max(state.removals.0);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename)?;
        let mut state = self.state.lock();
        let content = state.seen.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.seen.insert(to.to_owned(), content);
        Ok(())
    }

    fn free_bytes(&self, _directory: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let verdict = self.disk.call(Call::Write);
        // A short write is well; an error may come behind some bytes.
        all.truncate((self.disk.random() as usize % (2 * all.len())).max(1));
        let change = Change::Write(place(offset), all.clone());
        let mut content = self.content.lock();
        change.apply(&mut content.seen, |_| true);
        content.unsynced.push(change);
        verdict.map(|()| all.len())
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        let range = offset..offset + room.len() as u64;
        let is_bad = |(path, at): &(PathBuf, u64)| *path == self.path && range.contains(at);
        if self.disk.state.lock().bad_sector.as_ref().is_some_and(is_bad) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let content = self.content.lock();
        let rest = content.seen.get(place(offset)..).unwrap_or_default();
        let length = rest.len().min(room.len());
        room[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn sync(&self) -> io::Result<()> {
        let verdict = self.disk.call(Call::Sync);
        let random = &mut self.disk.random();
        let mut content = self.content.lock();
        // As Linux does: what a failed sync did not write is clean afterwards, and the next sync is well.
        content.synced = if verdict.is_ok() { content.seen.clone() } else { content.after_power_cut(random) };
        content.unsynced.clear();
        verdict
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.call(Call::Write)?;
        let change = Change::SetLen(place(length));
        let mut content = self.content.lock();
        change.apply(&mut content.seen, |_| true);
        content.unsynced.push(change);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.content.lock().seen.len() as u64)
    }
}
