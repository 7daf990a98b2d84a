//! Two nodes and a Redis, and limits that keep something: mail with a floor goes out while other mail fills everything.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use egret_tests::harness::{Fleet, Options, Redis, addresses, binary, eventually};
use egret_tests::peer::sink::{Behaviour, Sink};
use serde_json::Value;

use crate::support::{count, edit, get, smtp};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/tree.toml");

/// Nodes with the same sources, limits and destination.
struct Nodes {
    redis: Redis,
    directory: tempfile::TempDir,
    source: IpAddr,
    sink: SocketAddr,
}

impl Nodes {
    /// `None` where there is no Redis.
    fn new() -> Option<Self> {
        let redis = Redis::start()?;
        let [source, sink] = [addresses(1), addresses(1)].map(|own| IpAddr::from(own[0]));
        let directory = tempfile::tempdir().expect("a directory");
        Some(Self { redis, directory, source, sink: SocketAddr::new(sink, 2525) })
    }

    /// A tree: the provider over all sources, each source, each path.
    fn start(&self, limits: &str, floors: &str) -> Fleet {
        let file = self.directory.path().join("tree.toml");
        let shaping = format!(
            "[provider.\"google\"]\nmatch = [{{ DomainSuffix = \"google.example\" }}]\n{limits}\n\
             provider_connection_limit = 20\nconnection_limit = 15\n"
        );
        std::fs::write(&file, shaping).expect("written");
        let tables = format!(
            "[shaping]\nfiles = [\"{}\"]\n[routing]\ntenant_header = \"X-Tenant\"\n\
             [[rule]]\nheaders = {{ \"X-Class\" = \"urgent\" }}\nset_priority = \"high\"\n\
             [[route]]\ndomains = [\"*\"]\nhosts = [\"{}\"]\n[delivery]\nidle_timeout = \"1h\"\n{floors}{}",
            file.display(),
            self.sink,
            self.redis.table()
        );
        let sources = Some(vec![self.source]);
        Fleet::start(&Options { dialect: Some("socks5"), tables, sources, ..Options::default() })
    }
}

/// Offers messages with these headers.
fn offer(fleet: &Fleet, headers: &str, recipient: &str, many: usize) {
    let rcpt = format!("RCPT TO:<{recipient}>");
    let text = format!("{headers}\r\nSubject: hello\r\n\r\nworld\r\n.");
    for _ in 0..many {
        let lines = ["EHLO test.example", "MAIL FROM:<s@a.example>", &rcpt, "DATA", &text, "QUIT"];
        let answer = smtp(fleet.smtp, &lines)[5].clone();
        assert!(answer.starts_with("250 "), "{answer}");
    }
}

fn run(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(binary("egret-mta")).args(arguments).output().expect("runs");
    (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.code())
}

fn asked(fleet: &Fleet, arguments: &[&str]) -> String {
    run(&[arguments, &["--admin", &fleet.mta_admin.to_string()]].concat()).0
}

fn explained(fleet: &Fleet, headers: &[&str]) -> String {
    let config = fleet.file("mta.toml").display().to_string();
    let headers = headers.iter().flat_map(|header| ["--header", header]);
    let fixed = ["explain", "--from", "<>", "--to", "r@google.example", "--no-dns", "--config", &config];
    run(&fixed.into_iter().chain(headers).collect::<Vec<_>>()).0
}

/// How many places all nodes have of a limit of sessions.
fn held(fleet: &Fleet, name: &str) -> u64 {
    let (_, answer) = get(fleet.mta_admin, "/v1/fleet");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let shown: Value = serde_json::from_str(body).expect("JSON");
    let limits = shown["limits"]["queues"]["limits"].as_array().cloned().unwrap_or_default();
    let found = limits.into_iter().find(|limit| limit["name"] == name && limit["kind"] == "count");
    let nodes = found.and_then(|limit| limit["nodes"].as_array().cloned()).unwrap_or_default();
    nodes.iter().filter_map(|node| node[1].as_u64()).sum()
}

