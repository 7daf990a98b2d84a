//! Where automation keeps what nodes may share: how many answers of a kind there were. Floor 2.
//! Always: a store never refuses: where it cannot reach the others, it says what it knows itself.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use parking_lot::Mutex;

use super::window::Windows;

/// What a store does in its own time.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Counts answers.
pub trait Store: Send + Sync {
    /// Counts one more under `key` at `at`. Returns how many were in the window up to then, but at most `most`.
    fn count<'a>(&'a self, key: &'a str, window: Duration, most: u64, at: UnixMs) -> Doing<'a, u64>;
}

/// Of this node alone.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Windows>);

impl Store for Memory {
    fn count<'a>(&'a self, key: &'a str, window: Duration, most: u64, at: UnixMs) -> Doing<'a, u64> {
        Box::pin(std::future::ready(self.0.lock().count(key, window, most, at)))
    }
}
