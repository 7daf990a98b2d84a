//! The engine under limits: rates, shared places, choices of a source.

use egret_shared::fault::{Fault, Reason};
use egret_shared::limits::Throttle;

use super::*;

fn limits(change: impl FnOnce(&mut PathLimits)) -> Arc<PathLimits> {
    let mut limits = PathLimits::default();
    change(&mut limits);
    Arc::new(limits)
}

fn rate(text: &str) -> Throttle {
    text.parse().expect("a throttle")
}

#[test]
fn a_rate_of_messages_is_kept_and_no_schedule_changes() {
    let mut world = World::new(1, 4);
    world.shape(limits(|l| l.max_message_rate = Some(rate("10/s,max_burst=2"))));
    fill(&mut world, "a.test", 10);
    assert_eq!(world.deliver(), 2, "the burst");
    for _ in 0..8 {
        world.pass(Duration::from_millis(98));
        assert_eq!(world.deliver(), 0);
        world.pass(Duration::from_millis(2));
        assert_eq!(world.deliver(), 1, "one each tenth of a second");
    }
    assert!(world.engine.is_empty());
}

#[test]
fn named_rates_cut_across_paths_and_the_slowest_says_when() {
    let mut world = World::new(2, 4);
    world.shape(limits(|l| {
        l.max_message_rate = Some(rate("1000/s"));
        l.additional_message_rate_throttles = [("all".into(), rate("4/min,max_burst=1"))].into();
    }));
    fill(&mut world, "a.test", 3);
    fill(&mut world, "b.test", 3);
    assert_eq!(world.deliver(), 1, "all paths share it");
    let why = world.engine.why_source("s0", world.now).expect("a source");
    let told = format!("{why:?}");
    assert!(told.contains("all is reached") && told.contains("Limit"), "{told}");
    for _ in 0..5 {
        world.pass(Duration::from_secs(15));
        assert_eq!(world.deliver(), 1);
    }
}

#[test]
fn what_waits_long_for_one_source_goes_by_another() {
    let mut world = World::new(2, 4);
    world.shaped.1.lock().insert("s0".into(), limits(|l| l.max_message_rate = Some(rate("2/h"))));
    fill(&mut world, "a.test", 12);
    world.pass(Duration::from_millis(1));
    let mut delivered = 0;
    for _ in 0..20 {
        delivered += world.deliver();
        world.pass(Duration::from_millis(5));
    }
    assert_eq!(delivered, 12, "two by s0, all others by s1");
}

/// Two sources; the sessions of the first share one place, which a session to a.test has and does not give up.
fn world_of_one_place() -> World {
    let mut world = World::new(2, 4);
    let one = limits(|l| l.additional_connection_limits = [("of s0".into(), 1.into())].into());
    world.shaped.1.lock().insert("s0".into(), one);
    fill(&mut world, "a.test", 1);
    assert_eq!(&*world.opened[0].0, "s0");
    world
}

/// Delivers all but what the first session has, for so long; returns how many were delivered.
fn deliver_beside_first(world: &mut World, span: Duration) -> usize {
    let before = world.marks.len();
    let until = world.now.plus(span);
    while world.now < until {
        let others: Vec<_> = world.busy().into_iter().filter(|session| *session != world.opened[0].1).collect();
        for session in others {
            world.settle(session, Verdict::Delivered);
            world.hear_of_limits();
        }
        world.pass(Duration::from_millis(50));
    }
    world.marks.len() - before
}

#[test]
fn what_waits_long_for_a_place_of_one_source_goes_by_another() {
    let mut world = world_of_one_place();
    fill(&mut world, "b.test", 4);
    assert_eq!(deliver_beside_first(&mut world, Duration::from_millis(4_900)), 2, "two wait for the place");
    assert_eq!(deliver_beside_first(&mut world, Duration::from_millis(300)), 2, "and wait no more");
    fill(&mut world, "b.test", 2);
    assert_eq!(deliver_beside_first(&mut world, Duration::from_secs(1)), 2, "s0 has a rest for them");
    let first = world.opened[0].1;
    world.settle(first, Verdict::Delivered);
    world.end(first, None);
    let opened = world.opened.len();
    for _ in 0..8 {
        world.pass(Duration::from_secs(1));
        fill(&mut world, "b.test", 2);
        world.deliver();
    }
    assert!(world.opened[opened..].iter().any(|(source, _)| &**source == "s0"), "it has room again");
    assert!(world.engine.is_empty());
}

