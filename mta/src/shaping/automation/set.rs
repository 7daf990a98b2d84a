//! All rules as one set of patterns, each with the paths that it holds for. Pure. Floor 2.
//! Always: the patterns of all rules are matched at once; every rule that fits is told.

use std::sync::Arc;

use arc_swap::ArcSwap;
use regex::{Regex, RegexSet, RegexSetBuilder};

use super::rule::Rule;
use crate::routing::matcher::{TOO_BIG, TextPattern};
use crate::shaping::per_site::unshaped;
use crate::shaping::resolve::Scope;

/// Memory that all compiled expressions together may take.
const MAX_COMPILED_BYTES: usize = 64 << 20;
/// Why more are refused.
const ALL_TOO_BIG: &str =
    "all together they take more than 64MiB of memory; write fewer or simpler ones: each alone may be good";
/// And one of them.
const MAX_ONE_BYTES: usize = 1 << 20;

/// Where a rule holds. An empty condition always holds; of several values one is enough.
#[derive(Clone, Debug, Default)]
pub struct Within {
    /// The domain of the recipients.
    pub domain: Vec<TextPattern>,
    /// The site.
    pub site: Vec<TextPattern>,
    /// A provider that the site is of.
    pub provider: Vec<Arc<str>>,
    /// The source.
    pub source: Vec<TextPattern>,
    /// Only where the path's own list has the rule, as shaping files make it.
    pub listed: bool,
}

/// A path, as rules see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// The domain of the recipients.
    pub domain: &'a str,
    /// The site.
    pub site: &'a str,
    /// The providers that the site is of.
    pub providers: &'a [Arc<str>],
    /// The source.
    pub source: &'a str,
    /// The rules that shaping files list for it.
    pub listed: &'a [(Scope, Arc<Rule>)],
}

impl Within {
    /// Whether it holds there.
    pub fn fits(&self, place: &Place<'_>) -> bool {
        let any =
            |patterns: &[TextPattern], text: &str| patterns.is_empty() || patterns.iter().any(|one| one.fits(text));
        any(&self.domain, place.domain)
            && (any(&self.site, place.site) || any(&self.site, unshaped(place.site)))
            && any(&self.source, place.source)
            && (self.provider.is_empty() || self.provider.iter().any(|one| place.providers.contains(one)))
    }

    /// Words that tell it from others.
    fn words(&self) -> String {
        let all = |patterns: &[TextPattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        format!("{};{};{};{}", all(&self.domain), all(&self.site), self.provider.join(","), all(&self.source))
    }
}

/// A rule, and where it holds.
#[derive(Clone, Debug)]
pub struct Scoped {
    /// The rule.
    pub rule: Rule,
    /// Where it holds.
    pub within: Within,
    /// A name that is the same on every node that has the same rule.
    pub key: String,
}

impl Scoped {
    /// That rule, there.
    pub fn new(rule: Rule, within: Within) -> Self {
        let Rule { regex, actions, trigger, duration, match_internal, at: _ } = &rule;
        let said = format!("{regex:?} {actions:?} {trigger:?} {duration:?} {match_internal} {}", within.words());
        // Two halves, so that two rules of one fleet do not share a name by chance.
        let (head, tail) = said.split_at(said.floor_char_boundary(said.len() / 2));
        let key = format!(
            "{:08x}{:08x}",
            crc32fast::hash(said.as_bytes()),
            crc32fast::hash(&[tail, head].concat().into_bytes())
        );
        Self { rule, within, key }
    }

    /// Whether it holds there.
    pub fn fits(&self, place: &Place<'_>) -> bool {
        let is_listed = || place.listed.iter().any(|(_, rule)| **rule == self.rule);
        self.within.fits(place) && (!self.within.listed || is_listed())
    }
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} cannot be used: {why}")]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
    /// Why.
    pub why: String,
}

/// Says what is wrong with a pattern, if anything is.
///
/// # Errors
/// It is no regular expression, or one of a kind that is not supported.
pub fn check(pattern: &str) -> Result<(), BadPattern> {
    let bad = |why: String| BadPattern { pattern: pattern.to_owned(), why };
    if pattern.is_empty() {
        return Err(bad("it is empty, and would be found in every answer".to_owned()));
    }
    regex::RegexBuilder::new(pattern).size_limit(MAX_ONE_BYTES).build().map(|_: Regex| ()).map_err(|error| {
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            return bad(format!("it {TOO_BIG}"));
        }
        let text = error.to_string();
        if text.contains("look-around") || text.contains("backreferences") {
            return bad("look-around and backreferences are not supported; write it without them, or split it into several rules".to_owned());
        }
        bad(format!("it is no regular expression: {}", text.lines().last().unwrap_or(&text).trim()))
    })
}

/// A set of rules.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Arc<Scoped>>,
    patterns: RegexSet,
    /// The rule of each pattern, in the order of the set.
    of: Vec<usize>,
}

