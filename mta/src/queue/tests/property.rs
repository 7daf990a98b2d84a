//! Random steps, an operator's orders among them: nothing is lost, nothing is in two places.

use std::time::Duration;

use egret_shared::fault::{Fault, Reason};
use proptest::prelude::*;

use super::*;
use crate::queue::control::words::{ControlKind, Move, Order, Scope, Target};
use crate::shaping::automation::Setting;

#[derive(Clone, Debug)]
enum Step {
    Admit(u8),
    Dns(u8),
    Settle(u8, u8),
    End(u8, u8),
    Report,
    Pass(u32),
    Order(u8, u8, u8),
    Pools(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Admit),
        2 => any::<u8>().prop_map(Step::Dns),
        4 => any::<(u8, u8)>().prop_map(|(a, b)| Step::Settle(a, b)),
        2 => any::<(u8, u8)>().prop_map(|(a, b)| Step::End(a, b)),
        1 => Just(Step::Report),
        3 => (1u32..2_000_000).prop_map(Step::Pass),
        2 => (0u8..12).prop_map(|ms| Step::Pass(u32::from(ms))),
        3 => any::<(u8, u8, u8)>().prop_map(|(a, b, c)| Step::Order(a, b, c)),
        1 => any::<u8>().prop_map(Step::Pools),
    ]
}

fn take(world: &mut World, step: &Step) {
    let nth = |busy: Vec<u64>, n: u8| busy.get(usize::from(n) % busy.len().max(1)).copied();
    match step {
        Step::Admit(n) => {
            let domain = ["a.test", "b.test", "c.test"][usize::from(n % 3)];
            let tenant = ["t", "u"].get(usize::from(n / 3 % 3)).copied();
            let routing = [None, None, Some("b.test")][usize::from(n / 9 % 3)];
            let priority = Priority::ALL[usize::from(n / 27 % 3)];
            world.put_as(priority, QueueName::new(None, tenant, domain).led_by(routing));
            world.play();
        }
        Step::Dns(n) if n % 4 == 0 => {
            let response = Response::own(451, EnhancedCode::new(4, 4, 3), "no answer");
            world.answer_dns(|_| Err(NoSite::Temporary(response.clone())));
        }
        Step::Dns(_) => world.answer_dns(known),
        Step::Settle(n, how) => {
            let verdict = match how % 5 {
                0 => Verdict::Bounce,
                1 => Verdict::Retry { counts: true },
                2 => Verdict::Retry { counts: false },
                _ => Verdict::Delivered,
            };
            if let Some(session) = nth(world.busy(), *n) {
                world.settle(session, verdict);
            }
        }
        Step::End(n, how) => {
            let reason = Reason::ALL.get(usize::from(*how)).copied();
            let fault = reason.map(|reason| Fault::new(reason, "played"));
            if let Some(session) = nth(world.busy(), *n) {
                world.end(session, fault.clone());
            }
        }
        Step::Report => world.report_all(),
        Step::Pass(ms) => world.pass(Duration::from_millis(u64::from(*ms))),
        Step::Order(what, scope, more) => {
            order(world, *what, &target(*scope), *more);
            world.play();
        }
        Step::Pools(n) => drop(world.set_pools(pools(*n), if n % 8 == 7 { "q" } else { "p" })),
    }
}

/// Some of three sources, told by one of two names, in a pool `p` that may be gone and in another.
fn pools(n: u8) -> Vec<Pool> {
    let member = |i: u8| {
        let name: Arc<str> = format!("s{i}").into();
        let ehlo_name = if n & 64 > 0 { "new.test".into() } else { name.clone() };
        (Arc::new(Source { ehlo_name, ..(*source(&name)).clone() }), u32::from(i) + 1)
    };
    let own = (0..3).filter(|i| n >> 3 & 1 << i > 0).map(member).collect();
    let mut pools = vec![Pool { name: "q".into(), members: (0..2).map(member).collect() }];
    if n % 8 != 7 {
        pools.push(Pool { name: "p".into(), members: own });
    }
    pools
}

