//! The engine where parts of limits are kept for tenants and priorities.

use egret_shared::limits::Throttle;

use super::*;
use crate::queue::control::words::Scope;
use crate::queue::floors::{Amount, Whose};
use crate::queue::meter::Kind;

const LIMIT: &str = "all";

fn kept(whose: Whose, amount: Amount) -> Floor {
    Floor { limit: LIMIT.parse().expect("a pattern"), whose, amount, place: "f:1".into() }
}

fn tenth(tenant: &str) -> Floor {
    kept(Whose::Tenant(tenant.into()), Amount::Share("10%".parse().expect("a share")))
}

fn one_for_high() -> Floor {
    kept(Whose::Priority(Priority::High), Amount::Count(1))
}

/// So many places, and so many messages, for all paths together.
fn limits(places: u32, rate: Option<&str>) -> Arc<PathLimits> {
    let mut limits = PathLimits { connection_limit: 50.into(), ..PathLimits::default() };
    limits.additional_connection_limits = [(LIMIT.into(), places.into())].into();
    let rate = rate.map(|rate| rate.parse::<Throttle>().expect("a rate"));
    limits.additional_message_rate_throttles = rate.map(|rate| (LIMIT.into(), rate)).into_iter().collect();
    Arc::new(limits)
}

fn world(sources: usize, floors: Vec<Floor>, limits: Arc<PathLimits>) -> World {
    let mut world = World::new(sources, 50);
    world.engine.set_options(QueueOptions { max_ready: 100, ..options() });
    *world.shaped.2.lock() = floors.into();
    world.shape(limits);
    world
}

fn of(tenant: &str, domain: &str) -> QueueName {
    QueueName::new(None, Some(tenant), domain)
}

fn put(world: &mut World, priority: Priority, tenant: &str, domain: &str, many: usize) -> Vec<MessageId> {
    let ids = (0..many).map(|_| world.put_as(priority, of(tenant, domain))).collect();
    world.settled_in();
    world.play();
    ids
}

/// Messages of a tenant that sessions carry, or that were delivered.
fn gone(world: &World, ids: &[MessageId]) -> usize {
    let is_gone = |id: &&MessageId| world.marks.contains_key(id) || world.tickets.values().any(|t| t.id == **id);
    ids.iter().filter(is_gone).count()
}

