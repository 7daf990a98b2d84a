//! What stands twice in a TOML text, where the parser tells the second place only. Pure. Floor 1.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::json::ROOT;

/// What the parser says of it.
pub(super) const MESSAGE: &str = "duplicate key";
/// For so many the first place is sought, for which all above is read again.
pub(super) const MOST_SOUGHT: usize = 100;
/// A key that no file has, to see which table a line belongs to.
const PROBE: &str = "\u{1}";
/// The same as a line.
const PROBE_LINE: &str = "\"\\u0001\" = 0\n";

/// A key that stood in the text already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Twice {
    /// With its table, like `listener.address`.
    pub key: String,
    /// Where it stood first, if that is on another line.
    pub first: Option<usize>,
}

/// What stands a second time at `at`.
pub(super) fn find(text: &str, at: Range<usize>) -> Twice {
    let begin = text[..at.start].rfind('\n').map_or(0, |end| end + 1);
    let found = match text[begin..at.start].trim_start().strip_prefix('[') {
        // A heading names its table from the top on.
        Some(_) => path(&format!("{}]", text[begin..at.end].trim_start().trim_start_matches('[')), "["),
        None => path(&format!("{} = 0", &text[begin..at.end]), "").and_then(|own| below(&text[..begin], own)),
    };
    let first = found.as_ref().and_then(|path| place(&text[..begin], path));
    match found {
        Some(path) if first.is_some() => {
            // What holds a JSON file is no name that stands there.
            let own = path.iter().position(|name| name != ROOT).unwrap_or(0);
            Twice { key: path[own..].join("."), first }
        }
        _ => Twice { key: text[at].trim_matches(['"', '\'']).to_owned(), first: None },
    }
}

/// The names in a single heading or key.
fn path(line: &str, open: &str) -> Option<Vec<String>> {
    let line = format!("{open}{line}");
    let mut names = Vec::new();
    let table = DeTable::parse(&line).ok()?.into_inner();
    let mut inner = &table;
    while let Some((name, value)) = inner.iter().next() {
        names.push(name.get_ref().to_string());
        let Some(table) = value.get_ref().as_table() else { break };
        inner = table;
    }
    Some(names)
}

/// The path of a key that stands behind `above`.
fn below(above: &str, own: Vec<String>) -> Option<Vec<String>> {
    let probed = format!("{above}{PROBE_LINE}");
    let table = DeTable::parse_recoverable(&probed).0.into_inner();
    let mut path = Vec::new();
    probe(&table, &mut path).then(|| path.into_iter().chain(own).collect())
}

/// Whether the table holds the probe; `path` then leads to it.
fn probe(table: &DeTable<'_>, path: &mut Vec<String>) -> bool {
    if table.contains_key(PROBE) {
        return true;
    }
    for (name, value) in table {
        let Some(inner) = inner(value.get_ref()) else { continue };
        path.push(name.get_ref().to_string());
        if probe(inner, path) {
            return true;
        }
        path.pop();
    }
    false
}

/// The table that a value is; of a list of tables the last one.
fn inner<'t, 'd>(value: &'t DeValue<'d>) -> Option<&'t DeTable<'d>> {
    match value {
        DeValue::Array(items) => items.last()?.get_ref().as_table(),
        other => other.as_table(),
    }
}

/// Where the key of this path stands in a text.
fn place(text: &str, path: &[String]) -> Option<usize> {
    let table = DeTable::parse_recoverable(text).0.into_inner();
    let (mut table, mut found) = (&table, None);
    for name in path {
        let (key, value): (&Spanned<DeString<'_>>, _) = table.get_key_value(name.as_str())?;
        found = Some(key.span().start);
        match inner(value.get_ref()) {
            Some(inner) => table = inner,
            None => break,
        }
    }
    found
}
