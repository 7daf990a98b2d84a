//! Queues with options of their own from `queues.toml`: a tenant has its rate, a domain its wait; a reload holds at once.

use std::path::Path;
use std::process::Command;

use egret_tests::harness::{Fleet, Options, binary, eventually};
use egret_tests::peer::sink::Behaviour;

use crate::support::{count, get, sink, smtp};

const MINE: &str = "[tenant.'slow']\nmax_message_rate = '2/h'\noverall_max_message_rate = '3/h,max_burst=3'\n\
                    [queue.'busy.example']\nretry_interval = '1s'\nmax_retry_interval = '1s'\n\
                    [queue.'busy.example'.'patient']\nretry_interval = '1h'\n";

fn run(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(binary("egret-mta")).args(arguments).output().expect("runs");
    (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.code())
}

/// Offers a message of a tenant.
fn offer(fleet: &Fleet, tenant: &str, recipient: &str) {
    let (rcpt, text) =
        (format!("RCPT TO:<{recipient}>"), format!("X-Tenant: {tenant}\r\nSubject: hello\r\n\r\nworld\r\n."));
    let lines = ["EHLO test.example", "MAIL FROM:<s@a.example>", &rcpt, "DATA", &text, "QUIT"];
    let answer = smtp(fleet.smtp, &lines)[5].clone();
    assert!(answer.starts_with("250 "), "{answer}");
}

fn fleet(file: &Path) -> Fleet {
    let tables = format!(
        "[queues]\nfiles = [\"{}\"]\n[routing]\ntenant_header = \"X-Tenant\"\n[queue]\nretry_interval = \"1h\"\n[pool.one]\nsources = {{ s1 = 1 }}\n[pool.rest]\nsources = {{ s0 = 1 }}\n",
        file.display()
    );
    let root_keys = "default_pool = \"rest\"".to_owned();
    Fleet::start(&Options { dialect: Some("socks5"), root_keys, tables, ..Options::default() })
}

/// Messages of a tenant that were delivered, by the domain.
fn delivered(fleet: &Fleet, tenant: &str, domain: &str) -> usize {
    let ends = |to: &str| to.ends_with(domain);
    count(fleet, |event| {
        event["type"] == "delivery" && event["tenant"] == tenant && event["recipients"][0].as_str().is_some_and(ends)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_rate_holds_it_alone_and_a_reload_lets_it_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("queues.toml");
    std::fs::write(&file, MINE).expect("written");
    let fleet = fleet(&file);
    let _sink = sink(&fleet, Behaviour::default()).await;
    for n in 0..6 {
        for domain in ["a.example", "b.example"] {
            offer(&fleet, "slow", &format!("{n}@{domain}"));
            offer(&fleet, "free", &format!("{n}@{domain}"));
        }
    }
    eventually("all of the other tenant", || {
        let found = ["a.example", "b.example"].map(|domain| delivered(&fleet, "free", domain));
        if found == [6, 6] { Ok(()) } else { Err(format!("{found:?}\n{}", fleet.mta.log())) }
    });
    let slow = || ["a.example", "b.example"].map(|domain| delivered(&fleet, "slow", domain));
    let found = eventually("three of the slow one", || match slow() {
        [a, b] if a + b >= 3 => Ok([a, b]),
        found => Err(format!("{found:?}\n{}", fleet.mta.log())),
    });
    assert!(found[0] <= 2 && found[1] <= 2 && found[0] + found[1] == 3, "{found:?}");
    let (status, why) = get(fleet.mta_admin, "/v1/why?tenant=slow");
    assert!(status == 200 && why.contains("overall_max_message_rate tenant slow is reached"), "{why}");

    std::fs::write(&file, MINE.replace("max_message_rate", "max_mesage_rate")).expect("written");
    let admin = fleet.mta_admin.to_string();
    let (told, code) = run(&["reload", "--admin", &admin]);
    assert!(code == Some(1) && told.contains("queues.toml:2: tenant.slow.max_mesage_rate: unknown key"), "{told}");
    std::fs::write(&file, MINE.replace("/h", "000/s")).expect("written");
    let (told, code) = run(&["reload", "--admin", &admin]);
    assert!(code == Some(0) && told.contains("queues.files (what stands in them) holds now"), "{told}");
    eventually("the rest", || match slow() {
        [6, 6] => Ok(()),
        found => Err(format!("{found:?}\n{}", fleet.mta.log())),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_has_its_own_wait_and_explain_tells_who_said_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("queues.toml");
    std::fs::write(&file, format!("[queue.default]\negress_pool = 'one'\n{MINE}")).expect("written");
    let fleet = fleet(&file);
    let fail_domains = vec![("busy.example".to_owned(), 451), ("idle.example".to_owned(), 451)];
    let _sink = sink(&fleet, Behaviour { fail_domains, ..Behaviour::default() }).await;
    for (tenant, domain) in [("quick", "busy.example"), ("patient", "busy.example"), ("quick", "idle.example")] {
        offer(&fleet, tenant, &format!("r@{domain}"));
    }
    let tries = |queue: &str| count(&fleet, |event| event["type"] == "transient_failure" && event["queue"] == queue);
    eventually("tries", || {
        let found = ["quick@busy.example", "patient@busy.example", "quick@idle.example"].map(tries);
        if found[0] >= 3 && found[1..] == [1, 1] { Ok(()) } else { Err(format!("{found:?}\n{}", fleet.mta.log())) }
    });
    let source = fleet.events().into_iter().find(|event| event["type"] == "transient_failure").expect("a try");
    assert_eq!(source["source"], "s1", "of the pool that queues.toml names");

    let config = fleet.file("mta.toml").display().to_string();
    let place = |line: usize| format!("(by {}:{line})", file.display());
    let arguments = ["explain", "--from", "<>", "--to", "r@busy.example", "--header", "X-Tenant: slow", "--no-dns"];
    let (told, code) = run(&[&arguments[..], &["--config", &config]].concat());
    for (line, at) in [
        ("egress_pool = one", 2),
        ("retry_interval = 1s", 7),
        ("max_message_rate = 2/h", 4),
        ("overall_max_message_rate = 3/h,max_burst=3", 5),
    ] {
        let line = format!("  of queue  {line} {}", place(at));
        assert!(code == Some(0) && told.lines().any(|one| one == line), "{line:?} is missing in:\n{told}");
    }
    let (told, code) = run(&["config", "check", "--config", &config]);
    assert_eq!(code, Some(0), "{told}");
    std::fs::write(&file, "[queue.default]\negress_pool = 'two'\n").expect("written");
    let (told, code) = run(&["config", "check", "--config", &config]);
    let wrong = "queues.toml:2: queue.default.egress_pool: names the pool \"two\", which mta.toml does not have";
    assert!(code.is_some_and(|code| code != 0) && told.contains(wrong), "{told}");
}

#[test]
fn the_sample_that_comes_with_egret_is_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("mta.toml");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/queues.toml");
    let text = format!(
        "hostname = \"mta.test\"\ndefault_pool = \"bulk\"\n[spool]\npath = \"spool\"\n[event_log]\npath = \"events\"\n\
         [queues]\nfiles = [\"{sample}\"]\n[source.s]\naddress = \"127.0.0.1\"\n[pool.bulk]\nsources = {{ s = 1 }}\n[pool.first-class]\nsources = {{ s = 1 }}\n"
    );
    std::fs::write(&file, text).expect("written");
    let (told, code) = run(&["config", "check", "--config", &file.display().to_string()]);
    assert_eq!(code, Some(0), "{told}");
}
