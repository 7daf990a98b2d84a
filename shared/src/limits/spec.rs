//! A limit as it is written in configuration: a throttle or a count, for the fleet or for this node alone.
//! Pure. Floor 0.
//! Always: `parse(print(x)) == x`.

use std::fmt;
use std::str::FromStr;

use super::Rate;

/// What stands before a limit that each node keeps for itself.
const LOCAL: &str = "local:";

/// A rate, and who keeps it: `"100/min"`, `"local:5/s,max_burst=2"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// The rate.
    pub rate: Rate,
    /// Each node keeps it for itself; otherwise the nodes keep it together.
    pub local: bool,
}

/// How many at once, and who keeps it: `10`, `"10"`, `"local:10"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many; at least 1.
    pub count: u32,
    /// Each node keeps it for itself; otherwise the nodes keep it together.
    pub local: bool,
}

impl From<Rate> for Throttle {
    fn from(rate: Rate) -> Self {
        Self { rate, local: false }
    }
}

impl From<u32> for Count {
    fn from(count: u32) -> Self {
        Self { count, local: false }
    }
}

/// Whether `local:` stands in front, and what follows.
fn local(text: &str) -> (bool, &str) {
    let text = text.trim();
    text.strip_prefix(LOCAL).map_or((false, text), |rest| (true, rest))
}

impl FromStr for Throttle {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (local, rate) = local(text);
        Ok(Self { rate: rate.parse()?, local })
    }
}

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (local, number) = local(text);
        let count = number.trim().replace(['_', ','], "").parse().ok().filter(|count| *count > 0);
        count
            .map(|count| Self { count, local })
            .ok_or_else(|| "write a number from 1 on, like 10 or \"local:10\"".to_owned())
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.local { LOCAL } else { "" })?;
        self.rate.fmt(f)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.local { LOCAL } else { "" })?;
        self.count.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_a_limit_stands_in_front() {
        let throttle = |text: &str| text.parse::<Throttle>().map(|t| (t.to_string(), t.local));
        assert_eq!(throttle("local: 100/m"), Ok(("local:100/min".to_owned(), true)));
        assert_eq!(throttle("20/30min,max_burst=2"), Ok(("20/30min,max_burst=2".to_owned(), false)));
        let count = |text: &str| text.parse::<Count>().map(|c| (c.to_string(), c.local));
        assert_eq!(count("local:1_000"), Ok(("local:1000".to_owned(), true)));
        assert_eq!(count("7"), Ok(("7".to_owned(), false)));
        for wrong in ["", "0", "local:", "local:0", "-1", "5/s", "remote:5", "4294967296"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "5", "local:", "globally:5/s"] {
            assert!(throttle(wrong).is_err(), "{wrong}");
        }
    }
}
