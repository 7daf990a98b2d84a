//! A program that stands still for seconds (a suspended machine, a debugger) loses nothing and goes on.

use std::time::Duration;

use egret_tests::harness::{Fleet, Options, Program, eventually};
use egret_tests::peer::sink::{Behaviour, Sink};
use egret_tests::peer::source::Plan;
use nix::sys::signal::Signal;

use crate::support::{Load, all_delivered, sink};

const COUNT: usize = 16_000;
const RATE: f64 = 2_000.0;
const PAUSES: usize = 3;
/// How long it stands still; less than any timeout of the others.
const PAUSE: Duration = Duration::from_secs(2);
/// What arrives between two pauses, at least.
const BETWEEN: u64 = 800;

fn delivery_goes_on(sink: &Sink, load: &Load) {
    let goal = sink.stats().received + BETWEEN;
    eventually("deliveries", || match sink.stats().received {
        n if n >= goal || load.is_over() => Ok(()),
        n => Err(format!("{n} of {goal} arrived")),
    });
}

/// Pauses the program that `which` chooses again and again while mail is accepted and delivered.
async fn pauses(which: fn(&Fleet) -> &Program) {
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    let sink = sink(&fleet, Behaviour::default()).await;
    let plan = Plan { size: 1_000, concurrency: 20, rate: Some(RATE), ..Plan::new(fleet.smtp, COUNT) };
    let load = Load::start(&fleet, plan);
    for _ in 0..PAUSES {
        delivery_goes_on(&sink, &load);
        which(&fleet).pause();
        tokio::time::sleep(PAUSE).await;
        assert!(which(&fleet).is_paused(), "someone else woke it");
        which(&fleet).signal(Signal::SIGCONT);
    }
    delivery_goes_on(&sink, &load);
    let summary = load.end().await;
    assert_eq!((summary.accepted, summary.failed), (COUNT as u64, 0));
    let found = all_delivered(&fleet, &sink);
    assert_eq!((found.accepted, found.duplicated), (COUNT, 0), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mta_that_stands_still_loses_and_doubles_nothing() {
    pauses(|fleet| &fleet.mta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_stands_still_loses_and_doubles_nothing() {
    pauses(|fleet| fleet.proxy.as_ref().expect("a proxy")).await;
}
