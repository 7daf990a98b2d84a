//! What is said in vain: it is no mistake, and does nothing. Floor 5.

use egret_shared::config::{Complaint, IGNORED, Section};

use super::shaping::Read;
use crate::shaping::automation::rule::Setting;
use crate::shaping::automation::{Action, RuleSet};
use crate::shaping::options::TlsOptions;
use crate::shaping::patch::Patch;

/// The options that are in vain where `[delivery]` does not set them: a path cannot have policies looked for by itself.
fn unasked(delivery: &TlsOptions) -> impl Iterator<Item = &'static str> {
    let all = [("enable_dane", delivery.asks_dane()), ("enable_mta_sts", delivery.asks_mta_sts())];
    all.into_iter().filter(|(_, is_asked)| !is_asked).map(|(key, _)| key)
}

fn no_effect(file: &str, line: usize, key: &str, of: &str) -> Complaint {
    let message =
        format!("{of}has no effect while [delivery] does not set {key}: it decides whether policies are looked for");
    Complaint { file: file.to_owned(), line, key: key.to_owned(), message }
}

/// Notes what blocks of shaping files say of policies in vain.
pub(super) fn note_policies(read: &mut Read, delivery: &TlsOptions) {
    for key in unasked(delivery) {
        let settings = read.shaping.patches().flat_map(Patch::settings);
        let vain = settings.filter(|one| &*one.key == key && &*one.value == "true");
        let notes: Vec<_> = vain.map(|one| no_effect(one.place.file(), one.place.line(), key, "")).collect();
        read.notes.extend(notes);
    }
}

/// And what rules over answers set in vain, wherever they stand.
pub(super) fn note_rules(read: &mut Read, rules: &RuleSet, delivery: &TlsOptions) {
    for key in unasked(delivery) {
        let sets = |action: &Action| {
            let (Action::SetConfig(Setting { name, value }) | Action::SetDomainConfig(Setting { name, value })) =
                action
            else {
                return false;
            };
            name == key && value == "true"
        };
        for scoped in rules.iter().filter(|scoped| scoped.rule.actions.iter().any(sets)) {
            let (file, line) = scoped.rule.at.rsplit_once(':').unwrap_or((&scoped.rule.at, ""));
            read.notes.push(no_effect(file, line.parse().unwrap_or(0), key, "is set by a rule over answers, and "));
        }
    }
}

/// The keys that may be unknown, and that no file holds.
pub fn unused<'k>(notes: &[Complaint], ignored: &'k [String]) -> Vec<&'k str> {
    let is_used = |key: &str| {
        let is_it =
            |note: &Complaint| note.key.strip_suffix(key).is_some_and(|path| path.is_empty() || path.ends_with('.'));
        notes.iter().any(|note| note.message == IGNORED && is_it(note))
    };
    ignored.iter().map(String::as_str).filter(|key| !is_used(key)).collect()
}

/// Notes those of `[shaping]`.
pub(super) fn note_unused(read: &mut Read, section: &Section<'_>) {
    let unused = unused(&read.notes, &read.ignored);
    let note = |key: &str| Complaint {
        file: section.file().to_owned(),
        line: section.line_of("ignore_unknown"),
        key: "shaping.ignore_unknown".to_owned(),
        message: format!("does nothing here for {key:?}: no shaping file holds that key, or it is a known one"),
    };
    let notes: Vec<_> = unused.into_iter().map(note).collect();
    read.notes.extend(notes);
}
