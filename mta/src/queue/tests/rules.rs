//! Queues with options of their own: each keeps its schedule, its age and its rate, and a reload holds at once.

use egret_shared::limits::Throttle;

use super::*;
use crate::queue::control::words::Scope;
use crate::queue::rules::{DomainBlock, QueuePatch, QueueRules, Said, TenantBlock};

#[expect(clippy::unnecessary_wraps, reason = "as it stands in a patch")]
fn said<T>(value: T) -> Option<Said<T>> {
    Some(Said { value, words: "w".into(), place: "f:1".into() })
}

fn rate(text: &str) -> Option<Said<Throttle>> {
    said(text.parse().expect("a throttle"))
}

fn of_domain(domain: &str, patch: QueuePatch) -> QueueRules {
    let block = DomainBlock { patch, ..DomainBlock::default() };
    QueueRules { domains: [(domain.to_owned(), block)].into(), ..QueueRules::default() }
}

fn set(world: &mut World, rules: QueueRules) {
    world.engine.set_queues(options(), Arc::new(rules));
}

fn admit(world: &mut World, tenant: Option<&str>, domain: &str) -> MessageId {
    world.admit_to(QueueName::new(None, tenant, domain))
}

#[test]
fn a_tenants_rate_holds_all_its_queues_and_no_other_tenants() {
    let mut world = World::new(1, 4);
    let tenant = TenantBlock { overall_max_message_rate: rate("2/min,max_burst=2"), ..TenantBlock::default() };
    set(&mut world, QueueRules { tenants: [("slow".into(), tenant)].into(), ..QueueRules::default() });
    for _ in 0..5 {
        for (tenant, domain) in [("slow", "a.test"), ("slow", "b.test"), ("free", "a.test")] {
            admit(&mut world, Some(tenant), domain);
        }
    }
    world.answer_dns(known);
    assert_eq!(world.deliver(), 5 + 2, "all of the one, two of both queues of the other");
    let why = world.engine.why_queues(&Scope { tenant: Some("slow".into()), ..Scope::default() }, 9, world.now);
    assert!(format!("{why:?}").contains("overall_max_message_rate tenant slow"), "{why:?}");
    for _ in 0..8 {
        world.pass(Duration::from_secs(29));
        assert_eq!(world.deliver(), 0);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.deliver(), 1);
    }
    assert!(world.engine.is_empty());
}

#[test]
fn a_tenants_mail_to_one_domain_does_not_keep_back_its_mail_to_others() {
    let mut world = World::new(1, 4);
    let tenant = TenantBlock { overall_max_message_rate: rate("10/s,max_burst=1"), ..TenantBlock::default() };
    set(&mut world, QueueRules { tenants: [("t".into(), tenant)].into(), ..QueueRules::default() });
    for _ in 0..100 {
        admit(&mut world, Some("t"), "a.test");
    }
    world.answer_dns(known);
    let run = |world: &mut World, steps: usize| {
        for _ in 0..steps {
            world.deliver();
            world.pass(Duration::from_millis(7));
        }
    };
    run(&mut world, 100);
    let others: Vec<_> = (0..10).map(|_| admit(&mut world, Some("t"), "c.test")).collect();
    world.answer_dns(known);
    run(&mut world, 300);
    let done = others.iter().filter(|id| world.marks.contains_key(id)).count();
    assert!((9..=10).contains(&done), "{done} of ten in the turns of two seconds");
}

#[test]
fn a_queues_rate_is_its_own_and_another_holds_at_once() {
    let mut world = World::new(1, 4);
    let slow = QueuePatch { max_message_rate: rate("1/h"), ..QueuePatch::default() };
    set(&mut world, QueueRules { default: slow, ..QueueRules::default() });
    for _ in 0..3 {
        admit(&mut world, None, "a.test");
        admit(&mut world, None, "b.test");
    }
    world.answer_dns(known);
    assert_eq!(world.deliver(), 2, "one of each");
    set(&mut world, QueueRules::default());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.deliver(), 4);
}

#[test]
fn a_shorter_wait_and_a_shorter_age_hold_at_once_for_their_domain_alone() {
    let mut world = World::new(1, 4);
    let [a, b] = ["a.test", "b.test"].map(|domain| admit(&mut world, None, domain));
    world.answer_dns(known);
    while let Some(session) = world.busy().first().copied() {
        world.settle(session, Verdict::Retry { counts: true });
    }
    let short = QueuePatch { retry_interval: said(Duration::from_secs(10)), ..QueuePatch::default() };
    set(&mut world, of_domain("a.test", short));
    world.pass(Duration::from_secs(1));
    world.pass(Duration::from_secs(11));
    let tried: Vec<_> = world.tickets.values().map(|ticket| ticket.id).collect();
    assert_eq!(tried, [a], "the other waits a minute");
    let session = world.busy()[0];
    world.settle(session, Verdict::Retry { counts: true });
    let young = QueuePatch { max_age: said(Duration::from_secs(20)), ..QueuePatch::default() };
    set(&mut world, of_domain("b.test", young));
    world.pass(Duration::from_secs(1));
    world.pass(Duration::from_secs(10));
    let failed: Vec<_> = world.failed.iter().map(|failed| (failed.ticket.id, failed.cause)).collect();
    assert_eq!(failed, [(b, Cause::Expired)]);
    let text = world.failed[0].results[0].response.to_string();
    assert!(text.contains("not delivered within 20 s"), "{text}");
}
