//! Pools and sources change while the program runs: in the main file, in a directory, behind a URL.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use egret_tests::harness::{Fleet, Options, ask, eventually};
use egret_tests::peer::sink::Behaviour;
use nix::sys::signal::Signal;

use crate::support::{edit, is_used_again, nothing_counted, offer, sink};

const PATIENCE: Duration = Duration::from_secs(30);

fn options(tables: &str) -> Options {
    let tables = format!("[delivery]\nidle_timeout = \"200ms\"\n{tables}");
    Options { dialect: Some("socks5"), tables, ..Options::default() }
}

/// Until mail leaves by `source`, and by no other.
fn only_by(fleet: &Fleet, source: &str) {
    eventually(&format!("mail by {source} alone"), || {
        let before = fleet.events().len();
        for _ in 0..8 {
            assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
        }
        let used = eventually("eight deliveries", || {
            let events = fleet.events();
            let delivered = events.iter().skip(before).filter(|event| event["type"] == "delivery");
            let used: Vec<_> = delivered.filter_map(|event| event["source"].as_str().map(str::to_owned)).collect();
            if used.len() >= 8 { Ok(used) } else { Err(fleet.mta.log()) }
        });
        if used.iter().all(|name| name == source) { Ok(()) } else { Err(format!("{used:?}\n{}", fleet.mta.log())) }
    });
}

fn ready(fleet: &Fleet) -> String {
    let (status, text) = ask(fleet.mta_admin, "GET /readyz", "", PATIENCE).expect("an answer");
    assert_eq!(status, 200, "mail goes on: {text}");
    text
}

fn until_ready_says(fleet: &Fleet, what: &str, is_there: bool) {
    eventually(what, || {
        let text = ready(fleet);
        if text.contains(what) == is_there { Ok(()) } else { Err(format!("{text}\n{}", fleet.mta.log())) }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_and_sources_hold_with_a_reload_and_a_changed_proxy_is_used() {
    let fleet = Fleet::start(&options("[pool.main]\nsources = { s0 = 1 }\n"));
    let _sink = sink(&fleet, Behaviour::default()).await;
    only_by(&fleet, "s0");
    edit(&fleet, "sources = { s0 = 1 }", "sources = { s5 = 1 }");
    fleet.mta.signal(Signal::SIGHUP);
    only_by(&fleet, "s5");
    // Mail that waits for a pool that goes leaves from the default one.
    let dead = format!(
        "[[route]]\nname = \"slow\"\ndomains = [\"slow.example\"]\npool = \"other\"\nhosts = [\"{}\"]\n",
        fleet.sink
    );
    let other = "[pool.other]\nsources = { s6 = 1 }\n";
    edit(&fleet, "[pool.main]", &format!("{other}{dead}[pool.main]"));
    edit(&fleet, "drain_timeout", "default_pool = \"main\"\ndrain_timeout");
    fleet.mta.signal(Signal::SIGHUP);
    is_used_again(&fleet, "mail by main", |event| event["source"] == "s5");
    eventually("the other pool", || {
        assert!(offer(fleet.smtp, "s@good.example", "r@slow.example").starts_with("250 "));
        let found = fleet.events().iter().any(|event| event["type"] == "delivery" && event["source"] == "s6");
        if found { Ok(()) } else { Err(fleet.mta.log()) }
    });
    // A proxy that is elsewhere now.
    edit(&fleet, &format!("address = \"{}\"", fleet.socks5), &format!("address = \"{}\"", fleet.proxy_v2));
    edit(&fleet, "dialect = \"socks5\"", "dialect = \"proxy-v2\"");
    fleet.mta.signal(Signal::SIGHUP);
    only_by(&fleet, "s5");
    nothing_counted(&fleet, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_followed_and_a_mistake_in_it_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let fleet = Fleet::start(&options(&format!("[egress]\ndirectory = \"{}\"\n", path.display())));
    let _sink = sink(&fleet, Behaviour::default()).await;
    let file = path.join("pools.toml");
    std::fs::write(&file, "[pool.only]\nsources = { s3 = 1 }\n").expect("written");
    only_by(&fleet, "s3");
    std::fs::write(&file, "\n\n[pool.only]\nsources = { s4 = 1, nobody = 1 }\n").expect("written");
    let told = format!("{}:4", file.display());
    until_ready_says(&fleet, &told, true);
    assert_eq!(fleet.mta.log().matches(&told).count(), 1, "{}", fleet.mta.log());
    only_by(&fleet, "s3");
    let (_, metrics) = ask(fleet.mta_admin, "GET /metrics", "", PATIENCE).expect("an answer");
    assert!(metrics.contains("egret_mta_egress_stale{from=\"directory\"} 1"), "{metrics}");
    std::fs::write(path.join("a.toml"), "[source.nobody]\naddress = \"127.0.0.1\"\n").expect("written");
    until_ready_says(&fleet, "the last good version", false);
    std::fs::write(&file, "[pool.only]\nsources = { s4 = 1 }\n").expect("written");
    only_by(&fleet, "s4");
    std::fs::remove_file(&file).expect("removed");
    std::fs::remove_file(path.join("a.toml")).expect("removed");
    is_used_again(&fleet, "all sources again", |event| event["source"] == "s0");
    nothing_counted(&fleet, &[]);
}

/// A web server with one document, for who shows the token.
struct Web {
    address: SocketAddr,
    document: Arc<Mutex<Option<String>>>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let (address, document) = (listener.local_addr().expect("bound"), Arc::new(Mutex::new(None::<String>)));
        let shown = document.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
                let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let is_known = head.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer sesame"));
                let text = shown.lock().expect("no panic").clone();
                let (status, text) = match text {
                    Some(text) if is_known => ("200 OK", text),
                    Some(_) => ("401 Unauthorized", String::new()),
                    None => ("503 Service Unavailable", String::new()),
                };
                let length = text.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all((head + &text).as_bytes());
            }
        });
        Self { address, document }
    }

    fn show(&self, document: Option<&str>) {
        *self.document.lock().expect("no panic") = document.map(str::to_owned);
    }
}

fn document(source: &str) -> String {
    format!("{{\"pool\": {{\"served\": {{\"sources\": {{\"{source}\": 1}}}}}}}}")
}

fn token(path: &Path) -> String {
    let file = path.join("token");
    std::fs::write(&file, "sesame\n").expect("written");
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_followed_and_a_restart_does_without_its_server() {
    let (web, directory) = (Web::start(), tempfile::tempdir().expect("a directory"));
    web.show(Some(&document("s2")));
    let egress = format!(
        "[egress]\nurl = \"http://{}/egress\"\nrefresh = \"500ms\"\ntoken_file = \"{}\"\n",
        web.address,
        token(directory.path())
    );
    let mut fleet = Fleet::start(&options(&egress));
    let _sink = sink(&fleet, Behaviour::default()).await;
    only_by(&fleet, "s2");
    web.show(Some(&document("s6")));
    only_by(&fleet, "s6");
    web.show(Some(&document("nobody")));
    until_ready_says(&fleet, "pool.served.sources: names the source \"nobody\"", true);
    web.show(None);
    until_ready_says(&fleet, "503", true);
    only_by(&fleet, "s6");
    fleet.restart_mta();
    only_by(&fleet, "s6");
    web.show(Some(&document("s1")));
    only_by(&fleet, "s1");
    until_ready_says(&fleet, "the last good version", false);
    nothing_counted(&fleet, &[]);
}
