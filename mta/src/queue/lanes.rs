//! A list with one lane for each tenant, handed out in rotation: a tenant with a million entries has one
//! share, as one with ten has.
//! Pure. Floor 2.
//! Always: `order` holds each lane's tenant once, and no lane is empty.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Things that wait, by tenant. Mail without a tenant is that of one nameless tenant, `""`.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    order: VecDeque<Arc<str>>,
    tenants: HashMap<Arc<str>, VecDeque<T>>,
    len: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), tenants: HashMap::new(), len: 0 }
    }
}

impl<T: Copy> Lanes<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds to the end of the tenant's lane.
    pub fn push(&mut self, tenant: &Arc<str>, item: T) {
        self.lane(tenant).push_back(item);
    }

    /// Adds to the head of the tenant's lane: it was taken out and not used.
    pub fn push_front(&mut self, tenant: &Arc<str>, item: T) {
        self.lane(tenant).push_front(item);
    }

    fn lane(&mut self, tenant: &Arc<str>) -> &mut VecDeque<T> {
        self.len += 1;
        if !self.tenants.contains_key(tenant) {
            self.order.push_back(tenant.clone());
        }
        self.tenants.entry(tenant.clone()).or_default()
    }

    /// The first of the tenant whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_at(0)
    }

    /// The tenant whose turn it is among those that are `open`.
    pub fn turn_of(&self, open: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
        self.order.iter().find(|tenant| open(tenant))
    }

    /// The first of this tenant; others before it keep their turns.
    pub fn pop_of(&mut self, tenant: &str) -> Option<T> {
        let at = self.order.iter().position(|waiting| **waiting == *tenant)?;
        self.pop_at(at)
    }

    fn pop_at(&mut self, at: usize) -> Option<T> {
        let tenant = self.order.remove(at)?;
        let lane = self.tenants.get_mut(&tenant)?;
        let item = lane.pop_front()?;
        self.len -= 1;
        if lane.is_empty() {
            self.tenants.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        Some(item)
    }

    /// Whether a full list would make room for one more of `tenant`: another has at least two more.
    pub fn yields_to(&self, tenant: &Arc<str>) -> bool {
        let own = self.tenants.get(tenant).map_or(0, VecDeque::len);
        self.tenants.values().any(|lane| lane.len() > own + 1)
    }

    /// Takes out the newest entry of the tenant that has most.
    pub fn pop_of_longest(&mut self) -> Option<T> {
        let (tenant, _) = self.tenants.iter().max_by_key(|(_, lane)| lane.len())?;
        let tenant = tenant.clone();
        let lane = self.tenants.get_mut(&tenant)?;
        let item = lane.pop_back()?;
        self.len -= 1;
        if lane.is_empty() {
            self.tenants.remove(&tenant);
            self.order.retain(|t| *t != tenant);
        }
        Some(item)
    }

    /// Takes out what `wanted` says, each tenant's in its order.
    pub fn take_out(&mut self, mut wanted: impl FnMut(T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for lane in self.tenants.values_mut() {
            lane.retain(|item| {
                let is_wanted = wanted(*item);
                if is_wanted {
                    out.push(*item);
                }
                !is_wanted
            });
        }
        self.len -= out.len();
        self.tenants.retain(|_, lane| !lane.is_empty());
        self.order.retain(|tenant| self.tenants.contains_key(tenant));
        out
    }

    /// Everything, in no order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.tenants.values().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> [Arc<str>; 3] {
        ["".into(), "a".into(), "b".into()]
    }

    #[test]
    fn each_tenant_has_its_turn() {
        let [none, a, b] = names();
        let mut lanes = Lanes::default();
        (0..5).for_each(|n| lanes.push(&a, n));
        lanes.push(&none, 10);
        lanes.push(&b, 20);
        lanes.push_front(&b, 19);
        let order: Vec<i32> = std::iter::from_fn(|| lanes.pop()).collect();
        assert_eq!(order, [0, 10, 19, 1, 20, 2, 3, 4]);
    }

    #[test]
    fn who_is_passed_over_keeps_its_turn() {
        let [_, a, b] = names();
        let mut lanes = Lanes::default();
        (0..2).for_each(|n| lanes.push(&a, n));
        (0..3).for_each(|n| lanes.push(&b, 10 + n));
        assert_eq!(lanes.turn_of(|tenant| tenant != "a"), Some(&b));
        assert_eq!([lanes.pop_of("b"), lanes.pop_of("b"), lanes.pop_of("c")], [Some(10), Some(11), None]);
        let order: Vec<i32> = std::iter::from_fn(|| lanes.pop()).collect();
        assert_eq!(order, [0, 12, 1]);
    }

    #[test]
    fn the_longest_lane_yields_to_one_that_is_two_shorter() {
        let [none, a, b] = names();
        let mut lanes = Lanes::default();
        (0..3).for_each(|n| lanes.push(&a, n));
        (0..2).for_each(|n| lanes.push(&b, 10 + n));
        assert!(lanes.yields_to(&none) && !lanes.yields_to(&b) && !lanes.yields_to(&a));
        assert_eq!(lanes.pop_of_longest(), Some(2), "the newest of the longest");
        assert_eq!(lanes.len(), 4);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_is_done(steps in prop::collection::vec((0usize..3, 0u8..7), 0..80)) {
            let names = names();
            let (mut lanes, mut inside) = (Lanes::default(), std::collections::BTreeSet::new());
            for (n, (tenant, what)) in steps.into_iter().enumerate() {
                match what {
                    6 => if let Some(out) = lanes.pop_of(&names[tenant]) { prop_assert!(inside.remove(&out)); },
                    0 | 1 => { lanes.push(&names[tenant], n); inside.insert(n); }
                    2 => { lanes.push_front(&names[tenant], n); inside.insert(n); }
                    3 => if let Some(out) = lanes.pop() { prop_assert!(inside.remove(&out)); },
                    4 => if let Some(out) = lanes.pop_of_longest() { prop_assert!(inside.remove(&out)); },
                    _ => for out in lanes.take_out(|item| item % 3 == tenant) { prop_assert!(inside.remove(&out)); },
                }
                prop_assert_eq!(lanes.len(), inside.len());
                prop_assert_eq!(lanes.iter().collect::<std::collections::BTreeSet<_>>(), inside.clone());
            }
            while let Some(out) = lanes.pop() { prop_assert!(inside.remove(&out)); }
            prop_assert!(inside.is_empty() && lanes.is_empty());
        }
    }
}
