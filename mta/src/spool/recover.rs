//! The start: tells which segments there are at once, then reads them while new mail is taken: first
//! all marks, then the messages from the oldest on. What is not done is given out. Floor 2.
//! Always: one damaged record costs no other; nothing is removed here, and nothing is written to a
//! segment that was there before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::{Index, Noted, Place, SegmentId};
use super::io::{Disk, Read, read_whole, replace};
use super::outline::{self, Outline, OutlineFile, Outlined};
use super::read::{Segment, Shared};
use super::record::{Header, read_meta};
use super::scan::{Gap, is_no_segment, scan};
use super::segment::number_of;
use super::{Damage, OpenError, Recovered, Report, register};
use crate::message::{Mark, Metadata};

/// Where what is damaged goes, within the spool.
const QUARANTINE: &str = "quarantine";
/// Messages that are looked up in one go: the committer waits that long.
const GROUP: usize = 256;

/// What lies in the spool's directory, before it is read.
pub(super) struct Listing {
    pub index: Index,
    pub files: HashMap<SegmentId, Segment>,
    /// The number of the next new segment: no file bears it, or bore it.
    pub next_segment: SegmentId,
    pub damaged: Vec<Damage>,
}

/// The reading of what was there at the start.
#[must_use = "what is in the spool comes out of it"]
pub struct Recovery {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    shared: Arc<Shared>,
    /// From the oldest on.
    segments: Vec<(SegmentId, Segment)>,
    /// The youngest: only there a torn tail is to be expected.
    youngest: Option<SegmentId>,
    /// Nothing is believed but the segments themselves.
    reads_all: bool,
    noted: Noted,
    /// Outlines that could not be written to the disk.
    kept: BTreeMap<SegmentId, Outline>,
    report: Report,
}

/// Lists the spool in `directory`; what has a segment's name and cannot be one is set aside.
pub(super) fn list(disk: &dyn Disk, directory: &Path) -> Result<Listing, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| OpenError::Io { path, error }
    };
    let listed = disk.list(directory).map_err(failed(directory))?;
    let paths: BTreeMap<_, _> = listed.iter().filter_map(|path| Some((number_of(path)?, path.clone()))).collect();
    let outlines: BTreeSet<_> = listed.iter().filter_map(|path| outline::number_of(path)).collect();
    let registered = register::read(disk, directory);
    let mut damaged = Vec::new();
    if let Err(why) = &registered {
        let why = format!("{why}; segments that are missing are not noticed now. It is written anew");
        damaged.push(Damage { file: register::path_of(directory), offset: 0, why });
    }
    let registered = registered.ok().flatten().unwrap_or_default();
    let youngest = paths.keys().chain(&outlines).chain(&registered).max();
    let next_segment = youngest.map_or(1, |number| number + 1);
    let mut found = Listing { index: Index::recovering(next_segment), files: HashMap::new(), next_segment, damaged };
    for segment in outlines.iter().filter(|segment| !paths.contains_key(segment)) {
        // Its segment went just before the program ended. A disk that is only looked at keeps it.
        let _ = disk.remove(&outline::path_of(directory, *segment));
    }
    found.tell_missing(disk, directory, registered.iter().filter(|segment| !paths.contains_key(segment)));
    for (segment, path) in paths {
        found.open(disk, directory, segment, &path).map_err(failed(&path))?;
    }
    Ok(found)
}

impl Listing {
    fn open(&mut self, disk: &dyn Disk, directory: &Path, segment: SegmentId, path: &Path) -> io::Result<()> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.damaged.push(put_aside(disk, directory, path, &error.to_string())?);
                return Ok(());
            }
            file => file?,
        };
        self.index.begin_segment(segment);
        self.index.grow(segment, file.length()?);
        self.files.insert(segment, Segment { path: path.to_owned(), file });
        Ok(())
    }

    fn tell_missing<'a>(&mut self, disk: &dyn Disk, directory: &Path, missing: impl Iterator<Item = &'a SegmentId>) {
        // One that was set aside at a start that was cut short is told of already.
        let aside = disk.list(&directory.join(QUARANTINE)).unwrap_or_default();
        for segment in missing {
            let file = super::segment::path_of(directory, *segment);
            if aside.iter().any(|path| path.file_name() == file.file_name()) {
                continue;
            }
            let why = "this segment is missing: messages that were in it are lost, and what was delivered may be \
                       sent again if only this file said so; if you have it, stop the program and put it back";
            self.damaged.push(Damage { file, offset: 0, why: why.to_owned() });
        }
    }
}

/// Moves a file to the quarantine; returns where it is now. What is there already is kept.
fn set_aside(disk: &dyn Disk, directory: &Path, path: &Path) -> io::Result<PathBuf> {
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

fn put_aside(disk: &dyn Disk, directory: &Path, path: &Path, why: &str) -> io::Result<Damage> {
    let why = match set_aside(disk, directory, path) {
        Ok(moved) => format!("{why}; moved to {}", moved.display()),
        // Somebody only looks.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            format!("{why}; the next start moves it to {QUARANTINE}/")
        }
        Err(error) => return Err(error),
    };
    Ok(Damage { file: path.to_owned(), offset: 0, why })
}

