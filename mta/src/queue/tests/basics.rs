//! What the engine does with one message, with many, and with faults.

use super::*;

#[test]
fn a_message_goes_out_at_once_and_is_done() {
    let mut world = World::new(1, 5);
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    let busy = world.busy();
    assert_eq!(busy.len(), 1);
    world.settle(busy[0], Verdict::Delivered);
    assert_eq!(world.marks.get(&id), Some(&Mark::Done));
    assert!(world.engine.is_empty());
}

#[test]
fn an_answer_counts_and_backs_off_a_fault_does_neither() {
    let mut world = World::new(1, 5);
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    let session = world.busy()[0];
    world.end(session, Some(Fault::new(Reason::SourceNotPlumbed, "gone")));
    assert!(world.busy().is_empty() && !world.marks.contains_key(&id), "a source fault must not touch the message");
    world.pass(Duration::from_secs(2));
    let session = world.busy()[0];
    world.settle(session, Verdict::Retry { counts: true });
    let Some(Mark::Later { attempts, due, .. }) = world.marks.get(&id) else { panic!("no mark") };
    let wait = due.since(world.now);
    assert!(*attempts == 1 && wait >= MINUTE * 95 / 100 && wait <= MINUTE * 105 / 100, "{attempts} {wait:?}");
}

#[test]
fn a_source_fault_moves_everything_to_the_other_source_at_once() {
    let mut world = World::new(2, 1);
    for _ in 0..6 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let (name, session) = world.opened[0].clone();
    world.end(session, Some(Fault::new(Reason::SourceNotPlumbed, "gone")));
    for _ in 0..10 {
        for session in world.busy() {
            assert_ne!(world.opened.iter().find(|(_, s)| *s == session).map(|(n, _)| n), Some(&name));
            world.settle(session, Verdict::Delivered);
        }
    }
    assert!(world.engine.is_empty());
}

#[test]
fn a_dead_site_costs_one_probe_at_a_time() {
    let mut world = World::new(1, 8);
    for _ in 0..50 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    while let Some(session) = world.busy().first().copied() {
        world.end(session, Some(Fault::new(Reason::ConnectionRefused, "refused")));
    }
    world.opened.clear();
    for _ in 0..600 {
        world.pass(Duration::from_secs(1));
        assert!(world.busy().len() <= 1, "more than one probe");
        for session in world.busy() {
            world.end(session, Some(Fault::new(Reason::ConnectionRefused, "refused")));
        }
    }
    assert!(world.opened.len() <= 20, "{} probes in ten minutes", world.opened.len());
}

#[test]
fn sessions_that_fail_together_are_one_failure() {
    let mut world = World::new(1, 8);
    for _ in 0..50 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let busy = world.busy();
    assert!(busy.len() > 1);
    for session in busy {
        world.end(session, Some(Fault::new(Reason::ConnectionRefused, "refused")));
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.busy().len(), 1, "the site is probed after the first rest");
}

#[test]
fn what_no_one_takes_expires_wherever_it_waits() {
    let mut world = World::new(1, 1);
    let ids: Vec<MessageId> = (0..5).map(|_| world.admit("a.test", 2)).collect();
    world.answer_dns(known);
    world.admit("no-dns.test", 1);
    world.pass(25 * 60 * MINUTE);
    world.pass(MINUTE);
    // One is in flight; the others and the one without a site have expired.
    assert_eq!(world.failed.iter().filter(|f| f.cause == Cause::Expired).count(), 5);
    assert!(world.marks.is_empty(), "nothing is marked before its report is stored");
    world.report_all();
    assert_eq!(ids.iter().filter(|id| world.marks.get(id) == Some(&Mark::Done)).count(), 4);
}

#[test]
fn a_domain_that_does_not_exist_bounces_one_that_is_unknown_waits() {
    let mut world = World::new(1, 1);
    world.admit("gone.test", 3);
    let later = world.admit("later.test", 1);
    let response = Response::own(550, EnhancedCode::new(5, 1, 2), "no such domain");
    world.answer_dns(|domain| match domain {
        "gone.test" => Err(NoSite::Permanent(response.clone())),
        _ => Err(NoSite::Temporary(response.clone())),
    });
    assert_eq!(world.failed.len(), 1);
    assert_eq!(world.failed[0].results.len(), 3);
    world.report_all();
    assert!(!world.marks.contains_key(&later));
    world.pass(MINUTE);
    assert_eq!(world.asked.len(), 1, "DNS is asked again about the other");
}

#[test]
fn draining_finishes_what_is_in_flight_and_starts_nothing() {
    let mut world = World::new(1, 2);
    for _ in 0..9 {
        world.admit("a.test", 1);
    }
    world.answer_dns(known);
    let busy = world.busy();
    world.engine.drain(&mut world.acts);
    world.play();
    assert!(!world.engine.is_drained());
    for session in busy {
        world.settle(session, Verdict::Delivered);
    }
    assert!(world.engine.is_drained());
    assert_eq!(world.engine.len(), 9 - world.marks.len());
}

