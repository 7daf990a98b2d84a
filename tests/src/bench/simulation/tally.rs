//! What the simulated fleet did and what it asked. Floor 2.

use std::time::{Duration, Instant};

use egret_shared::limits::Ask;

use super::SECOND;

/// One of so many decisions is timed.
const TIMED: u64 = 64;

/// Questions by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kinds {
    /// That a node lives.
    pub live: u64,
    /// Places.
    pub count: u64,
    /// Times of a rate.
    pub rate: u64,
    /// Times that went back.
    pub back: u64,
    /// What was used without the store's leave, and other kinds.
    pub other: u64,
}

impl Kinds {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.live + self.count + self.rate + self.back + self.other
    }

    fn add(&mut self, ask: &Ask) {
        match ask {
            Ask::Live { .. } => self.live += 1,
            Ask::Count { .. } => self.count += 1,
            Ask::Rate { used: None, tokens, .. } if *tokens > 0 => self.rate += 1,
            Ask::Rate { used: None, .. } => self.back += 1,
            _ => self.other += 1,
        }
    }
}

/// What was measured of something that is done often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timed {
    /// How often it was timed.
    pub times: u64,
    /// How long all of them took.
    pub took: Duration,
}

impl Timed {
    /// The mean in microseconds.
    pub fn mean(&self) -> f64 {
        if self.times == 0 { 0.0 } else { self.took.as_secs_f64() * 1e6 / self.times as f64 }
    }

    fn time<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = act();
        self.took += start.elapsed();
        self.times += 1;
        done
    }
}

/// Numbers of a run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Messages that went.
    pub messages: u64,
    /// Those of saturated sites.
    pub saturated: u64,
    /// Sessions that were opened.
    pub sessions: u64,
    /// What the store was asked.
    pub asked: Kinds,
    /// Batches of questions: round trips.
    pub exchanges: u64,
    /// Most questions in one second.
    pub peak: u64,
    /// How often a node began to go by its share.
    pub went_by_share: u64,
    /// Decisions of purses about one message.
    pub decisions: Timed,
    /// What a purse does once a second.
    pub ticks: Timed,
    /// What a purse does to say what it asks.
    pub says: Timed,
    decided: u64,
    second: u64,
    in_second: u64,
}

impl Tally {
    /// Questions reach the store.
    pub fn asked(&mut self, asks: &[Ask], now: u64) {
        for ask in asks {
            self.asked.add(ask);
        }
        self.exchanges += 1;
        if self.second != now / SECOND {
            (self.second, self.in_second) = (now / SECOND, 0);
        }
        self.in_second += asks.len() as u64;
        self.peak = self.peak.max(self.in_second);
    }

    /// A decision; some are timed.
    pub fn decision<T>(&mut self, act: impl FnOnce() -> T) -> T {
        self.decided += 1;
        if self.decided.is_multiple_of(TIMED) { self.decisions.time(act) } else { act() }
    }

    /// What a purse does once a second.
    pub fn tick<T>(&mut self, act: impl FnOnce() -> T) -> T {
        self.ticks.time(act)
    }

    /// What a purse does to say what it asks.
    pub fn asks<T>(&mut self, act: impl FnOnce() -> T) -> T {
        self.says.time(act)
    }
}
