//! Two limits of the program's memory, and on which side of them it is.
//! Pure. Floor 1.
//! Always: a level that was reached is left only below 95 % of its limit, so that it does not flutter.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use egret_shared::units::Size;

/// The limits where nothing is said, in percent of the memory that there is.
const DEFAULT_PERCENT: (u64, u64) = (60, 80);
/// What messages that are being received may take where nothing is said and nothing is known.
const DEFAULT_RECEPTION: u64 = 256 << 20;
/// Below so many percent of a limit it is kept again.
const RECOVERED_PERCENT: u64 = 95;

/// A limit as it is written: a size, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// There is no limit.
    Off,
    /// So many bytes.
    Bytes(u64),
}

impl FromStr for Limit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" | "0" => Ok(Self::Off),
            size => match size.parse::<Size>() {
                Ok(Size(0)) => Ok(Self::Off),
                Ok(Size(bytes)) => Ok(Self::Bytes(bytes)),
                Err(why) => Err(format!("{why}, or \"none\"")),
            },
        }
    }
}

/// What the operator says; what is not said follows from the memory that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Over it no more mail is taken.
    pub soft: Option<Limit>,
    /// Over it no more connections are taken.
    pub hard: Option<Limit>,
    /// Bytes of messages that are being received.
    pub reception: Option<u64>,
}

/// The limits that hold. `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Over it no more mail is taken.
    pub soft: u64,
    /// Over it no more connections are taken.
    pub hard: u64,
    /// Bytes of messages that are being received.
    pub reception: u64,
}

impl Options {
    /// The limits on a host, or in a group of processes, with `total` bytes of memory.
    pub fn limits(&self, total: Option<u64>) -> Limits {
        let share = |percent| total.map_or(u64::MAX, |total| whole(percent_of(total, percent)));
        let (soft, hard) = (share(DEFAULT_PERCENT.0), share(DEFAULT_PERCENT.1));
        let (soft, hard) = match (self.soft, self.hard) {
            (None, None) => (soft, hard),
            (Some(soft), Some(hard)) => (soft.bytes(), hard.bytes()),
            // What is not said gives way to what is.
            (Some(Limit::Off), None) => (u64::MAX, hard),
            (Some(Limit::Bytes(soft)), None) => (soft, hard.max(soft)),
            (None, Some(hard)) => (soft.min(percent_of(hard.bytes(), 75)), hard.bytes()),
        };
        let least = [soft, hard, total.unwrap_or(u64::MAX)].into_iter().min().filter(|least| *least < u64::MAX);
        let reception = self.reception.or(least.map(|least| whole(least / 4))).unwrap_or(DEFAULT_RECEPTION);
        Limits { soft, hard, reception }
    }
}

/// Without a rest of a mebibyte, which nobody wants to read.
fn whole(bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    if bytes < MIB { bytes } else { bytes - bytes % MIB }
}

impl Limit {
    fn bytes(self) -> u64 {
        match self {
            Self::Off => u64::MAX,
            Self::Bytes(bytes) => bytes,
        }
    }
}

fn percent_of(bytes: u64, percent: u64) -> u64 {
    if bytes == u64::MAX { bytes } else { bytes / 100 * percent + bytes % 100 * percent / 100 }
}

/// On which side of the limits the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Mail is taken.
    Good,
    /// Over the soft limit: no more mail is taken; what is open may finish.
    Soft,
    /// Over the hard limit: no more connections are taken either.
    Hard,
}

impl Level {
    /// The level after a look that found `used` bytes.
    fn after(self, used: u64, limits: Limits) -> Self {
        let is_over = |level: Self, limit: u64| {
            let back = if self >= level { percent_of(limit, RECOVERED_PERCENT) } else { limit };
            limit < u64::MAX && used >= back
        };
        if is_over(Self::Hard, limits.hard) {
            Self::Hard
        } else if is_over(Self::Soft, limits.soft) {
            Self::Soft
        } else {
            Self::Good
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Soft => "over the soft limit",
            Self::Hard => "over the hard limit",
        })
    }
}

/// What was found at the last look. Cheap to clone; all clones see the same.
#[derive(Clone, Debug)]
pub struct Pressure(Arc<State>);

#[derive(Debug)]
struct State {
    soft: AtomicU64,
    hard: AtomicU64,
    used: AtomicU64,
    level: AtomicU8,
}

impl Pressure {
    /// Before the first look: all is good.
    pub fn new(limits: Limits) -> Self {
        let (soft, hard) = (limits.soft.into(), limits.hard.into());
        Self(Arc::new(State { soft, hard, used: AtomicU64::new(0), level: AtomicU8::new(Level::Good as u8) }))
    }

