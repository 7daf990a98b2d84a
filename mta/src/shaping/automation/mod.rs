//! Rules over the answers of destinations: what a file says. Plain data. Floor 1.

use std::time::Duration;

use egret_shared::limits::Rate;

/// What follows an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Any of these fits.
    pub regex: Vec<String>,
    /// What is done, in words.
    pub actions: Vec<Action>,
    /// When.
    pub trigger: Trigger,
    /// For how long.
    pub duration: Duration,
    /// Whether our own words are looked at, too.
    pub match_internal: bool,
    /// Where it stands, `file:line`.
    pub at: String,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action(pub String);

/// When a rule fires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// With the first answer that fits.
    #[default]
    Immediate,
    /// With so many in a time.
    Threshold(Rate),
}
