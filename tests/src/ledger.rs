//! The ledger: what was acknowledged against what was seen, so that loss and duplicates are numbers.
//! Floor 0. Touches only the files it is given.
//! Always: one line is one delivery owed or made, `ID RECIPIENT`; a line is written after the fact.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use parking_lot::Mutex;
use serde::Serialize;

/// Lines appended to a file by many tasks; in memory until [`Ledger::flush`] or drop.
#[derive(Debug)]
pub struct Ledger(Mutex<BufWriter<File>>);

impl Ledger {
    /// Starts an empty ledger at `path`, over whatever was there.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        Ok(Self(Mutex::new(BufWriter::with_capacity(1 << 16, file))))
    }

    /// Notes that `id` for `recipient` was acknowledged, or was seen.
    ///
    /// # Errors
    /// If the buffer had to be written and could not be.
    pub fn note(&self, id: &str, recipient: &str) -> io::Result<()> {
        writeln!(self.0.lock(), "{id} {recipient}")
    }

    /// Hands everything noted so far to the kernel.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&self) -> io::Result<()> {
        self.0.lock().flush()
    }
}

/// What a comparison found. Counts are of deliveries: one for each recipient of each message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Acknowledged to the source, each counted once.
    pub accepted: usize,
    /// Of these, seen at least once.
    pub delivered: usize,
    /// Of these, never seen.
    pub lost: usize,
    /// Seen more often than once: the sum of what was too much.
    pub duplicated: usize,
    /// Seen but not acknowledged: the answer was lost on the way back, which is no fault.
    pub unacknowledged: usize,
    /// Up to ten lines that are lost, for whoever looks for them.
    pub examples: Vec<String>,
}

/// The most examples of lost lines that a comparison keeps.
const MAX_EXAMPLES: usize = 10;

/// Compares two ledgers. A last line without its end (a killed writer) is left out.
///
/// # Errors
/// If a file cannot be read.
pub fn compare(offered: &Path, seen: &Path) -> io::Result<Comparison> {
    let accepted: HashSet<String> = lines(offered)?.into_iter().collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for line in lines(seen)? {
        *counts.entry(line).or_default() += 1;
    }
    let mut found = Comparison { accepted: accepted.len(), ..Comparison::default() };
    for line in &accepted {
        if counts.contains_key(line) {
            found.delivered += 1;
        } else {
            found.lost += 1;
            if found.examples.len() < MAX_EXAMPLES {
                found.examples.push(line.clone());
            }
        }
    }
    found.duplicated = counts.values().map(|n| n - 1).sum();
    found.unacknowledged = counts.keys().filter(|line| !accepted.contains(*line)).count();
    Ok(found)
}

fn lines(path: &Path) -> io::Result<Vec<String>> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut all = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if let Some(whole) = line.strip_suffix('\n') {
            all.push(whole.to_owned());
        }
        line.clear();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_duplicates_are_counted() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (offered, seen) = (dir.path().join("offered"), dir.path().join("seen"));
        std::fs::write(&offered, "1 a@x\n2 a@x\n3 a@x\n3 b@x\n").expect("write");
        // The last line was cut by a kill and must not count.
        std::fs::write(&seen, "1 a@x\n1 a@x\n1 a@x\n3 a@x\n9 a@x\n2 a@x").expect("write");
        let found = compare(&offered, &seen).expect("both are there");
        assert_eq!((found.accepted, found.delivered, found.lost), (4, 2, 2));
        assert_eq!((found.duplicated, found.unacknowledged), (2, 1));
        assert_eq!(found.examples.len(), 2);
    }

    #[test]
    fn a_flushed_ledger_reads_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("ledger");
        let ledger = Ledger::create(&path).expect("created");
        ledger.note("7", "a@x").expect("noted");
        ledger.flush().expect("flushed");
        assert_eq!(lines(&path).expect("readable"), ["7 a@x"]);
    }
}
