//! Providers that hold for the same mail. Pure. Floor 1.
//! Always: takes hardly more time than to sort all matches.

use std::collections::BTreeSet;

use super::blocks::{Match, Provider};
use super::lint::{Doubt, doubt};

/// Of the wider matches that one match lies in, so many are told; who mends them sees the next.
const MOST_TOLD: usize = 16;

/// A match: by what of the mail, its letters from the end, whether it fits a single name only, and whose it is.
type Reversed = (bool, Vec<u8>, bool, usize);

/// Each pair of providers of which one has a match within one of the other's.
pub(super) fn overlaps(providers: &[Provider]) -> Vec<Doubt> {
    let mut pairs = BTreeSet::new();
    let all = sorted(providers);
    // Behind a suffix stand all names that end so. What is open are the suffixes of the one that is looked at.
    let mut open: Vec<&Reversed> = Vec::new();
    for one in &all {
        let (by_domain, letters, is_single, provider) = one;
        let is_within = |wide: &&Reversed| {
            let ends_so = wide.0 == *by_domain && letters.starts_with(&wide.1);
            ends_so && (!wide.2 || (*is_single && wide.1.len() == letters.len()))
        };
        while open.last().is_some_and(|wide| !is_within(wide)) {
            open.pop();
        }
        let others = open.iter().rev().filter(|(.., other)| other != provider).take(MOST_TOLD);
        pairs.extend(others.map(|(.., other)| (*provider.max(other), *provider.min(other))));
        open.push(one);
    }
    let doubts = pairs.into_iter().filter_map(|(later, earlier)| {
        let (later, earlier) = (&providers[later], &providers[earlier]);
        let text = format!(
            "provider {:?} holds for mail of provider {:?}, too: where both say something, {:?} counts, because it stands later",
            later.name, earlier.name, later.name
        );
        Some(doubt(&later.blocks.first()?.block.place, text))
    });
    doubts.collect()
}

/// All matches, each behind those that it can lie in.
fn sorted(providers: &[Provider]) -> Vec<Reversed> {
    let of = |(at, provider): (usize, &Provider)| {
        let blocks = provider.standing();
        let reversed = |one: &Match| {
            let (by_domain, is_single, text) = match one {
                Match::DomainSuffix(text) => (true, false, text),
                Match::MxSuffix(text) => (false, false, text),
                Match::HostName(text) => (false, true, text),
            };
            (by_domain, text.bytes().rev().collect(), is_single, at)
        };
        blocks.into_iter().flat_map(|block| block.matches.iter().map(reversed)).collect::<Vec<_>>()
    };
    let mut all: Vec<Reversed> = providers.iter().enumerate().flat_map(of).collect();
    all.sort_unstable();
    all.dedup();
    all
}
