//! The parts of the limits of one path, and who may take from which. Pure. Floor 2.
//! Always: mail that has a floor takes from what is kept for it first, then from what is left for all; other mail takes
//! from that only.

use std::collections::HashMap;
use std::sync::Arc;

use egret_shared::clock::UnixMs;
use egret_shared::limits::{Count, Parts, Throttle};

use super::budget::List;
use super::floors::{Divided, Floor, Whose, divide_count, divide_rate};
use super::meter::Kind;
use super::ready::Limited;
use crate::message::Priority;

/// The limits of a path of which something is kept, with those of which nothing is.
#[derive(Debug)]
pub(super) struct Parted {
    /// Tenants for whom something is kept, by their row in `table`; all others have the first.
    tenants: HashMap<Arc<str>, usize>,
    /// The group of mail, by tenant and priority.
    table: Box<[[usize; 3]]>,
    groups: Box<[Group]>,
    /// For whom a part is kept, by its name.
    kept: HashMap<Arc<str>, Whose>,
    /// What is kept of a limit, in words, by its name.
    words: HashMap<Arc<str>, String>,
}

/// Mail for which the same parts are kept, and how it fares.
#[derive(Debug)]
pub(super) struct Group {
    /// Who it is, as far as something is kept for it.
    pub whose: Box<[Whose]>,
    /// What a session takes.
    pub places: Box<[Parts<Count>]>,
    /// The same out of what is kept for it alone, where something is.
    pub own_places: Option<Box<[Parts<Count>]>>,
    /// What a message takes.
    pub messages: Box<[Parts<Throttle>]>,
    /// The limit that it waits for.
    pub limited: Option<Limited>,
    /// None of it waits on this path before then.
    pub held_until: UnixMs,
    /// Its turn has come and was passed over, while other mail has its turns.
    pub is_passed: bool,
}

impl Parted {
    /// Divides the limits, which are what is left for all afterwards. `None` if nothing is kept of any of them.
    pub fn divide(places: &mut List<Count>, messages: &mut List<Throttle>, floors: &[Floor]) -> Option<Self> {
        let places: Vec<_> = divide(places, |name, limit| divide_count(name, limit, floors), |divided| divided.shared);
        let messages: Vec<_> = divide(messages, |name, rate| divide_rate(name, rate, floors), |divided| divided.shared);
        let mut kept: HashMap<_, _> = names_of(&places).collect();
        kept.extend(names_of(&messages));
        if kept.is_empty() {
            return None;
        }
        let mut words: HashMap<_, _> = places.iter().filter_map(words_of).collect();
        for (name, more) in messages.iter().filter_map(words_of) {
            // A name may be that of a limit of sessions and of a rate.
            words.entry(name).and_modify(|words| *words = format!("{words}; {more}")).or_insert(more);
        }
        let mut parted = Self { tenants: HashMap::new(), table: Box::default(), groups: Box::default(), kept, words };
        parted.group(&places, &messages);
        Some(parted)
    }

    /// Makes a group of each tenant and priority, one for all of which the same is kept.
    fn group(&mut self, places: &[Divided<Count>], messages: &[Divided<Throttle>]) {
        let tenants = self.kept.values().filter_map(|whose| match whose {
            Whose::Tenant(name) => Some(name.clone()),
            Whose::Priority(_) => None,
        });
        let mut tenants: Vec<Arc<str>> = tenants.collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of = |priority: Priority, tenant: Option<&str>| {
            let fits = |whose: &Whose| match (whose, tenant) {
                (Whose::Tenant(_), None) => false,
                (_, tenant) => whose.fits(priority, tenant.unwrap_or_default()),
            };
            let group = Group::new(places, messages, &fits);
            let same = groups.iter().position(|earlier| earlier.whose == group.whose);
            same.unwrap_or_else(|| {
                groups.push(group);
                groups.len() - 1
            })
        };
        let rows = std::iter::once(None).chain(tenants.iter().map(|name| Some(&**name)));
        self.table = rows.map(|tenant| Priority::ALL.map(|priority| group_of(priority, tenant))).collect();
        self.groups = groups.into();
        self.tenants = tenants.into_iter().zip(1..).collect();
    }

    /// The group of such mail.
    pub fn group_of(&self, priority: Priority, tenant: &str) -> usize {
        self.table[self.tenants.get(tenant).copied().unwrap_or(0)][priority.place()]
    }

    /// That of such mail.
    pub fn of(&self, priority: Priority, tenant: &str) -> &Group {
        &self.groups[self.group_of(priority, tenant)]
    }

    /// A group.
    pub fn at(&self, group: usize) -> &Group {
        &self.groups[group]
    }

    /// A group, to change how it fares.
    pub fn at_mut(&mut self, group: usize) -> &mut Group {
        &mut self.groups[group]
    }

    /// All groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Each group may have its turns again.
    pub fn begin(&mut self) {
        self.groups.iter_mut().for_each(|group| group.is_passed = false);
    }

    /// The limit that some of the mail here waits for.
    pub fn limited(&self, now: UnixMs) -> Option<&Limited> {
        self.groups.iter().filter(|group| group.waits(now)).find_map(|group| group.limited.as_ref())
    }

    /// Whether some of the mail here waits for that limit, for what is left of it, or for a part that is kept.
    pub fn waits_for(&self, kind: Kind, limit: &str, now: UnixMs) -> bool {
        let is_by = |limited: &Limited| limited.by.is_of(kind, limit) || self.kept.contains_key(limit);
        let waits = |group: &Group| group.is_passed && group.held_until <= now;
        self.groups.iter().any(|group| waits(group) && group.limited.as_ref().is_some_and(is_by))
    }

