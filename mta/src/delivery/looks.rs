//! How a server's answers to each command look, so that an answer to another command is noticed: where transactions
//! are on their way together, an answer too many or too few would make one message's end of another's.
//! Pure. Floor 2.
//! Always: a server whose answers cannot be told apart, or do not stay alike, is never sure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::outcome::Stage;
use super::reply::Reply;

/// Answers of each kind, alike, before they are relied on.
const SURE: u32 = 2;
/// RSET, MAIL, RCPT, BDAT.
const KINDS: usize = 4;
const RESET: usize = 0;

/// What is known of one trait of a command's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trait {
    #[default]
    Unknown,
    Stays(u64),
    Varies,
}

impl Trait {
    fn learn(&mut self, seen: u64) {
        *self = match *self {
            Self::Unknown => Self::Stays(seen),
            Self::Stays(known) if known == seen => Self::Stays(known),
            _ => Self::Varies,
        };
    }

    fn differs(self, other: Self) -> bool {
        matches!((self, other), (Self::Stays(one), Self::Stays(other)) if one != other)
    }
}

/// The positive answers to one command.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// The enhanced code, or that there is none.
    code: Trait,
    /// With it the first word, and whether more follow.
    words: Trait,
    seen: u32,
}

impl Look {
    fn differs(&self, other: &Self) -> bool {
        self.code.differs(other.code) || self.words.differs(other.words)
    }

    fn fits(&self, (code, words): (u64, u64)) -> bool {
        match (self.code, self.words) {
            (_, Trait::Stays(known)) => known == words,
            (Trait::Stays(known), _) => known == code,
            _ => false,
        }
    }
}

/// What a session knows of a server's answers.
#[derive(Debug, Default)]
pub(super) struct Looks([Look; KINDS]);

impl Looks {
    /// An answer that is certainly to the command of `stage`.
    pub fn learn(&mut self, stage: Stage, reply: &Reply) {
        let Some(look) = place(stage).filter(|_| is_positive(reply)).map(|place| &mut self.0[place]) else { return };
        let (code, words) = traits(reply);
        look.code.learn(code);
        look.words.learn(words);
        look.seen = look.seen.saturating_add(1);
    }

    /// Whether a server's answers can be told apart, and have stayed alike.
    pub fn is_sure(&self) -> bool {
        let Self([reset, others @ ..]) = self;
        reset.seen > 0 && others.iter().all(|look| look.seen >= SURE) && are_distinct(&self.0)
    }

    /// Whether all but the answer to RSET is known, and can be told apart.
    pub fn lack_reset(&self) -> bool {
        let Self([reset, others @ ..]) = self;
        reset.seen == 0 && others.iter().all(|look| look.seen > 0) && are_distinct(others)
    }

    /// Whether an answer looks like that to another command than the one of `stage`, and not like that.
    pub fn is_to_another(&self, stage: Stage, reply: &Reply) -> bool {
        let Some(own) = place(stage).filter(|_| is_positive(reply)) else { return false };
        let traits = traits(reply);
        let fits_another = || self.0.iter().enumerate().any(|(place, look)| place != own && look.fits(traits));
        !self.0[own].fits(traits) && fits_another()
    }
}

fn are_distinct(looks: &[Look]) -> bool {
    looks.iter().enumerate().all(|(n, one)| looks[n + 1..].iter().all(|other| one.differs(other)))
}

fn is_positive(reply: &Reply) -> bool {
    (200..300).contains(&reply.code)
}

fn place(stage: Stage) -> Option<usize> {
    match stage {
        Stage::Reset => Some(RESET),
        Stage::Mail => Some(1),
        Stage::Rcpt => Some(2),
        Stage::Bdat => Some(3),
        _ => None,
    }
}

/// The enhanced code, and with it the first word and whether more follow.
fn traits(reply: &Reply) -> (u64, u64) {
    let mut words = reply.lines().next().unwrap_or_default().split_ascii_whitespace().peekable();
    let is_code = |word: &&str| word.bytes().all(|b| b.is_ascii_digit() || b == b'.') && word.contains('.');
    let mut hasher = DefaultHasher::new();
    words.next_if(is_code).hash(&mut hasher);
    let code = hasher.finish();
    words.next().hash(&mut hasher);
    words.next().is_some().hash(&mut hasher);
    (code, hasher.finish())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::delivery::reply::Parser;

    const STAGES: [Stage; KINDS] = [Stage::Reset, Stage::Mail, Stage::Rcpt, Stage::Bdat];

    fn reply(text: &str) -> Reply {
        let line = format!("{text}\r\n");
        Parser::default().next(&mut BytesMut::from(line.as_bytes())).expect("a reply").expect("whole")
    }

    /// After these answers to RSET, MAIL, RCPT and BDAT.
    fn after(rounds: &[[&str; KINDS]]) -> Looks {
        let mut looks = Looks::default();
        for (stage, text) in rounds.iter().flat_map(|answers| STAGES.iter().zip(answers)) {
            looks.learn(*stage, &reply(text));
        }
        looks
    }

    #[test]
    fn the_answers_of_common_servers_are_told_apart() {
        let postfix = ["250 2.0.0 Ok", "250 2.1.0 Ok", "250 2.1.5 Ok"];
        let gmail = ["250 2.1.5 Flushed x12-2 - gsmtp", "250 2.1.0 OK a1-2 - gsmtp", "250 2.1.5 OK b1-2 - gsmtp"];
        let exchange = ["250 2.0.0 Resetting", "250 2.1.0 Sender OK", "250 2.1.5 Recipient OK"];
        let exim = ["250 Reset OK", "250 OK", "250 Accepted"];
        for (commands, content) in [
            (postfix, ["250 2.0.0 Ok: 10 bytes queued as A1", "250 2.0.0 Ok: 12 bytes queued as B2"]),
            (gmail, ["250 2.0.0 OK  1732 x1-2 - gsmtp", "250 2.0.0 OK  1733 y1-2 - gsmtp"]),
            (exchange, ["250 2.6.0 <a@b> [InternalId=1] Queued", "250 2.6.0 <c@d> [InternalId=2] Queued"]),
            (exim, ["250 OK id=1a-2b", "250 OK id=3c-4d"]),
        ] {
            let rounds = content.map(|content| [commands[0], commands[1], commands[2], content]);
            assert!(!after(&rounds[..1]).is_sure(), "once is not enough");
            let looks = after(&rounds);
            assert!(looks.is_sure(), "{commands:?}");
            for (stage, text) in STAGES.iter().zip(&rounds[1]) {
                assert!(!looks.is_to_another(*stage, &reply(text)), "{text} at {stage:?}");
                for other in STAGES.iter().filter(|other| *other != stage) {
                    assert!(looks.is_to_another(*other, &reply(text)), "{text} at {other:?}");
                }
                assert!(!looks.is_to_another(*stage, &reply("550 5.1.1 no")), "a refusal says what it says");
            }
        }
    }

    #[test]
    fn a_server_whose_answers_are_alike_or_vary_is_never_sure() {
        let alike = ["250 ok"; KINDS];
        let varied = |n| ["250 2.0.0 ok", ["250 a1 ok", "250 a2 ok", "250 a3 ok"][n], "250 c ok", "250 d ok"];
        for looks in [after(&[alike; 4]), after(&[varied(0), varied(1), varied(2)])] {
            assert!(!looks.is_sure() && !looks.lack_reset());
        }
    }
}
