//! Says who this host is: mechanisms, refusals, and that a password never goes where it should not.

use egret_mta::message::Verdict;
use egret_mta::shaping::options::{Mechanism, Secret, Tls as Use};
use egret_shared::fault::{Party, Reason};
use egret_shared::net::tls_client::ClientTls;
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::bench::{Bench, COUNTED, bench, script, taken};
use crate::smtp::{Hear, Listen, Reset, Say, Step, Tls, acceptor_with, serve};

const PLAIN: &str = "AUTH PLAIN AHUAcA==";

/// A session that says it is `u` with the password `p`.
fn known(bench: &mut Bench) {
    bench.options.auth.username = Some("u".to_owned());
    bench.options.auth.password = Some(Secret::Known("p".to_owned()));
}

fn offers(mechanisms: &'static str) -> Vec<Step> {
    vec![Say("220 x\r\n"), Hear, Say(mechanisms)]
}

/// A certificate for `mx0.test`, and who trusts it.
fn certificate() -> (TlsAcceptor, ClientTls) {
    let made = rcgen::generate_simple_self_signed(vec!["mx0.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let certificate = made.cert.der().clone();
    let mut roots = RootCertStore::empty();
    let acceptor = acceptor_with(&certificate, key);
    roots.add(certificate).expect("a root");
    (acceptor, ClientTls::with_roots(roots).expect("a provider"))
}

#[tokio::test]
async fn a_password_is_told_in_tls_to_a_server_that_is_the_right_one() {
    let (acceptor, trusting) = certificate();
    let secured = |inside: &'static str| {
        let to_tls = vec![Say("220 x\r\n"), Hear, Say("250-x\r\n250 STARTTLS\r\n"), Hear, Say("220 go\r\n")];
        script(&[to_tls, vec![Tls(acceptor.clone()), Hear, Say(inside)]])
    };
    let inside = "250-x\r\n250-PIPELINING\r\n250 AUTH LOGIN PLAIN\r\n";
    let good = script(&[secured(inside), vec![Hear, Say("235 2.7.0 welcome\r\n")], taken(), vec![Listen]]);
    let (at, heard) = serve("127.0.0.1:0", vec![good]).await;
    let mut right = bench(&[at]);
    known(&mut right);
    right.tls = trusting;
    let ticket = right.store.add(&["a@b.test"], "x\r\n");
    let end = right.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [Verdict::Delivered], "{}", end.words());
    assert_eq!(heard.lock()[0][3], PLAIN);

    // The same, but nobody vouches for the certificate.
    let (at, heard) = serve("127.0.0.1:0", vec![script(&[secured(inside), vec![Listen]])]).await;
    let mut wrong = bench(&[at]);
    known(&mut wrong);
    let ticket = wrong.store.add(&["a@b.test"], "x\r\n");
    let end = wrong.run(vec![ticket]).await;
    assert_eq!(end.verdicts(), [COUNTED]);
    assert!(end.words().contains("certificate"), "{}", end.words());
    assert!(!heard.lock()[0].iter().any(|line| line.starts_with("AUTH")), "{heard:?}");
}

#[tokio::test]
async fn a_password_is_not_told_in_clear_unless_the_operator_allows_it() {
    for enable_tls in [Use::OpportunisticInsecure, Use::Disabled] {
        let clear = script(&[offers("250-x\r\n250 AUTH PLAIN\r\n"), vec![Listen]]);
        let (at, heard) = serve("127.0.0.1:0", vec![clear]).await;
        let mut strict = bench(&[at]);
        known(&mut strict);
        strict.options.tls.enable_tls = enable_tls;
        let ticket = strict.store.add(&["a@b.test"], "x\r\n");
        let end = strict.run(vec![ticket]).await;
        assert_eq!((end.verdicts(), &end.words()[..9]), (vec![COUNTED], "451 4.7.5"));
        assert!(!heard.lock()[0].iter().any(|line| line.starts_with("AUTH")));
    }
    let offers = offers("250-x\r\n250-PIPELINING\r\n250 AUTH=PLAIN\r\n");
    let steps = script(&[offers, vec![Hear, Say("235 ok\r\n")], taken(), vec![Listen]]);
    let (at, heard) = serve("127.0.0.1:0", vec![steps]).await;
    let mut lax = bench(&[at]);
    known(&mut lax);
    lax.options.auth.allow_without_tls = true;
    let ticket = lax.store.add(&["a@b.test"], "x\r\n");
    let end = lax.run(vec![ticket]).await;
    assert_eq!((end.verdicts(), &*heard.lock()[0][1]), (vec![Verdict::Delivered], PLAIN), "{}", end.words());
}

