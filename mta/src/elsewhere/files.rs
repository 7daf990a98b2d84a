//! The directory: its files in the order of their names, and whether they have changed. Floor 3. Reads files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use egret_shared::config::Written;

/// Files that are read; a directory that holds more is a mistake.
const MAX_FILES: usize = 10_000;

/// What a directory looks like from outside: names, and when and what its files are.
pub type Look = Vec<(PathBuf, [i64; 5])>;

/// The files `*.toml` in `directory`, in the order of their names. Hidden ones, which editors leave, do not count.
///
/// # Errors
/// What the operating system says; the text names the directory.
pub fn names(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let told = |error: io::Error| format!("{}: {error}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(told)? {
        let path = entry.map_err(told)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        if is_toml && !name.starts_with('.') {
            names.push(path);
        }
        if names.len() > MAX_FILES {
            return Err(format!("{} holds more than {MAX_FILES} files", directory.display()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads them.
///
/// # Errors
/// As [`names`]; the text names the file.
pub fn read(directory: &Path) -> Result<Vec<Written>, String> {
    let read = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(text) => Ok(Written { name: path.display().to_string(), text, has_lines: true }),
        Err(error) => Err(format!("{}: {error}", path.display())),
    };
    names(directory)?.into_iter().map(read).collect()
}

/// What it looks like now; a directory that cannot be read looks empty.
pub fn look(directory: &Path) -> Look {
    let look = |path: PathBuf| {
        let told = fs::metadata(&path).map_or([0; 5], |file| {
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            [number(file.ino()), number(file.len()), file.mtime(), file.mtime_nsec(), file.ctime_nsec()]
        });
        (path, told)
    };
    names(directory).unwrap_or_default().into_iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_order_and_each_change_shows() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        for (name, text) in [("b.toml", "b"), ("a.toml", "a"), (".c.toml", "c"), ("d.toml~", "d")] {
            fs::write(path.join(name), text).expect("written");
        }
        let texts: Vec<_> = read(path).expect("readable").into_iter().map(|written| written.text).collect();
        assert_eq!(texts, ["a", "b"]);
        let before = look(path);
        fs::write(path.join(".c.toml"), "other").expect("written");
        assert_eq!(look(path), before);
        fs::write(path.join("fresh"), "b").expect("written");
        fs::rename(path.join("fresh"), path.join("b.toml")).expect("moved");
        assert_ne!(look(path), before, "another file of the same length");
        let gone = path.join("gone");
        assert!(read(&gone).expect_err("there is none").contains("gone") && look(&gone).is_empty());
    }
}
