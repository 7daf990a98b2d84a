//! A JSON document as the TOML that says the same. Pure. Floor 1.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Values within values that are read.
const MAX_DEPTH: usize = 16;

/// The document as TOML, whose tables begin lines of their own.
///
/// # Errors
/// That it is no JSON, no object, holds a null, or is nested too deep; the text names the key.
pub fn to_toml(text: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(root) = value else { return Err("it is no JSON object, like {\"pool\": {…}}".to_owned()) };
    let (mut values, mut tables) = (String::new(), String::new());
    for (key, value) in &root {
        match value {
            Value::Object(all) if all.values().all(Value::is_object) && !all.is_empty() => {
                for (name, value) in all {
                    let (Value::Object(table), path) = (value, format!("{}.{}", quoted(key), quoted(name))) else {
                        continue;
                    };
                    let _ = writeln!(tables, "[{path}]");
                    lines(table, &path, &mut tables)?;
                }
            }
            Value::Array(items) if items.iter().all(Value::is_object) && !items.is_empty() => {
                for table in items.iter().filter_map(Value::as_object) {
                    let _ = writeln!(tables, "[[{}]]", quoted(key));
                    lines(table, key, &mut tables)?;
                }
            }
            other => {
                let _ = writeln!(values, "{} = {}", quoted(key), inline(other, key, 0)?);
            }
        }
    }
    Ok(values + &tables)
}

fn lines(table: &Map<String, Value>, path: &str, out: &mut String) -> Result<(), String> {
    for (key, value) in table {
        let _ = writeln!(out, "{} = {}", quoted(key), inline(value, &format!("{path}.{key}"), 0)?);
    }
    Ok(())
}

fn inline(value: &Value, path: &str, depth: usize) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err(format!("{path} is nested deeper than {MAX_DEPTH}"));
    }
    match value {
        Value::Null => Err(format!("{path} is null; leave the key out instead")),
        Value::Bool(is) => Ok(is.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) => Ok(quoted(text)),
        Value::Array(items) => {
            let items = items.iter().map(|item| inline(item, path, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            Ok(format!("[{}]", items.join(", ")))
        }
        Value::Object(table) => {
            let entry = |(key, value): (&String, &Value)| {
                inline(value, &format!("{path}.{key}"), depth + 1).map(|value| format!("{} = {value}", quoted(key)))
            };
            let entries = table.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
            Ok(format!("{{ {} }}", entries.join(", ")))
        }
    }
}

/// A basic string, which is a key, too.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// For fuzzing: what is read as JSON is TOML.
///
/// # Panics
/// If it is not.
pub fn fuzz_document(bytes: &[u8]) {
    if let Ok(Ok(toml)) = std::str::from_utf8(bytes).map(to_toml) {
        let table = egret_shared::config::parse("x", &toml, |root| Some(root.path().len()));
        if let Err(complaints) = table {
            assert!(complaints.0.iter().all(|c| c.message.contains("unknown key")), "{complaints}");
        }
    }
}

#[cfg(test)]
mod tests {
    use egret_shared::config::values;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_says_in_toml_what_it_says_in_json() {
        let json = r#"{"default_pool": "a", "pool": {"a": {"sources": {"s 1": 2}}},
            "source": {"s 1": {"address": "192.0.2.1", "proxies": ["p", "q"]}}, "route": [{"name": "x"}, {"name": "y"}],
            "dkim": {"signature": [{"domain": "d.test"}]}, "text": "a\"\\\u0000\u007f\n😀/"}"#;
        let toml = to_toml(json).expect("good");
        let values = values(&toml);
        let want = [
            ("default_pool", "a"),
            ("pool.a.sources.s 1", "2"),
            ("source.s 1.proxies[1]", "q"),
            ("route[1].name", "y"),
            ("dkim.signature[0].domain", "d.test"),
            ("text", "a\"\\\0\u{7f}\n😀/"),
        ];
        for (key, value) in want {
            assert_eq!(values.get(key).map(String::as_str), Some(value), "{key} in {toml}");
        }
    }

    #[test]
    fn what_has_no_toml_is_told() {
        for (json, why) in [
            ("[]", "no JSON object"),
            ("{", "no JSON: "),
            (r#"{"a": {"b": {"c": null}}}"#, "is null"),
            (&format!("{{\"a\": {}1{}}}", "[".repeat(30), "]".repeat(30)), "nested deeper"),
        ] {
            let told = to_toml(json).expect_err(json);
            assert!(told.contains(why), "{told}");
        }
    }

    proptest! {
        #[test]
        fn every_text_survives(key in any::<String>(), text in any::<String>()) {
            let json = serde_json::json!({ "x": { "y": { &key: text.clone() } }, "z": [{ &key: [text.clone()] }] });
            let toml = to_toml(&json.to_string()).expect("good");
            let found = values(&toml);
            prop_assert_eq!(found.get(&format!("x.y.{key}")), Some(&text), "{}", toml);
        }
    }
}