fn target(n: u8) -> Target {
    let some = |all: &[&str], n: u8| all.get(usize::from(n)).map(|text| (*text).into());
    let scope = Scope {
        campaign: None,
        tenant: some(&["t", "u", ""], n % 5),
        domain: some(&["a.test", "b.test"], n / 5 % 4),
        routing: some(&["b.test", ""], n % 7),
        source: some(&["s0"], n / 20 % 4),
        site: some(&["a.test", "b.test"], n / 80),
    };
    let everything = scope.is_empty();
    Target::new(scope, everything, "order").expect("a target")
}

/// Gives an order; that it may be refused is part of the play.
fn order(world: &mut World, what: u8, target: &Target, more: u8) {
    let now = world.now;
    let lasts = MINUTE * u32::from(more);
    let (engine, acts) = (&mut world.engine, &mut world.acts);
    match what % 11 {
        0 | 1 => drop(engine.suspend(target, "because".into(), lasts, now, acts)),
        2 => drop(engine.bounce(target, "gone", more.is_multiple_of(2), None, now, acts)),
        3 => drop(engine.bounce(target, "gone", more.is_multiple_of(2), Some(lasts), now, acts)),
        4 => {
            let some = |is: bool, text: &str| is.then(|| text.to_owned());
            let to = Move {
                campaign: None,
                tenant: some(more & 1 > 0, ["t", "u", ""][usize::from(more / 8 % 3)]),
                domain: some(more & 2 > 0, ["a.test", "b.test"][usize::from(more / 24 % 2)]),
                routing: some(more & 8 > 0, ["b.test", ""][usize::from(more / 32 % 2)]),
                pool: (more & 4 > 0).then(|| "p".into()),
                requeue: more & 64 > 0,
            };
            drop(engine.rebind(target, to, now));
        }
        5 => drop(engine.requeue(target, now)),
        6 => drop(engine.resume_all(target, now, acts)),
        7 => engine.lead_anew(now),
        8 | 9 => drop(engine.automatic(automatic(target.scope().clone(), more), now, acts)),
        _ => {
            let (retry_interval, max_age) = (MINUTE / (1 + u32::from(more % 4)), MINUTE * (1 + u32::from(more)) * 10);
            let delay_notice = DelayNotice::after(&[MINUTE * u32::from(more % 8), MINUTE * 30]);
            engine.set_options(QueueOptions { retry_interval, max_age, delay_notice, ..options() });
        }
    }
}

/// What a rule might want done there, for some minutes.
fn automatic(scope: Scope, more: u8) -> Order {
    let (kind, scope, setting) = match more % 4 {
        0 => (ControlKind::Bounce, Scope { source: None, site: None, ..scope }, None),
        1 => {
            let setting = Setting { name: "connection_limit".to_owned(), value: (1 + more % 3).to_string() };
            (ControlKind::Set, scope, Some(setting))
        }
        _ => (ControlKind::Suspend, scope, None),
    };
    let (reason, lasts, is_weak) = ("f:1".to_owned(), MINUTE * u32::from(more / 8), more.is_multiple_of(3));
    Order { kind, scope, setting, reason, lasts, is_weak }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_is_ever_lost_or_in_two_places(sources in 1usize..4, limit in 1u32..4, finishes in any::<bool>(), steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(sources, limit);
        world.finishes = finishes;
        let mut offered = 0;
        for step in &steps {
            offered += usize::from(matches!(step, Step::Admit(_)));
            take(&mut world, step);
        }
        // From now on all goes well: everything must come to its end.
        world.engine.set_options(options());
        world.set_pools(pools(0b1000), "p");
        for _ in 0..2_000 {
            world.answer_dns(known);
            world.report_all();
            world.busy().into_iter().for_each(|session| world.settle(session, Verdict::Delivered));
            if world.engine.is_empty() {
                break;
            }
            world.pass(MINUTE);
        }
        prop_assert_eq!(world.engine.len(), 0);
        prop_assert_eq!(world.marks.values().filter(|m| **m == Mark::Done).count(), offered);
    }
}
