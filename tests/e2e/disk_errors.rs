//! A disk that fails: strace lets chosen calls of the running MTA fail. Skipped, with a message, where
//! strace is missing or may not attach.

use std::path::PathBuf;
use std::process::Command;

use egret_tests::harness::{Fleet, Options, Program, eventually};
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::Plan;
use nix::sys::signal::Signal;

use crate::support::{Load, all_delivered, offer, readiness, send, sink};

/// Senders that wait for the failing disk at once.
const AT_ONCE: usize = 5;
/// Messages that are accepted before each failure, and after all.
const BETWEEN: usize = 40;

/// Calls of the MTA fail while this is there.
struct Failing {
    strace: Program,
}

impl Failing {
    /// `calls` fail as `how` says, in the words of strace's `inject`.
    fn attach(fleet: &Fleet, calls: &str, how: &str) -> Option<Self> {
        if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: strace is not installed");
            return None;
        }
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{how}"));
        let pid = fleet.mta.pid().to_string();
        let log = tempfile::NamedTempFile::new_in(fleet.path()).expect("a file").into_temp_path();
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid, "-e", &trace, "-e", &inject, "-o", "/dev/null"]);
        let path: PathBuf = log.keep().expect("kept");
        let mut strace = Program::spawn(&mut command, &path);
        let attached = eventually("strace", || match strace.log() {
            log if log.contains(" attached") => Ok(true),
            _ if !strace.is_running() => Ok(false),
            log => Err(log),
        });
        if !attached {
            eprintln!("skipped: strace may not attach here: {}", strace.log());
            return None;
        }
        Some(Self { strace })
    }

    /// The disk is whole again.
    fn end(mut self) {
        self.strace.signal(Signal::SIGINT);
        self.strace.wait();
    }
}

fn given_up(fleet: &Fleet) -> usize {
    fleet.mta.log().matches("segment given up").count()
}

/// Several senders at once; each is told `code`.
fn all_are_told(fleet: &Fleet, code: &str) {
    let smtp = fleet.smtp;
    let senders: Vec<_> = (0..AT_ONCE)
        .map(|_| std::thread::spawn(move || offer(smtp, "refused@good.example", "r@refused.example")))
        .collect();
    for sender in senders {
        let answer = sender.join().expect("no panic");
        assert!(answer.starts_with(code), "{code} expected: {answer}\n{}", fleet.mta.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_is_told_to_senders_and_heals_without_loss() {
    let mut fleet = Fleet::start(&Options::default());
    let cases = [
        ("fdatasync", "error=EIO", "451 ", true),
        ("pwritev", "error=EIO", "451 ", false),
        ("pwritev", "error=ENOSPC", "452 ", false),
        ("pwritev,ftruncate", "error=EIO", "451 ", true),
    ];
    let all = BETWEEN * cases.len();
    let ledger = std::fs::File::create(fleet.file("all")).expect("a ledger");
    for (n, (calls, how, code, gives_up)) in cases.into_iter().enumerate() {
        let plan = Plan { size: 2_000, prefix: format!("case{n}"), ..Plan::new(fleet.smtp, BETWEEN) };
        assert_eq!(send(&fleet, plan).await.accepted, BETWEEN as u64);
        std::io::copy(&mut std::fs::File::open(fleet.file("offered")).expect("it is there"), &mut &ledger)
            .expect("copied");
        let before = given_up(&fleet);
        let Some(failing) = Failing::attach(&fleet, calls, how) else { return };
        all_are_told(&fleet, code);
        assert!(readiness(&fleet, 503).contains("spool"), "{calls} {how}");
        assert_eq!(given_up(&fleet) > before, gives_up, "{calls} {how}: {}", fleet.mta.log());
        failing.end();
        // By itself where a mark waits to be written, else with the next message.
        let answer = offer(fleet.smtp, "s@good.example", "r@good.example");
        assert!(answer.starts_with("250 "), "{calls} {how}: {answer}");
        readiness(&fleet, 200);
    }
    std::fs::rename(fleet.file("all"), fleet.file("offered")).expect("renamed");
    fleet.restart_mta();
    let sink = sink(&fleet, Behaviour::default()).await;
    let found = all_delivered(&fleet, &sink);
    assert_eq!((found.accepted, found.duplicated), (all, 0));
    // One that was taken after each failure, and none that was refused.
    let count = cases.len() as u64;
    eventually("the others", || if sink.stats().unidentified >= count { Ok(()) } else { Err(fleet.mta.log()) });
    assert!(fleet.mta.terminate().success());
    let stats = sink.stats();
    assert_eq!((stats.unidentified, stats.by_domain.get("refused.example")), (count, None), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_that_fail_now_and_then_lose_and_double_nothing() {
    let mut fleet = Fleet::start(&Options::default());
    let plan = Plan { size: 2_000, concurrency: 20, keep_trying: true, ..Plan::new(fleet.smtp, 3_000) };
    // Nobody takes the mail yet.
    let load = Load::start(&fleet, plan);
    let Some(failing) = Failing::attach(&fleet, "fdatasync", "error=EIO:when=2+6") else { return };
    load.goes_on(500);
    let summary = load.end().await;
    failing.end();
    assert_eq!(summary.accepted, 3_000);
    assert!(summary.offers > 3_000 && given_up(&fleet) >= 3, "nothing failed: {summary:?}\n{}", fleet.mta.log());
    readiness(&fleet, 200);
    fleet.restart_mta();
    let sink = sink(&fleet, Behaviour::default()).await;
    let found = all_delivered(&fleet, &sink);
    assert!(fleet.mta.terminate().success());
    assert_eq!((found.accepted, found.duplicated, sink.stats().duplicates), (3_000, 0, 0), "{found:?}");
    eprintln!("{} segments given up, {} offers for 3000 messages", given_up(&fleet), summary.offers);
}
