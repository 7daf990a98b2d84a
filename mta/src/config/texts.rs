//! What `mta.toml` is made of: its own text, the files of the directory that it names, and the last good document of the
//! URL that it names. Floor 5. Reads files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egret_shared::config::{Complaint, Complaints, Section, Written, changed_keys, parse_all, values};
use egret_shared::units::Wait;

use super::{Config, build};
use crate::elsewhere::{Elsewhere, Served, fetch, files, kept};

/// The tables that may stand elsewhere than in the main file.
const ELSEWHERE: [&str; 5] = ["proxy", "source", "pool", "route", "dkim"];

/// The texts of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The main file.
    pub main: Written,
    /// The others.
    pub more: Vec<Written>,
}

impl Texts {
    /// Reads them.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(file: &Path) -> Result<Self, Complaints> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::beside(Written { name, text, has_lines: true }),
            Err(error) => Err(unreadable(&name, "", &error.to_string())),
        }
    }

    /// A main file's text that is at hand, and what is beside it now.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn beside(main: Written) -> Result<Self, Complaints> {
        let found = values(&main.text);
        let mut more = match found.get("egress.directory") {
            Some(directory) => {
                let directory = beside(&main.name, Path::new(directory));
                files::read(&directory).map_err(|error| unreadable(&main.name, "egress.directory", &error))?
            }
            None => Vec::new(),
        };
        if let (Some(url), Some(spool)) = (found.get("egress.url"), found.get("spool.path"))
            && let Some(text) = kept::read(Path::new(spool), url)
        {
            more.push(Written { name: url.clone(), text, has_lines: false });
        }
        Ok(Self { main, more })
    }

    /// The URL that the main file names, and where its last good document is kept, before the whole is understood:
    /// what the file means may hang on the document.
    pub fn served(&self) -> Option<(Served, PathBuf)> {
        let found = values(&self.main.text);
        let path = |key: &str| found.get(key).map(PathBuf::from);
        let [token_file, authorities] = ["egress.token_file", "egress.tls_authorities"].map(path);
        let (url, refresh) = (found.get("egress.url")?.clone(), Duration::ZERO);
        Some((Served { url, refresh, token_file, authorities }, path("spool.path")?))
    }

    /// The document behind the URL that is in use.
    pub fn document(&self, url: &str) -> Option<&str> {
        self.more.iter().find(|written| written.name == url).map(|written| &*written.text)
    }

    /// The same with another document behind the URL.
    #[must_use]
    pub fn with_document(mut self, url: &str, toml: &str) -> Self {
        self.more.retain(|written| written.name != url);
        let text = kept::with_heading(url, toml);
        self.more.push(Written { name: url.to_owned(), text, has_lines: false });
        self
    }

    /// What they mean.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(&self) -> Result<Config, Complaints> {
        parse_all(&self.main, &self.more, &ELSEWHERE, build)
    }

    /// All keys with their values in words, routes numbered through all texts.
    pub fn values(&self) -> BTreeMap<String, String> {
        let (mut all, mut routes) = (values(&self.main.text), 0);
        for written in &self.more {
            routes = all.keys().filter_map(|key| place(key)).map(|place| place + 1).max().unwrap_or(routes);
            let found = values(&written.text).into_iter().map(|(key, value)| match place(&key) {
                Some(n) => (key.replacen(&format!("[{n}]"), &format!("[{}]", n + routes), 1), value),
                None => (key, value),
            });
            all.extend(found);
        }
        all
    }

    /// The keys that have other values in `later`.
    pub fn changed(&self, later: &Self) -> Vec<String> {
        let mut changed = changed_keys(&self.main.text, &later.main.text);
        let names = self.more.iter().chain(&later.more).map(|written| &written.name);
        for name in names {
            let text = |all: &Self| all.more.iter().find(|w| w.name == *name).map_or("", |w| &w.text).to_owned();
            changed.extend(changed_keys(&text(self), &text(later)));
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

/// A path that is named from the directory of `file`.
pub(super) fn beside(file: &str, path: &Path) -> PathBuf {
    Path::new(file).parent().unwrap_or(Path::new("")).join(path)
}

/// The number in `route[2].name`.
fn place(key: &str) -> Option<usize> {
    key.strip_prefix("route[")?.split_once(']')?.0.parse().ok()
}

fn unreadable(file: &str, key: &str, error: &str) -> Complaints {
    let message = format!("cannot be read: {error}");
    Complaints(vec![Complaint { file: file.to_owned(), line: 0, key: key.to_owned(), message }])
}

/// `[egress]`.
pub(super) fn elsewhere(root: &Section<'_>) -> Elsewhere {
    let section = root.section("egress");
    let directory = section.optional::<PathBuf>(
        "directory",
        "A directory of files `*.toml` with more of `[proxy]`, `[source]`, `[pool]`, `[[route]]` and `[[dkim.signature]]`, written as here; named from the directory of this file. Read anew when they change.",
    );
    let directory = directory.map(|directory| beside(section.file(), &directory));
    let url = section.optional::<String>("url", "A URL (http or https) that returns the same as JSON.");
    let refresh = section.with_default::<Wait>(
        "refresh",
        "\"60s\"",
        "How often the URL is fetched. What is fetched holds at once.",
    );
    let token_file =
        section.optional::<PathBuf>("token_file", "A file with the token that is shown to the URL's server (Bearer).");
    let authorities = section.optional::<PathBuf>(
        "tls_authorities",
        "The certificates (PEM) of who may sign the server's; the Mozilla root program if absent.",
    );
    if let Some(Err(why)) = url.as_deref().map(fetch::judge) {
        section.complain("url", why);
    }
    if url.is_none() {
        for (key, is_there) in [("token_file", token_file.is_some()), ("tls_authorities", authorities.is_some())] {
            if is_there {
                section.complain(key, "stands alone; url belongs to it");
            }
        }
    }
    let served = url.map(|url| Served { url, refresh: refresh.0, token_file, authorities });
    Elsewhere { directory, served }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, text: &str) -> Written {
        Written { name: name.to_owned(), text: text.to_owned(), has_lines: true }
    }

    fn texts(main: &str, more: &[&str]) -> Texts {
        let more = more.iter().enumerate().map(|(n, text)| written(&format!("{n}.toml"), text)).collect();
        Texts { main: written("mta.toml", main), more }
    }

    #[test]
    fn keys_are_told_through_all_texts_and_so_are_changes() {
        let before = texts(
            "[[route]]\nname = \"a\"\n[queue]\nmax_ready = 1\n",
            &["[[route]]\nname = \"b\"\n", "[[route]]\nname = \"c\"\n[[route]]\nname = \"d\"\n"],
        );
        let values = before.values();
        let names: Vec<_> = (0..4).map(|n| values[&format!("route[{n}].name")].as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        let after = texts("[[route]]\nname = \"a\"\n[queue]\nmax_ready = 2\n", &["[pool.x]\nsources = { a = 1 }\n"]);
        let changed = before.changed(&after);
        assert_eq!(changed, ["pool.x.sources.a", "queue.max_ready", "route[0].name", "route[1].name"]);
        assert!(after.changed(&after).is_empty());
    }

    #[test]
    fn a_document_takes_the_place_of_the_one_before() {
        let main = "[spool]\npath = \"/s\"\n[egress]\nurl = \"http://a/\"\ntoken_file = \"t\"\n";
        let texts = texts(main, &[]).with_document("http://a/", "x = 1\n").with_document("http://a/", "x = 2\n");
        assert!(texts.more.len() == 1 && texts.document("http://a/").is_some_and(|text| text.ends_with("\nx = 2\n")));
        let (served, directory) = texts.served().expect("a URL");
        assert_eq!((served.url.as_str(), served.token_file, directory), ("http://a/", Some("t".into()), "/s".into()));
    }
}
