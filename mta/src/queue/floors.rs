//! Floors: what is said of parts of limits that are kept for a tenant or a priority, and how a limit is divided by it.
//! Pure. Floor 2.
//! Always: the parts of a count are together the count, those of a rate together as fast as the rate; what is left for all
//! is at least one place.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::limits::{Count, Rate, Throttle};

use crate::message::Priority;
use crate::routing::matcher::TextPattern;

/// So many hundredths of a percent are the whole.
const WHOLE: u32 = 10_000;

/// For whom something is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// For the mail of a tenant, by the name that queues bear.
    Tenant(Arc<str>),
    /// For mail of a priority.
    Priority(Priority),
}

/// A part of a limit, like `"10%"`: in hundredths of a percent, more than nothing and less than the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A part of the limit; of sessions at least one.
    Share(Share),
    /// So many sessions. Of rates nothing.
    Count(u32),
}

/// A part of limits that is kept for somebody.
#[derive(Clone, Debug)]
pub struct Floor {
    /// The limits, by their names.
    pub limit: TextPattern,
    /// For whom.
    pub whose: Whose,
    /// How much.
    pub amount: Amount,
    /// File and line.
    pub place: Arc<str>,
}

/// A limit and what it is divided into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divided<T> {
    /// Its name, which is that of what is left for all, too.
    pub name: Arc<str>,
    /// The limit.
    pub whole: T,
    /// What is left for all.
    pub shared: T,
    /// What is kept: for whom, under which name, how much.
    pub kept: Vec<(Whose, Arc<str>, T)>,
}

impl Whose {
    /// Whether it is for such mail.
    pub fn fits(&self, priority: Priority, tenant: &str) -> bool {
        match self {
            Self::Tenant(name) => **name == *tenant,
            Self::Priority(wanted) => *wanted == priority,
        }
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(name) => write!(f, "tenant {name}"),
            Self::Priority(priority) => write!(f, "priority {priority}"),
        }
    }
}

impl FromStr for Share {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write a part like \"10%\" or \"2.5%\", more than nothing and less than all".to_owned();
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return Err(wrong());
        }
        let part = part.parse::<u32>().map_err(|_| wrong())? * if part.len() == 1 { 10 } else { 1 };
        let share = whole.parse::<u32>().ok().and_then(|whole| whole.checked_mul(100)?.checked_add(part));
        share.filter(|share| (1..WHOLE).contains(share)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) => write!(f, "{whole}.{}%", format!("{part:02}").trim_end_matches('0')),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => share.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Amount {
    /// How many of `most` sessions it is.
    pub fn places(self, most: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Share(Share(share)) => {
                let places = (u64::from(most) * u64::from(share)).div_ceil(u64::from(WHOLE));
                u32::try_from(places).unwrap_or(most).max(1)
            }
        }
    }
}

/// The name of what a limit keeps for somebody.
fn kept_name(limit: &str, whose: &Whose) -> Arc<str> {
    format!("{limit}, kept for {whose}").into()
}

/// The floors of the limit of this name. If two keep something of it for the same mail, the first counts.
fn floors_of<'f>(floors: &'f [Floor], limit: &str) -> Vec<&'f Floor> {
    let mut found: Vec<&Floor> = Vec::new();
    for floor in floors.iter().filter(|floor| floor.limit.fits(limit)) {
        if !found.iter().any(|earlier| earlier.whose == floor.whose) {
            found.push(floor);
        }
    }
    found
}

/// Whether something of the limit of this name may be kept.
pub fn concerns(floors: &[Floor], limit: &str) -> bool {
    floors.iter().any(|floor| floor.limit.fits(limit))
}

/// Divides a limit of sessions. What leaves no place for all others is cut down to what does.
pub fn divide_count(name: &Arc<str>, whole: Count, floors: &[Floor]) -> Divided<Count> {
    let (mut left, mut kept) = (whole.count.max(1), Vec::new());
    for floor in floors_of(floors, name) {
        let part = floor.amount.places(whole.count).min(left - 1);
        if part > 0 {
            left -= part;
            let name = kept_name(name, &floor.whose);
            kept.push((floor.whose.clone(), name, Count { count: part, ..whole }));
        }
    }
    Divided { name: name.clone(), whole, shared: Count { count: left, ..whole }, kept }
}

/// Divides a rate of messages. Each part has a burst of one at least; a part that leaves nothing for others is left out.
pub fn divide_rate(name: &Arc<str>, whole: Throttle, floors: &[Floor]) -> Divided<Throttle> {
    let (mut left, mut burst, mut kept) = (WHOLE, whole.rate.burst, Vec::new());
    for floor in floors_of(floors, name) {
        let Amount::Share(Share(share)) = floor.amount else { continue };
        if share >= left {
            continue;
        }
        let own = (whole.rate.burst.saturating_mul(share.into()) / u64::from(WHOLE)).max(1);
        (left, burst) = (left - share, burst.saturating_sub(own).max(1));
        let part = Throttle { rate: part_of(&whole.rate, share, own), ..whole };
        kept.push((floor.whose.clone(), kept_name(name, &floor.whose), part));
    }
    if kept.is_empty() {
        return Divided { name: name.clone(), whole, shared: whole, kept };
    }
    Divided { name: name.clone(), whole, shared: Throttle { rate: part_of(&whole.rate, left, burst), ..whole }, kept }
}

