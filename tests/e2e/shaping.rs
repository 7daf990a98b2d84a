//! A shaping file decides what a destination sees, domain by domain; a reload changes it, a mistake changes nothing, and the
//! commands say what holds and where it stands.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use egret_tests::harness::{Fleet, Options, binary, eventually};
use egret_tests::peer::sink::{Behaviour, Sink};
use nix::sys::signal::Signal;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

use crate::support::offer;

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["whatever.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    Arc::new(config).into()
}

/// What a command prints, with the directory of its files left out, and its exit code.
fn run(arguments: &[&str], directory: &Path) -> (String, Option<i32>) {
    let output = Command::new(binary("egret-mta")).args(arguments).output().expect("runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (text.replace(&format!("{}/", directory.display()), ""), output.status.code())
}

/// Offers a message and waits until it is delivered.
fn delivered(fleet: &Fleet, recipient: &str) -> Value {
    assert!(offer(fleet.smtp, "s@a.test", recipient).starts_with("250 "));
    fleet.event("a delivery", |event| event["type"] == "delivery" && event["recipients"][0] == recipient)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_has_its_own_options_and_a_reload_brings_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("shaping.toml");
    let text = "[\"default\"]\nconnection_limit = 2\n\n[\"plain.test\"]\nmx_rollup = false\nenable_tls = \"Disabled\"\nmax_deliveries_per_connection = 1\n";
    std::fs::write(&file, text).expect("written");
    let tables = format!("[shaping]\nfiles = [\"{}\"]\n[delivery]\nidle_timeout = \"5m\"\n", file.display());
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let sink = Sink::start(&[fleet.sink], Behaviour::default(), None, Some(acceptor())).await.expect("listens");

    let secure = delivered(&fleet, "1@other.test");
    assert!(secure["tls"].is_string() && secure["site"] == fleet.sink.to_string(), "{secure}");
    let before = sink.stats().connections;
    for n in 0..3 {
        let plain = delivered(&fleet, &format!("{n}@plain.test"));
        assert!(plain["tls"].is_null() && plain["site"] == format!("{}!~plain.test", fleet.sink), "{plain}");
    }
    assert_eq!(sink.stats().connections - before, 3, "one message a session");

    std::fs::write(&file, text.replace("connection_limit = 2", "conection_limit = 2")).expect("written");
    fleet.mta.signal(Signal::SIGHUP);
    eventually("the complaint", || {
        let log = fleet.mta.log();
        if log.contains("did you mean `connection_limit`?") { Ok(()) } else { Err(log) }
    });
    assert!(delivered(&fleet, "again@plain.test")["tls"].is_null(), "a mistake changes nothing");

    let other = text
        .replace("enable_tls = \"Disabled\"\nmax_deliveries_per_connection = 1", "enable_tls = \"RequiredInsecure\"");
    std::fs::write(&file, other).expect("written");
    let (told, code) = run(&["reload", "--admin", &fleet.mta_admin.to_string()], directory.path());
    assert!(code == Some(0) && told.contains("shaping.files (what stands in them) holds now"), "{told}");
    let before = sink.stats().connections;
    for n in 3..6 {
        let now = delivered(&fleet, &format!("{n}@plain.test"));
        assert!(now["tls"].is_string(), "{now}");
    }
    assert_eq!(sink.stats().connections - before, 1, "one session carries all");
}

#[test]
fn check_and_explain_tell_what_is_wrong_and_where_each_value_comes_from() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write("bad.toml", "[\"default\"]\nenable_tls = \"Never\"\nconection_limit = 1\n");
    let (told, code) = run(&["shaping", "check", "--json", &path("bad.toml")], directory.path());
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((code, &told["exit_code"]), (Some(2), &2.into()));
    let findings: Vec<_> = told["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["name"].as_str(), one["state"].as_str()))
        .collect();
    assert_eq!(findings, [(Some("bad.toml:2"), Some("failed")), (Some("bad.toml:3"), Some("failed"))]);

    let text = "[\"default\"]\nconnection_limit = 4\nrefresh_strategy = \"Ttl\"\n[provider.\"big\"]\nmatch = [{ DomainSuffix = \".big.test\" }]\n\
                provider_connection_limit = 3\n[provider.\"big\".sources.\"out-1\"]\nmax_message_rate = \"5/s\"\n\
                [[provider.\"big\".automation]]\nregex = \"too many\"\naction = \"Suspend\"\nduration = \"1h\"\n";
    write("shaping.toml", text);
    let (told, code) = run(&["shaping", "check", &path("shaping.toml")], directory.path());
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("does nothing here") && told.contains("good: 1 providers, 0 blocks for domains, 1 rules"),
        "{told}"
    );
    let config = "hostname = \"mta.test\"\n[spool]\npath = \"spool\"\n[event_log]\npath = \"events\"\n[shaping]\nfiles = [\"shaping.toml\"]\n\
                  [source.out-2]\naddress = \"127.0.0.1\"\n[pool.p]\nsources = { out-2 = 1 }\n[delivery]\nidle_timeout = \"1s\"\n\
                  [[route]]\ndomains = [\"*\"]\nhosts = [\"127.0.0.1:2525\"]\n";
    write("mta.toml", &format!("default_pool = \"p\"\n{config}"));
    let (told, code) = run(&["shaping", "check", "--config", &path("mta.toml")], directory.path());
    assert!(code == Some(1) && told.contains("there is no source \"out-1\" in the configuration"), "{told}");

    let (told, code) = run(&["shaping", "explain", "in.big.test", "--config", &path("mta.toml")], directory.path());
    let expected = "in.big.test
  site      127.0.0.1:2525!~@big
  source    any (--source names one)
  provider  big
  sessions  3, by additional_connection_limits.shaping-provider-big-SOURCE-limit
  messages  no limit
  option    additional_connection_limits.shaping-provider-big-SOURCE-limit = 3 (by shaping.toml:6, [provider.\"big\"])
  option    connection_limit = 4 (by shaping.toml:2, [\"default\"])
  option    idle_timeout = 1s (by mta.toml:14, [delivery])
  option    provider_name = big (by shaping.toml:4, [provider.\"big\"])
  rule      too many (by shaping.toml:9, of provider big)
";
    assert_eq!((told.as_str(), code), (expected, Some(0)));
    let (told, code) =
        run(&["shaping", "explain", "x.test", "--source", "out-9", "--config", &path("mta.toml")], directory.path());
    assert!(code == Some(1) && told.contains("there is no source \"out-9\" in mta.toml; known: out-2"), "{told}");
    let arguments = ["explain", "--from", "<>", "--to", "r@in.big.test", "--config", &path("mta.toml")];
    let (told, code) = run(&arguments, directory.path());
    for line in
        ["  option    connection_limit = 4 (by shaping.toml:2)", "  option    idle_timeout = 1s (by [delivery])"]
    {
        assert!(code == Some(0) && told.lines().any(|one| one == line), "{line:?} is missing in:\n{told}");
    }
}

#[test]
fn the_profile_that_comes_with_egret_is_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/shaping.toml");
    let (told, code) = run(&["shaping", "check", file], Path::new("/nowhere"));
    assert_eq!(code, Some(0), "{told}");
}