    /// Other limits, which hold from the next look on.
    pub fn set_limits(&self, limits: Limits) {
        self.0.soft.store(limits.soft, Ordering::Relaxed);
        self.0.hard.store(limits.hard, Ordering::Relaxed);
    }

    /// The soft and the hard limit; `u64::MAX` is none.
    pub fn limits(&self) -> (u64, u64) {
        (self.0.soft.load(Ordering::Relaxed), self.0.hard.load(Ordering::Relaxed))
    }

    /// Bytes that were found at the last look.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// On which side of the limits that is.
    pub fn level(&self) -> Level {
        match self.0.level.load(Ordering::Relaxed) {
            0 => Level::Good,
            1 => Level::Soft,
            _ => Level::Hard,
        }
    }

    /// Takes what a look has found; the new level if it is another. One task calls it.
    pub fn found(&self, used: u64) -> Option<Level> {
        let (soft, hard) = self.limits();
        let before = self.level();
        let level = before.after(used, Limits { soft, hard, reception: 0 });
        self.0.used.store(used, Ordering::Relaxed);
        self.0.level.store(level as u8, Ordering::Relaxed);
        (level != before).then_some(level)
    }

    /// Whether mail is taken.
    ///
    /// # Errors
    /// What is over which limit, and what follows.
    pub fn health(&self) -> Result<(), String> {
        let (soft, hard) = self.limits();
        let (key, limit, refused) = match self.level() {
            Level::Good => return Ok(()),
            Level::Soft => ("memory.soft_limit", soft, "new mail is refused"),
            Level::Hard => ("memory.hard_limit", hard, "new connections and mail are refused"),
        };
        Err(format!("{} resident, {key} is {}: {refused}", Size(self.used()), Size(limit)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(soft: u64, hard: u64) -> Limits {
        Limits { soft, hard, reception: 0 }
    }

    #[test]
    fn levels_are_reached_at_their_limit_and_left_well_below_it() {
        let pressure = Pressure::new(limits(1_000, 2_000));
        let steps = [
            (999, None),
            (1_000, Some(Level::Soft)),
            (951, None),
            (2_000, Some(Level::Hard)),
            (1_901, None),
            (1_899, Some(Level::Soft)),
            (1_950, None),
            (949, Some(Level::Good)),
            (5_000, Some(Level::Hard)),
            (0, Some(Level::Good)),
        ];
        for (used, change) in steps {
            assert_eq!(pressure.found(used), change, "{used}");
        }
        assert_eq!((pressure.health(), pressure.used()), (Ok(()), 0));
        pressure.found(2_048);
        let told = pressure.health().expect_err("over");
        assert_eq!(told, "2KiB resident, memory.hard_limit is 2000B: new connections and mail are refused");
        pressure.set_limits(limits(u64::MAX, u64::MAX));
        assert_eq!(pressure.found(u64::MAX), Some(Level::Good), "without limits nothing is over them");
    }

    #[test]
    fn limits_that_are_not_said_follow_from_the_memory_and_from_what_is_said() {
        let of = |soft: &str, hard: &str, total| {
            let read = |text: &str| if text.is_empty() { None } else { text.parse().ok() };
            let Limits { soft, hard, reception } =
                Options { soft: read(soft), hard: read(hard), reception: None }.limits(total);
            (soft, hard, reception)
        };
        let none = u64::MAX;
        assert_eq!(of("", "", Some(1_000)), (600, 800, 150));
        assert_eq!(of("900", "", Some(1_000)), (900, 900, 225));
        assert_eq!(of("", "400", Some(1_000)), (300, 400, 75));
        assert_eq!(of("none", "", Some(1_000)), (none, 800, 200));
        assert_eq!(of("none", "0", Some(1_000)), (none, none, 250));
        assert_eq!(of("", "", None), (none, none, DEFAULT_RECEPTION));
        assert_eq!("1KiB".parse(), Ok(Limit::Bytes(1024)));
        assert!("much".parse::<Limit>().is_err_and(|why| why.contains("none")));
    }

    proptest! {
        #[test]
        fn a_level_never_flutters(looks in prop::collection::vec(0u64..3_000, 1..60), soft in 1u64..2_000, more in 0u64..1_000) {
            let all = limits(soft, soft + more);
            let pressure = Pressure::new(all);
            for used in looks {
                let before = pressure.level();
                pressure.found(used);
                let after = pressure.level();
                prop_assert_eq!(after, before.after(used, all));
                prop_assert!(used < all.hard || after == Level::Hard);
                prop_assert!(used < all.soft || after >= Level::Soft);
                prop_assert!(used >= percent_of(all.soft, 95) || after == Level::Good);
                prop_assert_eq!(after.after(used, all), after, "the same look again changes nothing");
            }
        }
    }
}
