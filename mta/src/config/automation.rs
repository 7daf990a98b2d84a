//! Rules over the answers of destinations, as shaping files hold them. Floor 5.

use egret_shared::config::{RawValue, Section, Value, raw_string};
use egret_shared::limits::Rate;
use egret_shared::units::Span;

use crate::shaping::automation::{Action, Rule, Trigger};

/// One value or a list of them.
struct OneOrMany<T>(Vec<T>);

impl<T: Value> Value for OneOrMany<T> {
    const KIND: &'static str = T::KIND;
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        if value.is_array() { Vec::read(value).map(Self) } else { T::read(value).map(|one| Self(vec![one])) }
    }
}

impl Value for Action {
    const KIND: &'static str = "an action";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        match value.as_table().and_then(|table| table.iter().next()) {
            Some((name, _)) => Ok(Self(name.get_ref().to_string())),
            None => raw_string(value, Self::KIND).map(|name| Self(name.to_owned())),
        }
    }
}

impl Value for Trigger {
    const KIND: &'static str = "\"Immediate\" or { Threshold = \"N/period\" }";
    fn read(value: &RawValue<'_>) -> Result<Self, String> {
        match value.as_table().and_then(|table| table.get("Threshold")) {
            Some(rate) => Rate::read(rate.get_ref()).map(Self::Threshold),
            None if value.as_str() == Some("Immediate") => Ok(Self::Immediate),
            None => Err(format!("is no trigger; {} belongs here", Self::KIND)),
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> Option<Rule> {
    let regex = section.required::<OneOrMany<String>>("regex", "");
    let actions = section.required::<OneOrMany<Action>>("action", "");
    let trigger = section.optional::<Trigger>("trigger", "").unwrap_or_default();
    let duration = section.required::<Span>("duration", "");
    let match_internal = section.with_default::<bool>("match_internal", "false", "");
    let at = format!("{}:{}", section.file(), section.line());
    Some(Rule { regex: regex?.0, actions: actions?.0, trigger, duration: duration?.0, match_internal, at })
}
