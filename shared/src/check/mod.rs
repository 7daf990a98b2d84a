//! Health checks as people and monitoring plugins read them: a list of findings, a table or JSON, and
//! an exit code. Floor 1. Checks nothing itself.

pub mod render;

use serde::Serialize;

/// How good a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Could not be looked at, and nothing follows from that.
    Skipped,
    /// Works, but not for long or not well.
    Warning,
    /// Does not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `listener 10.0.0.5:1080`.
    pub name: String,
    /// How good it is.
    pub state: State,
    /// What was seen.
    pub detail: String,
    /// What to do, if something is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    /// A finding with nothing to do.
    pub fn new(name: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state, detail: detail.into(), advice: String::new() }
    }

    /// The same finding with what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

/// The exit code of monitoring plugins: 0 all is well, 1 a warning, 2 a failure.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.state).max() {
        Some(State::Failed) => 2,
        Some(State::Warning) => 1,
        _ => 0,
    }
}
