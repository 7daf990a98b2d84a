//! The event log: JSON lines appended to one file by a thread of its own.
//! Floor 3. Events are handed over in memory and written within 20 ms; a crash may take those, never
//! a message: a message whose delivery was not marked is tried again and has its event again.
//! Always: lines are whole and in the order in which they were handed over.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::record::Record;

/// How long an event may wait in memory.
const MAX_WAIT: Duration = Duration::from_millis(20);
/// The wait after a failed write.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Bytes that may wait in memory before reception is asked to stop.
const MAX_WAITING_BYTES: usize = 64 << 20;

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    closed: bool,
    failing: Option<String>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

/// Appends events. Cheap to clone.
#[derive(Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("event log {path:?} cannot be opened: {error}; create its directory or change event_log.path")]
pub struct OpenError {
    path: PathBuf,
    error: io::Error,
}

impl EventLog {
    /// Opens `path` for appending and starts the writer.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| OpenError { path: path.to_owned(), error })?;
        let shared = Arc::new(Shared { waiting: Mutex::default(), wake: Condvar::new() });
        let writer = shared.clone();
        let thread = std::thread::Builder::new().name("event-log".to_owned()).spawn(move || write_all(file, &writer));
        let thread = thread.map_err(|error| OpenError { path: path.to_owned(), error })?;
        Ok(Self { shared, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Hands over an event.
    pub fn write(&self, record: &Record) {
        let mut waiting = self.shared.waiting.lock();
        let was_empty = waiting.bytes.is_empty();
        if let Err(error) = serde_json::to_writer(&mut waiting.bytes, record) {
            tracing::error!(%error, id = %record.id, "event cannot be written as JSON");
            return;
        }
        waiting.bytes.push(b'\n');
        if was_empty {
            self.shared.wake.notify_one();
        }
    }

    /// `Err` says why events are not reaching the disk.
    pub fn health(&self) -> Result<(), String> {
        let waiting = self.shared.waiting.lock();
        match &waiting.failing {
            Some(why) => Err(format!("writing fails: {why}")),
            None if waiting.bytes.len() > MAX_WAITING_BYTES => Err("the disk is behind".to_owned()),
            None => Ok(()),
        }
    }

    /// Whether so many events wait that no more messages should be taken.
    pub fn is_full(&self) -> bool {
        self.shared.waiting.lock().bytes.len() > MAX_WAITING_BYTES
    }

    /// Writes what waits and ends the writer. Blocks.
    pub fn close(&self) {
        self.shared.waiting.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("event log writer panicked");
        }
    }
}

fn write_all(mut file: File, shared: &Shared) {
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
        std::mem::swap(&mut batch, &mut shared.waiting.lock().bytes);
        if !append(&mut file, &batch, shared) && closed {
            return;
        }
    }
    if let Err(error) = file.sync_data() {
        tracing::error!(%error, "event log sync failed");
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
                    tracing::info!("event log is written again");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let mut waiting = shared.waiting.lock();
                if waiting.failing.replace(error.to_string()).is_none() {
                    tracing::error!(%error, waiting_bytes = rest.len(), "event log cannot be written; retrying");
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
    use egret_shared::clock::UnixMs;

    use super::super::record::{Kind, Timing};
    use super::*;
    use crate::message::MessageId;

    fn record(size: u64) -> Record {
        Record {
            kind: Kind::Delivery,
            time_ms: UnixMs(1),
            id: MessageId::generate(),
            sender: String::new(),
            recipients: vec!["a@b.test".to_owned()],
            queue: None,
            site: None,
            size,
            attempt: 1,
            source: None,
            source_address: None,
            proxy: None,
            peer: None,
            response: None,
            party: None,
            reason: None,
            tls: None,
            uncertain: false,
            timing: Timing::default(),
        }
    }

    #[test]
    fn events_are_whole_lines_in_order_after_close() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("events.jsonl");
        let log = EventLog::open(&path).expect("opens");
        let records: Vec<Record> = (0..1000).map(record).collect();
        for record in &records {
            log.write(record);
        }
        log.close();
        let text = std::fs::read_to_string(&path).expect("readable");
        let read: Vec<Record> = text.lines().map(|l| serde_json::from_str(l).expect("a record")).collect();
        assert_eq!(read, records);
    }

    #[test]
    fn a_missing_directory_is_told_with_the_path() {
        let error = EventLog::open(Path::new("/nowhere/events.jsonl")).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("/nowhere/events.jsonl") && error.contains("event_log.path"), "{error}");
    }

    #[test]
    fn a_full_disk_is_told_and_does_not_block_writers() {
        let log = EventLog::open(Path::new("/dev/full")).expect("opens");
        log.write(&record(1));
        while log.health().is_ok() {
            std::thread::yield_now();
        }
        log.write(&record(2));
        log.close();
    }
}
