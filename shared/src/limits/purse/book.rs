//! Accounts of one kind, by their names. Pure. Floor 1.
//! Always: what is done once a second costs by the accounts that have something, not by all that are remembered.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Accounts above which idle ones are looked for.
const SWEEP_ABOVE: usize = 4096;

#[derive(Debug)]
pub(super) struct Book<K, A> {
    pub(super) accounts: HashMap<K, A>,
    /// Those that are to be looked at once a second: they have something, or wait for it.
    active: HashSet<K>,
    sweep_at: usize,
}

impl<K: Eq + Hash + Clone, A> Book<K, A> {
    pub(super) fn new() -> Self {
        Self { accounts: HashMap::new(), active: HashSet::new(), sweep_at: SWEEP_ABOVE }
    }

    /// Forgets what is idle, whenever there is twice as much as was left the last time.
    pub(super) fn make_room(&mut self, is_idle: impl Fn(&A) -> bool) {
        if self.accounts.len() >= self.sweep_at {
            self.accounts.retain(|_, account| !is_idle(account));
            // Limits in memory are never looked at, and should not be remembered for that.
            self.active.retain(|key| self.accounts.contains_key(key));
            self.sweep_at = (self.accounts.len() * 2).max(SWEEP_ABOVE);
        }
    }

    /// It will be looked at.
    pub(super) fn is_active(&mut self, key: &K) {
        if !self.active.contains(key) {
            self.active.insert(key.clone());
        }
    }

    /// Looks at each that is active, and says of each whether it still is.
    pub(super) fn each_active(&mut self, mut look: impl FnMut(&K, &mut A) -> bool) {
        let accounts = &mut self.accounts;
        self.active.retain(|key| accounts.get_mut(key).is_some_and(|account| look(key, account)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_not_active_either() {
        let mut book = Book::new();
        for key in 0..10 * SWEEP_ABOVE {
            book.make_room(|()| true);
            book.accounts.insert(key, ());
            book.is_active(&key);
        }
        assert!(book.accounts.len() <= SWEEP_ABOVE && book.active.len() <= SWEEP_ABOVE);
    }
}
