//! What keeps mail back is told in order, with who set it and when it ends.

use super::super::control::words::{Scope, Target};
use super::super::control::{Setter, What};
use super::*;

fn told(why: &super::super::control::Why) -> Vec<(What, Setter)> {
    why.blockers.iter().map(|blocker| (blocker.what, blocker.set_by)).collect()
}

fn scope(domain: &str) -> Scope {
    Scope { domain: Some(domain.into()), ..Scope::default() }
}

#[test]
fn orders_come_first_then_the_schedule_and_the_latest_end_counts() {
    let mut world = World::new(1, 1);
    let id = world.admit("a.test", 1);
    assert_eq!(told(&world.engine.why_message(id, world.now)[0]), [(What::Dns, Setter::Dns)]);
    assert_eq!(world.engine.why_message(id, world.now)[0].earliest, None, "the DNS's answer has no date");
    world.answer_dns(known);
    let why = world.engine.why_message(id, world.now).remove(0);
    assert_eq!(told(&why), [(What::Session, Setter::Destination)]);
    let session = world.opened[0].1;
    world.settle(session, Verdict::Retry { counts: true });
    let why = world.engine.why_message(id, world.now).remove(0);
    assert_eq!(told(&why), [(What::Schedule, Setter::Destination)]);
    let due = why.earliest.expect("a due time");
    assert!(due > world.now && why.blockers[0].text.contains("1 attempts so far") && why.blockers[0].since.is_some());

    let target = Target::new(scope("a.test"), false, "suspend").expect("a scope");
    let (lasts, mut acts) = (60 * MINUTE, Vec::new());
    let control = world.engine.suspend(&target, "listed".to_owned(), lasts, world.now, &mut acts).expect("taken");
    let why = world.engine.why_message(id, world.now).remove(0);
    assert_eq!(told(&why), [(What::Suspension, Setter::Operator), (What::Schedule, Setter::Destination)]);
    assert_eq!(why.earliest, Some(control.expires), "the later of the two");
    let of_domain = world.engine.why_queues(&scope("a.test"), 9, world.now).remove(0);
    assert_eq!((told(&of_domain), of_domain.earliest), (told(&why), why.earliest));
    assert!(world.engine.why_queues(&scope("b.test"), 9, world.now).is_empty());
}

#[test]
fn each_source_is_told_while_none_is_free_and_the_first_to_come_back_counts() {
    let mut world = World::new(2, 1);
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    for fault in [Reason::SourceNotPlumbed, Reason::ProxyUnreachable] {
        let session = world.opened.last().expect("a session").1;
        world.end(session, Some(Fault::new(fault, "x")));
    }
    let why = world.engine.why_message(id, world.now).remove(0);
    assert_eq!(told(&why), [(What::SourceRest, Setter::Source); 2], "without a proxy it is the source's");
    let ends: Vec<_> = why.blockers.iter().map(|blocker| blocker.until).collect();
    assert_eq!(why.earliest, ends.iter().copied().min().flatten());
    assert!(why.blockers.iter().all(|blocker| blocker.since.is_some() && blocker.text.contains('x')), "{why:?}");

    let all = world.engine.why_source("s0", world.now).expect("a source");
    assert_eq!(told(&all[0]), [(What::SourceRest, Setter::Source)]);
    assert!(world.engine.why_source("nobody", world.now).is_none());
}

#[test]
fn a_path_that_failed_names_the_destination_and_a_limit_the_limit() {
    for (reason, setter) in [(Reason::ConnectionRefused, Setter::Destination), (Reason::LimitReached, Setter::Limit)] {
        let mut world = World::new(1, 1);
        let id = world.admit("a.test", 1);
        world.answer_dns(known);
        let session = world.opened[0].1;
        world.end(session, Some(Fault::new(reason, "x")));
        let all = world.engine.why_source("s0", world.now).expect("a source");
        assert_eq!(told(&all[1]), [(What::PathRest, setter)], "{reason}");
        let why = world.engine.why_message(id, world.now).remove(0);
        assert_eq!(told(&why), [(What::PathRest, setter)], "{reason}: {why:?}");
    }
}

#[test]
fn what_may_have_been_taken_is_held_over_a_restart_until_an_operator_decides() {
    let mut world = World::new(1, 1);
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    world.settle(world.opened[0].1, Verdict::Hold);
    let why = world.engine.why_message(id, world.now).remove(0);
    assert_eq!((told(&why), why.earliest), (vec![(What::Hold, Setter::Mta)], None));
    world.pass(60 * MINUTE);
    world.engine.set_options(QueueOptions { retry_interval: MINUTE / 2, ..options() });
    world.pass(MINUTE);
    assert!(world.busy().is_empty(), "neither time nor other options send it");
    let Some(Mark::Later { attempts: 1, due, .. }) = world.marks.get(&id).cloned() else { panic!("no mark") };

    let mut after = World::new(1, 1);
    let (queue, pool, received) = (QueueName::of_domain("a.test"), "p".into(), after.now);
    let (settled, hears_of_delay, priority) = (Vec::new(), false, Priority::Normal);
    let (part, recipients, attempts, due) = (0, 1, 1, Some(due));
    let part = Admit { id, part, queue, pool, priority, recipients, received, attempts, due, settled, hears_of_delay };
    after.engine.readmit(Readmit { part, is_moved: false, told: 0 }, after.now, &mut after.acts);
    after.pass(10 * 60 * MINUTE);
    assert!(after.asked.is_empty() && after.busy().is_empty());
    let target = Target::new(scope("a.test"), false, "requeue").expect("a scope");
    after.engine.requeue(&target, after.now).expect("taken");
    after.pass(MINUTE / 60);
    after.answer_dns(known);
    assert_eq!(after.busy().len(), 1, "an operator sends it again");
    let second = after.busy()[0];
    after.settle(second, Verdict::Hold);
    after.pass(25 * 60 * MINUTE);
    assert_eq!(after.failed.len(), 1, "its age ends for it, too");
}

#[test]
fn a_queue_says_that_its_parts_have_their_turns_or_are_carried_now() {
    let mut world = World::new(1, 1);
    for _ in 0..3 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let why = world.engine.why_queues(&scope("a.test"), 9, world.now).remove(0);
    assert_eq!((told(&why), why.earliest), (vec![(What::Turn, Setter::Limit)], None), "{why:?}");
    assert!(why.blockers[0].text.contains("2 parts have their turns in 1 sessions, of at most 1"), "{why:?}");
    for _ in 0..2 {
        let session = world.busy()[0];
        world.settle(session, Verdict::Delivered);
    }
    let why = world.engine.why_queues(&scope("a.test"), 9, world.now).remove(0);
    assert_eq!(told(&why), [(What::Session, Setter::Destination)], "{why:?}");
    assert!(why.blockers[0].text.contains("1 parts are carried by sessions"), "{why:?}");
}
