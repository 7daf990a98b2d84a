//! The metrics in the code and those in the reference pages are the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::source::{File, root};

/// With what a metric's name starts.
const PREFIXES: [&str; 2] = ["egret_mta_", "egret_proxy_"];

/// Metric names with where each stands.
pub type Names = BTreeMap<String, String>;

/// Names that stand in `text` between two of the character `quote`.
pub fn names_in(text: &str, quote: char) -> impl Iterator<Item = &str> {
    text.split(quote).filter(|name| {
        let known = PREFIXES.iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
        known && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

/// The metrics that product code names as literals.
pub fn in_code(files: &[File]) -> Names {
    let mut names = Names::new();
    for file in files.iter().filter(|file| file.is_product()) {
        for (line, text) in file.product_lines() {
            let found = names_in(text, '"').map(|name| (name.to_owned(), format!("{}:{line}", file.path)));
            names.extend(found);
        }
    }
    names
}

/// The metrics that the reference pages name: those about metrics, and that of the spool.
pub fn in_pages() -> Result<Names> {
    let folder = root().join("docs/reference");
    let mut names = Names::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let page = path.file_stem().and_then(|name| name.to_str()).unwrap_or("").to_owned();
        if !page.contains("metrics") && page != "spool" {
            continue;
        }
        for (at, text) in std::fs::read_to_string(&path)?.lines().enumerate() {
            let here = format!("docs/reference/{page}.md:{}", at + 1);
            names.extend(names_in(text, '`').map(|name| (name.to_owned(), here.clone())));
        }
    }
    Ok(names)
}

/// Names that only one side has.
pub fn disagreements(code: &Names, pages: &Names) -> Vec<String> {
    let missing = |from: &Names, other: &Names, what: &str| -> Vec<String> {
        let only = from.iter().filter(|(name, _)| !other.contains_key(*name));
        only.map(|(name, at)| format!("{at}: {name} {what}")).collect()
    };
    let mut told = missing(code, pages, "is on no reference page");
    told.extend(missing(pages, code, "is in no code"));
    told
}
