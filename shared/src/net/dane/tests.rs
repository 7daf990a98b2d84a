//! Which certificates the records let pass.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

const NOW: UnixTime = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_790_000_000));

/// An authority, and a certificate of it for `mx.test`.
struct Made {
    authority: CertificateDer<'static>,
    authority_key: Vec<u8>,
    end: CertificateDer<'static>,
    end_key: Vec<u8>,
}

fn params(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params
}

fn made(name: &str, until: i32) -> Made {
    let mut above = params("authority.test", 2040);
    above.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(above, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let end = params(name, until).signed_by(&key, &issuer).expect("a certificate").der().clone();
    let authority = issuer.der().clone();
    let spki = |der: &CertificateDer<'_>| {
        ParsedCertificate::try_from(der).expect("readable").subject_public_key_info().as_ref().to_vec()
    };
    Made { authority_key: spki(&authority), end_key: spki(&end), authority, end }
}

fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
    let data = match matching {
        1 => digest(&SHA256, data).as_ref().to_vec(),
        2 => digest(&SHA512, data).as_ref().to_vec(),
        _ => data.to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

fn judged(made: &Made, records: Vec<Tlsa>, is_authority_sent: bool) -> Result<(), Error> {
    let dane = Dane { base: "mx.test".into(), aliases: vec!["alias.test".into()], records };
    let chain = if is_authority_sent { vec![made.authority.clone()] } else { vec![] };
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    dane.judge(&made.end, &chain, NOW, &provider)
}

#[test]
fn each_selector_and_matching_type_lets_its_certificate_pass_and_no_other() {
    let (good, other) = (made("mx.test", 2040), made("mx.test", 2040));
    for (selector, end, authority) in
        [(0, &good.end[..], &good.authority[..]), (1, &good.end_key[..], &good.authority_key[..])]
    {
        for matching in 0..3 {
            for (usage, data) in [(3, end), (2, authority)] {
                let record = record(usage, selector, matching, data);
                assert!(record.is_usable(), "{record}");
                assert_eq!(judged(&good, vec![record.clone()], true), Ok(()), "{record}");
                assert!(judged(&other, vec![record.clone()], true).is_err(), "{record}");
            }
        }
    }
}

#[test]
fn the_servers_own_certificate_needs_neither_name_nor_date() {
    let odd = made("elsewhere.test", 2021);
    assert_eq!(judged(&odd, vec![record(3, 1, 1, &odd.end_key)], false), Ok(()));
}

#[test]
fn below_an_authority_names_and_dates_count() {
    let by_authority = |made: &Made| vec![record(2, 0, 1, &made.authority)];
    for name in ["mx.test", "alias.test"] {
        let good = made(name, 2040);
        assert_eq!(judged(&good, by_authority(&good), true), Ok(()));
    }
    let expired = made("mx.test", 2021);
    let error = judged(&expired, by_authority(&expired), true).expect_err("expired");
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error:?}");
    let elsewhere = made("elsewhere.test", 2040);
    let error = judged(&elsewhere, by_authority(&elsewhere), true).expect_err("another name");
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })), "{error:?}");
}

#[test]
fn an_authority_that_stands_whole_in_a_record_need_not_be_sent() {
    let good = made("mx.test", 2040);
    assert_eq!(judged(&good, vec![record(2, 0, 0, &good.authority)], false), Ok(()));
    assert!(judged(&good, vec![record(2, 0, 1, &good.authority)], false).is_err(), "a digest gives no key to check by");
}

#[test]
fn one_record_that_matches_is_enough_and_an_authority_is_no_server() {
    let good = made("mx.test", 2040);
    let stale = record(3, 1, 1, b"another key");
    assert_eq!(judged(&good, vec![stale.clone(), record(3, 1, 1, &good.end_key)], false), Ok(()));
    let error = judged(&good, vec![stale], false).expect_err("no match");
    assert_eq!(error, CertificateError::ApplicationVerificationFailure.into());
    // Usage 3 of the authority's key, usage 2 of the server's: neither is what it says.
    assert!(judged(&good, vec![record(3, 1, 1, &good.authority_key)], true).is_err());
    assert!(judged(&good, vec![record(2, 1, 1, &good.end_key)], true).is_err());
}

#[test]
fn what_no_certificate_can_match_is_unusable() {
    for (usage, selector, matching, length) in [
        (0, 0, 1, 32),
        (1, 1, 1, 32),
        (4, 0, 1, 32),
        (3, 2, 1, 32),
        (3, 1, 3, 32),
        (3, 1, 1, 31),
        (3, 1, 2, 32),
        (3, 0, 0, 0),
    ] {
        let record = Tlsa { usage, selector, matching, data: vec![7; length] };
        assert!(!record.is_usable(), "{record}");
        let good = made("mx.test", 2040);
        assert!(judged(&good, vec![record], true).is_err());
    }
    assert_eq!(Tlsa { usage: 3, selector: 1, matching: 1, data: vec![0x0a, 0xff] }.to_string(), "3 1 1 0aff");
}
