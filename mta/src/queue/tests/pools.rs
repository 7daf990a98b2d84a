//! Pools, sources and proxies change while mail waits.

use std::collections::BTreeMap;

use egret_shared::fault::{Fault, Reason};

use super::*;

fn told_as(name: &str, ehlo: &str) -> Arc<Source> {
    Arc::new(Source { ehlo_name: ehlo.into(), ..(*source(name)).clone() })
}

fn pool(name: &str, members: &[Arc<Source>]) -> Pool {
    Pool { name: name.into(), members: members.iter().map(|source| (source.clone(), 1)).collect() }
}

impl World {
    pub(super) fn set_pools(&mut self, pools: Vec<Pool>, default_pool: &str) -> BTreeMap<Arc<str>, usize> {
        let orphans = self.engine.set_pools(pools, default_pool.into(), self.now, &mut self.acts);
        self.play();
        self.pass(Duration::ZERO);
        orphans
    }

    fn last_source(&self) -> &str {
        &self.opened.last().expect("a session").0
    }
}

#[test]
fn what_waits_for_a_source_that_is_gone_leaves_by_another_and_nothing_is_counted() {
    let mut world = World::new(1, 1);
    let ids: Vec<_> = (0..4).map(|_| world.admit("a.test", 1)).collect();
    world.answer_dns(known);
    let first = world.busy()[0];
    world.set_pools(vec![pool("p", &[source("t")])], "p");
    assert_eq!(world.last_source(), "t", "the new source begins at once");
    world.settle(first, Verdict::Retry { counts: false });
    assert!(!world.idle.contains(&first), "the old session gets nothing more");
    while let Some(session) = world.busy().first().copied() {
        assert_eq!(world.opened.iter().find(|(_, s)| *s == session).map(|(name, _)| &**name), Some("t"));
        world.settle(session, Verdict::Delivered);
    }
    assert_eq!(world.engine.len(), 1, "but for the one that is to be tried later");
    let counted = ids.iter().filter(|id| matches!(world.marks.get(id), Some(Mark::Later { attempts: 1.., .. })));
    assert_eq!(counted.count(), 0);
}

#[test]
fn a_session_of_a_source_that_is_gone_may_fail_and_its_work_goes_by_another() {
    let mut world = World::new(1, 1);
    world.admit("a.test", 1);
    world.answer_dns(known);
    let first = world.busy()[0];
    world.set_pools(vec![pool("p", &[source("t")])], "p");
    world.end(first, Some(Fault::new(Reason::ProxyUnreachable, "it left")));
    world.pass(Duration::ZERO);
    assert_eq!(world.last_source(), "t");
}

#[test]
fn a_source_that_has_changed_is_used_as_it_is_now() {
    let mut world = World::new(1, 1);
    for _ in 0..2 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let first = world.busy()[0];
    world.set_pools(vec![pool("p", &[told_as("s0", "new.test")])], "p");
    world.settle(first, Verdict::Delivered);
    let second = world.busy()[0];
    assert_ne!(first, second, "the session that told the old name gets nothing more");
    world.settle(second, Verdict::Delivered);
    assert!(world.engine.is_empty());
    // Nothing is left of the old one.
    world.engine.sites.values().for_each(|slot| assert_eq!(slot.retired, 0));
}

#[test]
fn a_path_that_rests_goes_on_to_rest_when_its_source_is_told_otherwise() {
    let mut world = World::new(1, 1);
    world.admit("a.test", 1);
    world.answer_dns(known);
    let session = world.busy()[0];
    world.end(session, Some(Fault::new(Reason::ConnectionRefused, "refused")));
    world.set_pools(vec![pool("p", &[told_as("s0", "new.test")])], "p");
    assert!(world.busy().is_empty(), "the destination has seen this address");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.busy().len(), 1);
}

#[test]
fn the_same_pools_again_disturb_nothing() {
    let mut world = World::new(2, 1);
    for _ in 0..6 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let (busy, opened) = (world.busy(), world.opened.len());
    world.set_pools(vec![pool("p", &[source("s0"), source("s1")])], "p");
    assert_eq!((world.busy(), world.opened.len()), (busy.clone(), opened));
    world.settle(busy[0], Verdict::Delivered);
    assert!(world.busy().contains(&busy[0]), "its session goes on");
}

#[test]
fn mail_of_a_pool_that_is_gone_is_told_and_leaves_from_the_default_one() {
    let mut world = World::new(1, 1);
    for _ in 0..3 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let orphans = world.set_pools(vec![pool("q", &[source("t")])], "q");
    assert_eq!(orphans, BTreeMap::from([("p".into(), 3)]));
    assert_eq!(world.last_source(), "t");
}

#[test]
fn a_pool_without_sources_waits_for_one_and_loses_nothing() {
    let mut world = World::new(1, 1);
    world.set_pools(vec![pool("p", &[])], "p");
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    world.pass(MINUTE);
    assert!(world.opened.is_empty() && world.engine.len() == 1);
    let why = world.engine.why_message(id, world.now);
    assert!(format!("{why:?}").contains("the pool p has no source now"), "{why:?}");
    world.set_pools(vec![pool("p", &[source("t")])], "p");
    assert_eq!(world.last_source(), "t");
}

#[test]
fn a_source_that_stays_for_another_pool_gives_up_the_mail_of_the_first() {
    let mut world = World::new(1, 1);
    for _ in 0..4 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    world.set_pools(vec![pool("p", &[source("t")]), pool("q", &[source("s0")])], "p");
    assert_eq!(world.last_source(), "t");
}
