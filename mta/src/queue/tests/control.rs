//! An operator's orders, one by one.

use super::*;
use crate::queue::control::Filter;
use crate::queue::control::words::{ControlKind, Move, Refused, Scope, Target};

const HOUR: Duration = Duration::from_secs(3_600);

fn of_tenant(tenant: &str) -> Target {
    Target::new(Scope { tenant: Some(tenant.into()), ..Scope::default() }, false, "test").expect("a target")
}

fn of_domain(domain: &str) -> Target {
    Target::new(Scope { domain: Some(domain.into()), ..Scope::default() }, false, "test").expect("a target")
}

fn everything() -> Target {
    Target::new(Scope::default(), true, "test").expect("a target")
}

fn name(tenant: &str, domain: &str) -> QueueName {
    QueueName::new(None, Some(tenant).filter(|t| !t.is_empty()), domain)
}

impl World {
    /// Lets time pass until no job is running; what is reported is stored at once. Returns the most
    /// reports that were under way at a time.
    fn work_off(&mut self) -> usize {
        let mut most = 0;
        for _ in 0..2_000 {
            self.now = self.now.plus(Duration::from_millis(20));
            self.engine.tick(self.now, &mut self.acts);
            self.perform();
            most = most.max(self.failed.len());
            if !self.engine.jobs().iter().any(|job| job.running) {
                break;
            }
            for failed in std::mem::take(&mut self.failed) {
                self.engine.reported(failed.key, self.now, &mut self.acts);
            }
            self.perform();
        }
        self.play();
        most
    }

    fn out(&self) -> Vec<String> {
        let mut out: Vec<String> = self.tickets.values().map(|ticket| ticket.queue.to_string()).collect();
        out.sort();
        out
    }

    fn suspend(&mut self, target: &Target, lasts: Duration) -> Control {
        let given = self.engine.suspend(target, "ip is listed".into(), lasts, self.now, &mut self.acts);
        self.play();
        given.expect("taken")
    }
}

#[test]
fn what_is_suspended_stays_and_goes_on_by_itself_when_the_time_is_over() {
    let mut world = World::new(1, 5);
    let control = world.suspend(&of_tenant("t"), HOUR);
    assert_eq!(world.kept, std::slice::from_ref(&control), "it is kept over a restart");
    world.put(name("t", "a.test"));
    world.put(name("u", "a.test"));
    world.play();
    world.answer_dns(known);
    assert_eq!(world.out(), ["u@a.test"]);
    world.pass(HOUR / 2);
    world.pass(MINUTE);
    assert_eq!(world.out(), ["u@a.test"]);
    let rows = world.engine.show_queues(&Filter { limit: 9, ..Filter::default() });
    let row = rows.iter().find(|row| row.queue == "t@a.test").expect("listed");
    assert_eq!((row.held, row.due, row.suspended_by), (1, 1, Some(control.id)));
    world.pass(HOUR / 2);
    world.pass(MINUTE);
    world.answer_dns(known);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.out(), ["t@a.test", "u@a.test"]);
    assert!(world.marks.is_empty() && world.kept.is_empty(), "a suspension changes no schedule");
    assert!(world.tickets.values().all(|ticket| ticket.attempts == 0));
}

#[test]
fn a_suspension_takes_back_what_waits_for_a_session_and_what_a_session_did_not_try() {
    let mut world = World::new(1, 1);
    let ids: Vec<_> = (0..8).map(|_| world.admit("a.test", 1)).collect();
    world.answer_dns(known);
    let busy = world.busy()[0];
    let control = world.suspend(&of_domain("a.test"), HOUR);
    assert!(world.engine.show_ready(&Filter { limit: 9, ..Filter::default() }, world.now)[0].waiting == 0);
    world.end(busy, None);
    world.pass(MINUTE);
    assert!(world.busy().is_empty());
    let part = &world.engine.show_message(ids[7], world.now)[0];
    assert!(part.place == "due" && part.waits_for[0].contains("ip is listed"), "{part:?}");
    world.engine.resume(control.id, world.now, &mut world.acts).expect("known");
    assert_eq!(world.engine.resume(control.id, world.now, &mut world.acts), Err(Refused::Unknown(control.id)));
    for _ in 0..8 {
        world.pass(Duration::from_secs(1));
        world.busy().into_iter().for_each(|session| world.settle(session, Verdict::Delivered));
    }
    assert!(world.engine.is_empty());
}

