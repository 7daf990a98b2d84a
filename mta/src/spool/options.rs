//! Where the spool is and what it may use. Plain data. Floor 1.

use std::path::PathBuf;
use std::time::Duration;

/// The options of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its directory.
    pub path: PathBuf,
    /// The size at which a new segment is begun.
    pub segment_bytes: u64,
    /// With less free space than this, messages are refused.
    pub min_free_bytes: u64,
    /// Memory for bodies of fresh messages.
    pub body_cache_bytes: u64,
    /// How long a mark may wait for company on its way to the disk.
    pub max_unsynced_mark: Duration,
    /// How long after a segment was sealed its outline is written, if it is still needed.
    pub outline_after: Duration,
}

impl Options {
    /// The defaults, for a spool in `path`.
    pub fn in_path(path: PathBuf) -> Self {
        Self {
            path,
            segment_bytes: 64 << 20,
            min_free_bytes: 256 << 20,
            body_cache_bytes: 256 << 20,
            max_unsynced_mark: Duration::from_millis(50),
            outline_after: Duration::from_secs(5),
        }
    }
}
