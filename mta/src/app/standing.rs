//! What is wrong with what comes from elsewhere, until it is good again: for health, metrics and the API. Floor 6.
//! Always: a mistake is told once, however often it is seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use metrics::gauge;
use parking_lot::Mutex;
use serde::Serialize;

/// Where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum From {
    Directory,
    Url,
    Registry,
}

impl From {
    pub const ALL: [Self; 3] = [Self::Directory, Self::Url, Self::Registry];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Url => "url",
            Self::Registry => "registry",
        }
    }
}

/// A mistake, and since when it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Mistake {
    pub since: UnixMs,
    pub why: String,
}

/// What stands. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing(Arc<Mutex<BTreeMap<From, Mistake>>>);

impl Standing {
    /// It is good; says whether it was not.
    pub fn good(&self, from: From) -> bool {
        gauge!("egret_mta_egress_stale", "from" => from.as_str()).set(0.0);
        self.0.lock().remove(&from).is_some()
    }

    /// A reload that went well has read the directory, too.
    pub fn directory_is_good(&self) {
        self.good(From::Directory);
    }

    /// It is wrong, and the last good version stays; says whether that is news.
    pub fn wrong(&self, from: From, why: &str, now: UnixMs) -> bool {
        gauge!("egret_mta_egress_stale", "from" => from.as_str()).set(1.0);
        let mut all = self.0.lock();
        let mistake = all.entry(from).or_insert_with(|| Mistake { since: now, why: String::new() });
        let is_news = mistake.why != why;
        why.clone_into(&mut mistake.why);
        is_news
    }

    /// All that stands.
    pub fn mistakes(&self) -> BTreeMap<From, Mistake> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_news_once_and_keeps_its_begin() {
        let standing = Standing::default();
        assert!(standing.wrong(From::Url, "a", UnixMs(1)));
        assert!(!standing.wrong(From::Url, "a", UnixMs(2)));
        assert!(standing.wrong(From::Url, "b", UnixMs(3)));
        assert_eq!(standing.mistakes()[&From::Url], Mistake { since: UnixMs(1), why: "b".to_owned() });
        assert!(standing.good(From::Url) && !standing.good(From::Url));
    }
}