#[test]
fn a_suspended_site_is_closed_also_for_mail_of_which_something_else_is_said() {
    let mut world = World::new(1, 1);
    world.admit("a.test", 1);
    world.admit("b.test", 1);
    let scope = Scope { site: Some("mx.test".into()), ..Scope::default() };
    world.suspend(&Target::new(scope, false, "suspend").expect("a target"), HOUR);
    world.answer_dns(|domain| {
        let name = if domain == "a.test" { "mx.test!~a.test" } else { "mx.test2!~b.test" };
        Ok((site(name), 5 * MINUTE))
    });
    assert_eq!(world.out(), ["@b.test"]);
}

#[test]
fn a_suspended_source_is_passed_over_and_a_suspended_site_is_closed() {
    let mut world = World::new(2, 3);
    let source = Scope { source: Some("s0".into()), ..Scope::default() };
    let site = Scope { site: Some("b.test".into()), ..Scope::default() };
    for scope in [source, site.clone()] {
        world.suspend(&Target::new(scope, false, "suspend").expect("a target"), HOUR);
    }
    for domain in ["a.test", "a.test", "b.test", "c.test"] {
        world.admit(domain, 1);
    }
    world.answer_dns(known);
    world.pass(MINUTE);
    assert!(!world.opened.is_empty() && world.opened.iter().all(|(name, _)| &**name == "s1"), "{:?}", world.opened);
    for _ in 0..3 {
        world.busy().into_iter().for_each(|session| world.settle(session, Verdict::Delivered));
    }
    assert_eq!(world.engine.len(), 1, "only the suspended site's is left");
    let target = Target::new(site, false, "resume").expect("a target");
    assert_eq!(world.engine.resume_all(&target, world.now, &mut world.acts).expect("one").len(), 1);
    world.pass(Duration::from_secs(1));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.out(), ["@b.test"]);
}

#[test]
fn a_bounce_takes_all_that_is_there_also_what_comes_back_from_a_session() {
    let mut world = World::new(1, 1);
    for _ in 0..5_000 {
        world.put(name("t", "a.test"));
    }
    world.put(name("u", "b.test"));
    world.settled_in();
    let flying: Vec<u64> = world.busy();
    assert!(!flying.is_empty());
    let id = world.engine.bounce(&of_tenant("t"), "blocked", false, None, world.now, &mut world.acts).expect("taken");
    world.pass(Duration::from_millis(20));
    assert!(world.failed.iter().all(|f| f.cause == Cause::Bounced && f.results[0].response.code == 554));
    for session in flying {
        world.settle(session, Verdict::Retry { counts: true });
    }
    let most = world.work_off();
    assert!(most <= 512, "{most} reports at a time");
    let job = world.engine.jobs().into_iter().find(|job| job.id == id).expect("shown");
    assert!(job.matched == 5_000 && job.done == 5_000 && !job.running && job.ended.is_some(), "{job:?}");
    world.report_all();
    assert_eq!(world.engine.len(), 1, "the other tenant's is left");
    world.put(name("t", "a.test"));
    world.settled_in();
    assert!(world.failed.is_empty(), "it was once");
}

#[test]
fn a_bounce_that_lasts_takes_what_comes_also_after_a_restart() {
    let mut world = World::new(1, 1);
    world.engine.bounce(&of_tenant("t"), "", true, Some(HOUR), world.now, &mut world.acts).expect("taken");
    world.play();
    let kept = world.kept.clone();
    assert!(kept[0].kind == ControlKind::Bounce && kept[0].silent);
    let now = world.now;
    let mut world = World::new(1, 1);
    world.engine.restore(kept, now);
    world.put(name("t", "a.test"));
    world.put(name("u", "a.test"));
    world.settled_in();
    world.pass(Duration::from_millis(1));
    assert_eq!(world.failed.iter().map(|f| f.cause).collect::<Vec<_>>(), [Cause::Dropped]);
    world.report_all();
    world.pass(HOUR);
    world.put(name("t", "a.test"));
    world.settled_in();
    world.pass(Duration::from_secs(1));
    world.answer_dns(known);
    assert!(world.failed.is_empty() && world.kept.is_empty(), "its time is over");
}

#[test]
fn a_move_is_stored_with_every_later_mark_and_changes_no_schedule() {
    let mut world = World::new(1, 1);
    let id = world.admit("a.test", 1);
    world.answer_dns(known);
    world.settle(world.busy()[0], Verdict::Retry { counts: true });
    let Some(Mark::Later { due, attempts, .. }) = world.marks.get(&id).cloned() else { panic!("no mark") };
    let to = Move { domain: Some("b.test".into()), tenant: Some("u".into()), ..Move::default() };
    world.engine.rebind(&of_domain("a.test"), to, world.now).expect("taken");
    world.work_off();
    let moved = Some(Arc::new(Moved { queue: name("u", "b.test"), pool: "p".into(), told: 0 }));
    let mark = Mark::Later { attempts, due, settled: Vec::new(), moved: moved.clone() };
    assert_eq!(world.marks.get(&id), Some(&mark));
    world.pass(2 * MINUTE);
    world.answer_dns(known);
    assert_eq!(world.out(), ["u@b.test"]);
    world.settle(world.busy()[0], Verdict::Retry { counts: true });
    assert!(matches!(world.marks.get(&id), Some(Mark::Later { attempts: 2, moved: found, .. }) if *found == moved));
}

