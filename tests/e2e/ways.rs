//! Several ways out: a proxy is killed, stands still or loses an address, and mail goes by the next; TLS to the proxy;
//! proxies that are none of ours.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use egret_tests::harness::{Fleet, Options, Program, addresses, ask, eventually};
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::Plan;
use egret_tests::peer::tls::self_signed;
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};

use crate::peers::Second;
use crate::support::{Load, all_delivered, count, nothing_counted, offer, sink};

const COUNT: usize = 3_000;
const RATE: f64 = 1_000.0;
/// What arrives before and after the proxy's end, at least.
const BETWEEN: u64 = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_loses_nothing_and_mail_goes_by_the_next() {
    let second = Second::new();
    let mut fleet = Fleet::start(&Options {
        dialect: Some("socks5"),
        source_keys: Some("proxies = [\"p\", \"q\"]"),
        tables: second.table("socks5") + "[delivery]\nidle_timeout = \"200ms\"\n",
        ..Options::default()
    });
    let _q = second.start(&fleet);
    let sink = sink(&fleet, Behaviour { chunking: true, ..Behaviour::default() }).await;
    let plan = Plan { size: 2_000, rate: Some(RATE), ..Plan::new(fleet.smtp, COUNT) };
    let load = Load::start(&fleet, plan);
    load.goes_on(BETWEEN);
    assert_eq!(count(&fleet, |e| e["type"] == "delivery" && e["proxy"] == "q"), 0, "the second stands by");
    fleet.proxy = None;
    let goal = sink.stats().received + BETWEEN;
    eventually("deliveries by the second", || match sink.stats().received {
        n if n >= goal => Ok(()),
        n => Err(format!("{n} of {goal}\n{}", fleet.mta.log())),
    });
    fleet.restart_proxy();
    let summary = load.end().await;
    assert_eq!((summary.accepted, summary.failed), (COUNT as u64, 0));
    all_delivered(&fleet, &sink);
    let by = |proxy: &str| count(&fleet, |e| e["type"] == "delivery" && e["proxy"] == proxy);
    assert!(by("q") > 0 && by("p") > 0);
    assert!(count(&fleet, |e| e["type"] == "fault" && e["proxy"] == "p") > 0, "the fault is named");
    nothing_counted(&fleet, &["proxy"]);
    // A session that has work goes on where it is; a new one goes by the first.
    eventually("use of the first again", || {
        let before = by("p");
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
        std::thread::sleep(Duration::from_millis(500));
        if by("p") > before { Ok(()) } else { Err(format!("{before}\n{}", fleet.mta.log())) }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_stands_still_is_left_and_blamed() {
    let second = Second::new();
    let timeouts = ["connect", "banner", "ehlo", "mail_from", "rcpt_to", "data", "data_dot"];
    let timeouts: String = timeouts.map(|name| format!("{name}_timeout = \"5s\"\n")).concat();
    let fleet = Fleet::start(&Options {
        dialect: Some("socks5"),
        source_keys: Some("proxies = [\"p\", \"q\"]"),
        tables: format!("[delivery]\n{timeouts}{}", second.table("socks5")),
        ..Options::default()
    });
    let _q = second.start(&fleet);
    let sink = sink(&fleet, Behaviour::default()).await;
    let plan = Plan { size: 2_000, rate: Some(RATE), ..Plan::new(fleet.smtp, COUNT) };
    let load = Load::start(&fleet, plan);
    load.goes_on(BETWEEN);
    fleet.proxy.as_ref().expect("a proxy").pause();
    load.end().await;
    all_delivered(&fleet, &sink);
    fleet.proxy.as_ref().expect("a proxy").signal(Signal::SIGCONT);
    let late = count(&fleet, |e| e["type"] == "fault" && e["proxy"] == "p" && e["reason"] == "proxy_timeout");
    assert!(late > 0, "the fault is named");
    nothing_counted(&fleet, &["proxy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_one_proxy_gives_up_is_used_behind_the_other() {
    let second = Second::new();
    let fleet = Fleet::start(&Options {
        dialect: Some("socks5"),
        source_keys: Some("proxies = [\"p\", \"q\"]"),
        tables: second.table("socks5") + "[pool.only]\nsources = { s0 = 1 }\n",
        ..Options::default()
    });
    let _q = second.start(&fleet);
    let sink = sink(&fleet, Behaviour::default()).await;
    let drained = format!("POST /v1/sources/{}/drain", fleet.sources[0]);
    let (status, answer) = ask(fleet.proxy_admin, &drained, "", Duration::from_secs(30)).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    let told = ["party", "reason", "proxy"].map(|key| fault[key].as_str().unwrap_or_default());
    assert_eq!(told, ["source", "source_draining", "p"]);
    let delivery = fleet.event("delivery", |event| event["type"] == "delivery");
    assert_eq!((delivery["source"].as_str(), delivery["proxy"].as_str()), (Some("s0"), Some("q")));
    assert_eq!((delivery["attempt"].as_u64(), sink.stats().received), (Some(1), 1));
}

/// A certificate for the proxy, an authority for clients, and the MTA's certificate; where they are.
fn certificates(directory: &Path, proxy: IpAddr) {
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("written");
    let (certificate, key) = self_signed(&[&proxy.to_string()]).expect("a certificate");
    write("server.pem", &certificate);
    write("server.key", &key);
    let mut authority = CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    write("authority.pem", &issuer.pem());
    let key = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec!["mta.test".to_owned()]).expect("a name").signed_by(&key, &issuer);
    write("mta.pem", &own.expect("signed").pem());
    write("mta.key", &key.serialize_pem());
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_over_tls_to_a_proxy_that_knows_the_mta_by_its_certificate() {
    for (protocol, dialect) in [("socks5", "socks5"), ("proxy", "proxy-v2")] {
        let directory = tempfile::tempdir().expect("a directory");
        let (at, files) = (SocketAddr::new(addresses(1)[0].into(), 1443), directory.path().display());
        certificates(directory.path(), at.ip());
        let listener = format!(
            "[[listener]]\naddress = \"{at}\"\nprotocol = \"{protocol}\"\ntls_certificate = \"{files}/server.pem\"\n\
             tls_private_key = \"{files}/server.key\"\ntls_client_authorities = \"{files}/authority.pem\"\n\
             auth = \"certificate\"\n[user.\"mta.test\"]\nsources = [\"127.0.0.0/8\"]"
        );
        let keys = format!(
            "tls = true\ntls_authorities = \"{files}/server.pem\"\ntls_certificate = \"{files}/mta.pem\"\n\
             tls_private_key = \"{files}/mta.key\""
        );
        let fleet = Fleet::start(&Options {
            dialect: Some(dialect),
            via: Some(at),
            proxy_keys: keys,
            proxy_toml: listener,
            ..Options::default()
        });
        let sink = sink(&fleet, Behaviour::default()).await;
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
        fleet.event("delivery", |event| event["type"] == "delivery" && event["proxy"] == "p");
        assert_eq!(sink.stats().received, 1, "{dialect}");
    }
}

#[test]
fn a_proxy_whose_certificate_is_not_known_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = SocketAddr::new(addresses(1)[0].into(), 1443);
    certificates(directory.path(), at.ip());
    let files = directory.path().display();
    let fleet = Fleet::start(&Options {
        dialect: Some("socks5"),
        via: Some(at),
        proxy_keys: "tls = true".to_owned(),
        proxy_toml: format!(
            "[[listener]]\naddress = \"{at}\"\ntls_certificate = \"{files}/server.pem\"\n\
             tls_private_key = \"{files}/server.key\""
        ),
        ..Options::default()
    });
    assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    let text = fault["response"]["text"].as_str().unwrap_or_default();
    assert!(fault["party"] == "proxy" && text.contains("TLS with proxy") && text.contains("certificate"), "{fault}");
}

/// Starts a proxy that is none of ours, if it is installed, and waits until it listens.
fn foreign(program: &str, arguments: &[&str], at: SocketAddr, log: &Path) -> Option<Program> {
    if !Path::new(program).exists() {
        eprintln!("skipped: {program} is not installed");
        return None;
    }
    let started = Program::spawn(Command::new(program).args(arguments), log);
    eventually("a listener", || match std::net::TcpStream::connect(at) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error}: {}", started.log())),
    });
    Some(started)
}

/// Dante answers success to BIND and CONNECT alike, and connects to nowhere.
#[test]
fn dante_does_not_speak_the_dialect_and_that_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = SocketAddr::new(addresses(1)[0].into(), 1091);
    let config = format!(
        "logoutput: /dev/null\ninternal: {0} port = 1091\nexternal: {0}\nsocksmethod: none\nclientmethod: none\n\
         user.privileged: root\nuser.unprivileged: nobody\nclient pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n",
        at.ip()
    );
    let file = directory.path().join("danted.conf");
    std::fs::write(&file, config).expect("written");
    let arguments = ["-f", file.to_str().expect("text")];
    let Some(_dante) = foreign("/usr/sbin/danted", &arguments, at, &directory.path().join("log")) else { return };
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), via: Some(at), ..Options::default() });
    assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    let told = ["party", "reason"].map(|key| fault[key].as_str().unwrap_or_default());
    assert_eq!(told, ["proxy", "proxy_dialect"], "{fault}");
}

/// microsocks knows CONNECT only: with that dialect it carries, with ours its refusal is told.
#[tokio::test(flavor = "multi_thread")]
async fn microsocks_carries_by_plain_connect_and_refuses_the_dialect() {
    for (dialect, carries) in [("socks5-connect", true), ("socks5", false)] {
        let directory = tempfile::tempdir().expect("a directory");
        let at = SocketAddr::new(addresses(1)[0].into(), 1092);
        let own = at.ip().to_string();
        let arguments = ["-i", &own, "-p", "1092", "-b", &own];
        let Some(_proxy) = foreign("/usr/bin/microsocks", &arguments, at, &directory.path().join("log")) else {
            return;
        };
        let fleet = Fleet::start(&Options { dialect: Some(dialect), via: Some(at), ..Options::default() });
        let sink = sink(&fleet, Behaviour::default()).await;
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
        if carries {
            fleet.event("delivery", |event| event["type"] == "delivery");
            assert_eq!(sink.stats().received, 1);
        } else {
            let fault = fleet.event("the fault", |event| event["type"] == "fault");
            let told = ["party", "reason"].map(|key| fault[key].as_str().unwrap_or_default());
            assert_eq!(told, ["proxy", "command_unsupported"], "{fault}");
        }
    }
}