impl RuleSet {
    /// These rules.
    ///
    /// # Errors
    /// A pattern cannot be used; a reader of rules has told that with its place already ([`check`]).
    pub fn new(rules: Vec<Scoped>) -> Result<Self, BadPattern> {
        let (mut patterns, mut of) = (Vec::new(), Vec::new());
        for (at, scoped) in rules.iter().enumerate() {
            for pattern in &scoped.rule.regex {
                check(pattern)?;
                patterns.push(pattern.clone());
                of.push(at);
            }
        }
        let set = RegexSetBuilder::new(&patterns).size_limit(MAX_COMPILED_BYTES).build();
        let patterns = set.map_err(|error| BadPattern {
            pattern: format!("{} patterns", of.len()),
            why: match error {
                regex::Error::CompiledTooBig(_) => ALL_TOO_BIG.to_owned(),
                error => error.to_string(),
            },
        })?;
        Ok(Self { rules: rules.into_iter().map(Arc::new).collect(), patterns, of })
    }

    /// Without rules nothing need be looked at.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All rules.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Scoped>> {
        self.rules.iter()
    }

    /// The rules that hold for an answer there, each with the pattern that was found. `is_internal`: it is what this
    /// program says itself.
    pub fn found<'s>(
        &'s self,
        line: &str,
        is_internal: bool,
        place: &Place<'_>,
    ) -> impl Iterator<Item = (&'s Arc<Scoped>, &'s str)> {
        let matched: Vec<usize> =
            if self.is_empty() { Vec::new() } else { self.patterns.matches(line).iter().collect() };
        let mut last = None;
        let first_of_rule = matched.into_iter().filter_map(move |pattern| {
            let rule = self.of[pattern];
            (last.replace(rule) != Some(rule))
                .then_some((&self.rules[rule], self.patterns.patterns()[pattern].as_str()))
        });
        let fitting =
            first_of_rule.filter(|(scoped, _)| (scoped.rule.match_internal || !is_internal) && scoped.fits(place));
        fitting.collect::<Vec<_>>().into_iter()
    }
}

/// The rules of now, which a reload replaces. Cheap to clone.
#[derive(Clone, Default)]
pub struct Rules(Arc<ArcSwap<RuleSet>>);

impl Rules {
    /// These.
    pub fn new(rules: RuleSet) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(rules)))
    }

    /// These from now on.
    pub fn replace(&self, rules: RuleSet) {
        self.0.store(Arc::new(rules));
    }

    /// Those of now.
    pub fn load(&self) -> Arc<RuleSet> {
        self.0.load_full()
    }

    /// Without rules nothing need be looked at.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shaping::automation::rule::{Action, Trigger};

    fn rule(regex: &[&str], at: &str) -> Rule {
        Rule {
            regex: regex.iter().map(|&pattern| pattern.to_owned()).collect(),
            actions: vec![Action::Suspend],
            trigger: Trigger::Immediate,
            duration: Duration::from_secs(60),
            match_internal: false,
            at: at.to_owned(),
        }
    }

    fn told(set: &RuleSet, line: &str, internal: bool, place: &Place<'_>) -> Vec<String> {
        set.found(line, internal, place).map(|(scoped, pattern)| format!("{} {pattern}", scoped.rule.at)).collect()
    }

    #[test]
    fn every_rule_that_fits_is_told_once_with_its_first_pattern() {
        let of_site = Within { site: vec!["*.b.test".parse().expect("a pattern")], ..Within::default() };
        let of_provider = Within { provider: vec!["yahoo".into()], ..Within::default() };
        let internal = Rule { match_internal: true, ..rule(&["lost"], "f:4") };
        let set = RuleSet::new(vec![
            Scoped::new(rule(&["TS0[0-9]", "deferred"], "f:1"), Within::default()),
            Scoped::new(rule(&["^421 4\\.7\\.0 "], "f:2"), of_site),
            Scoped::new(rule(&["deferred"], "f:3"), of_provider),
            Scoped::new(internal, Within::default()),
        ])
        .expect("patterns");
        let place = Place { domain: "b.test", site: "mx.b.test", providers: &[], source: "s", listed: &[] };
        let line = "421 4.7.0 [TS01] deferred";
        assert_eq!(told(&set, line, false, &place), ["f:1 TS0[0-9]", "f:2 ^421 4\\.7\\.0 "]);
        let yahoo = ["yahoo".into()];
        let shaped = Place { site: "mx.b.test!~b.test", ..place };
        assert_eq!(told(&set, line, false, &shaped).len(), 2, "what is said of a domain does not hide the site");
        let there = Place { site: "mx.c.test", providers: &yahoo, ..place };
        assert_eq!(told(&set, line, false, &there), ["f:1 TS0[0-9]", "f:3 deferred"]);
        assert_eq!(told(&set, "421 deferred, lost", true, &place), ["f:4 lost"]);
        assert!(told(&RuleSet::default(), line, false, &place).is_empty());
    }

    #[test]
    fn patterns_that_cannot_be_used_say_why() {
        let why = |pattern: &str| check(pattern).expect_err("bad").to_string();
        assert!(why("(?<=a)b").contains("look-around"), "{}", why("(?<=a)b"));
        assert!(why("(a)\\1").contains("backreferences"));
        assert!(why("(a").contains("unclosed group") && why("").contains("empty"));
    }

    #[test]
    fn a_rule_has_the_same_name_wherever_it_stands() {
        let scoped = |regex, at| Scoped::new(rule(&[regex], at), Within::default()).key;
        assert_eq!(scoped("a", "x:1"), scoped("a", "y:2"));
        assert_ne!(scoped("a", "x:1"), scoped("b", "x:1"));
    }
}