#[test]
fn what_waits_long_for_a_place_stays_where_others_have_none_either() {
    let mut world = world_of_one_place();
    // The place is of both.
    let one = limits(|l| l.additional_connection_limits = [("of s0".into(), 1.into())].into());
    world.shaped.1.lock().insert("s1".into(), one);
    fill(&mut world, "b.test", 4);
    assert_eq!(deliver_beside_first(&mut world, Duration::from_secs(21)), 0);
    assert_eq!(world.engine.sizes()[1], 3, "both wait, and neither was given up");
    let ready =
        |world: &World| world.engine.ready.values().map(|r| (r.waiting.len(), r.held_until > world.now)).collect();
    let ready: Vec<(usize, bool)> = ready(&world);
    assert!(ready.contains(&(2, false)) && ready.iter().all(|(_, is_held)| !is_held), "{ready:?}");
    let first = world.opened[0].1;
    world.settle(first, Verdict::Delivered);
    world.end(first, None);
    world.hear_of_limits();
    assert_eq!(world.deliver(), 4);
}

#[test]
fn what_waits_for_a_session_of_its_path_does_not_leave_it() {
    let mut world = world_of_one_place();
    fill(&mut world, "a.test", 3);
    assert_eq!(deliver_beside_first(&mut world, Duration::from_secs(21)), 2, "one is behind the first, on its path");
    assert_eq!(world.engine.len(), 2);
    assert_eq!(world.deliver(), 2);
}

#[test]
fn another_rate_holds_at_once_for_what_waited_long() {
    let mut world = World::new(1, 4);
    world.shape(limits(|l| l.max_message_rate = Some(rate("1/h"))));
    fill(&mut world, "a.test", 5);
    assert_eq!(world.deliver(), 1);
    world.shape(limits(|l| l.max_message_rate = Some(rate("100/s"))));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.deliver(), 4);
}

#[test]
fn what_a_session_gives_back_untried_has_used_nothing_of_a_rate() {
    let mut world = World::new(1, 1);
    world.shape(limits(|l| l.max_message_rate = Some(rate("2/h"))));
    fill(&mut world, "a.test", 3);
    for _ in 0..5 {
        let session = world.busy()[0];
        world.end(session, Some(Fault::new(Reason::SourceNotPlumbed, "gone")));
        world.pass(MINUTE);
    }
    assert_eq!(world.deliver(), 2, "dials that failed sent nothing");
}

#[test]
fn a_source_is_chosen_no_more_often_than_it_may_and_others_take_the_rest() {
    let mut world = World::new(2, 4);
    world.shaped.1.lock().insert("s0".into(), limits(|l| l.source_selection_rate = Some(rate("2/h"))));
    let mut by_s0 = 0;
    for _ in 0..10 {
        fill(&mut world, "a.test", 1);
        for session in world.busy() {
            let source = world.opened.iter().rev().find(|(_, s)| *s == session).map(|(source, _)| source.clone());
            by_s0 += usize::from(source.as_deref() == Some("s0"));
        }
        assert_eq!(world.deliver(), 1);
    }
    assert_eq!(by_s0, 2);
    // With no other source the message waits for the turn.
    let mut world = World::new(1, 4);
    world.shape(limits(|l| l.source_selection_rate = Some(rate("1/min"))));
    fill(&mut world, "a.test", 3);
    assert_eq!(world.deliver(), 1);
    world.pass(Duration::from_secs(59));
    assert_eq!(world.deliver(), 0);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.deliver(), 1);
}

#[test]
fn places_that_have_a_name_are_shared_by_all_paths_in_the_order_of_waiting() {
    let mut world = World::new(1, 4);
    world.shape(limits(|l| l.additional_connection_limits = [("all".into(), 2.into())].into()));
    for domain in ["a.test", "b.test", "c.test", "d.test"] {
        fill(&mut world, domain, 1);
    }
    assert_eq!(world.busy().len(), 2, "two places in all");
    let mut delivered = 0;
    for _ in 0..10 {
        let busy = world.busy();
        assert!(world.sessions() <= 2);
        for session in busy {
            world.settle(session, Verdict::Delivered);
            delivered += 1;
            world.hear_of_limits();
        }
        world.pass(Duration::from_millis(1));
    }
    assert_eq!(delivered, 4, "an idle session leaves its place to who waits for it");
}

/// What was delivered to a domain.
fn delivered(world: &World, ids: &[MessageId]) -> usize {
    ids.iter().filter(|id| world.marks.contains_key(id)).count()
}

/// Messages to a domain, whose names are told.
fn offered(world: &mut World, domain: &str, count: usize) -> Vec<MessageId> {
    let ids = (0..count).map(|_| world.admit(domain, 1)).collect();
    world.answer_dns(known);
    ids
}

