//! How many there were in the time up to now, exactly. Pure. Floor 1.
//! Always: memory is bounded: of a key no more times are kept than are asked for, and of keys the busiest of late.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use egret_shared::clock::UnixMs;

/// Keys that are kept; beyond that those with nothing in their windows go, then those that were quiet the longest.
const MAX_KEYS: usize = 10_000;

/// Sliding windows by key.
#[derive(Debug, Default)]
pub(super) struct Windows(HashMap<Box<str>, Window>);

#[derive(Debug)]
struct Window {
    times: VecDeque<UnixMs>,
    length: Duration,
}

impl Windows {
    /// Counts one more at `now`. Returns how many were in the window up to now, this one included, but at most `most`.
    pub fn count(&mut self, key: &str, length: Duration, most: u64, now: UnixMs) -> u64 {
        if !self.0.contains_key(key) {
            self.make_room(now);
            self.0.insert(key.into(), Window { times: VecDeque::new(), length });
        }
        let Some(window) = self.0.get_mut(key) else { return 1 };
        window.length = length;
        window.times.push_back(now);
        let most = usize::try_from(most.max(1)).unwrap_or(usize::MAX);
        while window.times.len() > most || window.times.front().is_some_and(|first| is_out(*first, length, now)) {
            window.times.pop_front();
        }
        window.times.len() as u64
    }

    fn make_room(&mut self, now: UnixMs) {
        if self.0.len() < MAX_KEYS {
            return;
        }
        self.0.retain(|_, window| window.times.back().is_some_and(|last| !is_out(*last, window.length, now)));
        if self.0.len() >= MAX_KEYS {
            let mut last: Vec<UnixMs> = self.0.values().filter_map(|window| window.times.back().copied()).collect();
            last.sort_unstable();
            let middle = last.get(last.len() / 2).copied().unwrap_or(now);
            self.0.retain(|_, window| window.times.back().is_some_and(|last| *last > middle));
        }
    }
}

/// A time as old as the window is long is out of it.
fn is_out(at: UnixMs, length: Duration, now: UnixMs) -> bool {
    at.plus(length) <= now
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_threshold_is_reached_just_when_a_naive_count_says_so(
            steps in prop::collection::vec((0u64..3_000, 0usize..3), 1..200),
            most in 1u64..8,
            length in 1u64..5_000,
        ) {
            let (mut windows, mut all, mut now) = (Windows::default(), vec![Vec::new(); 3], 10_000u64);
            let length = Duration::from_millis(length);
            for (step, key) in steps {
                now += step;
                all[key].push(now);
                let naive = all[key].iter().filter(|at| now - **at < length.as_millis() as u64).count() as u64;
                let told = windows.count(&key.to_string(), length, most, UnixMs(now));
                prop_assert_eq!(told >= most, naive >= most);
                prop_assert_eq!(told, naive.min(most));
            }
        }
    }

    #[test]
    fn keys_that_are_quiet_make_room() {
        let mut windows = Windows::default();
        for n in 0..(MAX_KEYS as u64 + 5_000) {
            windows.count(&n.to_string(), Duration::from_secs(3_600), 3, UnixMs(n));
        }
        assert!(windows.0.len() <= MAX_KEYS);
        let last = (MAX_KEYS + 4_999).to_string();
        assert_eq!(windows.count(&last, Duration::from_secs(3_600), 3, UnixMs(20_000)), 2);
    }
}
