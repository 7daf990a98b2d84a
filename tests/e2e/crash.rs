//! A crash loses nothing that was acknowledged.

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::Plan;

use crate::support::{Load, all_delivered, send, sink};

const COUNT: usize = 45_000;
const CRASHES: usize = 50;
/// Messages that arrive between two crashes, at least.
const BETWEEN: u64 = 400;
/// What may be sent twice for each crash: a message of each session in flight (32 to the one site), and
/// those whose end waited for the disk, in the 50 ms and the sync after it, at the rate of this load.
const TWICE_A_CRASH: usize = 32 + 400;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_crashes_under_load_lose_nothing() {
    let mut fleet = Fleet::start(&Options::default());
    let sink = sink(&fleet, Behaviour::default()).await;
    let plan =
        Plan { size: 1_000, concurrency: 20, keep_trying: true, rate: Some(4_000.0), ..Plan::new(fleet.smtp, COUNT) };
    let load = Load::start(&fleet, plan);
    let mut crashes = 0;
    while crashes < CRASHES && !load.is_over() {
        let before = sink.stats().received;
        eventually("some traffic", || match sink.stats().received - before {
            n if n > BETWEEN || load.is_over() => Ok(()),
            n => Err(format!("{n} messages since the last crash")),
        });
        fleet.restart_mta();
        crashes += 1;
    }
    assert_eq!(crashes, CRASHES, "the load ended before the last crash");
    assert_eq!(load.end().await.accepted, COUNT as u64);
    let found = all_delivered(&fleet, &sink);
    assert_eq!((found.accepted, found.lost), (COUNT, 0));
    assert!(found.duplicated <= CRASHES * TWICE_A_CRASH, "{found:?}");
    eprintln!("{CRASHES} crashes: lost {}, duplicated {}", found.lost, found.duplicated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_told_with_its_place_and_costs_no_other() {
    let mut fleet = Fleet::start(&Options::default());
    // Nobody takes the mail yet: it stays in the spool.
    let summary = send(&fleet, Plan { size: 1_000, ..Plan::new(fleet.smtp, 50) }).await;
    assert_eq!(summary.accepted, 50);
    assert!(fleet.mta.terminate().success());
    let segment = fleet.file("spool/0000000001.seg");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    std::fs::write(&segment, bytes).expect("written");
    let sink = sink(&fleet, Behaviour::default()).await;
    fleet.restart_mta();
    eventually("delivery of the others", || match sink.stats().received {
        49 => Ok(()),
        n => Err(format!("{n} arrived\n{}", fleet.mta.log())),
    });
    let log = fleet.mta.log();
    assert!(log.contains("0000000001.seg at byte "), "{log}");
}
