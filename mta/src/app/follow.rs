//! Follows what comes from elsewhere: the directory when it changes, the URL by its time. Floor 6.
//! Always: a mistake keeps the last good version in force, and is told once for each change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use egret_shared::clock::Clock;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::reload::Reloader;
use super::standing::From;
use crate::config::Texts;
use crate::elsewhere::files::{Look, look};
use crate::elsewhere::{Served, fetch, kept};

/// Between two looks at the directory. What looks the same twice is not being written any more.
const LOOK: Duration = Duration::from_millis(500);

/// The directory as it was seen.
#[derive(Default)]
struct Seen {
    directory: Option<PathBuf>,
    /// Of the last look.
    look: Option<Look>,
    /// What was read last.
    read: Option<Look>,
}

/// The URL as it was fetched.
#[derive(Default)]
struct Fetched {
    served: Option<Served>,
    next: Option<Instant>,
    /// A document with a mistake.
    bad: Option<String>,
}

/// Follows both until it is aborted.
pub(super) async fn follow(reloader: Reloader, clock: Clock) {
    let (mut seen, mut fetched) = (Seen::default(), Fetched::default());
    for from in From::ALL {
        reloader.standing.good(from);
    }
    loop {
        sleep(LOOK).await;
        let elsewhere = reloader.elsewhere();
        if elsewhere.directory != seen.directory {
            seen = Seen { directory: elsewhere.directory.clone(), ..Seen::default() };
            reloader.standing.good(From::Directory);
        }
        if let Some(directory) = seen.directory.clone() {
            follow_directory(&reloader, &clock, &directory, &mut seen).await;
        }
        if elsewhere.served != fetched.served {
            fetched = Fetched { served: elsewhere.served.clone(), ..Fetched::default() };
            reloader.standing.good(From::Url);
        }
        if let Some(served) = fetched.served.clone().filter(|_| fetched.next.is_none_or(|at| at <= Instant::now())) {
            follow_url(&reloader, &clock, &served, &mut fetched).await;
            fetched.next = Some(Instant::now() + served.refresh);
        }
    }
}

async fn follow_directory(reloader: &Reloader, clock: &Clock, directory: &Path, seen: &mut Seen) {
    let path = directory.to_owned();
    let Ok(now) = spawn_blocking(move || look(&path)).await else { return };
    let is_settled = seen.look.as_ref() == Some(&now);
    seen.look = Some(now.clone());
    if !is_settled || seen.read.as_ref() == Some(&now) {
        return;
    }
    seen.read = Some(now);
    match reloader.reload_directory(&directory.display().to_string()).await {
        Ok(()) => reloader.standing.good(From::Directory),
        // The reload has logged it.
        Err(why) => reloader.standing.wrong(From::Directory, &why, clock.wall()),
    };
}

async fn follow_url(reloader: &Reloader, clock: &Clock, served: &Served, fetched: &mut Fetched) {
    let document = match fetch::fetch(served).await {
        Ok(document) => document,
        Err(why) => {
            if reloader.standing.wrong(From::Url, &why, clock.wall()) {
                warn!(%why, "the egress URL gives no document; the last good one stays in force");
            }
            return;
        }
    };
    if fetched.bad.as_ref() == Some(&document) {
        return;
    }
    match reloader.take_document(&served.url, document.clone()).await {
        Ok(()) => {
            fetched.bad = None;
            if reloader.standing.good(From::Url) {
                info!(url = served.url, "the egress URL is good again");
            }
        }
        Err(why) => {
            fetched.bad = Some(document);
            reloader.standing.wrong(From::Url, &why, clock.wall());
        }
    }
}

/// Reads `file` and what it names, the document of a URL fetched; `keep` keeps it. Returns the texts with it, or with the
/// one that was kept before, and what to tell if it is that.
///
/// # Errors
/// Nothing can be read, or no good document is there.
pub async fn prepare(file: &Path, keep: bool) -> Result<(Texts, Option<String>), String> {
    let texts = Texts::read(file).map_err(|complaints| complaints.to_string())?;
    let Some((served, directory)) = texts.served() else { return Ok((texts, None)) };
    let has_kept = texts.document(&served.url).is_some();
    let why = match fetch::fetch(&served).await {
        Ok(document) => {
            let fresh = texts.clone().with_document(&served.url, &document);
            match fresh.parse() {
                Ok(_) => {
                    let problem = keep.then(|| kept::write(&directory, &served.url, &document).err()).flatten();
                    return Ok((fresh, problem.map(|why| format!("the document cannot be kept: {why}"))));
                }
                Err(complaints) => complaints.to_string(),
            }
        }
        Err(why) => why,
    };
    let file = kept::file(&directory);
    if has_kept {
        return Ok((texts, Some(format!("{why}\nthe document that is kept in {} is used", file.display()))));
    }
    Err(format!("{why}\nand no good document of before is kept in {}", file.display()))
}
