//! Sources that are warmed up send their part of the day.

use super::*;
use crate::queue::control::words::Scope;
use crate::routing::warmup::{Plan, Warmup, day_of, end_of};

/// A source that is warmed up from the beginning on, by these plans.
fn being_warmed(plans: &[&Plan]) -> Arc<Source> {
    let warmup = |plan: &&Plan| Warmup { of: "cold".into(), start: day_of(START), plan: Arc::new((*plan).clone()) };
    Arc::new(Source { warmup: plans.iter().map(warmup).collect(), ..Arc::unwrap_or_clone(source("cold")) })
}

#[test]
fn a_source_that_is_warmed_up_sends_its_part_of_the_day_and_the_others_the_rest() {
    let cold = being_warmed(&[&Plan { messages: vec![3, 6], by: [("b.test".to_owned(), vec![1])].into() }]);
    let mut world = World::new(1, 4);
    world.engine.set_pools(
        vec![Pool { name: "p".into(), members: vec![(source("s0"), 1), (cold, 1)] }],
        "p".into(),
        world.now,
        &mut Vec::new(),
    );
    let by_cold = |world: &mut World, domain: &str, count: usize| {
        let mut sent = 0;
        for _ in 0..count {
            fill(world, domain, 1);
            let session = world.busy()[0];
            sent += usize::from(world.opened.iter().any(|(source, s)| *s == session && &**source == "cold"));
            world.settle(session, Verdict::Delivered);
        }
        sent
    };
    assert_eq!(by_cold(&mut world, "a.test", 20), 3);
    assert_eq!(by_cold(&mut world, "b.test", 20), 1, "a number of its own");
    world.now = end_of(day_of(START));
    world.pass(Duration::from_secs(1));
    assert_eq!(by_cold(&mut world, "a.test", 20), 6, "the second day");
    world.now = end_of(day_of(world.now));
    world.pass(Duration::from_secs(1));
    assert_eq!(by_cold(&mut world, "a.test", 20), 10, "it is warm");
}

#[test]
fn what_a_broken_source_gives_back_was_not_sent_by_its_plan() {
    // A second plan counts under the same name for one site, and under another one for the next.
    let other = Plan { messages: vec![9], by: [("google".to_owned(), vec![1])].into() };
    let cold = being_warmed(&[&Plan { messages: vec![2], by: [].into() }, &other]);
    let mut world = World::new(1, 1);
    let pool = Pool { name: "p".into(), members: vec![(cold, 1)] };
    world.engine.set_pools(vec![pool], "p".into(), world.now, &mut Vec::new());
    fill(&mut world, "a.test", 3);
    let session = world.busy()[0];
    world.end(session, Some(Fault::new(Reason::SourceNotPlumbed, "gone")));
    world.pass(Duration::from_secs(2));
    let mut sent = 0;
    for _ in 0..5 {
        sent += world.deliver();
        world.pass(Duration::from_millis(10));
    }
    assert_eq!(sent, 2);
}

#[test]
fn what_did_not_reach_a_site_was_not_sent_and_what_it_refused_was() {
    let mut world = World::new(1, 1);
    let pool =
        Pool { name: "p".into(), members: vec![(being_warmed(&[&Plan { messages: vec![2], by: [].into() }]), 1)] };
    world.engine.set_pools(vec![pool], "p".into(), world.now, &mut Vec::new());
    fill(&mut world, "a.test", 1);
    for _ in 0..5 {
        let session = world.busy()[0];
        world.refuse(session);
        world.play();
        world.pass(60 * MINUTE);
        world.answer_dns(known);
    }
    let session = world.busy()[0];
    world.settle(session, Verdict::Retry { counts: true });
    world.pass(12 * 60 * MINUTE);
    world.answer_dns(known);
    world.deliver();
    assert!(world.engine.is_empty(), "two that an open session had in hand");
    fill(&mut world, "a.test", 1);
    world.pass(60 * MINUTE);
    world.answer_dns(known);
    assert!(world.busy().is_empty());
}

#[test]
fn a_plan_that_is_used_up_says_when_its_day_ends() {
    let mut world = World::new(1, 1);
    let cold = being_warmed(&[&Plan { messages: vec![1], by: [("b.test".to_owned(), vec![0])].into() }]);
    let pool = Pool { name: "p".into(), members: vec![(cold, 1)] };
    world.engine.set_pools(vec![pool], "p".into(), world.now, &mut Vec::new());
    let mut why = |domain: &str| {
        fill(&mut world, domain, 2);
        world.deliver();
        let scope = Scope { domain: Some(domain.into()), ..Scope::default() };
        let why = world.engine.why_queues(&scope, 9, world.now).remove(0);
        (why.blockers[0].text.clone(), why.earliest)
    };
    let midnight = Some(end_of(day_of(START)));
    let used = "warmup cold->a.test lets 1 messages through today, and they are used".to_owned();
    assert_eq!(why("a.test"), (used, midnight));
    assert_eq!(why("b.test"), ("warmup cold->b.test lets nothing through today".to_owned(), midnight));
}