fn carriers(world: &World, ids: &[MessageId]) -> Vec<u64> {
    let mut found: Vec<u64> = world.tickets.iter().filter(|(_, t)| ids.contains(&t.id)).map(|(s, _)| *s).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_place_that_is_kept_is_there_at_once_and_nobody_else_has_it() {
    let mut world = world(1, vec![one_for_high()], limits(4, None));
    let bulk = put(&mut world, Priority::Normal, "b", "a.test", 30);
    assert_eq!((world.sessions(), gone(&world, &bulk)), (3, 3), "one of four is kept");
    let high = put(&mut world, Priority::High, "c", "a.test", 1);
    assert_eq!(gone(&world, &high), 1, "behind 27 others");
    let session = carriers(&world, &high)[0];
    world.settle(session, Verdict::Delivered);
    assert!(world.idle.contains(&session), "it waits for more of the kind");
    assert_eq!(gone(&world, &bulk), 3);
    let again = put(&mut world, Priority::High, "c", "a.test", 1);
    assert_eq!(carriers(&world, &again), [session]);
    // More of it takes of what is left for all, in its turn.
    let more = put(&mut world, Priority::High, "c", "a.test", 2);
    assert_eq!(gone(&world, &more), 0);
    let bulk_session = carriers(&world, &bulk)[0];
    world.settle(bulk_session, Verdict::Delivered);
    assert_eq!(carriers(&world, &more), [bulk_session]);
    world.deliver();
    assert!(world.engine.is_empty() && world.sessions() <= 4);
}

#[test]
fn a_kept_place_on_another_path_is_left_to_who_needs_it() {
    let mut world = world(1, vec![one_for_high()], limits(2, None));
    put(&mut world, Priority::Normal, "b", "b.test", 5);
    let first = put(&mut world, Priority::High, "c", "a.test", 1);
    let session = carriers(&world, &first)[0];
    world.settle(session, Verdict::Delivered);
    assert!(world.idle.contains(&session));
    let second = put(&mut world, Priority::High, "c", "c.test", 1);
    world.hear_of_limits();
    assert_eq!((gone(&world, &second), world.sessions()), (1, 2), "the idle session has left its place");
}

#[test]
fn where_others_may_need_it_a_kept_place_is_free_as_soon_as_there_is_no_more() {
    let mut world = world(1, vec![one_for_high()], limits(4, None));
    world.engine.meter = Meter::new(Limits::memory(), true, START, std::time::Instant::now());
    world.engine.paths_changed();
    put(&mut world, Priority::Normal, "b", "a.test", 30);
    let high = put(&mut world, Priority::High, "c", "a.test", 1);
    let session = carriers(&world, &high)[0];
    world.settle(session, Verdict::Delivered);
    assert_eq!((world.sessions(), world.idle.len()), (3, 0), "other nodes may have it");
    let again = put(&mut world, Priority::High, "c", "a.test", 1);
    assert_eq!((gone(&world, &again), world.sessions()), (1, 4));
}

#[test]
fn an_idle_session_that_may_not_carry_it_is_not_in_the_way() {
    let mut world = world(1, vec![one_for_high()], limits(4, None));
    let mut narrow = (*limits(4, None)).clone();
    narrow.connection_limit = 1.into();
    world.shape(Arc::new(narrow));
    let high = put(&mut world, Priority::High, "c", "a.test", 1);
    let session = carriers(&world, &high)[0];
    world.settle(session, Verdict::Delivered);
    assert!(world.idle.contains(&session));
    let bulk = put(&mut world, Priority::Normal, "b", "a.test", 1);
    assert_eq!((gone(&world, &bulk), world.sessions()), (1, 1));
}

#[test]
fn a_tenant_has_its_part_of_a_rate_and_all_together_no_more_than_the_rate() {
    let mut world = world(1, vec![tenth("a")], limits(50, Some("20/s,max_burst=10")));
    let bulk = put(&mut world, Priority::High, "b", "a.test", 90);
    assert_eq!(gone(&world, &bulk), 9, "a tenth of the burst is kept");
    let own = put(&mut world, Priority::Low, "a", "a.test", 3);
    assert_eq!(gone(&world, &own), 1);
    let mut seen = vec![];
    for _ in 0..20 {
        world.pass(Duration::from_millis(50));
        world.deliver();
        seen.push((gone(&world, &own), gone(&world, &bulk)));
    }
    assert_eq!(seen.last(), Some(&(3, 9 + 18)), "two in the second, and eighteen of the others: {seen:?}");
}

#[test]
fn what_is_left_for_all_is_for_who_has_a_floor_too() {
    let mut world = world(1, vec![tenth("a")], limits(50, Some("20/s,max_burst=10")));
    let own = put(&mut world, Priority::Normal, "a", "a.test", 60);
    assert_eq!(gone(&world, &own), 10);
    for _ in 0..100 {
        world.pass(Duration::from_millis(10));
        world.deliver();
    }
    assert_eq!(gone(&world, &own), 30);
}

#[test]
fn what_waits_long_for_what_is_left_goes_by_another_source_and_who_has_a_floor_stays() {
    let floors = vec![kept(Whose::Tenant("a".into()), Amount::Share("50%".parse().expect("a share")))];
    let mut world = world(2, floors, Arc::new(PathLimits { connection_limit: 50.into(), ..PathLimits::default() }));
    world.shaped.1.lock().insert("s0".into(), limits(50, Some("20/h,max_burst=4")));
    let bulk = put(&mut world, Priority::Normal, "b", "a.test", 20);
    let own = put(&mut world, Priority::Normal, "a", "a.test", 4);
    for _ in 0..20 {
        world.deliver();
        world.pass(Duration::from_millis(5));
    }
    assert_eq!((gone(&world, &bulk), gone(&world, &own)), (20, 4));
    let by_s0 = world.opened.iter().filter(|(source, _)| &**source == "s0").count();
    assert!(by_s0 >= 1, "the tenant's part was used");
    world.pass(MINUTE);
    assert!(world.engine.is_empty());
}

#[test]
fn what_a_session_gives_back_untried_goes_back_to_the_part_it_came_from() {
    let mut world = world(1, vec![tenth("a")], limits(50, Some("10/h,max_burst=10")));
    let own = put(&mut world, Priority::Normal, "a", "a.test", 3);
    for _ in 0..3 {
        for session in world.busy() {
            world.end(session, Some(Fault::new(Reason::SourceNotPlumbed, "gone")));
        }
        world.pass(10 * MINUTE);
    }
    world.deliver();
    assert_eq!(gone(&world, &own), 3);
    let bulk = put(&mut world, Priority::Normal, "b", "a.test", 20);
    world.deliver();
    assert_eq!(gone(&world, &bulk), 7, "of nine two went to the tenant, whose own part gave the third");
}

#[test]
fn other_floors_hold_for_what_is_opened_from_then_on() {
    let mut world = world(1, vec![], limits(4, None));
    let bulk = put(&mut world, Priority::Normal, "b", "a.test", 30);
    assert_eq!(gone(&world, &bulk), 4);
    *world.shaped.2.lock() = vec![one_for_high()].into();
    world.engine.paths_changed();
    world.pass(Duration::from_millis(1));
    let high = put(&mut world, Priority::High, "c", "a.test", 1);
    assert_eq!(gone(&world, &high), 1);
    *world.shaped.2.lock() = vec![].into();
    world.engine.paths_changed();
    world.pass(Duration::from_millis(1));
    for _ in 0..40 {
        world.deliver();
        world.pass(MINUTE);
    }
    assert!(world.engine.is_empty());
}

#[test]
fn why_names_the_limit_and_what_is_kept_for_whom() {
    let mut world = world(1, vec![one_for_high(), tenth("a")], limits(2, Some("10/h,max_burst=10")));
    put(&mut world, Priority::Normal, "b", "a.test", 5);
    put(&mut world, Priority::High, "c", "a.test", 3);
    put(&mut world, Priority::Normal, "a", "a.test", 3);
    let part = |world: &mut World, tenant: &str| {
        let queue = world.engine.queues.iter().find(|(_, queue)| &*queue.tenant == tenant).expect("a queue").0;
        let waiting = world.engine.entries.iter().find(|(_, e)| e.queue == queue && e.place == Place::Ready);
        let id = waiting.expect("one waits").1.id;
        world.engine.why_message(id, world.now)[0].blockers.iter().map(|b| b.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        part(&mut world, "b"),
        ["all has no free place; of 2 are kept 1 for priority high; of 10/h are kept 1/h for tenant a"]
    );
    let scope = Scope { tenant: Some("b".into()), ..Scope::default() };
    let of_queue = world.engine.why_queues(&scope, 9, world.now).remove(0);
    assert_eq!((of_queue.blockers.len(), of_queue.earliest), (1, None), "{of_queue:?}");
    assert_eq!(part(&mut world, "c"), ["all has no free place (what is kept for priority high included)"]);
}

#[test]
fn of_what_is_left_of_a_rate_each_path_has_its_turn_and_what_is_kept_waits_for_nobody() {
    for rate in ["10/s,max_burst=2", "10/s", "600/min,max_burst=10"] {
        let mut world = world(1, vec![tenth("a")], limits(50, Some(rate)));
        let many = put(&mut world, Priority::Normal, "b", "a.test", 90);
        world.deliver_for(Duration::from_secs(1));
        let before = gone(&world, &many);
        let few = put(&mut world, Priority::Normal, "b", "b.test", 30);
        let fewer = put(&mut world, Priority::Normal, "c", "c.test", 2);
        let own = put(&mut world, Priority::Low, "a", "b.test", 3);
        world.deliver_for(Duration::from_secs(4));
        let (more, others) = (gone(&world, &many) - before, gone(&world, &few));
        assert_eq!((gone(&world, &fewer), gone(&world, &own)), (2, 3), "{rate}");
        assert!((14..=18).contains(&others) && (14..=18).contains(&more), "{rate}: {more} and {others}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn floors_hold_limits_hold_and_nothing_is_stuck(
        steps in prop::collection::vec((0usize..3, 0usize..3, 0usize..3, 0u8..8, 1u64..400), 20..80),
        places in 4u32..9, per_second in 2u64..20,
    ) {
        let floors = vec![one_for_high(), kept(Whose::Tenant("a".into()), Amount::Share("25%".parse().expect("a share")))];
        let rate = format!("{per_second}/s,max_burst=5");
        let mut world = world(2, floors, limits(places, Some(&rate)));
        let own_of_a = places.div_ceil(4) as usize;
        let mut handed = vec![(world.now, 0)];
        let mut look = |world: &mut World| {
            while world.hear_of_limits() {}
            assert!(world.sessions() <= places as usize, "{} of {places}", world.sessions());
            let held = |whose: &Whose| world.engine.sessions.values().filter(|s| s.kept.contains(whose)).count();
            assert!(held(&Whose::Priority(Priority::High)) <= 1 && held(&Whose::Tenant("a".into())) <= own_of_a);
            for session in world.engine.sessions.values() {
                let held = session.holds.iter().filter_map(|key| world.engine.entries.get(*key));
                for queue in held.map(|entry| &world.engine.queues[entry.queue]) {
                    assert!(session.kept.iter().all(|whose| whose.fits(queue.priority(), &queue.tenant)), "another's");
                }
            }
            for ready in world.engine.ready.values().filter(|ready| ready.held_until <= world.now) {
                for (priority, tenant, whose, most) in [
                    (Some(Priority::High), None, Whose::Priority(Priority::High), 1),
                    (None, Some("a"), Whose::Tenant("a".into()), own_of_a),
                ] {
                    let fits = |p: Priority, t: &str| priority.is_none_or(|wanted| wanted == p) && tenant.is_none_or(|wanted| wanted == t);
                    let Some(turn) = ready.waiting.turn_of(fits) else { continue };
                    let group = ready.budget.parted.as_ref().expect("floors").of(turn.priority, &turn.tenant);
                    // It waits for a place only if what is kept for it is used.
                    let waits_for_place = group.limited.as_ref().is_some_and(|limited| limited.by.kind == Kind::Places);
                    assert!(!waits_for_place || held(&whose) == most, "{whose}: {} of {most}", held(&whose));
                }
            }
            handed.push((world.now, world.marks.len() + world.busy().len()));
        };
        for (tenant, domain, priority, what, span) in steps {
            match what {
                0..5 => {
                    let (tenant, domain) = (["a", "b", "c"][tenant], ["a.test", "b.test", "c.test"][domain]);
                    put(&mut world, Priority::ALL[priority], tenant, domain, 1 + what as usize);
                }
                5 => world.pass(Duration::from_millis(span)),
                _ => for session in world.busy().into_iter().step_by(tenant + 1) {
                    world.settle(session, Verdict::Delivered);
                    world.hear_of_limits();
                },
            }
            look(&mut world);
        }
        for _ in 0..400 {
            world.pass(Duration::from_millis(500));
            for session in world.busy() {
                world.settle(session, Verdict::Delivered);
                world.hear_of_limits();
            }
            look(&mut world);
        }
        let why: Vec<_> = ["s0", "s1"].map(|s| format!("{:?}", world.engine.why_source(s, world.now))).into();
        prop_assert!(world.engine.is_empty(), "{} are stuck: {why:?}", world.engine.len());
        for (at, (from, before)) in handed.iter().enumerate() {
            for (to, after) in &handed[at + 1..] {
                let window = to.since(*from).as_secs_f64();
                // Each of the two parts has a burst of its own, and a moment that has begun.
                prop_assert!((after - before) as f64 <= window * per_second as f64 + 5.0 + 2.0, "in {window} s");
            }
        }
    }
}

#[test]
fn who_waits_long_for_a_part_of_one_source_goes_by_another_and_the_others_stay() {
    let mut world = world(2, vec![one_for_high()], limits(2, None));
    let of_s1 = PathLimits { connection_limit: 50.into(), ..PathLimits::default() };
    world.shaped.1.lock().insert("s1".into(), Arc::new(of_s1));
    let first = put(&mut world, Priority::Normal, "b", "a.test", 1);
    assert_eq!(&*world.opened[0].0, "s0");
    let bulk = put(&mut world, Priority::Normal, "b", "b.test", 4);
    let high = put(&mut world, Priority::High, "c", "b.test", 2);
    for _ in 0..48 {
        world.pass(Duration::from_millis(100));
    }
    assert_eq!((gone(&world, &bulk), gone(&world, &high)), (2, 2), "only the place that is left for all is taken");
    for _ in 0..24 {
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(gone(&world, &bulk), 4, "after five seconds, and half a second for each further session");
    assert_eq!(carriers(&world, &first).len(), 1, "it had the place all the time");
    world.deliver();
    assert!(world.engine.is_empty());
}
