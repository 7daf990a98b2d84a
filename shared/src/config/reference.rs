//! The reference page of a configuration, made from the keys that a program asks for.
//! Pure. Floor 2.

use std::cell::RefCell;
use std::fmt::Write as _;

use toml::de::DeTable;

use super::section::{Context, Section};

/// One key as the program declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// The table it stands in: `timeouts`, `source.NAME`, `[listener]`; empty for the top.
    pub section: String,
    /// The key.
    pub key: &'static str,
    /// What its value is.
    pub kind: &'static str,
    /// Its default, as it would stand in the file.
    pub default: Option<&'static str>,
    /// Whether it must be there.
    pub required: bool,
    /// What it does.
    pub doc: &'static str,
}

/// Runs `build` over an empty file and lists every key that it asks for.
pub fn describe<T>(build: impl FnOnce(&Section<'_>) -> Option<T>) -> Vec<KeyDoc> {
    let mut context = Context::new("", "");
    context.docs = Some(RefCell::default());
    let table = DeTable::new();
    let root = Section::root(&context, &table);
    let _ = build(&root);
    drop(root);
    context.docs.take().map(RefCell::into_inner).unwrap_or_default()
}

/// The keys as a Markdown page: one heading a table, one row a key.
pub fn markdown(title: &str, keys: &[KeyDoc]) -> String {
    let mut page = format!("# {title}\n\nMade from the program's own declarations; a test compares.\n");
    let mut section: Option<&str> = None;
    for key in keys {
        if section != Some(&key.section) {
            section = Some(&key.section);
            let heading = if key.section.is_empty() { "top level".to_owned() } else { format!("`[{}]`", key.section) };
            let _ =
                write!(page, "\n## {heading}\n\n| key | value | default | what it does |\n| --- | --- | --- | --- |\n");
        }
        let default = match key.default {
            Some(default) => format!("`{default}`"),
            None if key.required => "must be given".to_owned(),
            None => "none".to_owned(),
        };
        let _ = writeln!(page, "| `{}` | {} | {default} | {} |", key.key, key.kind, key.doc);
    }
    page
}
