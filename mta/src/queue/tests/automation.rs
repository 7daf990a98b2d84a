//! Orders of automation, and the way back after a suspension.

use super::*;
use crate::queue::control::Setter;
use crate::queue::control::words::{By, ControlKind, Order, Scope, Taken, Target};
use crate::shaping::automation::Setting;

fn path(source: &str) -> Scope {
    Scope { source: Some(source.into()), site: Some("a.test".into()), ..Scope::default() }
}

fn suspension(scope: Scope, lasts: Duration) -> Order {
    let (kind, reason) = (ControlKind::Suspend, "mta.toml:7: /busy/ fits 421 busy".to_owned());
    Order { kind, scope, setting: None, reason, lasts, is_weak: false }
}

impl World {
    fn fire(&mut self, order: Order) -> Taken {
        let taken = self.engine.automatic(order, self.now, &mut self.acts);
        self.play();
        taken.expect("there is room")
    }

    fn fired(&mut self, order: Order) -> Control {
        match self.fire(order) {
            Taken::New(control) => control,
            other => panic!("{other:?}"),
        }
    }

    /// Admits so many to one domain, and lets them go where they may.
    fn fill(&mut self, count: usize) {
        for _ in 0..count {
            self.put(QueueName::of_domain("a.test"));
        }
        self.settled_in();
        self.play();
    }

    fn sources_of_busy(&self) -> Vec<&str> {
        let source = |session| self.opened.iter().find(|(_, opened)| *opened == session).map(|(source, _)| &**source);
        self.busy().into_iter().filter_map(source).collect()
    }
}

#[test]
fn a_suspended_path_leaves_the_other_one_its_mail() {
    let mut world = World::new(2, 2);
    let control = world.fired(suspension(path("s0"), 60 * MINUTE));
    assert_eq!((control.by, control.expires), (By::Automation, world.now.plus(60 * MINUTE)));
    world.fill(6);
    assert_eq!(world.sources_of_busy(), ["s1", "s1"]);
    assert_eq!(world.kept, std::slice::from_ref(&control), "a restart keeps it");
    let now = world.now;
    let why = world.engine.why_source("s0", now).expect("known");
    let told = why.iter().flat_map(|why| &why.blockers).map(|b| (b.set_by, b.text.clone())).collect::<Vec<_>>();
    assert!(told.is_empty(), "the source as such is free: {told:?}");
    let queue = Scope { domain: Some("a.test".into()), ..Scope::default() };
    for busy in world.busy() {
        world.settle(busy, Verdict::Retry { counts: false });
    }
    world.engine.session(FromSession::Ended { session: 0, fault: None, returned: vec![] }, now, &mut world.acts);
    let second = world.fired(suspension(path("s1"), 60 * MINUTE));
    let why = world.engine.why_queues(&queue, 1, now);
    let setters: Vec<_> = why[0].blockers.iter().map(|b| b.set_by).collect();
    assert!(setters.contains(&Setter::Automation), "{why:?}");
    world.engine.resume(second.id, now, &mut world.acts).expect("it is there");
    world.play();
    assert_eq!(world.kept, [control]);
}

#[test]
fn firing_again_prolongs_and_what_is_weak_needs_a_path_on_its_way_back() {
    let mut world = World::new(1, 4);
    let weak = Order { is_weak: true, ..suspension(path("s0"), 10 * MINUTE) };
    assert_eq!(world.fire(weak.clone()), Taken::Ignored);
    let control = world.fired(suspension(path("s0"), 10 * MINUTE));
    assert_eq!(world.fire(weak.clone()), Taken::Ignored, "it is in force");
    world.pass(5 * MINUTE);
    let Taken::Prolonged(longer) = world.fire(suspension(path("s0"), 10 * MINUTE)) else { panic!("prolonged") };
    assert_eq!((longer.id, longer.expires), (control.id, control.expires.plus(5 * MINUTE)));
    assert_eq!(world.engine.controls().len(), 1);
    world.pass(5 * MINUTE);
    assert_eq!(world.engine.controls().len(), 1, "not at its first end");
    world.pass(5 * MINUTE);
    assert_eq!(world.engine.controls(), []);
    let again = world.fired(weak);
    assert_eq!((again.relapses, again.expires), (1, world.now.plus(20 * MINUTE)), "twice as long");
}

#[test]
fn a_path_comes_back_with_one_message_then_step_by_step() {
    let mut world = World::new(1, 8);
    world.fired(suspension(path("s0"), 10 * MINUTE));
    world.fill(60);
    assert!(world.busy().is_empty());
    world.pass(10 * MINUTE);
    world.settled_in();
    let mut most = Vec::new();
    // An answer that says nothing of the path opens nothing.
    for verdict in [Verdict::Retry { counts: true }, Verdict::Bounce] {
        assert_eq!(world.busy().len(), 1, "the probe");
        let probe = world.busy()[0];
        world.settle(probe, verdict);
    }
    while most.len() < 12 {
        world.pass(Duration::from_secs(1));
        world.settled_in();
        most.push(world.busy().len());
        let first = world.busy()[0];
        world.settle(first, Verdict::Delivered);
    }
    // How many sessions a backlog opens is another matter.
    let caps = [1, 1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8];
    assert!(most.iter().zip(caps).all(|(most, cap)| *most <= cap), "{most:?}");
    assert_eq!((most[2], most[5], most[11]), (2, 4, 8), "{most:?}");
    let now = world.now;
    assert!(world.engine.why_source("s0", now).is_some());
}

