//! Until when a sender wants a message held: the parameters of FUTURERELEASE (RFC 4865).
//! Pure. Floor 1.
//! Always: a time that is accepted is no further away than the listener says in its reply to EHLO.

use std::time::Duration;

use egret_shared::clock::UnixMs;
use jiff::Timestamp;

use super::command::Bad;

/// The most seconds that the parameter can say, and a listener allow.
pub const MAX_HOLD: Duration = Duration::from_secs(999_999_999);
/// Where an RFC 3339 date-time has no digit, up to its seconds.
const SHAPE: &[u8] = b"0000-00-00T00:00:00";

/// What MAIL asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// HOLDFOR: so long from now.
    For(Duration),
    /// HOLDUNTIL: until then.
    Until(UnixMs),
}

impl Hold {
    /// Reads the value of HOLDFOR: seconds, from 1, in at most nine digits.
    pub(super) fn scan_for(value: &str) -> Result<Self, Bad> {
        let good = value.len() <= 9 && value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0');
        let seconds = if good { value.parse().ok() } else { None };
        seconds.map(|seconds| Self::For(Duration::from_secs(seconds))).ok_or(Bad::Value("HOLDFOR"))
    }

    /// Reads the value of HOLDUNTIL: a date-time of RFC 3339. One before 1970 is the beginning of 1970.
    pub(super) fn scan_until(value: &str) -> Result<Self, Bad> {
        let bad = Bad::Value("HOLDUNTIL");
        let (moment, rest) = value.as_bytes().split_at_checked(SHAPE.len()).ok_or(bad.clone())?;
        let fits = |(byte, shape): (&u8, &u8)| match shape {
            b'0' => byte.is_ascii_digit(),
            shape => byte.eq_ignore_ascii_case(shape),
        };
        if !moment.iter().zip(SHAPE).all(fits) || !is_zone(rest) {
            return Err(bad);
        }
        let at: Timestamp = value.to_ascii_uppercase().parse().map_err(|_| bad)?;
        Ok(Self::Until(UnixMs(u64::try_from(at.as_millisecond()).unwrap_or(0))))
    }

    /// Until when it is, if `longest` allows that; `None` is not at all, for the time is over.
    pub(super) fn until(self, now: UnixMs, longest: Duration) -> Result<Option<UnixMs>, Bad> {
        let at = match self {
            Self::For(span) => now.plus(span),
            Self::Until(at) => at,
        };
        if at.since(now) > longest {
            return Err(Bad::HeldTooLong(longest.as_secs()));
        }
        Ok((at > now).then_some(at))
    }
}

/// A fraction of a second, perhaps, and `Z` or an offset.
fn is_zone(text: &[u8]) -> bool {
    let zone = match text.strip_prefix(b".") {
        None => text,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &fraction[digits..]
        }
    };
    match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}

/// A moment as RFC 3339 writes it, in UTC; one that no calendar knows is the last that it knows.
pub(super) fn date_time(at: UnixMs) -> String {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn seconds_are_digits_from_one() {
        assert_eq!(Hold::scan_for("1"), Ok(Hold::For(seconds(1))));
        assert_eq!(Hold::scan_for("999999999"), Ok(Hold::For(MAX_HOLD)));
        for bad in ["", "0", "01", "-1", "+1", "1.5", "1s", "1000000000", "1;C", "1;R", "\u{661}"] {
            assert_eq!(Hold::scan_for(bad), Err(Bad::Value("HOLDFOR")), "{bad:?}");
        }
    }

    #[test]
    fn a_date_time_is_that_of_rfc_3339_and_nothing_else() {
        for (text, want) in [
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14t22:13:20z", 1_700_000_000_000),
            ("2023-11-14T23:43:20.25+01:30", 1_700_000_000_250),
            ("2023-11-14T22:13:20-00:00", 1_700_000_000_000),
            ("1923-11-14T22:13:20Z", 0),
        ] {
            assert_eq!(Hold::scan_until(text), Ok(Hold::Until(UnixMs(want))), "{text}");
        }
        for bad in [
            "",
            "tomorrow",
            "1700000000",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13Z",
            "2023-13-14T22:13:20Z",
            "2023-02-30T22:13:20Z",
            "2023-11-14T24:13:20Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20Z[UTC]",
            "2023-11-14T22:13:20Z;C",
            "+002023-11-14T22:13:20Z",
        ] {
            assert_eq!(Hold::scan_until(bad), Err(Bad::Value("HOLDUNTIL")), "{bad:?}");
        }
    }

    #[test]
    fn what_is_over_is_not_held_and_what_is_too_far_away_is_refused() {
        let at = |ms| Hold::Until(UnixMs(ms)).until(NOW, seconds(60));
        assert_eq!((at(0), at(NOW.0), at(NOW.0 + 1)), (Ok(None), Ok(None), Ok(Some(UnixMs(NOW.0 + 1)))));
        assert_eq!(
            (at(NOW.0 + 60_000), at(NOW.0 + 60_001)),
            (Ok(Some(NOW.plus(seconds(60)))), Err(Bad::HeldTooLong(60)))
        );
        assert_eq!(Hold::For(seconds(60)).until(NOW, seconds(60)), Ok(Some(NOW.plus(seconds(60)))));
        assert_eq!(Hold::For(seconds(61)).until(NOW, seconds(60)), Err(Bad::HeldTooLong(60)));
    }

    proptest! {
        #[test]
        fn a_date_time_that_is_written_is_read(at in 0u64..4_000_000_000) {
            let at = UnixMs(at * 1_000);
            prop_assert_eq!(Hold::scan_until(&date_time(at)), Ok(Hold::Until(at)));
        }

        #[test]
        fn no_value_panics_or_is_held_longer_than_allowed(text in "[0-9TtZz:.+;C-]{0,30}|\\PC{0,20}") {
            for hold in [Hold::scan_for(&text), Hold::scan_until(&text)].into_iter().flatten() {
                if let Ok(Some(at)) = hold.until(NOW, seconds(3_600)) {
                    prop_assert!(at > NOW && at.since(NOW) <= seconds(3_600));
                }
            }
        }
    }
}
