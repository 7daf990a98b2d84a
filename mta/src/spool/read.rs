//! Reading messages, and what readers and the committer share. Floor 2.
//! Always: no lock is held over a disk access or an await; a message that is handed out has passed
//! its checksums.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::cache::Cache;
use super::index::{Index, Place, SegmentId};
use super::io::{DiskFile, read_exact};
use super::record;
use crate::message::{Message, MessageId};

/// A message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there: done with, or never stored.
    #[error("message {0} is not in the spool")]
    Gone(MessageId),
    /// It is not in what was read of the spool since the start.
    #[error("message {0} is not in what was read of the spool since the start, which goes on: ask again in a moment")]
    Unread(MessageId),
    /// Its record is damaged.
    #[error("message {id} is damaged in {segment:010}.seg at byte {offset}: {why}")]
    Damaged {
        /// The message.
        id: MessageId,
        /// The segment's number, which is the name of its file.
        segment: u32,
        /// Where the record begins.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The disk failed.
    #[error("message {id} cannot be read from {segment:010}.seg: {error}")]
    Io {
        /// The message.
        id: MessageId,
        /// The segment's number.
        segment: u32,
        /// What the operating system says.
        error: io::Error,
    },
}

/// What readers and the committer share.
pub(super) struct Shared {
    pub index: Mutex<Index>,
    pub files: Mutex<HashMap<SegmentId, Segment>>,
    pub cache: Cache,
    trouble: Mutex<Option<String>>,
}

/// A segment that is there.
#[derive(Clone)]
pub(super) struct Segment {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
}

impl Shared {
    pub fn new(index: Index, files: HashMap<SegmentId, Segment>, cache: Cache) -> Self {
        Self { index: Mutex::new(index), files: Mutex::new(files), cache, trouble: Mutex::default() }
    }

    pub fn health(&self) -> Result<(), String> {
        self.trouble.lock().clone().map_or(Ok(()), Err)
    }

    /// What is wrong now; `None` when nothing is any more.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }

    pub async fn read(&self, id: MessageId) -> Result<Arc<Message>, ReadError> {
        if let Some(message) = self.cache.get(id) {
            return Ok(message);
        }
        let (place, file) = self.find(id).ok_or_else(|| self.missing(id))?;
        // A read that is not awaited to its end harms nobody.
        let read = tokio::task::spawn_blocking(move || read_from(&*file, id, place)).await;
        read.unwrap_or_else(|error| Err(failed(id, place, io::Error::other(error)))).map(Arc::new)
    }

    /// Why a message is not found.
    fn missing(&self, id: MessageId) -> ReadError {
        if self.index.lock().is_recovering() { ReadError::Unread(id) } else { ReadError::Gone(id) }
    }

    pub fn find(&self, id: MessageId) -> Option<(Place, Arc<dyn DiskFile>)> {
        // Between the two looks a compaction may have moved the message: then the second round finds it.
        for _ in 0..2 {
            let place = self.index.lock().place(id)?;
            if let Some(segment) = self.files.lock().get(&place.segment) {
                return Some((place, segment.file.clone()));
            }
        }
        None
    }
}

pub(super) fn read_from(file: &dyn DiskFile, id: MessageId, place: Place) -> Result<Message, ReadError> {
    let Place { segment, offset, length, .. } = place;
    let mut record = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    read_exact(file, &mut record, offset).map_err(|error| failed(id, place, error))?;
    match record::read_message(&Bytes::from(record)) {
        Ok(message) if message.id == id => Ok(message),
        Ok(other) => {
            let why = format!("message {} stands there", other.id);
            Err(ReadError::Damaged { id, segment, offset, why })
        }
        Err(why) => Err(ReadError::Damaged { id, segment, offset, why }),
    }
}

fn failed(id: MessageId, place: Place, error: io::Error) -> ReadError {
    ReadError::Io { id, segment: place.segment, error }
}