    /// The rates that messages take of what is left for all.
    pub fn left_of_rates(&self) -> impl Iterator<Item = &Arc<str>> {
        // It is the same for each group.
        self.groups.iter().take(1).flat_map(|group| group.messages.iter().filter_map(|parts| Some(&parts.last()?.0)))
    }

    /// Until when the mail that waits longest waits elsewhere.
    pub fn held_until(&self) -> UnixMs {
        self.groups.iter().map(|group| group.held_until).max().unwrap_or(UnixMs(0))
    }

    /// For whom a part is kept, if it is one.
    pub fn whose(&self, part: &str) -> Option<&Whose> {
        self.kept.get(part)
    }

    /// What is kept of a limit, in words.
    pub fn words(&self, limit: &str) -> Option<&str> {
        self.words.get(limit).map(String::as_str)
    }
}

impl Group {
    fn new(places: &[Divided<Count>], messages: &[Divided<Throttle>], fits: &dyn Fn(&Whose) -> bool) -> Self {
        let mut whose: Vec<Whose> = Vec::new();
        let all = places.iter().flat_map(|d| d.kept.iter().map(|kept| &kept.0));
        for one in all.chain(messages.iter().flat_map(|d| d.kept.iter().map(|kept| &kept.0))) {
            if fits(one) && !whose.contains(one) {
                whose.push(one.clone());
            }
        }
        let has_own = places.iter().any(|divided| divided.kept.iter().any(|kept| fits(&kept.0)));
        Self {
            whose: whose.into(),
            places: places.iter().map(|divided| parts(divided, fits, true)).collect(),
            own_places: has_own.then(|| places.iter().map(|divided| parts(divided, fits, false)).collect()),
            messages: messages.iter().map(|divided| parts(divided, fits, true)).collect(),
            limited: None,
            held_until: UnixMs(0),
            is_passed: false,
        }
    }

    /// Whether some of it waits for the limit that is told.
    pub fn waits(&self, now: UnixMs) -> bool {
        self.is_passed || self.held_until > now
    }
}

fn divide<T: Copy>(
    limits: &mut List<T>,
    by: impl Fn(&Arc<str>, T) -> Divided<T>,
    shared: impl Fn(&Divided<T>) -> T,
) -> Vec<Divided<T>> {
    let each = |(name, limit): &mut (Arc<str>, T)| {
        let divided = by(name, *limit);
        *limit = shared(&divided);
        divided
    };
    limits.iter_mut().map(each).collect()
}

fn names_of<T>(all: &[Divided<T>]) -> impl Iterator<Item = (Arc<str>, Whose)> {
    all.iter().flat_map(|divided| divided.kept.iter().map(|(whose, name, _)| (name.clone(), whose.clone())))
}

fn words_of<T: std::fmt::Display>(divided: &Divided<T>) -> Option<(Arc<str>, String)> {
    let kept: Vec<_> = divided.kept.iter().map(|(whose, _, part)| format!("{part} for {whose}")).collect();
    let words = format!("of {} are kept {}", divided.whole, kept.join(", "));
    (!kept.is_empty()).then(|| (divided.name.clone(), words))
}

/// What of a limit somebody may take from. Without `shared` only what is kept, where something is.
fn parts<T: Copy>(divided: &Divided<T>, fits: &dyn Fn(&Whose) -> bool, shared: bool) -> Parts<T> {
    let own = divided.kept.iter().filter(|kept| fits(&kept.0)).map(|(_, name, part)| (name.clone(), *part));
    let mut parts: Vec<_> = own.collect();
    if shared || parts.is_empty() {
        parts.push((divided.name.clone(), divided.shared));
    }
    parts.into()
}

#[cfg(test)]
mod tests {
    use super::super::floors::Amount;
    use super::*;

    #[test]
    fn each_mail_takes_of_its_own_first_and_then_of_what_is_left() {
        let floor = |limit: &str, whose, amount| Floor {
            limit: limit.parse().expect("a pattern"),
            whose,
            amount,
            place: "f:1".into(),
        };
        let tenth = Amount::Share("10%".parse().expect("a share"));
        let floors = [
            floor("all", Whose::Priority(Priority::High), Amount::Count(1)),
            floor("all", Whose::Tenant("a".into()), tenth),
            floor("rate", Whose::Tenant("a".into()), tenth),
        ];
        let mut places: List<Count> = [("host".into(), 5.into()), ("all".into(), 20.into())].into();
        let mut messages: List<Throttle> = [("rate".into(), "10/s".parse().expect("a rate"))].into();
        let parted = Parted::divide(&mut places, &mut messages, &floors).expect("something is kept");
        assert_eq!((places[1].1.count, messages[0].1.to_string().as_str()), (17, "9/s"));
        let names = |parts: &[Parts<Count>]| {
            parts
                .iter()
                .map(|one| one.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(" | "))
                .collect::<Vec<_>>()
        };
        let both = parted.of(Priority::High, "a");
        assert_eq!(names(&both.places), ["host", "all, kept for priority high | all, kept for tenant a | all"]);
        assert_eq!(
            both.own_places.as_deref().map(names),
            Some(vec!["host".to_owned(), "all, kept for priority high | all, kept for tenant a".to_owned()])
        );
        let none = parted.of(Priority::Normal, "b");
        assert!(names(&none.places) == ["host", "all"] && none.own_places.is_none() && none.messages[0].len() == 1);
        assert_eq!(parted.of(Priority::Normal, "a").messages[0].len(), 2);
        assert_eq!(parted.groups().len(), 4);
        assert_eq!(parted.words("all"), Some("of 20 are kept 1 for priority high, 2 for tenant a"));
        assert!(Parted::divide(&mut [("host".into(), 5.into())].into(), &mut Box::default(), &floors).is_none());
    }
}