#[test]
fn a_tenant_with_ten_messages_does_not_wait_for_a_million_of_another() {
    let mut world = World::new(1, 1);
    for n in 0..20_000u32 {
        world.put(QueueName::new(Some(&format!("c{}", n % 1_000)), Some("a"), "a.test"));
    }
    world.settled_in();
    let b = QueueName::new(None, Some("b"), "a.test");
    for _ in 0..10 {
        world.put(b.clone());
    }
    world.settled_in();
    let mut handed = 0;
    for turn in 1..=25 {
        let session = world.busy()[0];
        handed += usize::from(world.tickets[&session].queue == b);
        world.settle_unchecked(session, Verdict::Delivered);
        assert!(turn < 25 || handed == 10, "{handed} of ten after {turn} hand-outs");
    }
    world.play();
}

#[test]
fn what_was_held_is_tried_and_its_age_counts_from_the_end_of_the_hold() {
    let day = 24 * 60 * MINUTE;
    let mut world = World::new(1, 1);
    let due = world.now.plus(5 * day);
    let id = MessageId::generate();
    let (queue, pool) = (QueueName::of_domain("a.test"), "p".into());
    // As intake and recovery make it of a message that is five times as long held as it may wait.
    let admit = Admit {
        id,
        part: 0,
        queue,
        pool,
        priority: Priority::Normal,
        recipients: 1,
        received: due,
        attempts: 0,
        due: Some(due),
        settled: Vec::new(),
        hears_of_delay: true,
    };
    world.engine.admit(admit, world.now, &mut world.acts);
    world.play();
    for _ in 0..5 {
        assert!(world.asked.is_empty() && world.failed.is_empty(), "nothing happens before it is due");
        world.pass(day);
    }
    world.answer_dns(known);
    assert_eq!(world.tickets.len(), 1, "it is tried when it is due");
    while world.failed.is_empty() && world.now < due.plus(2 * day) {
        for session in world.tickets.keys().copied().collect::<Vec<_>>() {
            world.settle(session, Verdict::Retry { counts: true });
        }
        world.pass(5 * MINUTE);
        world.answer_dns(known);
    }
    let expired: Vec<_> = world.failed.iter().map(|failed| (failed.ticket.id, failed.cause)).collect();
    assert_eq!(expired, [(id, Cause::Expired)]);
    let age = world.now.since(due);
    assert!(age >= day && age <= day + 30 * MINUTE, "it expired after {age:?}");
}

#[test]
fn a_long_due_list_expires_in_steps() {
    let mut world = World::new(1, 1);
    for _ in 0..400_000 {
        world.put(QueueName::of_domain("a.test"));
    }
    world.settled_in();
    world.now = world.now.plus(25 * 60 * MINUTE);
    let mut steps = 0;
    while world.engine.len() > 1 && steps < 10_000 {
        steps += 1;
        world.now = world.engine.next_wake().unwrap_or(world.now).max(world.now);
        let began = std::time::Instant::now();
        world.engine.tick(world.now, &mut world.acts);
        assert!(began.elapsed() < Duration::from_millis(200), "one turn took {:?}", began.elapsed());
        assert!(world.acts.len() <= 600, "{} acts in one turn", world.acts.len());
        for act in std::mem::take(&mut world.acts) {
            if let Act::Report(failed) = act {
                world.engine.reported(failed.key, world.now, &mut Vec::new());
            }
        }
    }
    assert_eq!(world.engine.len(), 1, "all but the one in flight have expired");
}

#[test]
fn a_quick_session_has_its_next_ticket_before_it_has_told_of_the_one_in_hand() {
    let mut world = World::new(1, 1);
    let ids: Vec<MessageId> = (0..4).map(|_| world.put_as(Priority::Normal, QueueName::of_domain("a.test"))).collect();
    world.settled_in();
    let session = world.busy()[0];
    let ahead = |world: &World| world.ahead.get(&session).map_or(0, VecDeque::len);
    assert_eq!(ahead(&world), 0, "nobody knows yet whether it is quick");
    world.settle(session, Verdict::Delivered);
    assert_eq!((world.tickets[&session].id, ahead(&world)), (ids[1], 1));
    world.pass(Duration::from_secs(2));
    world.settle(session, Verdict::Delivered);
    assert_eq!((world.tickets[&session].id, ahead(&world)), (ids[2], 0), "it was slow");
    world.settle(session, Verdict::Delivered);
    world.end(session, None);
    assert_eq!(world.marks.len(), 3);
    world.settle(world.busy()[0], Verdict::Delivered);
    assert!(world.engine.is_empty());
}

#[test]
fn what_was_handed_ahead_and_not_begun_comes_back_as_if_never_handed() {
    let mut world = World::new(1, 1);
    let ids: Vec<MessageId> = (0..4).map(|_| world.put_as(Priority::Normal, QueueName::of_domain("a.test"))).collect();
    world.settled_in();
    let session = world.busy()[0];
    world.settle(session, Verdict::Delivered);
    world.end(session, None);
    let next = world.busy()[0];
    assert!(next != session && world.tickets[&next].id == ids[1], "in its order");
    assert_eq!(world.deliver(), 3);
}
