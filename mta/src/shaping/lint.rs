//! What in shaping files is likely not meant: rules that can never fire, limits that cancel each other, matches that fit
//! too much. Pure. Floor 1.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::blocks::{Match, Provider, Shaping};
use super::ceiling::is_unreachable;
use super::options::PathOptions;
use super::overlap::overlaps;
use super::patch::{Patch, Place, Setting};

/// One thing that is likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Where it stands.
    pub place: Place,
    /// What is odd, and what to do.
    pub text: String,
}

pub(super) fn doubt(place: &Place, text: String) -> Doubt {
    Doubt { place: place.clone(), text }
}

/// What is found without asking anyone, in the order of the files. `sources` are the known ones, if they are known;
/// `delivery` is what is said for all paths.
pub fn lint(shaping: &Shaping, delivery: &Patch, sources: Option<&[Arc<str>]>) -> Vec<Doubt> {
    let mut found = Vec::new();
    for provider in &shaping.providers {
        found.extend(never(provider));
        found.extend(wide(provider));
    }
    found.extend(overlaps(&shaping.providers));
    found.extend(spelled_twice(shaping));
    found.extend(two_sizes(shaping, delivery));
    found.extend(unused(shaping, sources));
    found.extend(unreachable(shaping, delivery));
    found.sort_by(|one, other| one.place.cmp(&other.place));
    found
}

/// A provider that nothing matches.
fn never(provider: &Provider) -> Option<Doubt> {
    let first = provider.blocks.first().filter(|_| !provider.can_match())?;
    let rules: usize = provider.blocks.iter().map(|one| one.block.rules.len()).sum();
    let and_rules =
        if rules == 0 { String::new() } else { format!(", and its automation ({rules} rules) can never fire") };
    let text = format!(
        "provider {:?} has no match in any file, so that it never holds{and_rules}; add match, or use the name of a provider that has it",
        provider.name
    );
    Some(doubt(&first.block.place, text))
}

/// Suffixes that fit other names, too.
fn wide(provider: &Provider) -> Vec<Doubt> {
    let mut found = Vec::new();
    for one in provider.standing() {
        for suffix in &one.matches {
            let (Match::MxSuffix(text) | Match::DomainSuffix(text)) = suffix else { continue };
            if !text.starts_with('.') && text.contains('.') {
                let text = format!(
                    "provider {:?}: the suffix {text:?} has no dot in front, so that not{text} fits, too; write \".{text}\", and {text} itself as another match if it is meant",
                    provider.name
                );
                found.push(doubt(&one.block.place, text));
            }
        }
    }
    found
}

/// One domain in two spellings within a file: who reads one of the blocks takes it for all that is said.
fn spelled_twice(shaping: &Shaping) -> Vec<Doubt> {
    let mut first: HashMap<(&str, &str), (&str, &Place)> = HashMap::new();
    let mut found = Vec::new();
    for one in &shaping.domains {
        let (title, place) = (&*one.block.title, &one.block.place);
        let (earlier, at) = *first.entry((place.file(), &one.domain)).or_insert((title, place));
        if earlier != title {
            let text = format!(
                "{title} is the domain of {earlier} at {at}, too: both hold, and where both say something the later counts; write one block"
            );
            found.push(doubt(place, text));
        }
    }
    found
}

/// Limits of one name and several sizes: all paths that name one share it.
fn two_sizes(shaping: &Shaping, delivery: &Patch) -> Vec<Doubt> {
    let mut first: HashMap<&str, &Setting> = HashMap::new();
    let mut found = Vec::new();
    for setting in last_said(shaping, delivery) {
        let Some((kind, name)) = setting.key.split_once('.') else { continue };
        let earlier = *first.entry(&setting.key).or_insert(setting);
        if earlier.value != setting.value {
            let text = format!(
                "{kind}: {name:?} is {} here and {} at {}: all paths that name it share one limit, so give it one size, or one of the two another name",
                setting.value, earlier.value, earlier.place
            );
            found.push(doubt(&setting.place, text));
        }
    }
    found
}

/// What is said last under each heading: a later file may say something else than an earlier one.
fn last_said<'s>(shaping: &'s Shaping, delivery: &'s Patch) -> Vec<&'s Setting> {
    let blocks = shaping.blocks().flat_map(|block| {
        let own = block.sources.values().map(|own| (&*own.title, &*own.patch));
        std::iter::once((&*block.title, &*block.patch)).chain(own)
    });
    let (mut at, mut last): (HashMap<(&str, &str), usize>, Vec<&Setting>) = (HashMap::new(), Vec::new());
    for (title, patch) in std::iter::once(("", delivery)).chain(blocks) {
        for setting in patch.settings() {
            let place = *at.entry((title, &setting.key)).or_insert(last.len());
            match last.get_mut(place) {
                Some(said) => *said = setting,
                None => last.push(setting),
            }
        }
    }
    last
}

/// What is said and never asked for.
fn unused(shaping: &Shaping, sources: Option<&[Arc<str>]>) -> Vec<Doubt> {
    let mut found = Vec::new();
    let known: Option<HashSet<&str>> = sources.map(|known| known.iter().map(|name| &**name).collect());
    for own in shaping.defaults.iter().flat_map(|block| block.sources.values()) {
        let text = format!("{}: sources of \"default\" are never asked for (nor are they in KumoMTA)", own.title);
        found.push(doubt(&own.place, text));
    }
    for block in shaping.blocks() {
        for (name, own) in &block.sources {
            if known.as_ref().is_some_and(|known| !known.contains(&**name)) {
                let text = format!("{}: there is no source {name:?} in the configuration", own.title);
                found.push(doubt(&own.place, text));
            }
        }
    }
    found
}

/// A rate of messages that the rate of sessions does not allow.
fn unreachable(shaping: &Shaping, delivery: &Patch) -> Vec<Doubt> {
    let mut base = delivery.over(&PathOptions::default());
    let (mut found, mut told) = (Vec::new(), BTreeSet::new());
    let mut look = |options: &PathOptions, title: &str, patch: &Patch, place: &Place| {
        // Where a block only shortens sessions, a rate that is said for all is a ceiling and no wish.
        let keys = ["max_message_rate", "max_connection_rate"];
        if !keys.iter().any(|key| patch.says(key)) {
            return;
        }
        if let Some((rate, cycling)) = is_unreachable(options) {
            let text = format!(
                "{title}: max_message_rate {rate} is never reached: sessions are opened at max_connection_rate, and each carries max_deliveries_per_connection, which is {cycling} in all"
            );
            if told.insert(title.to_owned()) {
                found.push(doubt(place, text));
            }
        }
    };
    for block in shaping.standing_defaults() {
        block.patch.apply(&mut base);
        look(&base, &block.title, &block.patch, &block.place);
    }
    for block in shaping.blocks().skip(shaping.defaults.len()) {
        let options = block.patch.over(&base);
        look(&options, &block.title, &block.patch, &block.place);
        for own in block.sources.values() {
            look(&own.patch.over(&options), &own.title, &own.patch, &own.place);
        }
    }
    found
}