/// So many hundredths of a percent of a rate, in the smallest numbers that say it.
fn part_of(rate: &Rate, share: u32, burst: u64) -> Rate {
    let count = rate.count.saturating_mul(share.into());
    let seconds = rate.period.as_secs().saturating_mul(WHOLE.into());
    let (mut divisor, mut rest) = (count.max(1), seconds);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    Rate { count: count / divisor, period: Duration::from_secs(seconds / divisor), burst }
}

/// Why a limit of sessions cannot keep all that floors want of it.
pub fn too_many(name: &str, whole: Count, floors: &[Floor]) -> Option<String> {
    let kept: u64 = floors_of(floors, name).iter().map(|floor| u64::from(floor.amount.places(whole.count))).sum();
    (kept >= u64::from(whole.count)).then(|| {
        format!("would keep {kept} of the {} sessions of {name:?} together with the floors before it, and leave none for other mail; keep less, or raise the limit", whole.count)
    })
}

/// Why a rate cannot keep all that floors want of it.
pub fn too_fast(name: &str, floors: &[Floor]) -> Option<String> {
    let shares = floors_of(floors, name).into_iter().filter_map(|floor| match floor.amount {
        Amount::Share(Share(share)) => Some(u64::from(share)),
        Amount::Count(_) => None,
    });
    let kept: u64 = shares.sum();
    (kept >= u64::from(WHOLE)).then(|| {
        format!("would keep {}% of the rate {name:?} together with the floors before it, and leave nothing for other mail; keep less", kept / 100)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn floor(limit: &str, whose: Whose, amount: Amount) -> Floor {
        Floor { limit: limit.parse().expect("a pattern"), whose, amount, place: "f:1".into() }
    }

    fn tenant(name: &str) -> Whose {
        Whose::Tenant(name.into())
    }

    fn share(text: &str) -> Amount {
        Amount::Share(text.parse().expect("a share"))
    }

    #[test]
    fn shares_are_read_as_people_write_them() {
        for (text, read) in
            [("10%", "10%"), (" 2.5 %", "2.5%"), ("0.01%", "0.01%"), ("99.99%", "99.99%"), ("1.05%", "1.05%")]
        {
            assert_eq!(text.parse::<Share>().map(|share| share.to_string()).as_deref(), Ok(read));
        }
        for wrong in ["", "10", "0%", "100%", "-1%", "1.234%", "1.%", ".5%", "ten%", "99999999999%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_divided_under_names_that_say_for_whom() {
        let floors = [
            floor("goo*", Whose::Priority(Priority::High), Amount::Count(1)),
            floor("google", tenant("a"), share("10%")),
            floor("*", tenant("a"), share("50%")),
        ];
        let divided = divide_count(&"google".into(), 8.into(), &floors);
        let told = |divided: &Divided<Count>| {
            divided.kept.iter().map(|(_, name, part)| format!("{name}: {part}")).collect::<Vec<_>>()
        };
        assert_eq!(told(&divided), ["google, kept for priority high: 1", "google, kept for tenant a: 1"]);
        assert_eq!(divided.shared.count, 6);
        assert_eq!(told(&divide_count(&"yahoo".into(), "local:1".parse().expect("a count"), &floors)), [""; 0]);
        let rate = divide_rate(&"google".into(), "100/s".parse().expect("a rate"), &floors);
        assert_eq!(rate.kept.len(), 1, "a number of sessions is nothing of a rate");
        assert_eq!([rate.kept[0].2, rate.shared].map(|part| part.to_string()), ["10/s", "90/s"]);
        let slow = divide_rate(&"yahoo".into(), "local:3/h,max_burst=1".parse().expect("a rate"), &floors);
        assert_eq!(slow.kept[0].2.to_string(), "local:1/40min");
        assert!(too_many("google", 2.into(), &floors).is_some_and(|why| why.contains("keep 2 of the 2")));
        assert!(too_many("google", 3.into(), &floors).is_none() && too_fast("google", &floors).is_none());
    }

    proptest! {
        #[test]
        fn parts_are_together_what_the_limit_is(
            whole in 1u32..300, shares in prop::collection::vec(1u32..9_999, 0..5), counts in prop::collection::vec(1u32..50, 0..3),
            per in 1u64..5_000, period in 1u64..7_200, burst in 1u64..500,
        ) {
            let floors: Vec<Floor> = (shares.iter().map(|share| Amount::Share(Share(*share))).chain(counts.into_iter().map(Amount::Count)))
                .enumerate().map(|(n, amount)| floor("*", tenant(&n.to_string()), amount)).collect();
            let divided = divide_count(&"l".into(), whole.into(), &floors);
            let kept: u32 = divided.kept.iter().map(|(.., part)| part.count).sum();
            prop_assert!(divided.shared.count >= 1 && kept + divided.shared.count == whole);
            if too_many("l", whole.into(), &floors).is_none() {
                prop_assert_eq!(divided.kept.len(), floors.len(), "what is no mistake is not cut down");
            }
            let rate = Throttle::from(Rate { count: per, period: Duration::from_secs(period), burst });
            let divided = divide_rate(&"l".into(), rate, &floors);
            let speed = |part: &Throttle| part.rate.count as f64 / part.rate.period.as_secs_f64();
            let sum: f64 = divided.kept.iter().map(|(.., part)| speed(part)).sum::<f64>() + speed(&divided.shared);
            prop_assert!((sum - speed(&rate)).abs() <= speed(&rate) * 1e-9, "{sum}");
            let bursts: u64 = divided.kept.iter().map(|(.., part)| part.rate.burst).sum::<u64>() + divided.shared.rate.burst;
            prop_assert!(bursts <= burst + divided.kept.len() as u64, "{bursts} of {burst}");
        }
    }
}
