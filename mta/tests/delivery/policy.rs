//! Sessions under DANE and MTA-STS: what a server must show, and that clear text is never the answer to a failure.

use std::sync::Arc;

use egret_mta::dns::site::HostPolicy;
use egret_mta::dns::sts::policy::{Mode, Policy};
use egret_mta::event::tls::{Posture, TlsResult};
use egret_mta::message::Verdict;
use egret_mta::shaping::options::Tls as TlsMode;
use egret_shared::clock::Clock;
use egret_shared::net::dane::{Dane, Tlsa};
use egret_shared::net::tls_client::ClientTls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::bench::{Bench, COUNTED, EHLO, End, bench, script, taken};
use crate::smtp::{Hear, Heard, Listen, Say, Step, Tls, serve};

/// A server's certificate with its authority.
struct Shown {
    acceptor: TlsAcceptor,
    end: CertificateDer<'static>,
    authority: CertificateDer<'static>,
}

fn shown(name: &str, until: i32) -> Shown {
    let mut params = CertificateParams::new(vec!["authority.test".to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let end = params.signed_by(&key, &issuer).expect("a certificate").der().clone();
    let authority = issuer.der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![end.clone(), authority.clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a pair");
    Shown { acceptor: Arc::new(config).into(), end, authority }
}

fn dane(usage: u8, certificate: &CertificateDer<'_>) -> HostPolicy {
    let data = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate).as_ref().to_vec();
    let record = Tlsa { usage, selector: 0, matching: 1, data };
    HostPolicy::Dane(Arc::new(Dane { base: "mx0.test".into(), aliases: Vec::new(), records: vec![record] }))
}

fn offer() -> Vec<Step> {
    vec![Say("220 mx.test\r\n"), Hear, Say("250-mx.test\r\n250 STARTTLS\r\n"), Hear]
}

/// A server in TLS that takes a message.
fn secure(acceptor: &TlsAcceptor) -> Vec<Step> {
    script(&[offer(), vec![Say("220 go\r\n"), Tls(acceptor.clone()), Hear, Say(EHLO)], taken(), vec![Listen]])
}

/// One session under `policy` against these scripts, one a connection. The path asks for as little as it can.
async fn under(policy: HostPolicy, scripts: Vec<Vec<Step>>, change: impl FnOnce(&mut Bench)) -> (Outcome, Heard) {
    let (at, heard) = serve("127.0.0.1:0", scripts).await;
    let mut bench = bench(&[at]);
    bench.host_policy = policy;
    bench.options.tls.enable_tls = TlsMode::OpportunisticInsecure;
    bench.options.tls.enable_dane = true;
    change(&mut bench);
    let (store, reports) = (bench.store.clone(), bench.policing.reports.clone());
    let ticket = store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    let last = store.events.lock().last().cloned().expect("an event");
    let report = reports.report(reports.today(), "b.test", "us.test").unwrap_or_default();
    (Outcome { end, asked: last.tls_policy, came: last.tls_result, report }, heard)
}

struct Outcome {
    end: End,
    asked: Option<Posture>,
    came: Option<TlsResult>,
    report: serde_json::Value,
}

impl Outcome {
    /// Good and failed sessions of the first policy, its type, and where the first failure was.
    fn counted(&self) -> (u64, u64, String) {
        let policy = &self.report["policies"][0];
        let count = |key: &str| policy["summary"][key].as_u64().unwrap_or_default();
        let kind = policy["policy"]["policy-type"].as_str().unwrap_or("-").to_owned();
        (count("total-successful-session-count"), count("total-failure-session-count"), kind)
    }
}

fn trusting(authority: &CertificateDer<'_>) -> ClientTls {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.clone()).expect("a root");
    ClientTls::with_roots(roots).expect("a provider")
}

#[tokio::test]
async fn dane_takes_what_the_records_vouch_for_and_nothing_else() {
    let (good, other, old) = (shown("mx0.test", 2040), shown("mx0.test", 2040), shown("mx0.test", 2021));
    let elsewhere = shown("elsewhere.test", 2040);
    for (server, policy, want, result) in [
        (&good, dane(3, &good.end), Verdict::Delivered, TlsResult::Success),
        (&elsewhere, dane(3, &elsewhere.end), Verdict::Delivered, TlsResult::Success),
        (&good, dane(2, &good.authority), Verdict::Delivered, TlsResult::Success),
        (&good, dane(3, &other.end), COUNTED, TlsResult::CertificateNotTrusted),
        (&good, dane(2, &other.authority), COUNTED, TlsResult::CertificateNotTrusted),
        (&old, dane(2, &old.authority), COUNTED, TlsResult::CertificateExpired),
        (&elsewhere, dane(2, &elsewhere.authority), COUNTED, TlsResult::CertificateHostMismatch),
        // A usage that means nothing: TLS, by any certificate.
        (&good, dane(1, &other.end), Verdict::Delivered, TlsResult::TlsaInvalid),
    ] {
        // A second connection would find a server that takes mail in clear.
        let clear = script(&[vec![Say("220 mx.test\r\n"), Hear, Say(EHLO)], taken(), vec![Listen]]);
        let (outcome, heard) = under(policy, vec![secure(&server.acceptor), clear], |_| {}).await;
        assert_eq!(outcome.end.verdicts(), [want], "{}", outcome.end.words());
        assert_eq!((outcome.asked, outcome.came), (Some(Posture::Dane), Some(result)));
        let is_good = result == TlsResult::Success;
        assert_eq!(outcome.counted(), (u64::from(is_good), u64::from(!is_good), "tlsa".to_owned()));
        assert_eq!(heard.lock().len(), 1, "a second connection");
    }
}

#[tokio::test]
async fn an_enforced_policy_takes_a_valid_certificate_and_nothing_else() {
    let (good, old, elsewhere) = (shown("mx0.test", 2040), shown("mx0.test", 2021), shown("elsewhere.test", 2040));
    for (server, is_known, want, result) in [
        (&good, true, Verdict::Delivered, TlsResult::Success),
        (&good, false, COUNTED, TlsResult::CertificateNotTrusted),
        (&old, true, COUNTED, TlsResult::CertificateExpired),
        (&elsewhere, true, COUNTED, TlsResult::CertificateHostMismatch),
    ] {
        let (outcome, heard) = under(HostPolicy::Sts, vec![secure(&server.acceptor)], |bench| {
            if is_known {
                bench.tls = trusting(&server.authority);
            }
        })
        .await;
        assert_eq!(outcome.end.verdicts(), [want], "{}", outcome.end.words());
        assert_eq!((outcome.asked, outcome.came), (Some(Posture::StsEnforce), Some(result)));
        if want == COUNTED {
            let words = outcome.end.words();
            assert!(words.starts_with("451 4.7.5 TLS handshake with mx0.test: "), "{words}");
            assert!(words.ends_with("; the MTA-STS policy of b.test demands it"), "{words}");
            let detail = &outcome.report["policies"][0]["failure-details"][0];
            assert_eq!(
                (&detail["receiving-mx-hostname"], &detail["sending-mta-ip"]),
                (&"mx0.test".into(), &"127.0.0.7".into())
            );
        }
        assert_eq!(heard.lock().len(), 1);
    }
}

#[tokio::test]
async fn a_stripped_starttls_or_a_broken_handshake_is_never_answered_with_clear_text() {
    let certificate = shown("mx0.test", 2040);
    let rest = || script(&[taken(), vec![Listen]]);
    let stripped = || script(&[vec![Say("220 mx.test\r\n"), Hear, Say(EHLO)], rest()]);
    let refused = || script(&[offer(), vec![Say("454 4.7.0 TLS not available\r\n")], rest()]);
    let helo_only =
        || script(&[vec![Say("220 mx.test\r\n"), Hear, Say("502 what\r\n"), Hear, Say("250 x\r\n")], rest()]);
    let garbage = || script(&[offer(), vec![Say("220 go\r\n"), Hear, Say("garbage\r\n")], rest()]);
    let policies = [HostPolicy::Sts, dane(3, &certificate.end), dane(0, &certificate.end)];
    for policy in policies {
        for (steps, result) in [
            (stripped(), Some(TlsResult::StarttlsNotSupported)),
            (refused(), Some(TlsResult::StarttlsNotSupported)),
            (helo_only(), None),
            (garbage(), Some(TlsResult::ValidationFailure)),
        ] {
            // Were clear text an answer, the second connection would take the message.
            let (outcome, heard) = under(policy.clone(), vec![steps, stripped()], |bench| {
                bench.options.tls.opportunistic_tls_reconnect_on_failed_handshake = true;
                bench.options.tls.remember_broken_tls = std::time::Duration::from_mins(10);
            })
            .await;
            assert_eq!(outcome.end.verdicts(), [COUNTED], "{policy:?}: {}", outcome.end.words());
            assert_eq!(outcome.came, result, "{policy:?}: {}", outcome.end.words());
            let heard = heard.lock();
            assert_eq!(heard.len(), 1, "{policy:?}: a second connection");
            assert!(!heard[0].iter().any(|line| line.starts_with("MAIL")), "{policy:?}: {:?}", heard[0]);
        }
    }
}

#[tokio::test]
async fn a_memory_of_broken_tls_does_not_weaken_a_policy() {
    let certificate = shown("mx0.test", 2040);
    let (at, heard) = serve("127.0.0.1:0", vec![secure(&certificate.acceptor)]).await;
    let mut bench = bench(&[at]);
    bench.host_policy = dane(3, &certificate.end);
    bench.options.tls.enable_dane = true;
    bench.options.tls.remember_broken_tls = std::time::Duration::from_mins(10);
    let now = Clock::system().wall();
    bench.known.remember(at, egret_mta::delivery::Habit::BreaksTls, now.plus(std::time::Duration::from_mins(10)), now);
    let ticket = bench.store.add(&["a@b.test"], "x\r\n");
    let end = bench.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered], "{}", end.words());
    assert!(heard.lock()[0].contains(&"STARTTLS".to_owned()));
}

