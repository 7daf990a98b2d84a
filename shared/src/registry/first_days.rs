//! On which day each address was there first: as this node has seen it, and as the fleet has agreed. Pure: told the day.
//! Floor 1.
//! Always: of two days the earlier is the first one, but what nobody has told is never taken for old; an address that was
//! not there for thirty days is new again; a clock that jumps makes no address older.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A day, counted from 1970-01-01 (UTC).
pub type Day = u32;

/// An address that was not there for so many days is new again.
pub const KEPT_DAYS: u32 = 30;
/// Addresses that are remembered; beyond it those that are gone for the longest time are forgotten.
const MAX_ADDRESSES: usize = 200_000;

/// The first days.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstDays {
    /// The day of the last look.
    day: Day,
    addresses: BTreeMap<IpAddr, Seen>,
    #[serde(skip)]
    news: News,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// The first day, if it is known.
    first: Option<Day>,
    /// The last day on which it was there.
    last: Day,
    /// The fleet has agreed on the first day; otherwise this node supposes it.
    is_agreed: bool,
}

/// What somebody should know who looks again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct News {
    /// First days are others.
    firsts: bool,
    /// Something is to be kept.
    unkept: bool,
}

/// What the fleet is asked about an address, and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The address.
    pub address: IpAddr,
    /// Its first day, as far as is known here.
    pub first: Option<Day>,
    /// For how many days it was not there.
    pub gone: u32,
}

impl FirstDays {
    /// As it is kept.
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// It is `today`, after what was kept on an earlier day, or by a clock that was wrong: what this node supposed is as
    /// many days old as it was then.
    pub fn resume(&mut self, today: Day) {
        let shift = i64::from(today) - i64::from(self.day);
        for seen in self.addresses.values_mut().filter(|seen| !seen.is_agreed) {
            seen.first = seen.first.map(|first| moved(first, shift));
        }
        self.day = today;
    }

    /// The clock has jumped over days: what the fleet has agreed on must be asked anew, since nobody knows how long an
    /// address was away.
    fn jumped(&mut self, today: Day) {
        self.resume(today);
        for seen in self.addresses.values_mut() {
            seen.last = today;
            if std::mem::take(&mut seen.is_agreed) {
                seen.first = None;
            }
        }
    }

    /// These are there today.
    pub fn see(&mut self, there: &BTreeSet<IpAddr>, today: Day) {
        if self.addresses.is_empty() {
            self.day = today;
        }
        if today != self.day {
            let is_next = today == self.day.saturating_add(1);
            if is_next {
                self.day = today;
            } else {
                self.jumped(today);
            }
            self.news.unkept = true;
        }
        let is_stale = |seen: &Seen| today.saturating_sub(seen.last) > KEPT_DAYS;
        self.addresses.retain(|address, seen| !is_stale(seen) || there.contains(address));
        for address in there {
            let new = Seen { first: None, last: today, is_agreed: false };
            let seen = self.addresses.entry(*address).or_insert(new);
            if is_stale(seen) {
                *seen = new;
            }
            self.news.unkept |= seen.last != today;
            seen.last = today;
        }
        self.bound(there);
    }

    fn bound(&mut self, there: &BTreeSet<IpAddr>) {
        let Some(more) = self.addresses.len().checked_sub(MAX_ADDRESSES).filter(|more| *more > 0) else { return };
        let gone = self.addresses.iter().filter(|(address, _)| !there.contains(address));
        let mut gone: Vec<(Day, IpAddr)> = gone.map(|(address, seen)| (seen.last, *address)).collect();
        gone.sort_unstable();
        for (_, address) in gone.into_iter().take(more) {
            self.addresses.remove(&address);
        }
    }

    /// Whether nothing is known, so that there is nothing to tell either.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Those that the fleet has not agreed on yet, with what this node knows.
    pub fn open(&self) -> Vec<Question> {
        self.questions(|seen| !seen.is_agreed)
    }

    /// All that this node knows.
    pub fn all(&self) -> Vec<Question> {
        self.questions(|_| true)
    }

    fn questions(&self, fits: impl Fn(&Seen) -> bool) -> Vec<Question> {
        let fitting = self.addresses.iter().filter(|(_, seen)| fits(seen));
        let question = |(address, seen): (&IpAddr, &Seen)| Question {
            address: *address,
            first: seen.first,
            gone: self.day.saturating_sub(seen.last),
        };
        fitting.map(question).collect()
    }

    /// The fleet has agreed on a first day. Returns whether it is another one than was known.
    pub fn agree(&mut self, address: IpAddr, first: Day) -> bool {
        let Some(seen) = self.addresses.get_mut(&address) else { return false };
        let is_news = seen.first != Some(first);
        self.news.firsts |= is_news;
        self.news.unkept |= is_news || !seen.is_agreed;
        (seen.first, seen.is_agreed) = (Some(first), true);
        is_news
    }

