//! Text that is safe to put on a protocol line: it cannot hold CR, LF or NUL.
//! Pure. Floor 0.
//! Always: a `Line` never contains `\r`, `\n` or `\0`, so it can never end a command or header early.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of text without CR, LF or NUL: the only way into commands and headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line(Box<str>);

/// A text held a byte that would break a protocol line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text holds the byte 0x{byte:02x} at offset {at}, which would break a line")]
pub struct Breaks {
    /// The offending byte: 0x00, 0x0a or 0x0d.
    pub byte: u8,
    /// Its offset in bytes.
    pub at: usize,
}

impl Line {
    /// Accepts `text` if it holds no CR, LF or NUL.
    pub fn new(text: &str) -> Result<Self, Breaks> {
        match text.bytes().position(breaks) {
            Some(at) => Err(Breaks { byte: text.as_bytes()[at], at }),
            None => Ok(Self(text.into())),
        }
    }

    /// Takes any bytes from outside: breaking bytes and invalid UTF-8 become `?`.
    pub fn sanitized(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let clean: String = text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
        Self(clean.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn breaks(byte: u8) -> bool {
    matches!(byte, 0 | b'\n' | b'\r')
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Line {
    type Error = Breaks;
    fn try_from(text: String) -> Result<Self, Breaks> {
        Self::new(&text)
    }
}

impl From<Line> for String {
    fn from(line: Line) -> Self {
        line.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_each_breaking_byte_with_its_place() {
        for byte in [0u8, b'\n', b'\r'] {
            let text = format!("ab{}c", byte as char);
            assert_eq!(Line::new(&text), Err(Breaks { byte, at: 2 }));
        }
        assert_eq!(Line::new("a b").expect("clean").as_str(), "a b");
    }

    #[test]
    fn sanitizing_never_leaves_a_control_byte() {
        assert_eq!(Line::sanitized(b"a\r\nb\x00\xff").as_str(), "a??b?\u{fffd}");
    }
}
