//! Configuration files: TOML read into types that cannot be wrong, with every complaint at once.
//! Floor 2 (`complaint` and `value` are pure). Knows no program's keys: a program declares each key,
//! its default and its sentence once, where it reads it, and the reference page comes from that.
//! Always: a key that nobody asked for is a complaint that names the nearest known one.

mod change;
mod complaint;
mod json;
mod layers;
mod reference;
mod section;
mod twice;
mod value;

pub use change::{changed_keys, values};
pub use complaint::{Complaint, Complaints, nearest};
pub use layers::{Written, parse_all};
pub use reference::{KeyDoc, describe, markdown};
pub use section::{IGNORED, Section};
pub use value::{Value, string as raw_string};

/// A value as it stands in the file, before it has a type.
pub use toml::de::DeValue as RawValue;

use std::path::Path;

use section::Context;
use toml::de::DeTable;

/// Reads `file` and builds a configuration from it. `build` asks the section for its keys; it returns
/// `None` only after a complaint.
pub fn read<T>(file: &Path, build: impl FnOnce(&Section<'_>) -> Option<T>) -> Result<T, Complaints> {
    read_with_text(file, build).map(|(config, _)| config)
}

/// The same, with the text that it was read from.
pub fn read_with_text<T>(
    file: &Path,
    build: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<(T, String), Complaints> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&file.display().to_string(), &text, build).map(|config| (config, text)),
        Err(error) => Err(Complaints::whole_file(file, format!("cannot be read: {error}"))),
    }
}

/// The same for a text at hand; `file` is only named in complaints.
pub fn parse<T>(file: &str, text: &str, build: impl FnOnce(&Section<'_>) -> Option<T>) -> Result<T, Complaints> {
    let main = Written { name: file.to_owned(), text: text.to_owned(), has_lines: true };
    parse_all(&main, &[], &[], build)
}

/// The same, but the keys in `ignored` may be unknown. With notes: what is worth a word, and no complaint. A file whose
/// name ends in `.json` is read as JSON.
pub fn parse_lenient<T>(
    file: &str,
    text: &str,
    ignored: &[String],
    build: impl FnOnce(&Section<'_>) -> Option<T>,
) -> (Result<T, Complaints>, Vec<Complaint>) {
    let is_json = Path::new(file).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let as_toml = if is_json { json::to_toml(text) } else { Ok(text.into()) };
    let text = match as_toml {
        Ok(text) => text,
        Err(json::Wrong { line, message }) => {
            return (
                Err(Complaints(vec![Complaint { file: file.to_owned(), line, key: String::new(), message }])),
                Vec::new(),
            );
        }
    };
    let (table, errors) = DeTable::parse_recoverable(&text);
    let context = Context::new(file, &text).ignoring(ignored);
    context.complain_of_syntax(&text, 0, &errors);
    if !errors.is_empty() {
        let (complaints, notes) = context.finish();
        return (Err(complaints), notes);
    }
    let of_json = || table.get_ref().get(json::ROOT)?.get_ref().as_table();
    let top = if is_json { of_json().unwrap_or(table.get_ref()) } else { table.get_ref() };
    let root = Section::root(&context, top);
    let built = build(&root);
    drop(root);
    let (complaints, notes) = context.finish();
    match built {
        Some(config) if complaints.is_empty() => (Ok(config), notes),
        _ => (Err(complaints), notes),
    }
}

#[cfg(test)]
mod tests;