    /// Nobody can be asked: what is not known begins today, as far as this node knows. Returns how many those are.
    pub fn suppose(&mut self) -> usize {
        let mut supposed = 0;
        for seen in self.addresses.values_mut().filter(|seen| seen.first.is_none()) {
            seen.first = Some(self.day);
            supposed += 1;
        }
        self.news = if supposed > 0 { News { firsts: true, unkept: true } } else { self.news };
        supposed
    }

    /// The first day of an address, if it is known.
    pub fn first(&self, address: IpAddr) -> Option<Day> {
        self.addresses.get(&address)?.first
    }

    /// Whether first days have become others since this was asked last.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news.firsts)
    }

    /// Whether something is to be kept since this was asked last.
    pub fn take_unkept(&mut self) -> bool {
        std::mem::take(&mut self.news.unkept)
    }
}

fn moved(day: Day, shift: i64) -> Day {
    u32::try_from((i64::from(day) + shift).max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> FirstDays {
        serde_json::from_str(text).expect("as it was kept")
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn there(last: &[u8]) -> BTreeSet<IpAddr> {
        last.iter().map(|last| address(*last)).collect()
    }

    #[test]
    fn an_address_begins_on_the_day_that_was_agreed_and_is_new_again_when_nobody_has_seen_it_for_long() {
        let mut days = FirstDays::default();
        days.see(&there(&[1, 2]), 100);
        assert_eq!(days.first(address(1)), None, "not before somebody was asked");
        days.agree(address(1), 90);
        assert!(days.take_news() && days.take_unkept() && !days.take_news());
        assert_eq!(days.suppose(), 1, "the other");
        assert_eq!([1, 2].map(|last| days.first(address(last))), [Some(90), Some(100)]);
        assert_eq!(days.open(), [Question { address: address(2), first: Some(100), gone: 0 }]);
        // It is away for a month, day by day, and comes back on the last or behind it.
        for day in 101..=130 {
            days.see(&there(&[2]), day);
        }
        let mut late = days.clone();
        days.see(&there(&[1, 2]), 130);
        assert_eq!(days.first(address(1)), Some(90));
        late.see(&there(&[2]), 131);
        assert_eq!(late.all().len(), 1, "it is forgotten");
        late.see(&there(&[1, 2]), 131);
        assert_eq!([1, 2].map(|last| late.first(address(last))), [None, Some(100)]);
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart_and_what_was_only_supposed_is_no_older() {
        let mut days = FirstDays::default();
        days.see(&there(&[1, 2]), 100);
        days.agree(address(1), 90);
        days.suppose();
        let mut kept = read(&days.write());
        kept.resume(105);
        kept.see(&there(&[1, 2]), 105);
        assert_eq!([1, 2].map(|last| kept.first(address(last))), [Some(90), Some(105)]);
        let mut kept = read(&days.write());
        kept.resume(131);
        kept.see(&there(&[1]), 131);
        assert_eq!(kept.first(address(1)), None, "the program was away for too long");
    }

    #[test]
    fn a_clock_that_jumps_makes_no_address_older() {
        let mut days = FirstDays::default();
        days.see(&there(&[1, 2]), 10);
        days.agree(address(1), 10);
        days.suppose();
        days.see(&there(&[1, 2]), 20_000);
        assert_eq!(days.first(address(1)), None, "it is asked anew");
        assert_eq!(days.first(address(2)), Some(20_000), "supposed, and as old as it was");
        days.suppose();
        days.see(&there(&[1, 2]), 10);
        assert_eq!([1, 2].map(|last| days.first(address(last))), [Some(10), Some(10)]);
    }

    proptest! {
        /// Whatever the clock does: what this node only supposes has not begun earlier than there were days to count.
        #[test]
        fn what_is_supposed_is_never_older_than_the_days_that_were_counted(
            jumps in prop::collection::vec(prop_oneof![4 => Just(1i64), 1 => -40_000i64..40_000], 1..30),
        ) {
            let (mut days, mut day, mut counted) = (FirstDays::default(), 50_000i64, 0i64);
            days.see(&there(&[1]), 50_000);
            days.suppose();
            for jump in jumps {
                day = (day + jump).max(1);
                counted += i64::from(jump == 1);
                let today = u32::try_from(day).unwrap_or(1);
                days.see(&there(&[1]), today);
                days.suppose();
                let first = i64::from(days.first(address(1)).unwrap_or(0));
                prop_assert!(day - first <= counted, "{day} {first} {counted}");
            }
        }
    }
}
