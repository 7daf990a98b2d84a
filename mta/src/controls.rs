//! The file of the orders that last, `controls.json` in the spool's directory. Floor 3.
//! Knows what an order is written like, not what it does. One order a line, within a JSON list.
//! Always: the file is whole, the old one or the new one, whenever the power fails; what cannot be read
//! is told with file and line and set aside, and costs no other line.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::error;

use crate::queue::control::words::Control;

/// The file's name.
const NAME: &str = "controls.json";
/// Damaged files that are kept beside it.
const MAX_DAMAGED: u32 = 1_000;

/// A line that is no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file as it was.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
    /// Where the file is now.
    pub moved: PathBuf,
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Orders that could be read.
    pub controls: Vec<Control>,
    /// Lines that could not.
    pub damaged: Vec<Damage>,
}

/// Keeps orders in the file, the last that were given. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    directory: Arc<Path>,
    /// Lists that were given so far.
    given: Arc<AtomicU64>,
    /// Held while the file is written: the number of the list in it.
    written: Arc<Mutex<u64>>,
    told: watch::Sender<(u64, Result<(), String>)>,
}

impl Keeper {
    /// Reads the file in `directory`, if there is one, and sets it aside if it is damaged. Blocks.
    ///
    /// # Errors
    /// That it cannot be read or set aside at all; the text names the file.
    pub fn open(directory: &Path) -> Result<(Self, Found), String> {
        let file = directory.join(NAME);
        let found =
            read(&file).map_err(|error| format!("{}: {error}; may this user read and write it?", file.display()))?;
        let (directory, told) = (directory.into(), watch::Sender::new((0, Ok(()))));
        let keeper = Self { directory, given: Arc::default(), written: Arc::default(), told };
        if !found.damaged.is_empty() {
            write(&keeper.directory, &found.controls).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok((keeper, found))
    }

    /// Writes `controls` in place of those of before; returns at once.
    pub fn keep(&self, controls: Vec<Control>) {
        let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
        let keeper = self.clone();
        tokio::task::spawn_blocking(move || keeper.write(number, &controls));
    }

    /// Waits until what was given before is on stable storage.
    ///
    /// # Errors
    /// That it is not, and why.
    pub async fn settled(&self) -> Result<(), String> {
        let number = self.given.load(Ordering::SeqCst);
        let mut told = self.told.subscribe();
        match told.wait_for(|(done, _)| *done >= number).await {
            Ok(state) => state.1.clone(),
            Err(_) => Err("the program is stopping".to_owned()),
        }
    }

    /// A newer list may have been written before this one's turn: then that one stays.
    fn write(&self, number: u64, controls: &[Control]) {
        let mut written = self.written.lock();
        if number <= *written {
            return;
        }
        let result = write(&self.directory, controls).map_err(|error| {
            let file = self.directory.join(NAME);
            error!(file = %file.display(), %error, "controls are in force but would not survive a restart");
            format!("{}: {error}", file.display())
        });
        *written = number;
        let _before = self.told.send_replace((number, result));
    }
}

fn write(directory: &Path, controls: &[Control]) -> io::Result<()> {
    let mut text = String::from("[\n");
    for (at, control) in controls.iter().enumerate() {
        text.push_str(&serde_json::to_string(control)?);
        text.push_str(if at + 1 < controls.len() { ",\n" } else { "\n" });
    }
    text.push_str("]\n");
    let fresh = directory.join(format!("{NAME}.new"));
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

fn read(file: &Path) -> io::Result<Found> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(error) => return Err(error),
    };
    let (controls, bad) = parse(&String::from_utf8_lossy(&bytes));
    if bad.is_empty() {
        return Ok(Found { controls, damaged: Vec::new() });
    }
    let moved = set_aside(file)?;
    let damage = |(line, why)| Damage { file: file.to_owned(), line, why, moved: moved.clone() };
    Ok(Found { controls, damaged: bad.into_iter().map(damage).collect() })
}

