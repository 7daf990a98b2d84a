//! The configuration is read anew: queue settings hold at once, a mistake changes nothing.

use std::process::Command;

use egret_tests::harness::{Fleet, Options, binary, eventually};
use egret_tests::peer::sink::Behaviour;
use nix::sys::signal::Signal;

use crate::support::{edit, offer, sink};

/// Runs `egret-mta reload`; exit code, standard output and error.
fn reload(fleet: &Fleet) -> (Option<i32>, String) {
    let admin = fleet.mta_admin.to_string();
    let output = Command::new(binary("egret-mta")).args(["reload", "--admin", &admin]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_setting_holds_at_once_and_a_mistake_changes_nothing() {
    let tables = "[queue]\nretry_interval = \"1h\"\nmax_retry_interval = \"2h\"\n".to_owned();
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let fail_domains = vec![("slow.example".to_owned(), 451)];
    let _sink = sink(&fleet, Behaviour { fail_domains, ..Behaviour::default() }).await;
    assert!(offer(fleet.smtp, "s@good.example", "r@slow.example").starts_with("250 "));
    let tries = |fleet: &Fleet| fleet.events().iter().filter(|event| event["type"] == "transient_failure").count();
    fleet.event("the first try", |_| tries(&fleet) == 1);

    edit(&fleet, "\"1h\"", "\"soon\"");
    fleet.mta.signal(Signal::SIGHUP);
    eventually("the complaint", || {
        let log = fleet.mta.log();
        let told = |line: &str| line.contains("not reloaded") && line.contains("retry_interval");
        if log.lines().any(told) || log.contains("not reloaded") && log.contains("mta.toml:") {
            Ok(())
        } else {
            Err(log)
        }
    });
    let (code, why) = reload(&fleet);
    assert!(code == Some(1) && why.contains("mta.toml:") && why.contains("soon"), "{why}");

    edit(&fleet, "\"soon\"", "\"1s\"");
    edit(&fleet, "drain_timeout = \"10s\"", "drain_timeout = \"11s\"");
    let (code, told) = reload(&fleet);
    assert_eq!(code, Some(0), "{told}");
    for line in ["reloaded", "queue.retry_interval holds now", "drain_timeout has changed and wants a restart"] {
        assert!(told.lines().any(|l| l == line), "{line}: {told}");
    }
    fleet.event("a second try, an hour too early by the old setting", |_| tries(&fleet) >= 2);
}