#[test]
fn who_waits_for_a_rate_of_all_has_its_turn_however_much_others_have() {
    for rate_of_all in ["10/s,max_burst=1", "10/s", "600/min,max_burst=5"] {
        let mut world = World::new(1, 4);
        world.engine.set_options(QueueOptions { max_ready: 1_000, ..options() });
        world.shape(limits(|l| {
            l.additional_message_rate_throttles = [("all".into(), rate(rate_of_all))].into();
        }));
        let many = offered(&mut world, "a.test", 200);
        world.deliver_for(Duration::from_secs(1));
        let (before, few) = (delivered(&world, &many), offered(&mut world, "b.test", 20));
        let fewer = offered(&mut world, "c.test", 2);
        world.deliver_for(Duration::from_secs(3));
        let (more, others) = (delivered(&world, &many) - before, delivered(&world, &few));
        assert_eq!(delivered(&world, &fewer), 2, "{rate_of_all}");
        assert!((12..=16).contains(&others) && (12..=16).contains(&more), "{rate_of_all}: {more} and {others}");
    }
}

#[test]
fn an_idle_session_leaves_its_place_also_where_its_path_had_waited_for_more() {
    let mut world = World::new(1, 4);
    world.shape(limits(|l| l.additional_connection_limits = [("all".into(), 2.into())].into()));
    fill(&mut world, "a.test", 8);
    assert_eq!(world.sessions(), 2, "and it waits for a third");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.deliver(), 8);
    assert_eq!(world.idle.len(), 2);
    fill(&mut world, "b.test", 1);
    world.hear_of_limits();
    assert_eq!((world.deliver(), world.sessions()), (1, 2));
}

#[test]
fn failures_in_a_row_count_also_when_nothing_waits_between_them() {
    let mut world = World::new(1, 4);
    world.shape(limits(|l| l.consecutive_connection_failures_before_delay = 3));
    let mut opened = 0;
    for _ in 0..12 {
        fill(&mut world, "a.test", 1);
        for session in world.busy() {
            opened += 1;
            // The message waits for its retry, and nothing else is there.
            world.refuse(session);
        }
        world.pass(Duration::from_millis(250));
    }
    assert!((3..=5).contains(&opened), "{opened} sessions in three seconds, where the third failure holds the path");
}

#[test]
fn sessions_are_opened_no_faster_than_they_may() {
    let mut world = World::new(1, 8);
    world.shape(limits(|l| {
        l.connection_limit = 8.into();
        l.max_connection_rate = Some(rate("1/s,max_burst=1"));
    }));
    fill(&mut world, "a.test", 40);
    assert_eq!(world.sessions(), 1);
    for most in 2..=5 {
        world.pass(Duration::from_millis(1_001));
        assert_eq!(world.sessions(), most);
    }
}

#[test]
fn a_path_waits_only_after_so_many_failures_in_a_row() {
    let mut world = World::new(1, 1);
    world.shape(limits(|l| {
        l.connection_limit = 1.into();
        l.consecutive_connection_failures_before_delay = 3;
    }));
    fill(&mut world, "a.test", 1);
    for failed in 1..=3 {
        let session = world.busy().first().copied().expect("it is tried at once");
        world.pass(Duration::from_millis(2));
        world.end(session, Some(Fault::new(Reason::ConnectionRefused, "no")));
        assert_eq!(world.busy().is_empty(), failed == 3);
    }
    world.pass(Duration::from_millis(1_100));
    assert_eq!(world.busy().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn limits_hold_and_nothing_is_stuck(
        domains in prop::collection::vec(0usize..3, 1..40),
        steps in prop::collection::vec((1u64..400, any::<bool>()), 20..60),
        places in 1u32..4,
        per_second in 1u64..20,
    ) {
        let mut world = World::new(2, 3);
        let throttle = rate(&format!("{per_second}/s,max_burst=3"));
        world.shape(limits(|l| {
            l.connection_limit = 3.into();
            l.additional_connection_limits = [("all".into(), places.into())].into();
            l.additional_message_rate_throttles = [("all".into(), throttle)].into();
        }));
        for domain in &domains {
            fill(&mut world, ["a.test", "b.test", "c.test"][*domain], 1);
        }
        let mut handed = vec![(world.now, world.busy().len())];
        let mut step = |world: &mut World, span: u64, answers: bool| {
            world.pass(Duration::from_millis(span));
            if answers {
                for session in world.busy() {
                    world.settle(session, Verdict::Delivered);
                    world.hear_of_limits();
                }
            }
            assert!(world.sessions() <= places as usize);
            handed.push((world.now, world.marks.len() + world.busy().len()));
        };
        for (span, answers) in steps {
            step(&mut world, span, answers);
        }
        for _ in 0..400 {
            step(&mut world, 500, true);
        }
        let why: Vec<_> = ["s0", "s1"].map(|s| format!("{:?}", world.engine.why_source(s, world.now))).into();
        prop_assert!(world.engine.is_empty(), "{} are stuck: {why:?}", world.engine.len());
        for (at, (from, before)) in handed.iter().enumerate() {
            for (to, after) in &handed[at + 1..] {
                let window = to.since(*from).as_secs_f64();
                prop_assert!((after - before) as f64 <= window * per_second as f64 + 3.0 + 1.0, "in {window} s");
            }
        }
    }
}
