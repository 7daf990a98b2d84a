//! `[[automation]]`: what follows by itself from the answers of destinations, in KumoMTA's words. Floor 5.

use std::sync::Arc;
use std::time::Duration;

use egret_shared::config::{RawValue, Section, Value, raw_string};
use egret_shared::limits::Rate;
use egret_shared::units::{Seconds, Span};

use super::floor::is_name;
use super::overrides::{is_limit, set_option};
use super::path::Form;
use super::rule::{find, several};
use super::spelling::{NamePattern, check_provider};
use crate::routing::discover::Discovery;
use crate::routing::matcher::TextPattern;
use crate::shaping::automation::rule::Setting;
use crate::shaping::automation::set::check;
use crate::shaping::automation::{Action, Rule, RuleSet, Scoped, Trigger, Within};
use crate::shaping::blocks::Shaping;
use crate::shaping::options::PathOptions;

/// What is done for less time than this would be over before it is in force everywhere.
const SHORTEST: Duration = Duration::from_secs(1);

/// What rules may name; nothing of what was complained about.
pub(super) struct Known<'a> {
    pub providers: Option<&'a [Arc<str>]>,
    pub sources: Option<&'a [Arc<str>]>,
    /// How sources are found beside them.
    pub discovery: Option<&'a Discovery>,
}

/// Reads the rules of `mta.toml`, beside those that shaping files hold.
pub(super) fn build(root: &Section<'_>, shaping: &Shaping, known: &Known<'_>) -> Option<RuleSet> {
    let sections = root.repeated("automation");
    let mut rules: Vec<Scoped> = sections.iter().filter_map(|section| scoped(section, known)).collect();
    let within = Within { listed: true, ..Within::default() };
    rules.extend(shaping.rules().map(|rule| Scoped::new(rule.clone(), within.clone())));
    match RuleSet::new(rules) {
        Ok(rules) => Some(rules),
        Err(bad) => {
            root.complain("automation", bad.to_string());
            None
        }
    }
}

fn scoped(section: &Section<'_>, known: &Known<'_>) -> Option<Scoped> {
    let domain = several::<NamePattern>(
        section,
        "domain",
        "Only for answers to mail to this domain: exact in any case, with `*` and `?`, or `/regular expression/`. One pattern or a list.",
    );
    let site = several::<NamePattern>(section, "site", "Only for answers of this site.");
    let plain = |patterns: Vec<NamePattern>| patterns.into_iter().map(|NamePattern(pattern)| pattern).collect();
    let provider = providers(section, known);
    let within =
        Within { domain: plain(domain), site: plain(site), provider, source: sources(section, known), listed: false };
    read(section, Form::Own).map(|rule| Scoped::new(rule, within))
}

fn providers(section: &Section<'_>, known: &Known<'_>) -> Vec<Arc<str>> {
    let names = several::<String>(
        section,
        "provider",
        "Only for answers of sites of this provider, by its name in shaping files.",
    );
    for name in &names {
        check_provider(section, "provider", name, known.providers);
    }
    names.into_iter().map(Into::into).collect()
}

fn sources(section: &Section<'_>, known: &Known<'_>) -> Vec<TextPattern> {
    let patterns = several::<TextPattern>(section, "source", "Only for answers to this source.");
    let is_there = |pattern: &TextPattern| {
        let is_found = known.discovery.is_some_and(|discovery| discovery.finds(&pattern.to_string()));
        is_found || known.sources.is_some_and(|names| names.iter().any(|name| pattern.fits(name)))
    };
    // A pattern may be for sources that come later.
    for pattern in patterns.iter().filter(|pattern| is_name(pattern) && !is_there(pattern)) {
        find(section, "source", "source", &pattern.to_string(), known.sources);
    }
    patterns
}

/// Reads one rule, KumoMTA's keys only. `None` after a complaint.
pub(super) fn read(section: &Section<'_>, form: Form) -> Option<Rule> {
    let regex = several::<String>(
        section,
        "regex",
        "What must be found in the answer in one line, like `421 4.7.0 [TS01] deferred`: a regular expression or a list of which one is enough. Required. Look-around and backreferences are not supported.",
    );
    let actions = several::<Action>(
        section,
        "action",
        "What is done, one or a list: `\"Suspend\"` (the path from the source to the site), `\"SuspendTenant\"`, `\"SuspendCampaign\"`, `\"Bounce\"`, `\"BounceTenant\"`, `\"BounceCampaign\"` (mail to the domain), `{SetConfig={name=\"connection_limit\", value=1}}` (an option of the path), `{SetDomainConfig={name=…, value=…}}` (of sessions for the domain). Required.",
    );
    let trigger = section.with_default::<Trigger>(
        "trigger",
        "\"Immediate\"",
        "`\"Immediate\"`, or `{Threshold=\"5/hr\"}`: when there were 5 such answers in the hour up to now.",
    );
    check_trigger(section, trigger, form);
    let doc = "How long it lasts; an answer of that kind meanwhile begins it anew.";
    let duration = match form {
        Form::Own => section.required::<Span>("duration", doc).map(Duration::from),
        Form::Kumo => section.required::<Seconds>("duration", doc).map(Duration::from),
    };
    let match_internal = section.with_default::<bool>(
        "match_internal",
        "false",
        "It also looks at what this program says itself where a destination said nothing, as of a lost connection.",
    );
    if regex.is_empty() {
        section.complain("regex", "is missing, or an empty list; without it the rule would never fire");
    }
    for bad in regex.iter().filter_map(|pattern| check(pattern).err()) {
        section.complain("regex", bad.to_string());
    }
    check_actions(section, &actions);
    let duration = duration?;
    if duration < SHORTEST {
        section.complain("duration", "is under a second; give a span like \"30m\"");
    }
    let is_usable = !regex.is_empty() && !actions.is_empty() && regex.iter().all(|pattern| check(pattern).is_ok());
    let at = section.place();
    is_usable.then_some(Rule { regex, actions, trigger, duration, match_internal, at })
}

