//! Mail to domains whose hosts have TLSA records, in a signed zone of a real DNS server.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use egret_tests::harness::{Fleet, Options, addresses, binary};
use egret_tests::peer::sink::{Behaviour, Sink};
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::support::offer;

#[path = "../../mta/tests/support/dns.rs"]
#[expect(dead_code, reason = "the server can do more than this story wants")]
mod dns;

/// A server's side of TLS, and the SHA-256 of its certificate.
fn acceptor() -> (TlsAcceptor, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["whatever.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    (Arc::new(config).into(), digest(&SHA256, made.cert.der()).as_ref().to_vec())
}

fn report(fleet: &Fleet, domain: &str) -> String {
    let mut command = Command::new(binary("egret-mta"));
    command.args(["tls-report", "--domain", domain, "--admin", &fleet.mta_admin.to_string()]);
    let output = command.output().expect("runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_where_the_records_vouch_for_the_certificate_and_waits_elsewhere() {
    let at = SocketAddr::new(addresses(32)[0].into(), 2525);
    let (acceptor, good) = acceptor();
    let _sink = Sink::start(&[at], Behaviour::default(), None, Some(acceptor)).await.expect("listens");
    let mut zone = dns::Zone::new().signed();
    for (domain, record) in [("good.test", &good[..]), ("bad.test", &[7; 32][..])] {
        let host = format!("mx.{domain}");
        zone = zone.mx(domain, 1, &host).host(&host, &[&at.ip().to_string()]);
        zone = zone.tlsa(&format!("_2525._tcp.{host}"), 3, 0, 1, record);
    }
    let server = zone.serve().await;
    let directory = tempfile::tempdir().expect("a directory");
    let anchor = directory.path().join("anchor");
    std::fs::write(&anchor, &server.anchor).expect("written");
    let tables = format!(
        "[dns]\nservers = [\"{}\"]\ntrust_anchor = \"{}\"\n[delivery]\nenable_dane = true\nsmtp_port = 2525\n\
         allow_special_destinations = [\"127.0.0.0/8\"]\n[[route]]\ndomains = [\"unused.test\"]\nhosts = [\"127.0.0.1\"]\n",
        server.address,
        anchor.display()
    );
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    for domain in ["good.test", "bad.test"] {
        let answer = offer(fleet.smtp, "s@a.test", &format!("r@{domain}"));
        assert!(answer.starts_with("250 "), "{answer}");
    }
    let of = |event: &serde_json::Value, domain: &str| event["recipients"][0] == format!("r@{domain}");
    let taken = fleet.event("delivery", |event| event["type"] == "delivery" && of(event, "good.test"));
    assert_eq!((&taken["tls_policy"], &taken["tls_result"]), (&"dane".into(), &"success".into()), "{taken}");
    assert_eq!(taken["site"], "mx.good.test+dane");
    let kept = fleet.event("a failure", |event| event["type"] == "transient_failure" && of(event, "bad.test"));
    assert_eq!(kept["tls_result"], "certificate-not-trusted", "{kept}");
    assert_eq!(kept["response"]["enhanced"], "4.7.5");
    let words = kept["response"]["text"].as_str().expect("a text");
    assert!(words.ends_with("; the TLSA records of the host (DANE) demand it"), "{words}");
    let told = report(&fleet, "bad.test");
    assert!(told.starts_with("bad.test (tlsa): 0 good, "), "{told}");
    assert!(told.contains(" certificate-not-trusted at mx.bad.test 127."), "{told}");
    assert_eq!(report(&fleet, "good.test"), "good.test (tlsa): 1 good, 0 failed\n");
    assert!(!fleet.events().iter().any(|event| event["type"] == "delivery" && of(event, "bad.test")));
}
