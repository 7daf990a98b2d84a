//! What is printed for people. Floor 6.

use std::fmt::Write as _;

use egret_shared::check::render::table;
use serde_json::Value;

use crate::test_dial::Outcome;

/// The stages of a test dial.
pub(super) fn outcome(outcome: &Outcome) -> String {
    let rows: Vec<_> = outcome
        .stages
        .iter()
        .map(|stage| vec![stage.name.to_owned(), format!("{:.1} ms", stage.took_ms), stage.detail.clone()])
        .collect();
    let mut text = table(&["stage", "took", "found"], &rows);
    let total: f64 = outcome.stages.iter().map(|stage| stage.took_ms).sum();
    let _ = match &outcome.fault {
        None => writeln!(text, "good: the destination spoke after {total:.1} ms"),
        Some(fault) => {
            writeln!(text, "failed after {total:.1} ms; the {} is at fault: {}", fault.party().as_str(), fault.reason)
        }
    };
    text
}

/// Rows of a JSON list, by the names of their fields.
pub(super) fn rows(list: &Value, fields: &[&str]) -> String {
    let cell = |item: &Value, field: &str| match &item[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<_>> = items.iter().map(|item| fields.iter().map(|field| cell(item, field)).collect()).collect();
    table(fields, &rows)
}
