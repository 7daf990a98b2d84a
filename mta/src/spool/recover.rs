//! The start: reads every segment, tells what is damaged, and gives out what is not done. Floor 2.
//! Always: one damaged record costs no other; nothing is removed here, and nothing is written to a
//! segment that was there before.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::{Index, Place, SegmentId};
use super::io::{Disk, Read, read_whole};
use super::read::Segment;
use super::record::{HEADER_BYTES, Header, Kind, SEGMENT_MAGIC, SEGMENT_NAME, Scan, next_magic};
use super::record::{read_mark, read_message, read_meta};
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
        let is_last = last == Some(id);
        found.look_at(disk, directory, (id, &path, is_last), &mut messages).map_err(failed(&path))?;
    }
    found.give_out(&messages, each);
    Ok(found)
}

/// Moves a file to the quarantine; returns where it is now. What is there already is kept.
pub(super) fn set_aside(disk: &dyn Disk, directory: &Path, path: &Path) -> io::Result<PathBuf> {
    let quarantine = directory.join(QUARANTINE);
    disk.create_dir(&quarantine)?;
    let there = disk.list(&quarantine)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = std::iter::once(name.clone()).chain((1..=there.len()).map(|n| format!("{name}.{n}")));
    // One name more than there are files.
    let to = names.map(|name| quarantine.join(name)).find(|to| !there.contains(to));
    let to = to.ok_or(io::ErrorKind::AlreadyExists)?;
    disk.rename(path, &to)?;
    disk.sync_dir(&quarantine)?;
    disk.sync_dir(directory)?;
    Ok(to)
}

/// Why a file is not a segment of this version; `None` if it is, or was before its first bytes were damaged.
fn is_no_segment(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(SEGMENT_MAGIC) {
        return None;
    }
    if bytes.len() < SEGMENT_MAGIC.len() {
        return Some("it ends before its first record: it was being made when the program ended");
    }
    let is_other_version = bytes.starts_with(SEGMENT_NAME);
    (is_other_version || !holds_record(bytes)).then_some("it is no segment of this version")
}

/// Whether a header that this code wrote stands anywhere in `bytes`.
fn holds_record(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(step) = next_magic(&bytes[at..]) {
        at += step;
        if matches!(Header::scan(&bytes[at..]), Scan::Header(_)) {
            return true;
        }
    }
    false
}

impl Found {
    fn put_aside(&mut self, disk: &dyn Disk, directory: &Path, path: &Path, why: &str) -> io::Result<()> {
        let why = match set_aside(disk, directory, path) {
            Ok(moved) => format!("{why}; moved to {}", moved.display()),
            // Somebody only looks.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                format!("{why}; the next start moves it to {QUARANTINE}/")
            }
            Err(error) => return Err(error),
        };
        self.report.damaged.push(Damage { file: path.to_owned(), offset: 0, why });
        Ok(())
    }

    /// Reads one file: takes it for a segment, or moves it out of the way.
    fn look_at(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        (id, path, is_last): (SegmentId, &Path, bool),
        messages: &mut Messages,
    ) -> io::Result<()> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return self.put_aside(disk, directory, path, &error.to_string());
            }
            file => file?,
        };
        let Read { bytes, unreadable } = read_whole(&*file)?;
        if let Some(why) = is_no_segment(&bytes) {
            return self.put_aside(disk, directory, path, why);
        }
        let damage = |offset: u64, why: String| Damage { file: path.to_owned(), offset, why };
        self.index.begin_segment(id);
        self.index.grow(id, bytes.len() as u64);
        let mut damaged = self.read_segment(id, path, &bytes, is_last, messages);
        if !bytes.starts_with(SEGMENT_MAGIC) {
            damaged.push(damage(0, "its first bytes are damaged; its records are read all the same".to_owned()));
        }
        damaged
            .extend(unreadable.into_iter().map(|(at, error)| damage(at, format!("the disk cannot read it: {error}"))));
        // What a killed program wrote last may be in the system's memory only. Copies among it must be
        // durable before the segments that they came from are removed.
        if let Err(error) = file.sync() {
            damaged.push(damage(0, format!("it cannot be synced: {error}")));
        }
        let is_damaged = !damaged.is_empty();
        self.files.insert(id, Segment { path: path.to_owned(), file, is_damaged });
        self.report.damaged.extend(damaged);
        Ok(())
    }

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
                let (attempts, due, settled, moved) = match mark {
                    Some(Mark::Done) => continue,
                    Some(Mark::Later { attempts, due, settled, moved }) => {
                        (*attempts, Some(*due), settled.clone(), moved.clone())
                    }
                    None => (0, meta.not_before, Vec::new(), None),
                };
                self.report.parts += 1;
                each(Recovered { id: *id, meta: meta.clone(), part, size: *size, attempts, due, settled, moved });
            }
        }
    }
}

/// The checksums of a message's record.
fn check(header: &Header, record: &[u8]) -> Result<(), String> {
    debug_assert_eq!(header.record_bytes(), record.len() as u64);
    read_message(&bytes::Bytes::copy_from_slice(record)).map(drop)
}
