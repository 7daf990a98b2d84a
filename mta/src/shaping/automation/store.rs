//! Where automation keeps what nodes may share: how many answers of a kind there were, which orders are in force, who
//! probes a path. Floor 2.
//! Always: a store never refuses: where it cannot reach the others, it says what it knows itself.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::window::Windows;
use crate::queue::control::words::Control;

/// What a store does in its own time.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What nodes tell each other of an order of automation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The order; its id is that of the node that has told it.
    pub control: Control,
    /// It was ended before its time.
    pub is_ended: bool,
}

/// What other nodes have told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Of which state of the store this is.
    pub version: u64,
    /// All that is in force, and what was ended of late; nothing if that is known already.
    pub told: Option<Vec<Told>>,
}

/// Who probes a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// This node.
    Own,
    /// Another one, which has not said yet what came of it.
    Other,
    /// Another one has: the path works.
    Proven,
}

/// Counts answers, and passes orders on.
pub trait Store: Send + Sync {
    /// Whether there may be other nodes.
    fn is_shared(&self) -> bool;

    /// Counts one more under `key` at `at`. Returns how many were in the window up to then, but at most `most`.
    fn count<'a>(&'a self, key: &'a str, window: Duration, most: u64, at: UnixMs) -> Doing<'a, u64>;

    /// Tells all nodes; the error is for people, and it is told again later.
    fn tell<'a>(&'a self, told: &'a [Told], now: UnixMs) -> Doing<'a, Result<(), String>>;

    /// What was told, unless that is of the version `known`.
    fn hear(&self, known: u64) -> Doing<'_, Result<Heard, String>>;

    /// Asks who probes a path.
    fn probe<'a>(&'a self, path: &'a str) -> Doing<'a, Probe>;

    /// Tells all nodes that a path works.
    fn prove<'a>(&'a self, path: &'a str) -> Doing<'a, ()>;
}

/// Of this node alone.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Windows>);

impl Memory {
    /// As [`Store::count`], at once.
    pub fn count_now(&self, key: &str, window: Duration, most: u64, at: UnixMs) -> u64 {
        self.0.lock().count(key, window, most, at)
    }
}

fn done<'a, T: Send + 'a>(value: T) -> Doing<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Store for Memory {
    fn is_shared(&self) -> bool {
        false
    }

    fn count<'a>(&'a self, key: &'a str, window: Duration, most: u64, at: UnixMs) -> Doing<'a, u64> {
        done(self.count_now(key, window, most, at))
    }

    fn tell<'a>(&'a self, _: &'a [Told], _: UnixMs) -> Doing<'a, Result<(), String>> {
        done(Ok(()))
    }

    fn hear(&self, known: u64) -> Doing<'_, Result<Heard, String>> {
        done(Ok(Heard { version: known, told: None }))
    }

    fn probe<'a>(&'a self, _: &'a str) -> Doing<'a, Probe> {
        done(Probe::Own)
    }

    fn prove<'a>(&'a self, _: &'a str) -> Doing<'a, ()> {
        done(())
    }
}
