//! Lanes by priority: a higher class goes first, and a lower one that waits still has its turns.
//! Pure. Floor 2.
//! Always: a class that waits is passed over at most [`MOST_PASSED`] times before its turn comes, next to other classes
//! whose turn has come, too; where room is short each class keeps a tenth of it, as far as it wants it.

use std::sync::Arc;

use super::lanes::Lanes;
use crate::message::Priority;

/// How often a class that waits may be passed over.
const MOST_PASSED: u8 = 9;
/// The part of a full list that a class keeps from the others: one in so many.
const FLOOR_DIVISOR: usize = 10;

/// Things that wait, by priority and, within one, by tenant.
#[derive(Debug)]
pub(super) struct Classes<T> {
    /// Made when they are first needed: most lists only ever hold one class.
    lanes: [Option<Box<Lanes<T>>>; 3],
    /// How often each class was passed over while it waited.
    passed: [u8; 3],
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub priority: Priority,
    pub tenant: Arc<str>,
    /// The highest class that may go.
    first: usize,
}

impl<T> Default for Classes<T> {
    fn default() -> Self {
        Self { lanes: [const { None }; 3], passed: [0; 3] }
    }
}

impl<T: Copy> Classes<T> {
    pub fn len(&self) -> usize {
        self.each().map(Lanes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.each().all(Lanes::is_empty)
    }

    fn each(&self) -> impl Iterator<Item = &Lanes<T>> {
        self.lanes.iter().flatten().map(AsRef::as_ref)
    }

    fn class_len(&self, class: usize) -> usize {
        self.lanes[class].as_ref().map_or(0, |lanes| lanes.len())
    }

    fn class(&mut self, priority: Priority) -> &mut Lanes<T> {
        self.lanes[priority.place()].get_or_insert_default()
    }

    /// Adds to the end of the tenant's lane.
    pub fn push(&mut self, priority: Priority, tenant: &Arc<str>, item: T) {
        self.class(priority).push(tenant, item);
    }

    /// Adds to the head of the tenant's lane: it was taken out and not used.
    pub fn push_front(&mut self, priority: Priority, tenant: &Arc<str>, item: T) {
        self.class(priority).push_front(tenant, item);
    }

    /// The first of the class and tenant whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_of(|_| true)
    }

    /// The same among the classes that are `open`.
    pub fn pop_of(&mut self, open: impl Fn(Priority) -> bool) -> Option<T> {
        let (first, turn) = self.class_of(|class| open(Priority::ALL[class]) && self.class_len(class) > 0)?;
        self.has_gone(first, turn);
        self.lanes[turn].as_mut()?.pop()
    }

    /// The highest class that waits, and the one whose turn it is among those that wait.
    fn class_of(&self, waits: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
        let first = (0..3).find(|class| waits(*class))?;
        let passed_over = (first + 1..3).filter(|class| waits(*class) && self.passed[*class] >= MOST_PASSED);
        Some((first, passed_over.max_by_key(|class| self.passed[*class]).unwrap_or(first)))
    }

    /// Those below the highest that may go were passed over, but for the one that goes.
    fn has_gone(&mut self, first: usize, turn: usize) {
        self.passed[turn] = 0;
        for lower in first + 1..3 {
            let waits = lower != turn && self.class_len(lower) > 0;
            self.passed[lower] = if waits { self.passed[lower].saturating_add(1) } else { 0 };
        }
    }

    /// Whose turn it is among those that are `open`. Nothing is taken.
    pub fn turn_of(&self, open: impl Fn(Priority, &str) -> bool) -> Option<Turn> {
        let tenant_of = |class: usize| {
            let lanes = self.lanes[class].as_ref()?;
            lanes.turn_of(|tenant| open(Priority::ALL[class], tenant))
        };
        let (first, class) = self.class_of(|class| tenant_of(class).is_some())?;
        Some(Turn { priority: Priority::ALL[class], tenant: tenant_of(class)?.clone(), first })
    }

    /// The first of those whose turn it is.
    pub fn pop_turn(&mut self, turn: &Turn) -> Option<T> {
        let class = turn.priority.place();
        self.has_gone(turn.first, class);
        self.lanes[class].as_mut()?.pop_of(&turn.tenant)
    }

    /// Whether there is room for one more, where there is room for `most`: be it in place of another.
    pub fn has_room(&self, priority: Priority, tenant: &Arc<str>, most: usize) -> bool {
        self.len() < most || self.displaced_class(priority, tenant, most).is_some()
    }

    /// Takes out what makes room for one more, if there is room for `most` and no more are in.
    pub fn make_room(&mut self, priority: Priority, tenant: &Arc<str>, most: usize) -> Option<T> {
        if self.len() < most {
            return None;
        }
        let class = self.displaced_class(priority, tenant, most)?;
        self.lanes[class].as_mut()?.pop_of_longest()
    }

    /// The class that gives way: a lower one beyond its floor; for a class under its floor any beyond theirs, the lowest
    /// first; else the same one, if another tenant has at least two more in it.
    fn displaced_class(&self, priority: Priority, tenant: &Arc<str>, most: usize) -> Option<usize> {
        let (own, floor) = (priority.place(), (most / FLOOR_DIVISOR).max(1));
        let beyond = |class: &usize| self.class_len(*class) > floor;
        let lower = (own + 1..3).rev().find(beyond);
        let any = || if self.class_len(own) < floor { (0..3).rev().find(beyond) } else { None };
        let same = || self.lanes[own].as_ref().filter(|lanes| lanes.yields_to(tenant)).map(|_| own);
        lower.or_else(any).or_else(same)
    }

