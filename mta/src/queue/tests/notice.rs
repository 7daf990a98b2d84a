//! What senders are told, and that a part waits for that. Floor 2.

use super::*;

const LATE: [Duration; 2] = [Duration::from_secs(30 * 60), Duration::from_secs(60 * 60)];

fn world() -> World {
    let mut world = World::new(1, 1);
    world.engine.set_options(QueueOptions { delay_notice: DelayNotice::after(&LATE), ..options() });
    world
}

/// How many times a mark says that the sender was told.
fn told(world: &World, id: MessageId) -> u8 {
    match world.marks.get(&id) {
        Some(Mark::Later { moved, .. }) => moved.as_deref().map_or(0, |moved| moved.told),
        _ => 0,
    }
}

#[test]
fn a_sender_hears_once_of_each_wait_that_its_message_is_late() {
    let mut world = world();
    let id = world.admit("a.test", 1);
    let (since, mut heard) = (world.now, Vec::new());
    while world.now.since(since) < 3 * LATE[1] {
        world.answer_dns(known);
        world.busy().into_iter().for_each(|session| world.settle(session, Verdict::Retry { counts: true }));
        for notice in &world.failed {
            heard.push((world.now.since(since), notice.cause, notice.results[0].verdict));
            assert_eq!(notice.until, since.plus(options().max_age));
        }
        world.report_all();
        assert_eq!(usize::from(told(&world, id)), heard.len(), "each mark says how often it was told");
        world.pass(MINUTE);
    }
    let [first, second] = heard[..] else { panic!("{heard:?}") };
    assert!(first.0 >= LATE[0] && first.0 < LATE[1] && second.0 >= LATE[1], "{heard:?}");
    assert_eq!((first.1, first.2), (Cause::Answered, Verdict::Retry { counts: true }), "with the words of the server");
}

#[test]
fn what_no_server_was_asked_about_is_told_of_too_and_is_sent_when_it_can_be() {
    let mut world = world();
    let id = world.admit("a.test", 2);
    world.pass(LATE[0]);
    world.pass(MINUTE);
    let [notice] = &world.failed[..] else { panic!("{:?}", world.failed) };
    assert_eq!((notice.cause, notice.results.len(), notice.results[0].response.code), (Cause::Late, 2, 451));
    world.report_all();
    assert_eq!(told(&world, id), 1);
    world.pass(MINUTE);
    assert!(world.failed.is_empty(), "once is enough");
    world.answer_dns(known);
    assert_eq!(world.tickets.len(), 1, "it goes out all the same");
}

#[test]
fn nobody_is_told_twice_over_a_restart_or_without_wanting_to_hear() {
    for (hears_of_delay, told, want) in [(true, 0, 1), (true, 1, 0), (false, 0, 0)] {
        let mut world = world();
        let id = MessageId::generate();
        let (queue, pool, received) = (QueueName::of_domain("a.test"), "p".into(), world.now);
        let (part, recipients, attempts, due, settled) = (0, 1, 0, None, Vec::new());
        let part = Admit {
            id,
            part,
            queue,
            pool,
            priority: Priority::Normal,
            recipients,
            received,
            attempts,
            due,
            settled,
            hears_of_delay,
        };
        world.now = world.now.plus(LATE[0] + MINUTE);
        world.engine.readmit(Readmit { part, is_moved: told > 0, told }, world.now, &mut world.acts);
        world.pass(MINUTE);
        world.pass(MINUTE);
        assert_eq!(world.failed.len(), want, "{hears_of_delay} {told}");
    }
}

#[test]
fn a_delivery_that_its_sender_is_owed_word_of_is_done_when_that_is_stored() {
    let mut world = world();
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    let session = world.busy()[0];
    let ticket = world.tickets.remove(&session).expect("a ticket");
    let response = Response::own(250, EnhancedCode::new(2, 0, 0), "said the test");
    let results = vec![RecipientResult { recipient: 0, verdict: Verdict::Delivered, response }];
    let witness = Some(Box::new(Witness { remote: Some("mx.test".into()), owed: vec![0], is_final: false }));
    let result = PartResult { ticket, results, witness: witness.clone() };
    world.idle.insert(session);
    world.engine.session(FromSession::Settled { session, result }, world.now, &mut world.acts);
    world.play();
    assert!(!world.marks.contains_key(&id), "it is not done before its sender is told");
    let [notice] = &world.failed[..] else { panic!("{:?}", world.failed) };
    assert_eq!((notice.cause, &notice.witness), (Cause::Answered, &witness));
    world.report_all();
    assert_eq!(world.marks.get(&id), Some(&Mark::Done));
}
