//! The last good document of a URL, the proxies that were announced last, how many nodes there were, what was used of
//! quotas, and on which days addresses were there first, kept in the spool's directory so that a start needs no server. Floor 3. Touches files.
//! Always: the file is whole, the old one or the new one, whenever the power fails.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use egret_shared::limits::UsedQuota;
use egret_shared::registry::first_days::FirstDays;
use egret_shared::registry::record::{ProxyRecord, Record as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// The name of the document's file.
const NAME: &str = "egress-url.toml";
/// The name of the file of proxies.
const PROXIES: &str = "announced-proxies.json";
/// The name of the file of the number of nodes.
const NODES: &str = "fleet-nodes.json";
/// The name of the file of quotas.
const QUOTAS: &str = "used-quotas.json";
/// The name of the file of first days.
const FIRST_DAYS: &str = "first-days.json";

/// Proxies that were announced.
#[derive(Debug, Serialize, Deserialize)]
struct Announced {
    /// Where: those of another Redis are others.
    redis: String,
    proxies: Vec<ProxyRecord>,
}

/// What was used of a quota of a day.
#[derive(Debug, Serialize, Deserialize)]
struct KeptQuota {
    name: String,
    day: u32,
    used: u64,
}

/// What this node has used of quotas; nothing if nothing is kept, or it cannot be read.
pub fn read_quotas(directory: &Path) -> Vec<UsedQuota> {
    let kept = load::<Vec<KeptQuota>>(directory, QUOTAS).unwrap_or_default().into_iter();
    kept.map(|KeptQuota { name, day, used }| UsedQuota { name: name.into(), day, used }).collect()
}

/// Keeps it. Blocks.
///
/// # Errors
/// What the operating system says; the text names the file.
pub fn write_quotas(directory: &Path, quotas: &[UsedQuota]) -> Result<(), String> {
    let used = |UsedQuota { name, day, used }: &UsedQuota| KeptQuota { name: name.to_string(), day: *day, used: *used };
    let text = serde_json::to_vec(&quotas.iter().map(used).collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    let told = |error: io::Error| format!("{}: {error}", directory.join(QUOTAS).display());
    replace(directory, QUOTAS, &text).map_err(told)
}

/// How many nodes there were.
#[derive(Debug, Serialize, Deserialize)]
struct Nodes {
    /// Where: those of another Redis are others.
    redis: String,
    nodes: u32,
}

/// How many nodes shared their limits by this Redis; `None` if nothing is kept, or it cannot be read.
pub fn read_nodes(directory: &Path, redis: &str) -> Option<u32> {
    load::<Nodes>(directory, NODES).filter(|kept| kept.redis == redis).map(|kept| kept.nodes)
}

/// Keeps it. Blocks.
///
/// # Errors
/// What the operating system says; the text names the file.
pub fn write_nodes(directory: &Path, redis: &str, nodes: u32) -> Result<(), String> {
    let text = serde_json::to_vec(&Nodes { redis: redis.to_owned(), nodes }).map_err(|error| error.to_string())?;
    let told = |error: io::Error| format!("{}: {error}", directory.join(NODES).display());
    replace(directory, NODES, &text).map_err(told)
}

/// The proxies that were announced in this Redis; none if nothing is kept, or it cannot be read.
pub fn read_proxies(directory: &Path, redis: &str) -> Vec<ProxyRecord> {
    let kept = load::<Announced>(directory, PROXIES).filter(|kept| kept.redis == redis);
    kept.map(|kept| kept.proxies).unwrap_or_default()
}

/// Keeps them. Blocks.
///
/// # Errors
/// What the operating system says; the text names the file.
pub fn write_proxies(directory: &Path, redis: &str, proxies: &[ProxyRecord]) -> Result<(), String> {
    let proxies = proxies.iter().map(ProxyRecord::settled).collect();
    let text =
        serde_json::to_vec(&Announced { redis: redis.to_owned(), proxies }).map_err(|error| error.to_string())?;
    let told = |error: io::Error| format!("{}: {error}", directory.join(PROXIES).display());
    replace(directory, PROXIES, &text).map_err(told)
}

/// The first days of addresses; none if nothing is kept, or it cannot be read. Whichever Redis they were agreed on by: an
/// address that is warm is so also when Redis is another one.
pub fn read_first_days(directory: &Path) -> FirstDays {
    load(directory, FIRST_DAYS).unwrap_or_default()
}

/// Keeps them. Blocks.
///
/// # Errors
/// What the operating system says; the text names the file.
pub fn write_first_days(directory: &Path, text: &str) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", directory.join(FIRST_DAYS).display());
    replace(directory, FIRST_DAYS, text.as_bytes()).map_err(told)
}

/// Where the document is kept.
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
    replace(directory, NAME, whole.as_bytes()).map_err(|error| format!("{}: {error}", file(directory).display()))
}