impl Recovery {
    /// Of what `shared` lists.
    pub(super) fn new(disk: Arc<dyn Disk>, directory: PathBuf, shared: Arc<Shared>, damaged: Vec<Damage>) -> Self {
        let mut segments: Vec<_> = shared.files.lock().iter().map(|(id, segment)| (*id, segment.clone())).collect();
        segments.sort_unstable_by_key(|(id, _)| *id);
        let report = Report { damaged, ..Report::default() };
        let youngest = segments.last().map(|(id, _)| *id);
        let (noted, kept) = (Noted::default(), BTreeMap::new());
        Self { disk, directory, shared, segments, youngest, reads_all: false, noted, kept, report }
    }

    /// The segments are read whole, and their outlines compared with them.
    pub(super) fn read_all(self) -> Self {
        Self { reads_all: true, ..self }
    }

    /// Gives each part that is not done to `each`, from the oldest message on, and tells what was damaged.
    /// Blocks, for as long as it takes to read the spool. Until it has returned no room is won back; if
    /// `each` breaks off, that stays so until the next start.
    ///
    /// # Errors
    /// A file of which the disk can read nothing, or that can be neither used nor moved.
    pub fn run(mut self, mut each: impl FnMut(Recovered) -> ControlFlow<()>) -> Result<Report, OpenError> {
        let segments = std::mem::take(&mut self.segments);
        for (id, segment) in &segments {
            let failed = |error| OpenError::Io { path: segment.path.clone(), error };
            let outline = self.marks_of(*id, segment).map_err(failed)?;
            outline.marks().for_each(|(message, part, mark)| self.noted.note(*id, message, part, mark));
        }
        for (id, segment) in &segments {
            let failed = |error| OpenError::Io { path: segment.path.clone(), error };
            let outline = self.messages_of(*id, segment).map_err(failed)?;
            if self.give_out(*id, segment, &outline, &mut each).is_break() {
                return Ok(self.report);
            }
        }
        self.shared.index.lock().recovered();
        Ok(self.report)
    }

    /// The marks in a segment, from its outline if there is one.
    fn marks_of(&mut self, id: SegmentId, segment: &Segment) -> io::Result<Outline> {
        if self.reads_all {
            return self.compared(id, segment);
        }
        if let Some(outline) = self.read_outline(id, segment, OutlineFile::marks)? {
            return Ok(outline);
        }
        let (outline, is_sound) = self.scan(id, segment)?;
        let is_written = is_sound && {
            let length = segment.file.length()?;
            outline.write(&*self.disk, &self.directory, id, length).is_ok()
        };
        if !is_written {
            self.kept.insert(id, outline.clone());
        }
        Ok(outline)
    }

    /// What stands in a segment; tells if its outline says otherwise.
    fn compared(&mut self, id: SegmentId, segment: &Segment) -> io::Result<Outline> {
        let damaged = self.report.damaged.len();
        let (scanned, _) = self.scan(id, segment)?;
        let is_whole = self.report.damaged.len() == damaged;
        let outlined = self.read_outline(id, segment, OutlineFile::whole)?;
        if outlined.is_some_and(|outline| is_whole && outline != scanned) {
            self.tell_outline(id, "it is not what stands in the segment");
        }
        self.kept.insert(id, scanned.clone());
        Ok(scanned)
    }

    /// The messages in a segment whose marks are known.
    fn messages_of(&mut self, id: SegmentId, segment: &Segment) -> io::Result<Outline> {
        if let Some(outline) = self.kept.remove(&id) {
            return Ok(outline);
        }
        match self.read_outline(id, segment, OutlineFile::messages)? {
            Some(outline) => Ok(outline),
            None => Ok(self.scan(id, segment)?.0),
        }
    }

    /// What `section` reads of a segment's outline; `None` if that cannot be used, which is told.
    fn read_outline(
        &mut self,
        id: SegmentId,
        segment: &Segment,
        section: impl Fn(&OutlineFile) -> Result<Outline, String>,
    ) -> io::Result<Option<Outline>> {
        let opened = OutlineFile::open(&*self.disk, &self.directory, id, segment.file.length()?);
        let read = opened.and_then(|file| file.map(|file| section(&file)).transpose());
        Ok(read.unwrap_or_else(|why| {
            self.tell_outline(id, &why);
            None
        }))
    }

    fn tell_outline(&mut self, id: SegmentId, why: &str) {
        let why = format!("{why}; the segment itself is read");
        self.report.damaged.push(Damage { file: outline::path_of(&self.directory, id), offset: 0, why });
    }

