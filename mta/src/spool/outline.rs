//! The outline of a segment: its records without the messages' own bytes, so that the start need not
//! read those. It is gathered while a segment is written, or by a scan, and kept beside the segment.
//! Pure but for reading and writing its file. Floor 2.
//! Always: an outline that is read is one that was written whole; without it nothing is lost, the
//! segment is scanned.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::SegmentId;
use super::io::{Disk, DiskFile, read_exact, replace};
use super::record::{HEADER_BYTES, Header, Scan, read_mark};
use crate::message::{Mark, MessageId};

/// How its file begins: name and version of the format.
const MAGIC: &[u8; 16] = b"egret index v1\r\n";
/// Bytes before the marks.
const HEAD_BYTES: usize = 52;
/// Bytes of the offset before each message's head.
const OFFSET_BYTES: usize = 8;

/// What stands in a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// Of each message: where its record begins (8 bytes), header, metadata.
    messages: Vec<u8>,
    /// Whole records.
    marks: Vec<u8>,
}

/// A message in an outline.
pub(super) struct Outlined<'a> {
    /// Where its record begins in the segment.
    pub offset: u64,
    pub header: Header,
    pub meta: &'a [u8],
}

/// The file of a segment's outline in `directory`.
pub(super) fn path_of(directory: &Path, segment: SegmentId) -> PathBuf {
    directory.join(format!("{segment:010}.idx"))
}

/// The segment whose outline a file's name stands for.
pub(super) fn number_of(path: &Path) -> Option<SegmentId> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".idx")?;
    digits.parse().ok().filter(|_| digits.len() == 10)
}

impl Outline {
    /// An outline that says anything, for fuzzing.
    pub fn of(messages: &[u8], marks: &[u8]) -> Self {
        Self { messages: messages.to_vec(), marks: marks.to_vec() }
    }

    /// A message's record begins at `offset` with `head`: its header and metadata.
    pub fn add_message(&mut self, offset: u64, head: &[u8]) {
        self.messages.extend_from_slice(&offset.to_le_bytes());
        self.messages.extend_from_slice(head);
    }

    /// Records of marks stand in the segment.
    pub fn add_marks(&mut self, records: &[u8]) {
        self.marks.extend_from_slice(records);
    }

    /// The marks in their order.
    pub fn marks(&self) -> impl Iterator<Item = (MessageId, u16, Mark)> {
        let mut rest = &self.marks[..];
        std::iter::from_fn(move || {
            let Scan::Header(header) = Header::scan(rest) else { return None };
            let (record, after) = rest.split_at_checked(header.head_bytes())?;
            rest = after;
            let (part, mark) = read_mark(&record[HEADER_BYTES..])?;
            Some((header.id, part, mark))
        })
    }

    /// The messages in their order.
    pub fn messages(&self) -> impl Iterator<Item = Outlined<'_>> {
        let mut rest = &self.messages[..];
        std::iter::from_fn(move || {
            let (offset, record) = rest.split_first_chunk::<OFFSET_BYTES>()?;
            let Scan::Header(header) = Header::scan(record) else { return None };
            let (head, after) = record.split_at_checked(header.head_bytes())?;
            rest = after;
            Some(Outlined { offset: u64::from_le_bytes(*offset), header, meta: &head[HEADER_BYTES..] })
        })
    }

    /// Writes it beside a segment of `segment_bytes`, under its name only when it is whole.
    pub fn write(&self, disk: &dyn Disk, directory: &Path, segment: SegmentId, segment_bytes: u64) -> io::Result<()> {
        let head = self.head(segment_bytes);
        let mut pieces = [&head[..], &self.marks, &self.messages].map(IoSlice::new);
        replace(disk, &path_of(directory, segment), &mut pieces)
    }

    fn head(&self, segment_bytes: u64) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        for length in [segment_bytes, self.marks.len() as u64, self.messages.len() as u64] {
            head.extend_from_slice(&length.to_le_bytes());
        }
        head.extend_from_slice(&crc32fast::hash(&self.marks).to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(&self.messages).to_le_bytes());
        let crc = crc32fast::hash(&head);
        head.extend_from_slice(&crc.to_le_bytes());
        head
    }
}

/// An outline on the disk.
pub(super) struct OutlineFile {
    file: Arc<dyn DiskFile>,
    marks: Section,
    messages: Section,
}

struct Section {
    offset: u64,
    length: u64,
    crc: u32,
}

impl OutlineFile {
    /// The outline of a segment of `segment_bytes`; `None` if there is none.
    ///
    /// # Errors
    /// Why what is there cannot be used.
    pub fn open(
        disk: &dyn Disk,
        directory: &Path,
        segment: SegmentId,
        segment_bytes: u64,
    ) -> Result<Option<Self>, String> {
        let file = match disk.open(&path_of(directory, segment)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| error.to_string())?,
        };
        let mut head = [0; HEAD_BYTES];
        read_exact(&*file, &mut head, 0).map_err(|error| error.to_string())?;
        let length = file.length().map_err(|error| error.to_string())?;
        Self::understand(file, &head, length, segment_bytes).map(Some)
    }

    fn understand(
        file: Arc<dyn DiskFile>,
        head: &[u8; HEAD_BYTES],
        length: u64,
        segment_bytes: u64,
    ) -> Result<Self, String> {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| head[at + n]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| head[at + n]));
        if head[..MAGIC.len()] != *MAGIC || short(HEAD_BYTES - 4) != crc32fast::hash(&head[..HEAD_BYTES - 4]) {
            return Err("its head is damaged, or of another version".to_owned());
        }
        if long(16) != segment_bytes {
            return Err(format!("it is about {} bytes, the segment has {segment_bytes}", long(16)));
        }
        let marks = Section { offset: HEAD_BYTES as u64, length: long(24), crc: short(40) };
        let messages = Section { offset: marks.offset.saturating_add(marks.length), length: long(32), crc: short(44) };
        if messages.offset.saturating_add(messages.length) != length {
            return Err(format!("it has {length} bytes, which is not what its head says"));
        }
        Ok(Self { file, marks, messages })
    }

    /// Only its marks.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn marks(&self) -> Result<Outline, String> {
        Ok(Outline { marks: self.read(&self.marks)?, messages: Vec::new() })
    }

    /// Only its messages.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn messages(&self) -> Result<Outline, String> {
        Ok(Outline { marks: Vec::new(), messages: self.read(&self.messages)? })
    }

    /// All of it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn whole(&self) -> Result<Outline, String> {
        Ok(Outline { marks: self.read(&self.marks)?, messages: self.read(&self.messages)? })
    }

    fn read(&self, section: &Section) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; usize::try_from(section.length).map_err(|error| error.to_string())?];
        read_exact(&*self.file, &mut bytes, section.offset).map_err(|error| error.to_string())?;
        if crc32fast::hash(&bytes) == section.crc { Ok(bytes) } else { Err("its checksum does not fit".to_owned()) }
    }
}
