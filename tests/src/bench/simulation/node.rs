//! One simulated node: its purse, the driver's part that asks the store, and its sessions.
//! Floor 2. Knows no time of its own.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use egret_shared::limits::{Ask, Manner, Purse};

use super::store::Life;
use super::world::Path;

/// Work for one path: messages that came together, and the session that takes them.
#[derive(Debug)]
pub struct Work {
    /// The path.
    pub path: Rc<Path>,
    /// Messages that are not sent yet.
    pub left: u32,
    /// What it is doing.
    pub state: State,
    /// Counts up whenever the state changes, so that old timers do nothing.
    pub step: u32,
    /// Since when it waits for a place.
    pub since: Option<u64>,
}

/// What work is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no session yet.
    Waiting,
    /// A message is under way.
    Sending,
    /// The session waits for the time of its next message.
    Pausing,
}

/// How it stands with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Nothing is asked.
    Quiet,
    /// It will ask in a moment.
    Soon,
    /// Questions are under way.
    Asking,
    /// The store is away, and this is how often it was looked for.
    Away(u32),
}

/// A node, from its start to its end.
pub struct Node {
    /// Which life this is.
    pub life: Life,
    /// What it has of the limits.
    pub purse: Purse,
    /// How it stands with the store.
    pub contact: Contact,
    /// What is asked now.
    pub out: Vec<Ask>,
    /// When it was asked.
    pub asked_at: u64,
    /// When it answered last.
    pub heard_at: u64,
    /// How often it was looked for the store in vain.
    pub failed: u32,
    /// When the first of the exchanges in a row that failed was begun.
    pub failing: Option<u64>,
    /// It is time to say that it lives.
    pub beat_due: bool,
    /// Names that it was told to look at.
    pub heard: Vec<Arc<str>>,
    /// It cannot reach the store.
    pub is_cut: bool,
    /// Work by number.
    pub work: HashMap<u64, Work>,
    /// Who waits for a limit, in the order of coming.
    pub waiting: HashMap<Arc<str>, VecDeque<u64>>,
    /// Sessions that wait for a time, the longest first.
    pub pausing: Vec<u64>,
    /// The next source.
    pub source: usize,
}

impl Node {
    /// One that begins its life.
    pub fn new(life: Life, name: &str, source: usize) -> Self {
        Self {
            life,
            purse: Purse::shared(Manner::default().of_node(name)),
            contact: Contact::Quiet,
            out: Vec::new(),
            asked_at: 0,
            heard_at: 0,
            failed: 0,
            failing: None,
            beat_due: false,
            heard: Vec::new(),
            is_cut: false,
            work: HashMap::new(),
            waiting: HashMap::new(),
            pausing: Vec::new(),
            source,
        }
    }
}
