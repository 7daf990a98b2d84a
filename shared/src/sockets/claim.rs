//! Claims and reports, and sets of sockets as text: `10.0.0.5|gaps`, parted by spaces; a gap is from one port to the next.
//! Pure. Floor 1.
//! Always: what is read was written by somebody who may write to Redis, and is bounded; a set that is written is read as
//! it was. Ports in a row take a byte each.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::address::canonical;

/// The longest text that is read.
const MAX_BYTES: usize = 4 << 20;
/// The longest name of a node that is read.
const MAX_NODE: usize = 400;
/// Digits of 5 bits, as characters from this one on; the sixth bit says that more follow.
const ZERO: u8 = b'0';
const MORE: u32 = 32;

/// The sessions that a node has through a proxy, by its own ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The node.
    pub node: String,
    /// Counts its claims.
    pub number: u64,
    /// Its ends of the sessions.
    pub ends: HashSet<SocketAddr>,
}

impl Claim {
    /// Reads `number ends` of `node`.
    pub fn read(node: &str, text: &str) -> Option<Self> {
        let is_name = !node.is_empty() && node.len() <= MAX_NODE && node.bytes().all(|b| b.is_ascii_graphic());
        let (number, ends) = numbered(text)?;
        is_name.then(|| Self { node: node.to_owned(), number, ends })
    }
}

/// What a proxy says of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The run of the proxy: another one after each start.
    pub run: u64,
    /// The claim that it speaks of.
    pub number: u64,
    /// What it does not have of that.
    pub missing: HashSet<SocketAddr>,
}

impl Report {
    /// Reads `run number missing`.
    pub fn read(text: &str) -> Option<Self> {
        let (run, rest) = text.split_once(' ')?;
        let (number, missing) = numbered(rest)?;
        Some(Self { run: u64::from_str_radix(run, 16).ok()?, number, missing })
    }
}

/// A run as it is written.
pub fn run_name(run: u64) -> String {
    format!("{run:016x}")
}

fn numbered(text: &str) -> Option<(u64, HashSet<SocketAddr>)> {
    let (number, ends) = text.split_once(' ')?;
    Some((number.parse().ok()?, read(ends)?))
}

/// The end of a session as both sides name it.
pub fn end(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical(address.ip()), address.port())
}

/// A set of ends as text. Puts them in order, once each.
pub fn write(ends: &mut Vec<SocketAddr>) -> String {
    ends.sort_unstable();
    ends.dedup();
    let (mut text, mut last): (String, Option<SocketAddr>) = (String::with_capacity(ends.len() + 32), None);
    for end in ends {
        let before = match last.filter(|last| last.ip() == end.ip()) {
            Some(last) => last.port(),
            None => {
                let space = if last.is_some() { " " } else { "" };
                // Writing to a string cannot fail.
                let _ = write!(text, "{space}{}|", end.ip());
                0
            }
        };
        write_gap(u32::from(end.port() - before), &mut text);
        last = Some(*end);
    }
    text
}

/// Reads a set; `None` if it is none.
pub fn read(text: &str) -> Option<HashSet<SocketAddr>> {
    let mut ends = HashSet::new();
    if text.len() > MAX_BYTES {
        return None;
    }
    for group in text.split(' ').filter(|group| !group.is_empty()) {
        let (ip, gaps) = group.split_once('|')?;
        let ip: IpAddr = ip.parse().ok()?;
        let (mut port, mut rest) = (0u32, gaps.as_bytes());
        while !rest.is_empty() {
            port += read_gap(&mut rest)?;
            ends.insert(SocketAddr::new(ip, u16::try_from(port).ok()?));
        }
    }
    Some(ends)
}

fn write_gap(mut gap: u32, text: &mut String) {
    loop {
        let digit = gap % MORE;
        gap /= MORE;
        let more = if gap > 0 { MORE } else { 0 };
        text.push(char::from(ZERO + (digit | more) as u8));
        if gap == 0 {
            return;
        }
    }
}

fn read_gap(rest: &mut &[u8]) -> Option<u32> {
    let (mut gap, mut shift) = (0, 0);
    loop {
        let (first, others) = rest.split_first()?;
        *rest = others;
        let digit = u32::from(first.checked_sub(ZERO).filter(|digit| *digit < 64)?);
        gap |= (digit % MORE) << shift;
        shift += 5;
        match (digit < MORE, shift) {
            (true, _) => return u16::try_from(gap).ok().map(u32::from),
            (false, 20..) => return None,
            _ => {}
        }
    }
}

/// For fuzzing: what is read is written so that it is read again.
///
/// # Panics
/// If it is not.
pub fn fuzz_claim(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(found) = read(text) {
        assert_eq!(read(&write(&mut found.iter().copied().collect())), Some(found));
    }
    let _ = (Claim::read("node", text), Report::read(text));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends() -> impl Strategy<Value = Vec<SocketAddr>> {
        let ip = prop_oneof![
            any::<[u8; 2]>().prop_map(|[a, b]| IpAddr::from([10, a % 2, 0, b % 3])),
            (0..3u16).prop_map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])),
        ];
        prop::collection::vec((ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port)), 0..200)
    }

    proptest! {
        #[test]
        fn a_set_is_read_as_it_was_written(mut all in ends()) {
            let wanted: HashSet<_> = all.iter().copied().collect();
            let text = write(&mut all);
            prop_assert!(text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
            prop_assert_eq!(read(&text), Some(wanted));
        }

        #[test]
        fn rubbish_is_refused_or_a_set(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            fuzz_claim(&bytes);
        }

        #[test]
        fn what_looks_like_a_set_is_refused_or_one(text in "[0-9a-o.:|? ]{0,60}") {
            fuzz_claim(text.as_bytes());
        }
    }

    #[test]
    fn ten_thousand_sessions_take_some_ten_kilobytes() {
        let ends = |step: u16| (0..10_000u16).map(move |n| SocketAddr::from(([10, 0, 0, 5], 32_768 + n * step)));
        assert_eq!(write(&mut ends(1).collect()).len(), 10_000 + "10.0.0.5|".len() + 3);
        assert!(write(&mut ends(3).collect()).len() < 10_100, "spread over the ports that there are");
        assert_eq!(write(&mut Vec::new()), "");
    }

    #[test]
    fn what_is_no_claim_is_none() {
        assert!(Claim::read("n/1", "7 10.0.0.5|0").is_some_and(|claim| claim.number == 7 && claim.ends.len() == 1));
        assert!(Claim::read("n", "7 ").is_some_and(|claim| claim.ends.is_empty()));
        for (node, text) in [("", "7 "), ("a b", "7 "), ("n", "7"), ("n", "x "), ("n", "7 10.0.0.5"), ("n", "7 x|0")] {
            assert_eq!(Claim::read(node, text), None, "{node:?} {text:?}");
        }
        // A port above the last, a gap without its end, a character that is none.
        for bad in ["10.0.0.5|oooo", "10.0.0.5|P", "10.0.0.5|~", "10.0.0.5|ooo11"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(Report::read("00ff 3 10.0.0.5|1").is_some_and(|report| (report.run, report.number) == (255, 3)));
        assert_eq!(Report::read("zz 3 "), None);
        assert_eq!(end("[::ffff:10.0.0.5]:25".parse().expect("an address")), SocketAddr::from(([10, 0, 0, 5], 25)));
    }
}
