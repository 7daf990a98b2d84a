//! JSON as the TOML that means the same, line by line, so that one reader reads both and its complaints name the lines of
//! the JSON file. Pure. Floor 1.
//! Always: each value stays on its line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The key that holds what the JSON file holds.
pub(super) const ROOT: &str = "_";

/// Why a text is no JSON that could be a configuration.
pub(super) struct Wrong {
    pub line: usize,
    pub message: String,
}

/// The same as TOML: `_ = { … }`.
pub(super) fn to_toml(text: &str) -> Result<Cow<'static, str>, Wrong> {
    let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    if let Err(error) = checked {
        return Err(Wrong { line: error.line(), message: format!("is not JSON: {error}") });
    }
    let body = text.trim_start();
    let above = text[..text.len() - body.len()].matches('\n').count();
    if !body.starts_with('{') {
        return Err(Wrong { line: above + 1, message: "holds no JSON object; `{ … }` belongs here".to_owned() });
    }
    let mut told = "\n".repeat(above) + ROOT + " = ";
    let mut rest = body;
    while let Some(at) = rest.find(['"', ':', 'n']) {
        told.push_str(&rest[..at]);
        let (found, behind) = rest[at..].split_at(1);
        match found {
            ":" => told.push('='),
            "\"" => {
                let end = end_of_string(behind);
                let inner: String = serde_json::from_str(&rest[at..=at + 1 + end]).unwrap_or_default();
                push_string(&mut told, &inner);
                rest = &behind[end + 1..];
                continue;
            }
            // Outside of texts only `null` has an `n` in JSON.
            _ => {
                let line = text[..text.len() - behind.len()].matches('\n').count() + 1;
                return Err(Wrong { line, message: "null has no meaning here; leave the key out".to_owned() });
            }
        }
        rest = behind;
    }
    told.push_str(rest);
    Ok(told.into())
}

/// Where the closing quote stands.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    // The text was checked: there is one.
    text.len().saturating_sub(1)
}

fn push_string(told: &mut String, inner: &str) {
    told.push('"');
    for c in inner.chars() {
        match c {
            '"' | '\\' => told.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(told, "\\u{:04X}", u32::from(c));
            }
            c => told.push(c),
        }
    }
    told.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::config::parse_lenient;

    #[test]
    fn json_is_read_with_its_own_lines() {
        let text = "\n{\n  \"timeouts\": {\n    \"idle\": \"3s: \\\"x\\\"\\/\\u00e9\",\n    \"n\": 5\n  }\n}\n";
        let (read, _) = parse_lenient("a.json", text, &[], |root| {
            let section = root.section("timeouts");
            Some((section.optional::<String>("idle", ""), section.optional::<u32>("n", ""), section.line_of("n")))
        });
        assert_eq!(read.map_err(|c| c.to_string()), Ok((Some("3s: \"x\"/é".to_owned()), Some(5), 5)));
        let wrong = |text: &str| match parse_lenient("a.json", text, &[], |root| Some(root.section("a").skip("b"))) {
            (Err(complaints), _) => complaints.to_string(),
            (Ok(_), _) => String::new(),
        };
        assert_eq!(wrong("{\n \"a\": {\n \"c\": 1 }\n}"), "a.json:3: a.c: unknown key; did you mean `b`?");
        assert_eq!(wrong("{\n \"a\":\n null }"), "a.json:3: null has no meaning here; leave the key out");
        assert!(wrong("[]").contains("holds no JSON object"), "{}", wrong("[]"));
        assert!(wrong("{\n\"a\" 1}").starts_with("a.json:2: is not JSON"));
    }

    proptest! {
        #[test]
        fn every_text_survives(inner in any::<String>(), key in "[a-z]{1,5}") {
            let text = serde_json::json!({ key.clone(): inner.clone() }).to_string();
            let (read, _) = parse_lenient("x.json", &text, std::slice::from_ref(&key), |root| Some(root.words_of(&key)));
            prop_assert_eq!(read.map_err(|c| c.to_string()), Ok(Some(inner)));
        }
    }
}
