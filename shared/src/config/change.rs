//! Which keys two configuration files give other values. Pure. Floor 2.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

/// The keys, as `section.key`, that have other values in `new` than in `old`, or stand in one of both only.
/// Of repeated sections and lists each place is told, as `listener[0].address`. A text that is no TOML has no keys.
#[must_use]
pub fn changed_keys(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (values(old), values(new));
    let mut changed: Vec<_> = old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).collect();
    changed.sort_unstable();
    changed.dedup();
    changed.into_iter().cloned().collect()
}

/// The keys of a configuration file with their values in words, named as [`changed_keys`] does. A text that is no TOML has
/// none.
#[must_use]
pub fn values(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        collect("", &DeValue::Table(table.into_inner()), &mut found);
    }
    found
}

/// A value in words: a list or a table as its parts.
pub(super) fn words(value: &DeValue<'_>) -> String {
    let joined = |parts: Vec<String>, open, close| format!("{open}{}{close}", parts.join(", "));
    match value {
        DeValue::Table(table) => {
            let part = |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
                format!("{} = {}", key.get_ref(), words(value.get_ref()))
            };
            joined(table.iter().map(part).collect(), "{ ", " }")
        }
        DeValue::Array(items) => joined(items.iter().map(|item| words(item.get_ref())).collect(), "[", "]"),
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(time) => time.to_string(),
    }
}

fn collect(name: &str, value: &DeValue<'_>, found: &mut BTreeMap<String, String>) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                let key = key.get_ref();
                let name = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
                collect(&name, value.get_ref(), found);
            }
        }
        DeValue::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                collect(&format!("{name}[{number}]"), item.get_ref(), found);
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            found.insert(name.to_owned(), words(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_are_told_by_name_and_spelling_does_not_count() {
        let old = "a = 1\n[queue]\nmax_age = \"5d\"\nmax_ready = 7\n[[listener]]\naddress = \"x\"\n";
        assert!(changed_keys(old, old).is_empty());
        let same = "a   =   1 # with a word\nqueue = { max_ready = 7, max_age = '5d' }\n[[listener]]\naddress = 'x'\n";
        assert!(changed_keys(old, same).is_empty());
        let new = "b = 1\n[queue]\nmax_age = \"6d\"\nmax_ready = 7\n[[listener]]\naddress = \"x\"\n[[listener]]\naddress = \"y\"\n";
        assert_eq!(values(old)["queue.max_ready"], "7");
        assert_eq!(values("a = [true, 'x']")["a[0]"], "true");
        assert_eq!(changed_keys(old, new), ["a", "b", "listener[1].address", "queue.max_age"]);
    }
}
