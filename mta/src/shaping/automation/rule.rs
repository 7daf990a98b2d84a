//! One rule over answers, in KumoMTA's words. Plain data. Floor 0.

use std::time::Duration;

use egret_shared::limits::Rate;
use serde::{Deserialize, Serialize};

/// What follows from answers of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Regular expressions, of which one must be found in the answer in one line: `421 4.7.0 try later`.
    pub regex: Vec<String>,
    /// What is done, all of it.
    pub actions: Vec<Action>,
    /// After how many answers.
    pub trigger: Trigger,
    /// How long what is done lasts.
    pub duration: Duration,
    /// It also looks at what this program says itself.
    pub match_internal: bool,
    /// Where it stands: file and line.
    pub at: String,
}

/// When a rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// With each answer.
    Immediate,
    /// When there were so many in the period up to now.
    Threshold(Rate),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The path, from the source to the site, gets no mail.
    Suspend,
    /// The tenant's mail to the domain stays.
    SuspendTenant,
    /// The campaign's mail to the domain stays.
    SuspendCampaign,
    /// Mail to the domain fails.
    Bounce,
    /// The tenant's mail to the domain fails.
    BounceTenant,
    /// The campaign's mail to the domain fails.
    BounceCampaign,
    /// The path has another option.
    SetConfig(Setting),
    /// Sessions for the domain have another option.
    SetDomainConfig(Setting),
}

impl Action {
    /// The names of all, in the order of [`Action::place`].
    pub const NAMES: [&'static str; 8] = [
        "Suspend",
        "SuspendTenant",
        "SuspendCampaign",
        "Bounce",
        "BounceTenant",
        "BounceCampaign",
        "SetConfig",
        "SetDomainConfig",
    ];

    /// Its place among the names.
    pub fn place(&self) -> usize {
        match self {
            Self::Suspend => 0,
            Self::SuspendTenant => 1,
            Self::SuspendCampaign => 2,
            Self::Bounce => 3,
            Self::BounceTenant => 4,
            Self::BounceCampaign => 5,
            Self::SetConfig(_) => 6,
            Self::SetDomainConfig(_) => 7,
        }
    }

    /// Its name in rules and metrics.
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.place()]
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SetConfig(setting) | Self::SetDomainConfig(setting) => write!(f, "{} {setting}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

/// An option of a path, and its value as TOML writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Setting {
    /// The option.
    pub name: String,
    /// The value: `5`, `"10/min"`.
    pub value: String,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}", self.name, self.value)
    }
}