/// A burst does nothing: it is an error, but in files of KumoMTA's format, which hold it in vain there, too, a note.
fn check_trigger(section: &Section<'_>, trigger: Trigger, form: Form) {
    let Trigger::Threshold(rate) = trigger else { return };
    if rate.burst == rate.count {
        return;
    }
    let why =
        format!("has a max_burst, which means nothing for answers: {} of them in the period are counted", rate.count);
    match form {
        Form::Own => section.complain("trigger", format!("{why}; leave it out")),
        Form::Kumo => section.note("trigger", format!("{why}; the burst does nothing")),
    }
}

/// Complains about actions that would do nothing.
fn check_actions(section: &Section<'_>, actions: &[Action]) {
    if actions.is_empty() {
        section.complain("action", "is missing, or an empty list; without it the rule would do nothing");
    }
    for action in actions {
        let (Action::SetConfig(setting) | Action::SetDomainConfig(setting)) = action else { continue };
        let Setting { name, value } = setting;
        if let Err(why) = set_option(setting, &PathOptions::default()) {
            section.complain("action", format!("sets {name:?} to {value}: {why}"));
        } else if matches!(action, Action::SetDomainConfig(_)) && is_limit(setting) {
            section.complain(
                "action",
                format!("sets {name:?} for a domain, but limits are of the path that all domains of a site share; write {{SetConfig={{name=\"{name}\", value={value}}}}}"),
            );
        }
    }
}

impl Value for Trigger {
    const KIND: &'static str = "a trigger";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        let wrong = || "write \"Immediate\" or {Threshold=\"5/hr\"}".to_owned();
        match (value.as_str(), value.as_table()) {
            (Some("Immediate"), _) => Ok(Self::Immediate),
            (_, Some(table)) if table.len() == 1 => {
                let threshold = table.get("Threshold").ok_or_else(wrong)?;
                let rate = Rate::read(threshold.get_ref()).map_err(|why| format!("Threshold: {why}"))?;
                Ok(Self::Threshold(rate))
            }
            _ => Err(wrong()),
        }
    }
}

impl Value for Action {
    const KIND: &'static str = "an action";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        let wrong = |found: &str| {
            format!(
                "{found} is not an action; there are {}, and {{SetConfig={{name=\"…\", value=…}}}}",
                Action::NAMES.join(", ")
            )
        };
        if let Some(table) = value.as_table() {
            let mut entries = table.iter();
            let (Some((name, inner)), None) = (entries.next(), entries.next()) else {
                return Err(wrong("a table like this"));
            };
            return match name.get_ref().as_ref() {
                "SetConfig" => Ok(Self::SetConfig(setting(inner.get_ref())?)),
                "SetDomainConfig" => Ok(Self::SetDomainConfig(setting(inner.get_ref())?)),
                other => Err(wrong(&format!("{other:?} with a value"))),
            };
        }
        Ok(match raw_string(value, Self::KIND)? {
            "Suspend" => Self::Suspend,
            "SuspendTenant" => Self::SuspendTenant,
            "SuspendCampaign" => Self::SuspendCampaign,
            "Bounce" => Self::Bounce,
            "BounceTenant" => Self::BounceTenant,
            "BounceCampaign" => Self::BounceCampaign,
            other => return Err(wrong(&format!("{other:?}"))),
        })
    }
}

fn setting(value: &RawValue<'_>) -> Result<Setting, String> {
    let wrong = || "write {SetConfig={name=\"connection_limit\", value=1}}".to_owned();
    let table = value.as_table().filter(|table| table.len() == 2).ok_or_else(wrong)?;
    let (name, value) = table.get("name").zip(table.get("value")).ok_or_else(wrong)?;
    let name = raw_string(name.get_ref(), "a name")?;
    let is_key = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_key {
        return Err(format!("{name:?} is not the name of an option"));
    }
    Ok(Setting { name: name.to_owned(), value: as_toml(value.get_ref()) })
}

/// A value as TOML writes it.
fn as_toml(value: &RawValue<'_>) -> String {
    // A JSON text is a TOML text, but for one character, which no option holds.
    let quoted = |text: &str| serde_json::Value::from(text.replace('\u{7f}', "")).to_string();
    match value {
        RawValue::String(text) => quoted(text),
        RawValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(0).to_string(),
        RawValue::Float(number) => number.as_str().to_owned(),
        RawValue::Boolean(is) => is.to_string(),
        RawValue::Datetime(time) => time.to_string(),
        RawValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| as_toml(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        RawValue::Table(table) => {
            let each =
                table.iter().map(|(key, value)| format!("{} = {}", quoted(key.get_ref()), as_toml(value.get_ref())));
            format!("{{ {} }}", each.collect::<Vec<_>>().join(", "))
        }
    }
}