#[tokio::test]
async fn a_policy_on_trial_delivers_and_tells() {
    let (good, elsewhere) = (shown("mx0.test", 2040), shown("elsewhere.test", 2040));
    let clear = || script(&[vec![Say("220 mx.test\r\n"), Hear, Say(EHLO)], taken(), vec![Listen]]);
    for (steps, pattern, result) in [
        (secure(&good.acceptor), "mx0.test", TlsResult::Success),
        (secure(&good.acceptor), "other.test", TlsResult::ValidationFailure),
        (secure(&elsewhere.acceptor), "mx0.test", TlsResult::CertificateHostMismatch),
        (clear(), "mx0.test", TlsResult::StarttlsNotSupported),
    ] {
        let (outcome, _) = under(HostPolicy::None, vec![steps], |bench| {
            let roots = [&good.authority, &elsewhere.authority].into_iter().fold(
                rustls::RootCertStore::empty(),
                |mut roots, authority| {
                    roots.add(authority.clone()).expect("a root");
                    roots
                },
            );
            bench.tls = ClientTls::with_roots(roots).expect("a provider");
            let policy = Policy { mode: Mode::Testing, mx: vec![pattern.to_owned()], max_age_s: 1_000 };
            bench.policing.policies.keep("b.test", "1", policy, Clock::system().wall());
        })
        .await;
        assert_eq!(outcome.end.verdicts(), [Verdict::Delivered], "{}", outcome.end.words());
        assert_eq!((outcome.asked, outcome.came), (Some(Posture::StsTesting), Some(result)));
        let is_good = result == TlsResult::Success;
        assert_eq!(outcome.counted(), (u64::from(is_good), u64::from(!is_good), "sts".to_owned()));
    }
}

#[tokio::test]
async fn what_the_operator_switches_off_is_off_and_is_told() {
    let certificate = shown("mx0.test", 2040);
    let clear = script(&[vec![Say("220 mx.test\r\n"), Hear, Say(EHLO)], taken(), vec![Listen]]);
    let (outcome, _) = under(dane(3, &certificate.end), vec![clear], |bench| {
        bench.options.tls.enable_tls = TlsMode::Disabled;
    })
    .await;
    assert_eq!(outcome.end.verdicts(), [Verdict::Delivered], "{}", outcome.end.words());
    assert_eq!((outcome.asked, outcome.came), (Some(Posture::None), None));
    assert_eq!(outcome.counted(), (0, 0, "-".to_owned()));
}