#[test]
fn what_waits_is_due_at_once_when_it_is_requeued() {
    let mut world = World::new(1, 1);
    let id = world.admit("a.test", 1);
    world.admit("dns.test", 1);
    let response = Response::own(451, EnhancedCode::new(4, 4, 3), "no answer");
    world
        .answer_dns(|domain| if domain == "a.test" { known(domain) } else { Err(NoSite::Temporary(response.clone())) });
    world.settle(world.busy()[0], Verdict::Retry { counts: true });
    assert!(world.out().is_empty());
    world.engine.requeue(&everything(), world.now).expect("taken");
    world.work_off();
    assert!(matches!(world.marks.get(&id), Some(Mark::Later { attempts: 1, .. })));
    assert_eq!((world.out(), world.asked.len()), (vec!["@a.test".to_owned()], 1), "and the DNS is asked again");
}

#[test]
fn other_options_hold_for_what_is_queued() {
    let mut world = World::new(1, 1);
    world.admit("a.test", 1);
    world.answer_dns(known);
    for _ in 0..3 {
        let session = world.busy()[0];
        world.settle(session, Verdict::Retry { counts: true });
        world.pass(20 * MINUTE);
        world.answer_dns(known);
    }
    world.settle(world.busy()[0], Verdict::Retry { counts: true });
    world.engine.set_options(QueueOptions { max_retry_interval: MINUTE, ..options() });
    world.pass(Duration::from_millis(1));
    world.pass(2 * MINUTE);
    world.answer_dns(known);
    world.settle(world.busy()[0], Verdict::Retry { counts: true });
    world.engine.set_options(QueueOptions { max_age: 10 * MINUTE, ..options() });
    world.pass(Duration::from_millis(1));
    assert_eq!(world.failed.len(), 1, "it is older than it may be now");
}

#[test]
fn orders_that_cannot_be_meant_are_refused() {
    let mut world = World::new(1, 1);
    let (now, of_source) = (world.now, Scope { source: Some("s0".into()), ..Scope::default() });
    let of_source = Target::new(of_source, false, "bounce").expect("a target");
    assert_eq!(world.engine.requeue(&of_source, now), Err(Refused::Source("requeue")));
    assert_eq!(world.engine.rebind(&everything(), Move::default(), now), Err(Refused::NoMove));
    let to = Move { pool: Some("nowhere".into()), ..Move::default() };
    assert_eq!(world.engine.rebind(&everything(), to, now), Err(Refused::UnknownPool("nowhere".into(), "p".into())));
    let site = Target::new(Scope { site: Some("a".into()), ..Scope::default() }, false, "bounce").expect("a target");
    let lasting = world.engine.bounce(&site, "x", false, Some(HOUR), now, &mut world.acts);
    assert_eq!(lasting, Err(Refused::LastingSite));
    let nothing = world.engine.resume_all(&everything(), now, &mut world.acts);
    assert!(matches!(nothing, Err(Refused::NothingSuspended(_))));
}

#[test]
fn a_suspended_source_is_marked_and_one_that_no_pool_has_is_refused() {
    let mut world = World::new(2, 1);
    let of = |source: &str, site: Option<&str>| {
        let (source, site) = (Some(source.into()), site.map(Into::into));
        Target::new(Scope { source, site, ..Scope::default() }, false, "suspend").expect("a target")
    };
    let refused = world.engine.suspend(&of("s7", None), String::new(), HOUR, world.now, &mut world.acts);
    assert_eq!(refused, Err(Refused::UnknownSource("s7".into(), "s0, s1".into())));
    world.suspend(&of("192.0.2.7", None), HOUR);
    let of_s0 = world.suspend(&of("s0", None), HOUR);
    world.suspend(&of("s1", Some("b.test")), HOUR);
    world.suspend(&of("s1", Some("a.test")), HOUR);
    world.suspend(&of_tenant("t"), HOUR);
    let told = |world: &World| {
        let sources = world.engine.sources(world.now).into_iter();
        sources.map(|source| (source.suspended_by, source.suspended_to.join(" "))).collect::<Vec<_>>()
    };
    assert_eq!(told(&world), [(Some(of_s0.id), String::new()), (None, "a.test b.test".to_owned())]);
    let of_all = world.suspend(&everything(), HOUR);
    assert!(told(&world).iter().all(|(by, _)| *by == Some(of_all.id)));
}
