//! What the system says of memory: how much the program has, and how much there is.
//! Reads files below `/proc` and `/sys`. Floor 2.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of the program that are in memory.
///
/// # Errors
/// Why `/proc` does not say.
pub fn resident() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/self/statm").map_err(|error| format!("/proc/self/statm: {error}"))?;
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| format!("/proc/self/statm: {text:?} has no second number"))?;
    Ok(pages * page_bytes())
}

fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

/// Bytes of memory that the program can have: those of the host, or fewer if a group of processes (cgroup)
/// that it belongs to has a limit. `None` if nobody says.
pub fn total() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| host_total(&text));
    group_limit(&groups, Path::new("/sys/fs/cgroup")).into_iter().chain(host).min()
}

/// `MemTotal` of `/proc/meminfo`.
fn host_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The least limit of the groups that `/proc/self/cgroup` names and of those around them, below `root`.
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (_, named) = line.split_once(':')?;
        let (controllers, path) = named.split_once(':')?;
        match controllers {
            "" => least(root, path, &["memory.max", "memory.high"]),
            old if old.split(',').any(|name| name == "memory") => {
                least(&root.join("memory"), path, &["memory.limit_in_bytes"])
            }
            _ => None,
        }
    });
    limits.min()
}

/// The least number in the files called `names` in the folder of `group` below `root` and those around it.
fn least(root: &Path, group: &str, names: &[&str]) -> Option<u64> {
    let mut folder: PathBuf = root.join(group.trim_start_matches('/'));
    let mut found: Option<u64> = None;
    while folder.starts_with(root) {
        for name in names {
            let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
            // "max" is no limit.
            if let Ok(limit) = text.trim().parse::<u64>() {
                found = Some(found.map_or(limit, |least| least.min(limit)));
            }
        }
        if !folder.pop() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_some_memory_and_no_more_than_there_is() {
        let used = resident().expect("a Linux host");
        assert!(used > 1 << 20 && used < total().expect("a Linux host"), "{used} of {:?}", total());
    }

    #[test]
    fn the_host_says_kibibytes() {
        assert_eq!(host_total("MemFree: 1 kB\nMemTotal:       16 kB\n"), Some(16 << 10));
        assert_eq!(host_total("MemTotal: lots\n"), None);
    }

    #[test]
    fn the_least_limit_of_a_group_and_those_around_it_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, text).expect("written");
        };
        write("a/memory.max", "4096\n");
        write("a/b/memory.max", "max\n");
        write("a/b/memory.high", "8192\n");
        write("memory/m/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/m/n/memory.limit_in_bytes", "2048\n");
        for (groups, limit) in [
            ("0::/a/b\n", Some(4096)),
            ("0::/\n", None),
            ("0::/gone\n", None),
            ("4:cpu,memory:/m/n\n0::/a/b\n", Some(2048)),
            ("4:memory:/m\n", Some(9_223_372_036_854_771_712)),
            ("nonsense", None),
        ] {
            assert_eq!(group_limit(groups, root.path()), limit, "{groups}");
        }
    }
}
