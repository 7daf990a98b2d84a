//! STARTTLS: offered, stripped, refused, broken.

use egret_mta::message::Verdict::Delivered;
use egret_mta::shaping::options::{PathOptions, Tls as Mode};
use egret_shared::fault::Reason::{ConnectionTimeout, RemoteClosed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::{BRIEF, Row, row};
use crate::bench::{COUNTED, EHLO, script, taken};
use crate::smtp::{Any, Bytes, Drip, Flood, Hear, Listen, Mute, Reset, Say, Step, Tls, acceptor_with};

/// Offers STARTTLS and hears it.
fn offered(then: &[Step]) -> Vec<Step> {
    let offer = vec![Say("220 mx.test\r\n"), Hear, Say("250-mx.test\r\n250 STARTTLS\r\n"), Hear];
    script(&[offer, then.to_vec()])
}

fn required(options: &mut PathOptions) {
    options.tls.enable_tls = Mode::RequiredInsecure;
}

fn brief(options: &mut PathOptions) {
    required(options);
    options.smtp.timeouts.starttls = BRIEF;
}

fn valid(options: &mut PathOptions) {
    options.tls.enable_tls = Mode::Required;
}

fn opportunistic(options: &mut PathOptions) {
    options.smtp.timeouts.starttls = BRIEF;
}

/// A server that fails so, whoever comes: the message behind it fails as well, so the second connection is a good one.
fn fails(name: &'static str, script: Vec<Step>, words: &'static str) -> Row {
    row(name, script, COUNTED, words).set(required).fault(&[RemoteClosed])
}

pub(super) fn rows() -> Vec<Row> {
    let broken = |then: &[Step]| offered(&script(&[vec![Say("220 go\r\n"), Any], then.to_vec()]));
    let mut rows = vec![
        fails(
            "T3 bytes behind the answer to STARTTLS",
            offered(&[Say("220 go\r\n250 evil\r\n"), Mute]),
            "before the TLS",
        ),
        fails(
            "T4 plain text instead of a handshake",
            broken(&[Say("250 what\r\n"), Mute]),
            "TLS handshake with mx0.test",
        ),
        fails("T4 closed behind ClientHello", broken(&[]), "TLS handshake with mx0.test"),
        fails("T4 reset behind ClientHello", broken(&[Reset]), "TLS handshake with mx0.test"),
        fails("T4 an alert: no version in common", broken(&[Bytes(&[21, 3, 1, 0, 2, 2, 70])]), "TLS handshake with"),
        fails("T4 a handshake that drips", broken(&[Drip("\x16\x03\x03\x40")]), "no answer within 0 s").set(brief),
        fails("T4 no handshake", broken(&[Mute]), "no answer within 0 s").set(brief),
        fails("T4 a certificate without end", broken(&[Flood(endless())]), "TLS handshake with mx0.test"),
        fails("T6 454 to STARTTLS", offered(&[Say("454 4.7.0 not now\r\n"), Mute]), "454 4.7.0 not now"),
        fails("T6 STARTTLS is not offered", vec![Say("220 x\r\n"), Hear, Say(EHLO), Mute], "does not offer STARTTLS"),
        row("T6 no answer to STARTTLS", offered(&[Mute]), COUNTED, "at STARTTLS")
            .set(brief)
            .fault(&[ConnectionTimeout]),
    ];
    // In clear where that will do: the same host again, in the same session.
    for (name, then) in [("T5 broken TLS, then clear", vec![Say("what\r\n")]), ("T5 no TLS, then clear", vec![Mute])] {
        rows.push(row(name, broken(&then), Delivered, "250 good").set(opportunistic).fault(&[RemoteClosed]));
    }
    for (name, names, has_ended, words) in [
        ("T4 a certificate for another name", &["other.test"][..], false, "not valid for name"),
        ("T4 a certificate without names", &[], false, "not valid for name"),
        ("T4 a certificate that has ended", &["mx0.test"], true, "expired"),
    ] {
        let (acceptor, certificate) = acceptor(names, has_ended);
        let script = offered(&[Say("220 go\r\n"), Tls(acceptor), Listen]);
        rows.push(Row { root: Some(certificate), ..fails(name, script, words).set(valid) });
    }
    let leaves = vec![Say("220 go\r\n"), Tls(acceptor(&["mx0.test"], false).0), Hear, Say(EHLO)];
    let secured = script(&[offered(&leaves), taken(), taken(), vec![Hear]]);
    rows.push(row("T4 no closing alert behind QUIT", secured, Delivered, "250 2.0.0").goes_on());
    rows
}

/// Records of a handshake message that has no end.
fn endless() -> &'static str {
    let body = format!("\x16\x03\x03\x40\x00\x0b\x7f\x7f\x7f{}", "\x01".repeat(0x4000 - 4));
    Box::leak(body.into_boxed_str())
}

/// A server's side of TLS, and its certificate.
fn acceptor(names: &[&str], has_ended: bool) -> (TlsAcceptor, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut wanted = rcgen::CertificateParams::new(names).expect("names");
    if has_ended {
        wanted.not_after = rcgen::date_time_ymd(2001, 1, 1);
    }
    let certificate = wanted.self_signed(&key).expect("a certificate").der().clone();
    let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    (acceptor_with(&certificate, secret), certificate)
}
