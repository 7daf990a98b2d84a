//! Values beside their goals. Floor 0.

use serde::Serialize;

/// What a value should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// This, neither more nor less.
    Exactly(f64),
}

/// A value that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is, and its unit.
    pub name: String,
    /// How much.
    pub value: f64,
    /// How much it should be, if there is a goal.
    pub goal: Option<Goal>,
}

/// Figures of one measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// What was done.
    pub title: String,
    /// What was seen.
    pub figures: Vec<Figure>,
}

impl Figures {
    /// None yet.
    pub fn new(title: String) -> Self {
        Self { title, figures: Vec::new() }
    }

    /// A value that has no goal.
    pub fn tell(&mut self, name: impl Into<String>, value: f64) {
        self.figures.push(Figure { name: name.into(), value, goal: None });
    }

    /// Whether all goals are met.
    pub fn are_met(&self) -> bool {
        self.figures.iter().all(|figure| figure.against_goal().is_none_or(|(_, is_met)| is_met))
    }

    /// A value that has one.
    pub fn judge(&mut self, name: impl Into<String>, value: f64, goal: Goal) {
        self.figures.push(Figure { name: name.into(), value, goal: Some(goal) });
    }
}

impl Figure {
    /// The goal's value, and whether it is met.
    pub(super) fn against_goal(&self) -> Option<(f64, bool)> {
        let value = self.value;
        self.goal.map(|goal| match goal {
            Goal::AtLeast(goal) => (goal, value >= goal),
            Goal::AtMost(goal) => (goal, value <= goal),
            Goal::Exactly(goal) => (goal, (value - goal).abs() < 0.5),
        })
    }
}
