//! The register: which segments there are, kept in a file beside them so that one that is missing is
//! told by name. Written before the first message of a new segment is acknowledged, and before a segment
//! is removed. Floor 2.
//! Always: it lists every segment that holds something acknowledged; it may list one that has been
//! begun and holds nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use super::index::SegmentId;
use super::io::{Disk, read_whole, replace};

/// How it begins: name and version of the format.
const FIRST_LINE: &str = "egret segments v1";

/// Its file in `directory`.
pub(super) fn path_of(directory: &Path) -> PathBuf {
    directory.join("segments")
}

/// Writes it durably.
pub(super) fn write(disk: &dyn Disk, directory: &Path, segments: &BTreeSet<SegmentId>) -> io::Result<()> {
    let mut text = format!("{FIRST_LINE}\n");
    for segment in segments {
        let _ = writeln!(text, "{segment:010}");
    }
    let _ = writeln!(text, "end {}", segments.len());
    replace(disk, &path_of(directory), &mut [IoSlice::new(text.as_bytes())])?;
    disk.sync_dir(directory)
}

/// Reads it; `None` if there is none.
///
/// # Errors
/// Why it cannot be used; the segments that are there are read all the same.
pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<BTreeSet<SegmentId>>, String> {
    let file = match disk.open(&path_of(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let bytes = read_whole(&*file).map_err(|error| error.to_string())?.bytes;
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    understand(text).map(Some).ok_or_else(|| "it is damaged, or of another version".to_owned())
}

pub(super) fn understand(text: &str) -> Option<BTreeSet<SegmentId>> {
    let (first, rest) = text.split_once('\n')?;
    let (numbers, end) = rest.rsplit_once("end ")?;
    let segments: BTreeSet<SegmentId> = numbers.lines().map(|line| line.parse().ok()).collect::<Option<_>>()?;
    let count: usize = end.strip_suffix('\n')?.parse().ok()?;
    (first == FIRST_LINE && count == segments.len()).then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_understood_whole_or_not_at_all() {
        let whole = "egret segments v1\n0000000007\n0000000012\nend 2\n";
        assert_eq!(understand(whole), Some(BTreeSet::from([7, 12])));
        assert_eq!(understand("egret segments v1\nend 0\n"), Some(BTreeSet::new()));
        for cut in 0..whole.len() {
            assert_eq!(understand(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(understand(&whole.replace('2', "3")), None);
        assert_eq!(understand(&whole.replace("v1", "v2")), None);
    }
}
