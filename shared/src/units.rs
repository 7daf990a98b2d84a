//! Quantities as they are written in configuration: `"30s"`, `"10MiB"`.
//! Pure. Floor 0.
//! Always: `parse(print(x)) == x`.

use std::{fmt, str::FromStr, time::Duration};

/// A span of time, written like `"30s"`, `"15m"`, `"5d"` or `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|e| format!("{e}; write a time span like \"30s\", \"15m\" or \"5d\""))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A span of time as KumoMTA's files have it: as above, or a number, which is one of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        seconds.0
    }
}

/// A span of time that something is waited for or that lies between two things; never no time at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(pub Duration);

impl From<Wait> for Duration {
    fn from(wait: Wait) -> Self {
        wait.0
    }
}

impl TryFrom<Span> for Wait {
    type Error = &'static str;
    fn try_from(Span(span): Span) -> Result<Self, Self::Error> {
        if span.is_zero() { Err("is no time at all; write a time span like \"30s\"") } else { Ok(Self(span)) }
    }
}

/// A number of bytes, written like `"10MiB"`, `"64KiB"` or `"1500"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|e| format!("{e}; write a size like \"10MiB\" or \"64KiB\""))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match steps.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!("5d".parse::<Span>().map(|s| s.0.as_secs()), Ok(432_000));
        assert_eq!("10MiB".parse::<Size>(), Ok(Size(10 << 20)));
        assert!("10 parsecs".parse::<Span>().is_err());
        assert!("many".parse::<Size>().is_err());
    }

    proptest! {
        #[test]
        fn sizes_survive_printing(bytes in any::<u64>()) {
            prop_assert_eq!(Size(bytes).to_string().parse::<Size>(), Ok(Size(bytes)));
        }

        #[test]
        fn spans_survive_printing(ms in 0u64..10_000_000_000) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
    }
}