/// A document as it is kept.
pub fn with_heading(url: &str, toml: &str) -> String {
    format!("{}\n{toml}", heading(url))
}

fn heading(url: &str) -> String {
    format!("# From {url}; written by egret-mta, which does not look for changes here.")
}

/// What a file holds. One that is damaged is told, and is as if there were none.
fn load<T: DeserializeOwned>(directory: &Path, name: &str) -> Option<T> {
    let file = directory.join(name);
    let read = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        read => read.and_then(|text| serde_json::from_str(&text).map_err(io::Error::from)),
    };
    read.map_err(
        |error| warn!(file = %file.display(), %error, "what was kept cannot be read, and is as if there were none"),
    )
    .ok()
}

fn replace(directory: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let fresh = directory.join(format!("{name}.new"));
    let mut out = File::create(&fresh)?;
    out.write_all(text)?;
    out.sync_all()?;
    fs::rename(&fresh, directory.join(name))?;
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

    #[test]
    fn first_days_that_are_kept_are_there_and_damage_is_as_if_there_were_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut days = FirstDays::default();
        days.see(&[[192, 0, 2, 1].into()].into(), 100);
        days.suppose();
        write_first_days(directory.path(), &days.write()).expect("kept");
        assert_eq!(read_first_days(directory.path()).all(), days.all());
        fs::write(directory.path().join(FIRST_DAYS), "{").expect("written");
        assert!(read_first_days(directory.path()).is_empty());
    }

    #[test]
    fn damage_is_told_with_the_file_and_what_is_not_there_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let out = File::create(&log).expect("made");
        let subscriber = tracing_subscriber::fmt().with_writer(out).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            read_first_days(directory.path());
            for name in [FIRST_DAYS, PROXIES, NODES, QUOTAS] {
                fs::write(directory.path().join(name), "{").expect("written");
            }
            read_first_days(directory.path());
            read_proxies(directory.path(), "a");
            read_nodes(directory.path(), "a");
            read_quotas(directory.path());
        });
        let told = fs::read_to_string(&log).expect("the log");
        assert_eq!(told.lines().count(), 4, "{told}");
        for (line, name) in told.lines().zip([FIRST_DAYS, PROXIES, NODES, QUOTAS]) {
            assert!(line.contains("WARN") && line.contains(name) && line.contains("error="), "{line}");
        }
    }

    #[test]
    fn quotas_that_are_kept_are_there_and_damage_is_as_if_there_were_none() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(read_quotas(directory.path()), []);
        let used = [UsedQuota { name: "warmup a->b".into(), day: 7, used: 5 }];
        write_quotas(directory.path(), &used).expect("kept");
        assert_eq!(read_quotas(directory.path()), used);
        fs::write(directory.path().join(QUOTAS), "[").expect("written");
        assert_eq!(read_quotas(directory.path()), []);
    }

    #[test]
    fn the_number_of_nodes_that_is_kept_is_of_one_redis() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(read_nodes(directory.path(), "a"), None);
        write_nodes(directory.path(), "a", 4).expect("kept");
        assert_eq!([read_nodes(directory.path(), "a"), read_nodes(directory.path(), "b")], [Some(4), None]);
        fs::write(directory.path().join(NODES), "{").expect("written");
        assert_eq!(read_nodes(directory.path(), "a"), None);
    }

    #[test]
    fn proxies_that_are_kept_are_of_one_redis() {
        let directory = tempfile::tempdir().expect("a directory");
        let proxy = ProxyRecord { name: "p".to_owned(), sessions: 3, ..ProxyRecord::default() };
        assert_eq!(read_proxies(directory.path(), "a"), []);
        write_proxies(directory.path(), "a", std::slice::from_ref(&proxy)).expect("kept");
        assert_eq!(read_proxies(directory.path(), "a"), [proxy.settled()]);
        assert_eq!(read_proxies(directory.path(), "b"), []);
        fs::write(directory.path().join(PROXIES), "{").expect("written");
        assert_eq!(read_proxies(directory.path(), "a"), []);
    }
}
