//! What is known of who is there, from one look into the registry to the next. Pure: told the time. Floor 1.
//! Always: who was there stays while the registry cannot be asked, and for a while after it can again: its first answers
//! may come before everybody has spoken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::record::Record;

/// How long those who have not spoken yet are kept once the registry answers again.
const GRACE: Duration = Duration::from_secs(5);

/// What is known.
#[derive(Clone, Debug)]
pub struct Book<R> {
    known: BTreeMap<String, R>,
    is_away: bool,
    keep_until: Option<Instant>,
}

impl<R> Default for Book<R> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), is_away: false, keep_until: None }
    }
}

impl<R: Record> Book<R> {
    /// Who is there, by name.
    pub fn known(&self) -> impl Iterator<Item = &R> {
        self.known.values()
    }

    /// What was known when the program ran before. It counts until the registry has been asked.
    pub fn remember(&mut self, found: Vec<R>) {
        self.known = found.into_iter().map(|record| (record.name().to_owned(), record)).collect();
        self.is_away = true;
    }

    /// The registry cannot be asked.
    pub fn away(&mut self) {
        self.is_away = true;
    }

    /// What the registry says. Returns whether anything has changed but what changes all the time.
    pub fn learn(&mut self, found: Vec<R>, now: Instant) -> bool {
        if std::mem::take(&mut self.is_away) {
            self.keep_until = Some(now + GRACE);
        }
        let mut next: BTreeMap<String, R> = found.into_iter().map(|r| (r.name().to_owned(), r)).collect();
        if self.keep_until.is_some_and(|until| now < until) {
            for (name, record) in &self.known {
                next.entry(name.clone()).or_insert_with(|| record.clone());
            }
        }
        let settled = |all: &BTreeMap<String, R>| all.values().map(Record::settled).collect::<Vec<_>>();
        let has_changed = settled(&self.known) != settled(&next);
        self.known = next;
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::NodeRecord;
    use super::*;

    fn node(name: &str, queued: u64) -> NodeRecord {
        NodeRecord { name: name.to_owned(), queued, ..NodeRecord::default() }
    }

    #[test]
    fn who_is_silent_is_gone_but_not_because_the_registry_was_away() {
        let (mut book, now) = (Book::default(), Instant::now());
        assert!(book.learn(vec![node("a", 1), node("b", 1)], now));
        assert!(!book.learn(vec![node("b", 9), node("a", 2)], now), "load is no change");
        assert_eq!(book.known().map(|n| n.queued).collect::<Vec<_>>(), [2, 9]);
        book.away();
        assert!(!book.learn(vec![node("b", 1)], now), "a has had no time to speak");
        assert!(!book.learn(vec![node("b", 1)], now + GRACE / 2));
        assert!(book.learn(vec![node("b", 1)], now + GRACE));
        assert_eq!(book.known().count(), 1);
    }

    #[test]
    fn who_is_remembered_has_time_to_speak() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.remember(vec![node("a", 1)]);
        assert!(book.learn(vec![node("b", 1)], now) && book.known().count() == 2);
        assert!(book.learn(vec![node("b", 1)], now + GRACE) && book.known().count() == 1);
    }
}
