//! The start: reads every segment, tells what is damaged, and gives out what is not done. Floor 2.
//! Always: one damaged record costs no other; nothing is removed here, and nothing is written to a
//! segment that was there before.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::{Index, Place, SegmentId};
use super::io::{Disk, read_exact};
use super::read::Segment;
use super::record::{HEADER_BYTES, Header, Kind, SEGMENT_MAGIC, Scan, next_magic, read_mark, read_message, read_meta};
use super::segment::number_of;
use super::{Damage, OpenError, Recovered, Report};
use crate::message::{Mark, MessageId, Metadata};

/// Where damaged segments go, within the spool.
const QUARANTINE: &str = "quarantine";

/// What the start found.
pub(super) struct Found {
    pub index: Index,
    pub files: HashMap<SegmentId, Segment>,
    pub report: Report,
}

/// What is known of the messages so far.
#[derive(Default)]
struct Messages(HashMap<MessageId, (Arc<Metadata>, u64)>);

/// Reads the spool in `directory`.
pub(super) fn recover(disk: &dyn Disk, directory: &Path, each: impl FnMut(Recovered)) -> Result<Found, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    let listed = disk.list(directory).map_err(failed(directory))?;
    let mut paths: Vec<_> = listed.into_iter().filter_map(|path| Some((number_of(&path)?, path))).collect();
    paths.sort_unstable();
    let last = paths.last().map(|(segment, _)| *segment);
    let mut found = Found { index: Index::default(), files: HashMap::new(), report: Report::default() };
    let mut messages = Messages::default();
    for (id, path) in paths {
        let file = disk.open(&path).map_err(failed(&path))?;
        let mut bytes = vec![0; usize::try_from(file.length().map_err(failed(&path))?).unwrap_or(usize::MAX)];
        read_exact(&*file, &mut bytes, 0).map_err(failed(&path))?;
        if !bytes.starts_with(SEGMENT_MAGIC) {
            let why = match bytes.len() < SEGMENT_MAGIC.len() {
                true => "it ends before its first record: it was being made when the program ended",
                false => "it is no segment of this version",
            };
            let moved = set_aside(disk, directory, &path).map_err(failed(&path))?;
            let why = format!("{why}; moved to {}", moved.display());
            found.report.damaged.push(Damage { file: path, offset: 0, why });
            continue;
        }
        found.index.begin_segment(id);
        found.index.grow(id, bytes.len() as u64);
        let damaged = found.read_segment(id, &path, &bytes, last == Some(id), &mut messages);
        found.files.insert(id, Segment { path, file, is_damaged: !damaged.is_empty() });
        found.report.damaged.extend(damaged);
    }
    found.give_out(&messages, each);
    Ok(found)
}

/// Moves a file to the quarantine; returns where it is now.
pub(super) fn set_aside(disk: &dyn Disk, directory: &Path, path: &Path) -> io::Result<PathBuf> {
    let quarantine = directory.join(QUARANTINE);
    disk.create_dir(&quarantine)?;
    let to = quarantine.join(path.file_name().unwrap_or_default());
    disk.rename(path, &to)?;
    Ok(to)
}

impl Found {
    /// Reads the records of one segment; returns its damage.
    fn read_segment(
        &mut self,
        segment: SegmentId,
        path: &Path,
        bytes: &[u8],
        is_last: bool,
        messages: &mut Messages,
    ) -> Vec<Damage> {
        let mut damaged = Vec::new();
        let mut at = SEGMENT_MAGIC.len();
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (step, why) = match self.read_record(segment, at, rest, messages) {
                Ok(step) => (step, None),
                Err(why) => (next_magic(rest).unwrap_or(rest.len()), Some(why)),
            };
            if let Some(why) = why {
                let is_tail = is_last && at + step == bytes.len();
                let fate = if is_tail { "a torn tail that was never acknowledged, or damage" } else { "damage" };
                let why = format!("{why} ({fate}; {step} bytes are passed over)");
                damaged.push(Damage { file: path.to_owned(), offset: at as u64, why });
            }
            at += step;
        }
        damaged
    }

    /// Reads the record at the beginning of `rest`; returns its length.
    fn read_record(
        &mut self,
        segment: SegmentId,
        at: usize,
        rest: &[u8],
        messages: &mut Messages,
    ) -> Result<usize, String> {
        let header = match Header::scan(rest) {
            Scan::Header(header) => header,
            Scan::More => return Err("a record's header is cut off".to_owned()),
            Scan::Bad(why) => return Err(why.to_owned()),
        };
        let length = usize::try_from(header.record_bytes()).unwrap_or(usize::MAX);
        let record = rest.get(..length).ok_or_else(|| format!("the record of {} is cut off", header.id))?;
        let meta = &record[HEADER_BYTES..HEADER_BYTES + header.meta_len as usize];
        let damaged = |why: &str| format!("record of message {}: {why}", header.id);
        match header.kind {
            Kind::Mark => {
                if crc32fast::hash(meta) != header.meta_crc {
                    return Err(damaged("the mark's checksum does not fit"));
                }
                let (part, mark) = read_mark(meta).ok_or_else(|| damaged("its mark cannot be understood"))?;
                self.index.mark(segment, header.id, part, &mark);
            }
            Kind::Message => {
                check(&header, record).map_err(|why| damaged(&why))?;
                let meta = Arc::new(read_meta(meta).map_err(|why| damaged(&why))?);
                let place = Place { segment, offset: at as u64, length: length as u64, open: meta.parts.len() as u16 };
                self.index.put(header.id, place);
                messages.0.insert(header.id, (meta, header.content_bytes()));
            }
        }
        Ok(length)
    }

    /// Gives out each part that is not done, oldest message first.
    fn give_out(&mut self, messages: &Messages, mut each: impl FnMut(Recovered)) {
        let mut live: Vec<_> = messages.0.iter().filter(|(id, _)| self.index.place(**id).is_some()).collect();
        live.sort_unstable_by_key(|(id, _)| **id);
        for (id, (meta, size)) in live {
            self.report.messages += 1;
            let marks = self.index.marks(*id);
            for part in 0..meta.parts.len() as u16 {
                let mark = marks.iter().find(|(marked, _)| *marked == part).map(|(_, mark)| mark);
                let (attempts, due, settled) = match mark {
                    Some(Mark::Done) => continue,
                    Some(Mark::Later { attempts, due, settled }) => (*attempts, Some(*due), settled.clone()),
                    None => (0, None, Vec::new()),
                };
                self.report.parts += 1;
                each(Recovered { id: *id, meta: meta.clone(), part, size: *size, attempts, due, settled });
            }
        }
    }
}

/// The checksums of a message's record.
fn check(header: &Header, record: &[u8]) -> Result<(), String> {
    debug_assert_eq!(header.record_bytes(), record.len() as u64);
    read_message(&bytes::Bytes::copy_from_slice(record)).map(drop)
}
