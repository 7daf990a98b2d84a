//! The last good document of a URL, kept in the spool's directory so that a start does not need its server.
//! Floor 3. Touches files.
//! Always: the file is whole, the old one or the new one, whenever the power fails.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The file's name.
const NAME: &str = "egress-url.toml";

/// Where it is kept.
pub fn file(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// What is kept of `url`: TOML. Nothing if it is of another URL, or cannot be read.
pub fn read(directory: &Path, url: &str) -> Option<String> {
    let text = fs::read_to_string(file(directory)).ok()?;
    (text.lines().next() == Some(&heading(url))).then_some(text)
}

/// Keeps it. Blocks.
///
/// # Errors
/// What the operating system says; the text names the file.
pub fn write(directory: &Path, url: &str, toml: &str) -> Result<(), String> {
    let whole = with_heading(url, toml);
    replace(directory, whole.as_bytes()).map_err(|error| format!("{}: {error}", file(directory).display()))
}

/// A document as it is kept.
pub fn with_heading(url: &str, toml: &str) -> String {
    format!("{}\n{toml}", heading(url))
}

fn heading(url: &str) -> String {
    format!("# From {url}; written by egret-mta, which does not look for changes here.")
}

fn replace(directory: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let fresh = directory.join(format!("{NAME}.new"));
    let mut out = File::create(&fresh)?;
    out.write_all(text)?;
    out.sync_all()?;
    fs::rename(&fresh, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_of_one_url() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("spool");
        assert_eq!(read(&path, "http://a/"), None);
        write(&path, "http://a/", "x = 1\n").expect("kept");
        assert!(read(&path, "http://a/").is_some_and(|text| text.ends_with("\nx = 1\n")));
        assert_eq!(read(&path, "http://b/"), None);
    }
}
