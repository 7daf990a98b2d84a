//! A small disk in memory for a spool. Needs root.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Command;

use egret_tests::harness::{Fleet, Options};
use nix::sys::statvfs::statvfs;

/// A tmpfs; it is unmounted when this is dropped.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Bytes that are free on it.
    pub fn free(&self) -> u64 {
        let found = statvfs(&self.at).expect("it is mounted");
        found.blocks_available() * found.fragment_size()
    }

    /// Takes every byte that is left with a file of its own.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file");
        let error = loop {
            if let Err(error) = file.write_all(&[0x55; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        assert_eq!(self.free(), 0);
    }

    /// Gives back what was filled.
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// A fleet whose spool lies on a disk of `size` (as mount reads it); `None`, with a message, where nothing
/// can be mounted.
pub fn fleet_on_small_disk(size: &str, options: &Options) -> Option<(Fleet, SmallDisk)> {
    let mut fleet = Fleet::start(options);
    assert!(fleet.mta.terminate().success());
    let at = fleet.file("spool");
    std::fs::remove_dir_all(&at).ok();
    std::fs::create_dir(&at).expect("made");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "egret-test"]).arg(&at);
    if !mount.output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no file system can be mounted here (needs root)");
        return None;
    }
    let disk = SmallDisk { at };
    fleet.restart_mta();
    Some((fleet, disk))
}