fn until_held(fleet: &Fleet, name: &str, wanted: u64) {
    eventually("places", || match held(fleet, name) {
        found if found == wanted => Ok(()),
        found => Err(format!("{found} of {name}\n{}", asked(fleet, &["fleet"]))),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_mail_has_its_place_while_a_slow_destination_holds_all_others() {
    let Some(nodes) = Nodes::new() else { return };
    let floor = "[[floor]]\nlimit = \"google\"\npriority = \"high\"\ncount = 1\n";
    let both = [(); 2].map(|()| nodes.start("additional_connection_limits = { \"google\" = 4 }", floor));
    // Content is answered when all is over; recipients of one domain are refused at once.
    let fail_domains = vec![("fast.google.example".to_owned(), 550)];
    let behaviour = Behaviour { delay: Duration::from_secs(3_600), fail_domains, ..Behaviour::default() };
    let sink = Sink::start(&[nodes.sink], behaviour, None, None).await.expect("listens");
    for node in &both {
        offer(node, "X-Tenant: b", "r@google.example", 8);
    }
    until_held(&both[0], "google", 3);
    eventually("three sessions", || match sink.stats().connections {
        3 => Ok(()),
        found => Err(format!("{found}\n{}\n{}", both[0].mta.log(), both[1].mta.log())),
    });
    for node in &both {
        offer(node, "X-Tenant: b\r\nX-Class: urgent", "r@fast.google.example", 1);
        node.event("the answer to urgent mail", |event| event["type"] == "bounce");
    }
    offer(&both[1], "X-Tenant: b\r\nX-Class: urgent", "r@google.example", 2);
    until_held(&both[0], "google, kept for priority high", 1);
    assert_eq!(held(&both[1], "google"), 3, "four in all");
    let told = asked(&both[1], &["why", "--tenant", "b"]);
    let limit = "google has no free place; of 4 are kept 1 for priority high";
    assert!(told.contains(limit), "{limit} in\n{told}");
    let screen = asked(&both[0], &["fleet"]);
    assert!(screen.contains("google, kept for priority high") && screen.contains("3 held"), "{screen}");
    let delivered = both.iter().map(|node| count(node, |event| event["type"] == "delivery")).sum::<usize>();
    assert_eq!(delivered, 0, "all other sessions wait for the destination");
    // What is kept is said by the configuration, which a reload replaces.
    let line = "  kept      1 of 4 of \"google\" for priority high (by ";
    assert!(explained(&both[0], &["X-Tenant: b"]).lines().any(|one| one.starts_with(line) && one.ends_with(')')));
    let urgent = explained(&both[0], &["X-Class: urgent"]);
    assert!(urgent.lines().any(|one| one.starts_with(line) && one.ends_with(": this mail may take it")), "{urgent}");
    edit(&both[0], "count = 1\n", "count = 4\n");
    let told = asked(&both[0], &["reload"]);
    assert!(told.contains("floor.count: would keep 4 of the 4 sessions of \"google\""), "{told}");
    edit(&both[0], "count = 4\n", "count = 2\n");
    let told = asked(&both[0], &["reload"]);
    assert!(told.contains("floor[0].count holds now") || told.contains("floor holds now"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_its_tenth_of_a_rate_while_another_floods_it() {
    let Some(nodes) = Nodes::new() else { return };
    let floor = "[[floor]]\nlimit = \"google\"\ntenant = \"a\"\nshare = \"10%\"\n";
    let limit = "additional_message_rate_throttles = { \"google\" = \"20/h,max_burst=20\" }";
    let both = [(); 2].map(|()| nodes.start(limit, floor));
    let _sink = Sink::start(&[nodes.sink], Behaviour::default(), None, None).await.expect("listens");
    for node in &both {
        offer(node, "X-Tenant: b", "r@google.example", 20);
    }
    let delivered = |tenant: &str| {
        let is_its = |event: &Value| event["type"] == "delivery" && event["tenant"] == tenant;
        both.iter().map(|node| count(node, is_its)).sum::<usize>()
    };
    let all = |what: &str, tenant: &str, wanted: usize| {
        eventually(what, || match delivered(tenant) {
            found if found >= wanted => Ok(()),
            found => Err(format!("{found} of {tenant}\n{}\n{}", both[0].mta.log(), asked(&both[0], &["fleet"]))),
        });
    };
    all("what is left of the burst", "b", 18);
    offer(&both[1], "X-Tenant: a", "r@google.example", 4);
    all("the tenth", "a", 2);
    eventually("the reason", || {
        let told = asked(&both[1], &["why", "--tenant", "a"]);
        let wanted = "google is used up for now (what is kept for tenant a included)";
        if told.contains(wanted) { Ok(()) } else { Err(told) }
    });
    // In the minutes that this may take two or three more have had their time.
    assert!(delivered("a") + delivered("b") <= 23, "{} and {}", delivered("a"), delivered("b"));
}

#[test]
fn the_tree_that_comes_with_egret_is_good_and_is_explained() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    // What its first lines show of mta.toml is as good as the rest.
    let sample = std::fs::read_to_string(SAMPLE).expect("the sample");
    let shown = sample.lines().skip_while(|line| !line.contains("[[floor]]")).take_while(|line| line.starts_with('#'));
    let floors = shown.map(|line| line.trim_start_matches('#').trim()).collect::<Vec<_>>().join("\n");
    assert_eq!(floors.matches("[[floor]]").count(), 2, "{floors}");
    let text = format!(
        "hostname = \"mta.test\"\ndefault_pool = \"p\"\n[spool]\npath = \"spool\"\n[event_log]\npath = \"events\"\n\
         [shaping]\nfiles = [\"{SAMPLE}\"]\n[source.s]\naddress = \"127.0.0.1\"\n[pool.p]\nsources = {{ s = 1 }}\n{floors}"
    );
    let file = write("mta.toml", &text);
    let (told, code) = run(&["config", "check", "--config", &file]);
    assert_eq!(code, Some(0), "{told}");
    let (told, code) = run(&["shaping", "check", "--no-dns", SAMPLE]);
    assert_eq!(code, Some(0), "{told}");
    assert!(Path::new(SAMPLE).exists());
}