#[test]
fn the_way_back_is_told_and_a_relapse_is_longer_each_time() {
    let mut world = World::new(1, 8);
    let first = world.fired(suspension(path("s0"), 10 * MINUTE));
    world.fill(3);
    let mut spans = vec![first.expires.since(world.now)];
    for _ in 0..4 {
        world.pass(*spans.last().expect("one"));
        world.settled_in();
        assert_eq!(world.busy().len(), 1);
        let now = world.now;
        let why = world.engine.why_source("s0", now).expect("known");
        assert!(why.iter().flat_map(|why| &why.blockers).any(|b| b.text.contains("one message goes first")), "{why:?}");
        let again = world.fired(Order { is_weak: true, ..suspension(path("s0"), 10 * MINUTE) });
        spans.push(again.expires.since(world.now));
        let probe = world.busy()[0];
        world.settle(probe, Verdict::Retry { counts: true });
        assert!(world.busy().is_empty(), "nothing more goes out");
    }
    assert_eq!(spans, [10, 20, 40, 80, 80].map(|n| n * MINUTE));
}

#[test]
fn an_operators_suspension_that_runs_out_is_probed_and_one_that_is_ended_is_not() {
    for is_ended in [false, true] {
        let mut world = World::new(1, 4);
        let source = Scope { source: Some("s0".into()), ..Scope::default() };
        let target = Target::new(source, false, "suspend").expect("a target");
        let (now, reason) = (world.now, "x".to_owned());
        let control = world.engine.suspend(&target, reason, 10 * MINUTE, now, &mut world.acts).expect("taken");
        world.fill(40);
        if is_ended {
            world.engine.resume(control.id, now, &mut world.acts).expect("there");
        }
        world.pass(10 * MINUTE);
        world.settled_in();
        assert_eq!(world.busy().len() > 1, is_ended, "{:?}", world.busy());
    }
}

#[test]
fn a_suspension_that_ran_out_while_the_program_was_down_is_probed() {
    let mut world = World::new(1, 4);
    let control = world.fired(suspension(path("s0"), 10 * MINUTE));
    let mut later = World::new(1, 4);
    later.now = control.expires.plus(MINUTE);
    later.engine.restore(vec![control], later.now);
    later.fill(40);
    assert_eq!((later.busy().len(), later.engine.controls().len()), (1, 0));
}

#[test]
fn a_limit_that_is_set_holds_until_its_end() {
    let mut world = World::new(1, 4);
    let setting = Some(Setting { name: "connection_limit".to_owned(), value: "2".to_owned() });
    world.fired(Order { kind: ControlKind::Set, setting, ..suspension(path("s0"), 10 * MINUTE) });
    world.fill(40);
    world.pass(MINUTE);
    assert_eq!(world.busy().len(), 2);
    world.pass(9 * MINUTE);
    world.settled_in();
    let first = world.busy()[0];
    world.settle(first, Verdict::Delivered);
    world.pass(MINUTE);
    assert!(world.busy().len() > 2);
}

#[test]
fn a_bounce_of_automation_takes_what_comes_and_lasts_longer_when_it_fires_again() {
    let mut world = World::new(1, 4);
    let tenant = Scope { tenant: Some("t".into()), domain: Some("a.test".into()), ..Scope::default() };
    let bounce = Order { kind: ControlKind::Bounce, ..suspension(tenant, 10 * MINUTE) };
    world.fired(bounce.clone());
    world.pass(5 * MINUTE);
    assert!(matches!(world.fire(bounce), Taken::Prolonged(_)));
    world.pass(6 * MINUTE);
    let id = world.put_as(Priority::Normal, QueueName::new(None, Some("t"), "a.test"));
    world.pass(MINUTE);
    assert!(world.failed.iter().any(|failed| failed.ticket.id == id && failed.cause == Cause::Bounced));
}

#[test]
fn in_a_fleet_a_path_waits_for_the_word_who_probes() {
    for is_proven in [false, true] {
        let mut world = World::new(1, 8);
        world.engine.share_recoveries();
        world.fired(suspension(path("s0"), 10 * MINUTE));
        world.fill(40);
        world.pass(10 * MINUTE);
        world.settled_in();
        assert!(world.busy().is_empty(), "nobody has said who probes");
        let (now, way) = (world.now, (Arc::from("s0"), Arc::from("a.test")));
        assert_eq!(world.engine.probes(now), [vec![way.clone()], vec![]]);
        world.engine.allow_probe(&way.0, &way.1, is_proven);
        world.pass(Duration::from_millis(1));
        assert_eq!(world.busy().len(), 1);
        assert_eq!(world.engine.probes(now), [vec![], vec![]], "it asks no more");
        let first = world.busy()[0];
        world.settle(first, Verdict::Delivered);
        let proven = if is_proven { vec![] } else { vec![way] };
        assert_eq!(world.engine.probes(now), [vec![], proven], "the others are told once");
        assert_eq!(world.engine.probes(now), [vec![], vec![]]);
    }
}

#[test]
fn what_another_node_gave_or_ended_holds_here_too() {
    let (mut here, mut there) = (World::new(1, 4), World::new(1, 4));
    let given = there.fired(suspension(path("s0"), 10 * MINUTE));
    here.fill(4);
    let now = here.now;
    here.engine.adopt(given.clone(), now, &mut here.acts).expect("there is room");
    let longer = Control { expires: given.expires.plus(MINUTE), relapses: 2, ..given.clone() };
    here.engine.adopt(longer.clone(), now, &mut here.acts).expect("there is room");
    here.engine.adopt(given.clone(), now, &mut here.acts).expect("there is room");
    here.play();
    let [own] = here.engine.controls() else { panic!("{:?}", here.engine.controls()) };
    assert_eq!((own.expires, own.relapses, &own.reason), (longer.expires, 2, &given.reason));
    here.engine.end_like(&given, now, &mut here.acts);
    here.play();
    assert_eq!((here.engine.controls().len(), here.kept.len()), (0, 0));
}