    /// Takes out what `wanted` says, each tenant's in its order, lower classes first: who puts them back one by one at
    /// heads, from the last on, keeps that.
    pub fn take_out(&mut self, mut wanted: impl FnMut(T) -> bool) -> Vec<T> {
        self.lanes.iter_mut().rev().flatten().flat_map(|lanes| lanes.take_out(&mut wanted)).collect()
    }

    /// Everything, in no order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.each().flat_map(Lanes::iter)
    }

    /// How many of each class wait, the highest first.
    pub fn counts(&self) -> [usize; 3] {
        [0, 1, 2].map(|class| self.class_len(class))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use Priority::{High, Low, Normal};

    #[test]
    fn the_higher_class_goes_first_and_the_lower_one_has_its_turns() {
        let tenant: Arc<str> = "".into();
        let mut classes = Classes::default();
        for n in 0..40 {
            classes.push(Low, &tenant, (Low, n));
            classes.push(High, &tenant, (High, n));
        }
        classes.push(Normal, &tenant, (Normal, 0));
        let order: Vec<_> = std::iter::from_fn(|| classes.pop()).collect();
        assert!(order[..9].iter().all(|(class, _)| *class == High), "{order:?}");
        assert!([order[9].0, order[10].0].contains(&Normal) && [order[9].0, order[10].0].contains(&Low), "{order:?}");
        let low = |part: &[(Priority, i32)]| part.iter().filter(|(class, _)| *class == Low).count();
        assert_eq!(low(&order[..41]), 4, "a tenth, not more: {order:?}");
        let of = |class| order.iter().filter(|one| one.0 == class).map(|one| one.1).collect::<Vec<_>>();
        assert!(of(High).is_sorted() && of(Low).is_sorted(), "each class in its order");
    }

    #[test]
    fn who_may_not_go_holds_up_nobody_and_turns_are_the_same_where_all_may() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let (mut by_turn, mut plain) = (Classes::default(), Classes::default());
        for classes in [&mut by_turn, &mut plain] {
            (0..30).for_each(|n| classes.push(High, &a, n));
            (30..40).for_each(|n| classes.push(Low, &b, n));
        }
        let turn = by_turn.turn_of(|_, tenant| tenant != "a").expect("b waits");
        assert_eq!((turn.priority, &*turn.tenant), (Low, "b"));
        assert_eq!(by_turn.turn_of(|_, _| false), None);
        let all = std::iter::from_fn(|| {
            let turn = by_turn.turn_of(|_, _| true)?;
            by_turn.pop_turn(&turn)
        });
        assert_eq!(all.collect::<Vec<_>>(), std::iter::from_fn(|| plain.pop()).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_list_makes_room_down_to_the_floors() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut classes = Classes::default();
        (0..20).for_each(|n| classes.push(Low, &a, n));
        let put = |classes: &mut Classes<i32>, priority, tenant: &Arc<str>| {
            let had_room = classes.has_room(priority, tenant, 20);
            if had_room {
                classes.make_room(priority, tenant, 20);
                classes.push(priority, tenant, 100);
            }
            had_room
        };
        while put(&mut classes, High, &a) {}
        assert_eq!(classes.counts(), [18, 0, 2], "the low class keeps its floor");
        assert!(put(&mut classes, Normal, &a) && put(&mut classes, Normal, &a) && !put(&mut classes, Normal, &a));
        assert_eq!(classes.counts(), [16, 2, 2]);
        assert!(!put(&mut classes, Low, &a), "the floor is no more than that");
        assert!(put(&mut classes, High, &b), "tenants have their shares within a class");
        assert_eq!(classes.counts(), [16, 2, 2]);
    }

    proptest! {
        #[test]
        fn nobody_waits_too_long_nothing_is_lost_and_making_room_ends(
            steps in prop::collection::vec((0usize..3, 0usize..3, 0u8..8), 0..200), most in 1usize..30,
        ) {
            let tenants: [Arc<str>; 3] = ["".into(), "a".into(), "b".into()];
            let (mut classes, mut inside) = (Classes::default(), BTreeSet::new());
            let mut waited = [0usize; 3];
            for (n, (class, tenant, what)) in steps.into_iter().enumerate() {
                let (priority, tenant) = (Priority::ALL[class], &tenants[tenant]);
                match what {
                    0..4 if classes.has_room(priority, tenant, most) => {
                        if let Some((_, out)) = classes.make_room(priority, tenant, most) {
                            prop_assert!(inside.remove(&out));
                        }
                        classes.push(priority, tenant, (class, n));
                        inside.insert(n);
                    }
                    4..7 => if let Some((from, out)) = classes.pop() {
                        prop_assert!(inside.remove(&out));
                        waited[from] = 0;
                        for (class, waited) in waited.iter_mut().enumerate() {
                            let waits = class != from && classes.class_len(class) > 0;
                            *waited = if waits { *waited + 1 } else { 0 };
                            prop_assert!(class == 0 || *waited <= usize::from(MOST_PASSED) + 2);
                        }
                    },
                    7 => for (_, out) in classes.take_out(|(_, n)| n % 3 == class) { prop_assert!(inside.remove(&out)); },
                    _ => {}
                }
                prop_assert!(classes.len() <= most);
                prop_assert_eq!(classes.len(), inside.len());
            }
            // What was displaced and comes again displaces others only so often.
            let mut turns = 0;
            let mut out: Vec<_> = Priority::ALL.into_iter().map(|class| (class, 0)).collect();
            while let Some((priority, _)) = out.pop() {
                turns += 1;
                prop_assert!(turns < 200, "it goes round");
                if classes.has_room(priority, &tenants[0], most) {
                    let displaced = classes.make_room(priority, &tenants[0], most);
                    out.extend(displaced.map(|(class, n)| (Priority::ALL[class], n)));
                    classes.push(priority, &tenants[0], (priority.place(), usize::MAX));
                }
            }
        }
    }
}
