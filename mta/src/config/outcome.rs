//! `[[outcome]]`: what is said of the answers of destinations. Floor 5.

use std::sync::Arc;

use egret_shared::config::Section;

use super::rule::several;
use crate::delivery::{Action, OutcomeRule};
use crate::routing::matcher::TextPattern;

egret_shared::config_value_from_str!(Action => "an action");

/// The longest name of a class: events and their readers have to carry it.
const MAX_CLASS_BYTES: usize = 64;

pub(super) fn build(root: &Section<'_>) -> Vec<OutcomeRule> {
    root.repeated("outcome").iter().map(rule).collect()
}

fn rule(section: &Section<'_>) -> OutcomeRule {
    let rule = OutcomeRule {
        response: several::<TextPattern>(
            section,
            "response",
            "The answer in one line, like `550 5.1.1 no such user`: exact in any case, with `*` and `?`, or `/regular expression/`. One pattern or a list.",
        ),
        command: several::<TextPattern>(
            section,
            "command",
            "What it answered: `greeting`, `EHLO`, `AUTH`, `MAIL`, `RCPT`, `DATA`, `BDAT` or `.`.",
        ),
        site: several::<TextPattern>(section, "site", "The site that said it."),
        domain: several::<TextPattern>(section, "domain", "The domain of the recipients."),
        action: section.optional(
            "action",
            "What it means: \"retry\" (later, whatever the code) or \"bounce\" (never). Without it the code decides.",
        ),
        class: section
            .optional::<String>("class", "What such an answer is called in events, as `InvalidRecipient`.")
            .map(Arc::from),
    };
    if rule.action.is_none() && rule.class.is_none() {
        section.complain("action", "is missing, and class too: the rule would do nothing");
    }
    if rule.class.as_deref().is_some_and(|class| class.is_empty() || class.len() > MAX_CLASS_BYTES) {
        section.complain("class", format!("has not 1 to {MAX_CLASS_BYTES} bytes"));
    }
    rule
}
