//! How soon mail goes out where others wait, too.
//! Plain data. Floor 0.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Three classes: a higher one goes first, and a lower one still has its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// What no rule says otherwise of.
    #[default]
    Normal,
    /// Behind all others.
    Low,
}

impl Priority {
    /// All, the first to go first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Its place among all.
    pub fn place(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// It is what mail has of itself.
    pub fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|priority| priority.as_str() == text);
        found.ok_or_else(|| "write \"high\", \"normal\" or \"low\"".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_names_and_order_agree() {
        for (place, priority) in Priority::ALL.into_iter().enumerate() {
            assert_eq!((priority.place(), priority.as_str().parse()), (place, Ok(priority)));
            assert_eq!(serde_json::to_value(priority).ok().as_ref().and_then(|v| v.as_str()), Some(priority.as_str()));
        }
        assert!(Priority::High < Priority::Normal && "HIGH".parse::<Priority>().is_err());
    }

    #[test]
    fn a_part_stored_before_there_were_priorities_is_normal_and_a_normal_one_is_stored_as_then() {
        let stored = r#"{"queue":"t@a.test","pool":"p","recipients":["u@a.test"]}"#;
        let mut part: super::super::Part = serde_json::from_str(stored).expect("an old part");
        assert_eq!((part.priority, serde_json::to_string(&part).expect("JSON")), (Priority::Normal, stored.to_owned()));
        part.priority = Priority::Low;
        let text = serde_json::to_string(&part).expect("JSON");
        assert_eq!(serde_json::from_str::<super::super::Part>(&text).expect("a part"), part, "{text}");
    }
}
