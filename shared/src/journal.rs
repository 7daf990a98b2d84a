//! JSON lines appended to one file by a thread of its own: the MTA's events, the proxy's sessions.
//! Touches one file. Floor 2. Records are handed over in memory and written within 20 ms; a crash may
//! take those.
//! Always: lines are whole and in the order in which they were handed over.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

/// How long a record may wait in memory.
const MAX_WAIT: Duration = Duration::from_millis(20);
/// The wait after a failed write.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Bytes that may wait in memory before its writers should stop making more.
const MAX_WAITING_BYTES: usize = 64 << 20;

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    closed: bool,
    /// The file is to be opened anew before the next write.
    reopen: bool,
    failing: Option<String>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

/// Appends records. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} cannot be opened for appending: {error}; create its directory or change {key}")]
pub struct OpenError {
    path: PathBuf,
    key: &'static str,
    error: io::Error,
}

impl Journal {
    /// Opens `path` for appending and starts the writer; `-` is standard output. `key` is where the path
    /// is configured.
    pub fn open(path: &Path, key: &'static str) -> Result<Self, OpenError> {
        let path = path.to_owned();
        let file = open(&path).map_err(|error| OpenError { path: path.clone(), key, error })?;
        let shared = Arc::new(Shared { waiting: Mutex::default(), wake: Condvar::new() });
        let writer = shared.clone();
        let own = path.clone();
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let thread = thread.spawn(move || write_all(file, &own, &writer));
        let thread = thread.map_err(|error| OpenError { path, key, error })?;
        Ok(Self { shared, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Hands over a record.
    pub fn write(&self, record: &impl Serialize) {
        let mut waiting = self.shared.waiting.lock();
        let was_empty = waiting.bytes.is_empty();
        if let Err(error) = serde_json::to_writer(&mut waiting.bytes, record) {
            tracing::error!(%error, "record cannot be written as JSON");
            return;
        }
        waiting.bytes.push(b'\n');
        if was_empty {
            self.shared.wake.notify_one();
        }
    }

    /// `Err` says why records are not reaching the disk.
    pub fn health(&self) -> Result<(), String> {
        let waiting = self.shared.waiting.lock();
        match &waiting.failing {
            Some(why) => Err(format!("writing fails: {why}")),
            None if waiting.bytes.len() > MAX_WAITING_BYTES => Err("the disk is behind".to_owned()),
            None => Ok(()),
        }
    }

    /// Whether so many records wait that no more should be made.
    pub fn is_full(&self) -> bool {
        self.shared.waiting.lock().bytes.len() > MAX_WAITING_BYTES
    }

    /// Opens the file anew before the next record: the old one was moved away.
    pub fn reopen(&self) {
        self.shared.waiting.lock().reopen = true;
    }

    /// Writes what waits and ends the writer. Blocks.
    pub fn close(&self) {
        self.shared.waiting.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("journal writer panicked");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if path == Path::new("-") {
        return io::stdout().as_fd().try_clone_to_owned().map(File::from);
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(mut file: File, path: &Path, shared: &Shared) {
    let mut batch = Vec::new();
    loop {
        {
            let mut waiting = shared.waiting.lock();
            while waiting.bytes.is_empty() && !waiting.closed {
                shared.wake.wait(&mut waiting);
            }
            if waiting.bytes.is_empty() {
                break;
            }
        }
        // Let a batch gather: one write for everything of the next moment.
        let closed = gather(shared);
        batch.clear();
        let reopen = {
            let mut waiting = shared.waiting.lock();
            std::mem::swap(&mut batch, &mut waiting.bytes);
            std::mem::take(&mut waiting.reopen)
        };
        if reopen {
            match open(path) {
                Ok(new) => file = new,
                Err(error) => tracing::error!(%error, ?path, "journal cannot be opened anew; the old file is kept"),
            }
        }
        if !append(&mut file, &batch, shared) && closed {
            return;
        }
    }
    if let Err(error) = file.sync_data() {
        tracing::error!(%error, "journal sync failed");
    }
}

fn gather(shared: &Shared) -> bool {
    let mut waiting = shared.waiting.lock();
    if !waiting.closed {
        shared.wake.wait_for(&mut waiting, MAX_WAIT);
    }
    waiting.closed
}

/// Appends `batch` whole, however long it takes; gives up only when the program ends.
fn append(file: &mut File, batch: &[u8], shared: &Shared) -> bool {
    let mut rest = batch;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(written) => {
                rest = rest.get(written..).unwrap_or_default();
                if shared.waiting.lock().failing.take().is_some() {
                    tracing::info!("journal is written again");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let mut waiting = shared.waiting.lock();
                if waiting.failing.replace(error.to_string()).is_none() {
                    tracing::error!(%error, waiting_bytes = rest.len(), "journal cannot be written; retrying");
                }
                if waiting.closed {
                    return false;
                }
                shared.wake.wait_for(&mut waiting, RETRY_WAIT);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_whole_lines_in_order_after_close() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("records.ndjson");
        let journal = Journal::open(&path, "log.path").expect("opens");
        (0..1000).for_each(|n| journal.write(&("record", n)));
        journal.close();
        let text = std::fs::read_to_string(&path).expect("readable");
        let want: Vec<_> = (0..1000).map(|n| format!("[\"record\",{n}]")).collect();
        assert!(text.ends_with('\n'));
        assert_eq!(text.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_missing_directory_is_told_with_path_and_key() {
        let error = Journal::open(Path::new("/nowhere/x"), "event_log.path").err().map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|e| e.contains("/nowhere/x") && e.contains("event_log.path")), "{error:?}");
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, moved) = (dir.path().join("j"), dir.path().join("j.1"));
        let journal = Journal::open(&path, "k").expect("opens");
        journal.write(&1);
        while std::fs::read_to_string(&path).expect("readable") != "1\n" {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &moved).expect("moved");
        journal.reopen();
        journal.write(&2);
        journal.close();
        assert_eq!(std::fs::read_to_string(&moved).expect("readable"), "1\n");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "2\n");
    }

    #[test]
    fn a_full_disk_is_told_and_does_not_block_writers() {
        let journal = Journal::open(Path::new("/dev/full"), "log.path").expect("opens");
        journal.write(&1);
        while journal.health().is_ok() {
            std::thread::yield_now();
        }
        journal.write(&2);
        assert!(journal.health().is_err_and(|why| why.contains("fails")));
        journal.close();
    }
}
