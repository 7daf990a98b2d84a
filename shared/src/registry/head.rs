//! The short word that an owner of a record says again and again: who it is, which version of the record holds, and what
//! changes all the time. Pure. Floor 1.
//! Always: a version is of one owner and one text, so who has read it once need not read it again.

use serde::{Deserialize, Serialize};

use super::record::Figures;

/// Characters of an owner and of a version that are read.
const MAX_WORD: usize = 64;

/// The short word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// One run of one program; another run has another.
    pub owner: String,
    /// Of the record.
    pub version: u64,
    /// Told with each word.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Head {
    /// Reads one; `None` if it is none.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|head: &Self| head.owner.len() <= MAX_WORD)
    }

    /// As it is told.
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Who speaks for one name: one owner after the other, or two at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    now: String,
    before: String,
}

impl Owners {
    /// Somebody speaks. Returns whether it had been relieved by another before, who still lives: two have one name.
    pub fn speaks(&mut self, owner: &str) -> bool {
        if self.now == owner {
            return false;
        }
        let is_back = self.before == owner;
        self.before = std::mem::replace(&mut self.now, owner.to_owned());
        is_back
    }
}

/// Whether another speaks for the same name, as an owner hears it.
#[derive(Debug, Default)]
pub(super) struct Rival(u32);

impl Rival {
    /// Words of another in a row that make a rival: one run may end while the next begins.
    const MANY: u32 = 3;

    /// The word before this owner's next one was another's, or its own. Returns whether there is a rival.
    pub fn heard(&mut self, is_other: bool) -> bool {
        self.0 = if is_other { self.0.saturating_add(1) } else { 0 };
        self.0 >= Self::MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_after_the_other_is_well_and_two_at_once_are_told() {
        let mut owners = Owners::default();
        let told: Vec<bool> = ["a", "a", "b", "b", "c"].map(|owner| owners.speaks(owner)).into();
        assert_eq!(told, [false; 5]);
        assert!(owners.speaks("b") && owners.speaks("c") && !owners.speaks("c") && owners.speaks("b"));
    }

    #[test]
    fn one_that_speaks_between_all_words_is_a_rival() {
        let mut rival = Rival::default();
        let told: Vec<bool> = [true, true, false, true, true, true, true].map(|other| rival.heard(other)).into();
        assert_eq!(told, [false, false, false, false, false, true, true]);
    }

    #[test]
    fn a_head_is_read_as_it_was_written_and_what_is_none_is_not() {
        let head = Head { owner: "a".into(), version: 3, figures: Figures { sessions: 1, queued: 2 } };
        assert_eq!(Head::read(&head.write()), Some(head));
        assert_eq!(Head::read("{}"), None);
        assert_eq!(Head::read(&format!("{{\"owner\":\"{}\",\"version\":1}}", "x".repeat(65))), None);
        assert_eq!(Head::read("{\"owner\":\"a\",\"version\":1,\"more\":2}").map(|head| head.version), Some(1));
    }
}