    /// Reads a segment record by record; tells whether all of it can be read, and damage is kept elsewhere.
    fn scan(&mut self, id: SegmentId, segment: &Segment) -> io::Result<(Outline, bool)> {
        let Segment { path, file } = segment;
        let Read { bytes, unreadable } = read_whole(&**file)?;
        if let Some(why) = is_no_segment(&bytes) {
            let damage = put_aside(&*self.disk, &self.directory, path, why)?;
            self.report.damaged.push(damage);
            self.shared.files.lock().remove(&id);
            self.shared.index.lock().drop_segment(id);
            return Ok((Outline::default(), false));
        }
        let (outline, gaps) = scan(&bytes);
        let is_last = self.youngest == Some(id);
        let mut is_sound = unreadable.is_empty();
        for gap in gaps {
            let is_tail = is_last && gap.offset + gap.length == bytes.len();
            let fate = if is_tail { "a torn tail that was never acknowledged, or damage" } else { "damage" };
            let kept = self.keep_gap(path, &gap, &bytes);
            is_sound &= kept.is_ok();
            let kept = kept.unwrap_or_else(|error| format!(", which could not be kept elsewhere: {error}"));
            let why = format!("{} ({fate}; {} bytes are passed over{kept})", gap.why, gap.length);
            self.report.damaged.push(Damage { file: path.clone(), offset: gap.offset as u64, why });
        }
        let damage = |offset: u64, why: String| Damage { file: path.clone(), offset, why };
        let unreadable = unreadable.into_iter().map(|(at, error)| (at, format!("the disk cannot read it: {error}")));
        self.report.damaged.extend(unreadable.map(|(at, why)| damage(at, why)));
        // What a killed program wrote last may be in the system's memory only. Copies among it must be
        // durable before the segments that they came from are removed.
        if let Err(error) = file.sync() {
            is_sound = false;
            self.report.damaged.push(damage(0, format!("it cannot be synced: {error}")));
        }
        Ok((outline, is_sound))
    }

    /// Copies what cannot be understood to the quarantine; tells where.
    fn keep_gap(&self, path: &Path, gap: &Gap, bytes: &[u8]) -> io::Result<String> {
        let bytes = bytes.get(gap.offset..gap.offset + gap.length).unwrap_or_default();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(", all zeros".to_owned());
        }
        let quarantine = self.directory.join(QUARANTINE);
        let name = format!("{}@{}", path.file_name().unwrap_or_default().to_string_lossy(), gap.offset);
        let to = quarantine.join(name);
        let kept =
            self.disk.create_dir(&quarantine).and_then(|()| replace(&*self.disk, &to, &mut [IoSlice::new(bytes)]));
        match kept {
            // Somebody only looks.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(String::new()),
            kept => kept.map(|()| format!(" and kept in {}", to.display())),
        }
    }

    /// Gives out each part in `outline` that is not done.
    fn give_out(
        &mut self,
        id: SegmentId,
        segment: &Segment,
        outline: &Outline,
        each: &mut impl FnMut(Recovered) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut found = Vec::with_capacity(GROUP);
        let mut messages = outline.messages().peekable();
        while messages.peek().is_some() {
            for Outlined { offset, header, meta } in messages.by_ref().take(GROUP) {
                match read_meta(meta) {
                    Ok(meta) => {
                        let parts = meta.parts.len() as u16;
                        let place = Place { segment: id, offset, length: header.record_bytes(), parts, open: parts };
                        found.push((header, place, meta));
                    }
                    Err(why) => {
                        let why = format!("record of message {}: {why}", header.id);
                        self.report.damaged.push(Damage { file: segment.path.clone(), offset, why });
                    }
                }
            }
            self.look_up(&mut found).into_iter().try_for_each(&mut *each)?;
        }
        ControlFlow::Continue(())
    }

    /// The open parts of those of `found` that are news and live.
    fn look_up(&mut self, found: &mut Vec<(Header, Place, Metadata)>) -> Vec<Recovered> {
        let mut parts = Vec::with_capacity(found.len());
        let mut index = self.shared.index.lock();
        for (header, place, meta) in found.drain(..) {
            if !index.find(header.id, place, &self.noted) {
                continue;
            }
            self.report.messages += 1;
            let meta = Arc::new(meta);
            let marks: Vec<_> = index.marks(header.id).collect();
            for part in 0..place.parts {
                let mark = marks.iter().find(|(marked, _)| *marked == part).map(|(_, mark)| *mark);
                parts.extend(open_part(&header, &meta, part, mark));
            }
        }
        self.report.parts += parts.len();
        parts
    }
}

/// A part of a message as its last mark leaves it; `None` if it is done.
fn open_part(header: &Header, meta: &Arc<Metadata>, part: u16, mark: Option<&Mark>) -> Option<Recovered> {
    let (attempts, due, settled, moved) = match mark {
        Some(Mark::Done) => return None,
        Some(Mark::Later { attempts, due, settled, moved }) => (*attempts, Some(*due), settled.clone(), moved.clone()),
        None => (0, meta.not_before, Vec::new(), None),
    };
    let (id, meta, size) = (header.id, meta.clone(), header.content_bytes());
    Some(Recovered { id, meta, part, size, attempts, due, settled, moved })
}
