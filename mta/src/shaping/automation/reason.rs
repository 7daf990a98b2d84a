//! Why a rule has ordered something, in words, and what of them a stranger may read. Pure. Floor 0.
//! Always: what is told to strangers holds nothing of our files, and nobody's address.

/// What stands between a rule and the answer that it fits.
const FITS: &str = "/ fits ";

/// The reason of an order: the rule's place, the pattern that was found, and the answer.
pub fn write(at: &str, pattern: &str, said: &str) -> String {
    format!("{at}: /{pattern}{FITS}{said}")
}

/// What a sender whose mail fails by that order is told; `None` if `reason` is not one that a rule has given.
pub fn for_strangers(reason: &str) -> Option<String> {
    let (at, rest) = reason.split_once(": /")?;
    let (_, line) = at.rsplit_once(':')?;
    if line.is_empty() || !line.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The last one, as the pattern may hold such words; of an answer that does, the end is told.
    let (_, said) = rest.rsplit_once(FITS)?;
    // The answer may have been to other mail, and name its recipient.
    let said = if said.contains('@') { codes(said) } else { said.trim().to_owned() };
    Some(match said.is_empty() {
        true => "its mail server refuses such mail for now".to_owned(),
        false => format!("its mail server said of such mail: {said}"),
    })
}

/// The codes that an answer begins with: `451 4.7.1`.
fn codes(said: &str) -> String {
    let is_code = |word: &&str| word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    said.split(' ').take_while(is_code).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_read_the_answer_and_nothing_of_the_rule() {
        let told = |pattern: &str, said: &str| for_strangers(&write("/etc/egret/shaping.toml:12", pattern, said));
        for (pattern, said, want) in [
            ("slow down", "451 4.7.1 slow down you", "its mail server said of such mail: 451 4.7.1 slow down you"),
            ("a/ fits b", "451 4.7.1 a/ fits b", "its mail server said of such mail: b"),
            ("later", "451 4.7.1 x@b.test: later", "its mail server said of such mail: 451 4.7.1"),
            ("@", "no@code", "its mail server refuses such mail for now"),
        ] {
            assert_eq!(told(pattern, said).as_deref(), Some(want), "{pattern}");
        }
    }

    #[test]
    fn what_people_give_as_a_reason_stays_theirs() {
        for reason in ["", "list bought: do not send", "see wiki: /page/ fits all", "12: x", "why:1: /x/"] {
            assert_eq!(for_strangers(reason), None, "{reason}");
        }
    }
}