/// The orders, and the lines that are none.
fn parse(text: &str) -> (Vec<Control>, Vec<(usize, String)>) {
    let (mut controls, mut bad) = (Vec::new(), Vec::new());
    let mut lines: Vec<(usize, &str)> = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())).collect();
    let last = lines.len().max(1);
    if lines.first().is_none_or(|(_, line)| *line != "[") {
        bad.push((1, "the list does not begin with a line `[`".to_owned()));
    }
    if lines.last().is_none_or(|(_, line)| *line != "]") {
        bad.push((last, "the list does not end with a line `]`: the rest is missing".to_owned()));
    }
    lines.retain(|(_, line)| !matches!(*line, "" | "[" | "]"));
    for (at, line) in lines {
        match serde_json::from_str(line.trim_end_matches(',')) {
            Ok(control) => controls.push(control),
            Err(error) => bad.push((at, error.to_string())),
        }
    }
    (controls, bad)
}

/// Moves a damaged file out of the way; what was set aside before is kept.
fn set_aside(file: &Path) -> io::Result<PathBuf> {
    let names = (1..=MAX_DAMAGED).map(|n| file.with_file_name(format!("{NAME}.damaged.{n}")));
    let to = names.into_iter().find(|to| !to.exists()).ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(file, &to)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use egret_shared::clock::UnixMs;

    use super::*;
    use crate::queue::control::words::{By, ControlKind, Scope};

    fn control(id: &str) -> Control {
        let scope = Scope { tenant: Some("t\"]\n[".into()), ..Scope::default() };
        let (id, kind, reason) = (id.parse().expect("an id"), ControlKind::Suspend, "a line\nbreak, [".to_owned());
        let (silent, created, expires, by) = (false, UnixMs(1), UnixMs(2), By::Automation);
        Control { id, kind, scope, reason, silent, created, expires, by, setting: None, relapses: 3 }
    }

    #[tokio::test]
    async fn what_was_kept_is_there_at_the_next_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let (keeper, found) = Keeper::open(directory.path()).expect("opens");
        assert_eq!(found, Found::default());
        for n in 1..=20 {
            keeper.keep((0..n).map(|n| control(&format!("{n:x}"))).collect());
        }
        keeper.settled().await.expect("written");
        let (_, found) = Keeper::open(directory.path()).expect("opens");
        assert_eq!((found.controls.len(), found.damaged.len()), (20, 0), "the last that was given");
        assert_eq!(found.controls[3], control("3"));
    }

    #[test]
    fn a_damaged_line_is_told_and_costs_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &[control("a"), control("b"), control("c")]).expect("written");
        let file = directory.path().join(NAME);
        let text = fs::read_to_string(&file).expect("readable");
        fs::write(&file, text.replace("\"id\":\"b\"", "\"id\":\"b")).expect("written");
        let (_, found) = Keeper::open(directory.path()).expect("opens");
        assert_eq!(found.controls, [control("a"), control("c")]);
        assert_eq!((found.damaged[0].line, &found.damaged[0].file), (3, &file));
        assert!(found.damaged[0].moved.exists());
        fs::write(&file, &text[..text.len() / 2]).expect("written");
        let (_, found) = Keeper::open(directory.path()).expect("opens");
        assert!(!found.damaged.is_empty() && found.damaged[0].moved.ends_with("controls.json.damaged.2"), "{found:?}");
        let (_, found) = Keeper::open(directory.path()).expect("opens");
        assert!(found.damaged.is_empty(), "it is whole again");
    }

    #[tokio::test]
    async fn a_disk_that_refuses_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let (keeper, _) = Keeper::open(directory.path()).expect("opens");
        drop(directory);
        keeper.keep(vec![control("a")]);
        assert!(keeper.settled().await.expect_err("no directory").contains("controls.json"));
    }
}
