//! Pools of sources, and the rotation that gives each source its exact share.
//! Pure. Floor 1: the queues use it.
//! Always: over any run in which all sources are usable, each is picked within one of its share.

use std::collections::HashMap;
use std::sync::Arc;

use super::source::Source;

/// A weighted set of sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// Its sources with their weights (at least 1).
    pub members: Vec<(Arc<Source>, u32)>,
}

/// Where a pool's rotation stands: smooth weighted round robin, as nginx does it.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    credit: Vec<i64>,
}

impl Rotation {
    /// The rotation of `to`, which goes on where this one of `from` stands for the sources that both have.
    #[must_use]
    pub fn carried(&self, from: &Pool, to: &Pool) -> Self {
        let old = from.members.iter().zip(&self.credit).map(|((source, _), credit)| (&source.name, *credit));
        let old: HashMap<_, _> = old.collect();
        let total: i64 = to.members.iter().map(|(_, weight)| i64::from(*weight)).sum();
        let credit = |(source, _): &(Arc<Source>, u32)| old.get(&source.name).copied().unwrap_or(0);
        let mut credit: Vec<i64> = to.members.iter().map(credit).collect();
        // Credits are owed among those that are there; what was owed to one that has left is shared.
        let left: i64 = credit.iter().sum();
        let share = left / i64::try_from(credit.len()).unwrap_or(1).max(1);
        for credit in &mut credit {
            *credit = (*credit - share).clamp(-total, total);
        }
        Self { credit }
    }

    /// The next source among those that are `usable`, as an index into the pool's members.
    pub fn pick(&mut self, pool: &Pool, usable: impl Fn(usize) -> bool) -> Option<usize> {
        self.credit.resize(pool.members.len(), 0);
        let mut total = 0i64;
        let mut best: Option<usize> = None;
        for (i, (_, weight)) in pool.members.iter().enumerate().filter(|(i, _)| usable(*i)) {
            self.credit[i] += i64::from(*weight);
            total += i64::from(*weight);
            if best.is_none_or(|b| self.credit[i] > self.credit[b]) {
                best = Some(i);
            }
        }
        if let Some(best) = best {
            self.credit[best] -= total;
        }
        best
    }

    /// The one that was `picked` does not go, after all: the turn has not been.
    pub fn unpick(&mut self, pool: &Pool, picked: usize, usable: impl Fn(usize) -> bool) {
        let mut total = 0i64;
        for (i, (_, weight)) in pool.members.iter().enumerate().filter(|(i, _)| usable(*i)) {
            self.credit[i] -= i64::from(*weight);
            total += i64::from(*weight);
        }
        self.credit[picked] += total;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::source::Way;
    use super::*;

    fn pool(weights: &[u32]) -> Pool {
        let source = |i: usize| {
            let name: Arc<str> = format!("s{i}").into();
            Arc::new(Source {
                name: name.clone(),
                address: None,
                ehlo_name: name,
                names_itself: true,
                warmup: Vec::new(),
                ways: vec![Way::Direct],
            })
        };
        let members = weights.iter().enumerate().map(|(i, w)| (source(i), *w)).collect();
        Pool { name: "p".into(), members }
    }

    proptest! {
        #[test]
        fn each_source_gets_its_share(weights in prop::collection::vec(1u32..20, 1..9)) {
            let pool = pool(&weights);
            let total: u32 = weights.iter().sum();
            let mut rotation = Rotation::default();
            let mut picked = vec![0u32; weights.len()];
            for round in 1..=3 {
                for _ in 0..total {
                    picked[rotation.pick(&pool, |_| true).expect("all usable")] += 1;
                }
                let want: Vec<u32> = weights.iter().map(|w| w * round).collect();
                prop_assert_eq!(&picked, &want);
            }
        }

        #[test]
        fn a_turn_that_is_taken_back_has_not_been(weights in prop::collection::vec(1u32..9, 2..6), turns in 0usize..40) {
            let pool = pool(&weights);
            let (mut plain, mut undone) = (Rotation::default(), Rotation::default());
            for turn in 0..turns {
                if turn % 3 == 0 {
                    let picked = undone.pick(&pool, |_| true).expect("all usable");
                    undone.unpick(&pool, picked, |_| true);
                }
                prop_assert_eq!(plain.pick(&pool, |_| true), undone.pick(&pool, |_| true));
            }
        }

        #[test]
        fn a_rotation_goes_on_where_sources_stay(
            before in prop::collection::vec(1u32..9, 1..7), picks in 1usize..20, stays in prop::collection::vec(any::<bool>(), 8), more in 0usize..3,
        ) {
            let old = pool(&before);
            let mut rotation = Rotation::default();
            for _ in 0..picks {
                rotation.pick(&old, |_| true);
            }
            prop_assert_eq!(&rotation.carried(&old, &old).credit, &rotation.credit);
            let mut new = pool(&vec![2; before.len() + more]);
            let mut keep = stays.iter().copied().chain(std::iter::repeat(true));
            new.members.retain(|_| keep.next() == Some(true));
            prop_assume!(!new.members.is_empty());
            let mut rotation = rotation.carried(&old, &new);
            // What was owed is paid within a bounded time, and the shares are exact from then on.
            let mut picked = vec![0i64; new.members.len()];
            let rounds = 20 * i64::try_from(new.members.len()).unwrap_or(1);
            (0..rounds).for_each(|_| picked[rotation.pick(&new, |_| true).expect("all usable")] += 1);
            for n in &picked {
                prop_assert!((n - 20).abs() <= 20, "{:?}", picked);
            }
            prop_assert!(rotation.credit.iter().sum::<i64>().abs() <= 2 * rounds);
        }

        #[test]
        fn an_unusable_source_is_never_picked(weights in prop::collection::vec(1u32..9, 2..6), out in 0usize..2) {
            let pool = pool(&weights);
            let mut rotation = Rotation::default();
            for _ in 0..50 {
                prop_assert_ne!(rotation.pick(&pool, |i| i != out), Some(out));
            }
            prop_assert_eq!(rotation.pick(&pool, |_| false), None);
        }
    }
}