#[tokio::test]
async fn each_mechanism_is_spoken_to_its_end_and_each_refusal_is_told() {
    let ok = "235 ok\r\n";
    for (mechanism, offer, exchange, words) in [
        (
            Mechanism::Login,
            "250 AUTH LOGIN\r\n",
            vec![Hear, Say("334 VXNlcm5hbWU6\r\n"), Hear, Say("334 UGFzc3dvcmQ6\r\n"), Hear, Say(ok)],
            "250 2.0.0 queued",
        ),
        (
            Mechanism::CramMd5,
            "250 AUTH CRAM-MD5\r\n",
            vec![Hear, Say("334 PDE4OTY+\r\n"), Hear, Say(ok)],
            "250 2.0.0 queued",
        ),
        (
            Mechanism::Xoauth2,
            "250 AUTH XOAUTH2\r\n",
            vec![Hear, Say("334 eyJ9\r\n"), Hear, Say("535 5.7.8 expired\r\n"), Listen],
            "535 5.7.8 expired",
        ),
        (
            Mechanism::Plain,
            "250 AUTH PLAIN\r\n",
            vec![Hear, Say("535 5.7.8 wrong password\r\n"), Listen],
            "535 5.7.8 wrong password",
        ),
        (Mechanism::Plain, "250 AUTH PLAIN\r\n", vec![Hear, Say("334 eA==\r\n"), Listen], "334 eA=="),
        (
            Mechanism::Plain,
            "250 AUTH LOGIN\r\n",
            vec![Listen],
            "451 4.7.0 a user name is configured and the destination does not offer AUTH by PLAIN",
        ),
        (
            Mechanism::Plain,
            "250 AUTH PLAIN\r\n",
            vec![Hear, Reset],
            "421 4.4.2 connection reset by the other side at AUTH",
        ),
    ] {
        let hello = vec![Say("220 x\r\n"), Hear, Say("250-x\r\n250-PIPELINING\r\n"), Say(offer)];
        let (at, heard) = serve("127.0.0.1:0", vec![script(&[hello, exchange, taken(), vec![Listen]])]).await;
        let mut bench = bench(&[at]);
        known(&mut bench);
        bench.options.auth.mechanisms = vec![mechanism];
        bench.options.auth.allow_without_tls = true;
        let ticket = bench.store.add(&["a@b.test"], "x\r\n");
        let end = bench.run(vec![ticket]).await;
        assert_eq!(end.words(), words, "{mechanism:?} {heard:?}");
    }
}

#[tokio::test]
async fn a_password_file_is_read_for_each_session_and_one_that_is_gone_costs_no_attempt() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "p\n").expect("written");
    let offers = offers("250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n");
    let good = script(&[offers, vec![Hear, Say("235 ok\r\n")], taken(), vec![Listen]]);
    let (at, heard) = serve("127.0.0.1:0", vec![good]).await;
    let with = |password: Secret| {
        let mut bench = bench(&[at]);
        known(&mut bench);
        bench.options.auth.password = Some(password);
        bench.options.auth.allow_without_tls = true;
        bench
    };
    let there = with(Secret::File(file.path().to_owned()));
    let ticket = there.store.add(&["a@b.test"], "x\r\n");
    assert_eq!(there.run(vec![ticket]).await.verdicts(), [Verdict::Delivered]);
    assert_eq!(heard.lock()[0][1], PLAIN);
    let gone = with(Secret::File("/nowhere/password".into()));
    let ticket = gone.store.add(&["a@b.test"], "x\r\n");
    let end = gone.run(vec![ticket]).await;
    let fault = end.fault.expect("a fault");
    assert_eq!((fault.reason, fault.party(), end.returned.len()), (Reason::PathMisconfigured, Party::Source, 1));
    assert!(fault.detail.contains("/nowhere/password cannot be read"), "{fault}");
}
