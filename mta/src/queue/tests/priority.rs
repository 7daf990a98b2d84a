//! Priorities, and routes that change while mail waits.

use super::*;
use crate::queue::control::words::{Move, Scope, Target};
use crate::shaping::per_site::PerSite;

fn of(tenant: &str, domain: &str) -> QueueName {
    QueueName::new(None, Some(tenant), domain)
}

/// Delivers all with one session at a time; returns the messages in the order in which they went.
fn order(world: &mut World) -> Vec<MessageId> {
    let mut order = Vec::new();
    while let Some(session) = world.busy().first().copied() {
        order.push(world.tickets[&session].id);
        world.settle(session, Verdict::Delivered);
    }
    order
}

fn put(world: &mut World, priority: Priority, tenant: &str, many: usize) -> Vec<MessageId> {
    (0..many).map(|_| world.put_as(priority, of(tenant, "a.test"))).collect()
}

#[test]
fn higher_priorities_go_first_tenants_take_turns_within_one_and_the_low_one_has_its_share() {
    let mut world = World::new(1, 1);
    world.engine.set_options(QueueOptions { max_ready: 1_000, ..options() });
    let low = put(&mut world, Priority::Low, "t", 20);
    let normal = put(&mut world, Priority::Normal, "t", 3);
    let high = [put(&mut world, Priority::High, "t", 30), put(&mut world, Priority::High, "u", 5)];
    world.settled_in();
    let order = order(&mut world);
    assert_eq!(order.len(), 58);
    let places = |ids: &[MessageId]| -> Vec<usize> {
        ids.iter().map(|id| order.iter().position(|other| other == id).expect("went")).collect()
    };
    assert!(places(&high[1]).iter().all(|place| *place <= 13), "turns of tenants: {:?}", places(&high[1]));
    let last_high = *places(&high[0]).iter().max().expect("some");
    let low_between = places(&low).iter().filter(|place| **place < last_high).count();
    assert!((2..=6).contains(&low_between), "{low_between} of the low ones before {last_high}");
    assert!(places(&low).is_sorted() && places(&normal).is_sorted() && places(&high[0]).is_sorted());
    assert!(places(&normal)[2] < places(&low)[15], "{order:?}");
}

#[test]
fn what_comes_later_with_a_higher_priority_takes_room_from_what_is_ready() {
    let mut world = World::new(1, 1);
    put(&mut world, Priority::Low, "t", 50);
    world.settled_in();
    // One is in the session, four wait: as many as may (max_ready).
    let high = put(&mut world, Priority::High, "t", 2);
    world.settled_in();
    world.play();
    let first = world.busy()[0];
    world.settle(first, Verdict::Delivered);
    let order = order(&mut world);
    assert_eq!(order[..2], high[..], "they wait for no more than the session");
    assert_eq!(order.len(), 51);
}

#[test]
fn a_priority_stays_with_a_part_that_is_moved_or_deferred_and_is_shown() {
    let mut world = World::new(1, 1);
    let id = world.put_as(Priority::High, of("t", "a.test"));
    world.settled_in();
    world.play();
    let session = world.busy()[0];
    world.settle(session, Verdict::Retry { counts: true });
    let to = Move { routing: Some("relay".into()), ..Move::default() };
    let target = Target::new(Scope { tenant: Some("t".into()), ..Scope::default() }, false, "rebind").expect("named");
    world.engine.rebind(&target, to, world.now).expect("taken");
    world.pass(Duration::from_millis(1));
    let row = &world.engine.show_message(id, world.now)[0];
    assert_eq!((row.queue.as_str(), row.priority, row.attempts), ("t@a.test!relay", Priority::High, 1));
    let Some(Mark::Later { moved: Some(moved), .. }) = world.marks.get(&id) else { panic!("not stored") };
    assert_eq!(moved.queue.as_str(), "t@a.test!relay");
    let why = &world.engine.why_queues(&Scope::default(), 9, world.now)[0];
    assert!(why.about.ends_with(", priority high"), "{}", why.about);
}

#[test]
fn other_routes_lead_what_waits_anew_and_what_is_in_a_session_is_finished() {
    let mut world = World::new(1, 1);
    let ids: Vec<_> = (0..8).map(|_| world.admit("a.test", 1)).collect();
    world.answer_dns(known);
    let session = world.busy()[0];
    world.engine.lead_anew(world.now);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.asked.len(), 1, "it is asked at once");
    world.answer_dns(|_| known("other.test"));
    let names = |world: &World| -> Vec<String> {
        let filter = crate::queue::control::Filter { limit: 9, ..Default::default() };
        world.engine.show_ready(&filter, world.now).iter().map(|row| format!("{} {}", row.site, row.waiting)).collect()
    };
    // The one to the other site has its first ticket.
    assert_eq!(names(&world), ["other.test 4", "a.test 0"]);
    // A session of before that gives its ticket back does not lead it to the old site again.
    world.end(session, None);
    assert!(names(&world).iter().all(|row| !row.starts_with("a.test")), "{:?}", names(&world));
    order(&mut world);
    assert!(world.engine.is_empty() && ids.iter().all(|id| world.marks.get(id) == Some(&Mark::Done)));
}

#[test]
fn each_site_has_its_own_limit_of_sessions() {
    let mut world = World::new(1, 1);
    let mut limits = PerSite::of_all(sessions(1));
    limits.set_site("b.test".into(), sessions(3));
    world.shape(limits);
    for domain in ["a.test", "b.test"] {
        for _ in 0..40 {
            world.admit(domain, 1);
        }
    }
    world.answer_dns(known);
    world.pass(MINUTE / 10);
    let open = |world: &World, site: &str| {
        let filter = crate::queue::control::Filter { limit: 9, ..Default::default() };
        world.engine.show_ready(&filter, world.now).iter().find(|row| &*row.site == site).map(|row| row.sessions)
    };
    assert_eq!((open(&world, "a.test"), open(&world, "b.test")), (Some(1), Some(3)));
    world.shape(sessions(3));
    world.admit("a.test", 1);
    world.pass(MINUTE / 10);
    assert!(open(&world, "a.test") > Some(1), "another limit holds at once");
}
