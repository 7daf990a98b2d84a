//! Which hosts are under DANE.

use egret_mta::dns::resolver::{Failure, Resolved};
use egret_mta::dns::site::HostPolicy;
use egret_mta::tls_report::TlsReports;
use egret_shared::clock::Clock;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::{failures, resolver};
use crate::support::dns::{Fails, Zone};

const DIGEST: [u8; 32] = [7; 32];

async fn site(zone: Zone) -> Result<Resolved, Failure> {
    let server = zone.serve().await;
    resolver(&server, &TlsReports::new(Clock::system())).site("a.test").await
}

/// Name of the site; of each host its name, and its TLSA base and records if it has any.
fn told(resolved: &Resolved) -> (String, Vec<String>) {
    let host = |host: &egret_mta::dns::site::MxHost| match &host.policy {
        HostPolicy::Dane(dane) => format!("{} {} {:?} {:?}", host.name, dane.base, dane.aliases, dane.records.len()),
        other => format!("{} {other:?}", host.name),
    };
    (resolved.site.name.to_string(), resolved.site.hosts.iter().map(host).collect())
}

fn two_hosts() -> Zone {
    Zone::new()
        .signed()
        .mx("a.test", 1, "x.test")
        .mx("a.test", 2, "y.test")
        .host("x.test", &["192.0.2.1"])
        .host("y.test", &["192.0.2.2"])
}

#[tokio::test]
async fn hosts_with_records_are_under_dane_and_the_site_says_so() {
    let zone = two_hosts().tlsa("_25._tcp.x.test", 3, 1, 1, &DIGEST).tlsa("_25._tcp.x.test", 2, 0, 1, &DIGEST);
    let found = site(zone).await.expect("a site");
    let want = ["x.test x.test [] 2".to_owned(), "y.test None".to_owned()];
    assert_eq!(told(&found), ("(x|y).test+dane".to_owned(), want.to_vec()));
    let plain = site(two_hosts()).await.expect("a site");
    assert_eq!(told(&plain), ("(x|y).test".to_owned(), vec!["x.test None".to_owned(), "y.test None".to_owned()]));
}

#[tokio::test]
async fn a_host_whose_records_cannot_be_had_is_left_out_and_without_another_the_mail_waits() {
    let records = || two_hosts().tlsa("_25._tcp.x.test", 3, 1, 1, &DIGEST);
    let zones = [
        records().failing("_25._tcp.x.test", Fails::With(ResponseCode::ServFail)),
        records().failing("_25._tcp.x.test", Fails::With(ResponseCode::Refused)),
        // Signatures that are missing: somebody in between takes the records away.
        records().stripped("_25._tcp.x.test", RecordType::TLSA),
    ];
    for zone in zones {
        let server = zone.serve().await;
        let reports = TlsReports::new(Clock::system());
        let found = resolver(&server, &reports).site("a.test").await.expect("a site");
        assert_eq!(told(&found), ("(x|y).test+dane".to_owned(), vec!["y.test None".to_owned()]));
        assert_eq!(failures(&reports, "a.test"), [("dnssec-invalid".to_owned(), 1)]);
    }
    let alone = Zone::new().signed().mx("a.test", 1, "x.test").host("x.test", &["192.0.2.1"]);
    let failure = site(alone.failing("_25._tcp.x.test", Fails::With(ResponseCode::ServFail))).await.expect_err("waits");
    let Failure::Temporary { response } = failure else { panic!("{failure:?}") };
    let words = response.to_string();
    assert!(
        words.starts_with("451 4.7.5 TLSA records cannot be had, and without them a.test gets no mail: x.test: "),
        "{words}"
    );
}

#[tokio::test]
async fn records_are_asked_only_where_mx_and_addresses_are_vouched_for() {
    for (domain, zone) in [
        // The domain's own zone is not signed.
        ("plain.test", Zone::new().signed().unsigned_child("plain.test").mx("plain.test", 1, "x.test")),
        // The host's is not; such zones may even fail for TLSA.
        ("a.test", Zone::new().signed().unsigned_child("plain.test").mx("a.test", 1, "x.plain.test")),
    ] {
        let zone = zone.host("x.test", &["192.0.2.1"]).host("x.plain.test", &["192.0.2.1"]);
        let zone = zone.tlsa("_25._tcp.x.test", 3, 1, 1, &DIGEST).tlsa("_25._tcp.x.plain.test", 3, 1, 1, &DIGEST);
        let server = zone.serve().await;
        let found = resolver(&server, &TlsReports::new(Clock::system())).site(domain).await;
        let found = found.unwrap_or_else(|failure| panic!("{domain}: {failure:?}"));
        assert!(!found.site.name.ends_with("+dane"), "{domain}: {:?}", told(&found));
        assert!(found.site.hosts.iter().all(|host| host.policy == HostPolicy::None), "{domain}");
        let asked = server.asked("_25._tcp.x.test") + server.asked("_25._tcp.x.plain.test");
        assert_eq!(asked, 0, "{domain}");
    }
}

#[tokio::test]
async fn an_answer_that_is_forged_is_no_answer() {
    let zone = two_hosts().stripped("a.test", RecordType::MX);
    let failure = site(zone).await.expect_err("bogus");
    assert!(matches!(failure, Failure::Temporary { .. }), "{failure:?}");
}

#[tokio::test]
async fn the_end_of_aliases_is_asked_first_and_then_the_hosts_own_name() {
    let zone = || {
        Zone::new()
            .signed()
            .mx("a.test", 1, "mx.test")
            .alias("mx.test", "real.test")
            .host("real.test", &["192.0.2.1"])
            .tlsa("_25._tcp.mx.test", 3, 1, 1, &DIGEST)
    };
    let both = zone().tlsa("_25._tcp.real.test", 3, 1, 1, &DIGEST).tlsa("_25._tcp.real.test", 3, 0, 1, &DIGEST);
    let found = site(both).await.expect("a site");
    assert_eq!(told(&found).1, ["mx.test real.test [\"mx.test\"] 2"]);
    assert_eq!(told(&site(zone()).await.expect("a site")).1, ["mx.test mx.test [] 1"]);
    // Out of the signed zone: only the alias itself is vouched for, and so is what stands under its name.
    let out = Zone::new()
        .signed()
        .unsigned_child("plain.test")
        .mx("a.test", 1, "mx.test")
        .alias("mx.test", "real.plain.test")
        .host("real.plain.test", &["192.0.2.1"])
        .tlsa("_25._tcp.real.plain.test", 3, 1, 1, &DIGEST)
        .tlsa("_25._tcp.mx.test", 3, 1, 1, &DIGEST);
    assert_eq!(told(&site(out).await.expect("a site")).1, ["mx.test mx.test [] 1"]);
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_host() {
    let zone = Zone::new().signed().host("a.test", &["192.0.2.1"]).tlsa("_25._tcp.a.test", 3, 1, 1, &DIGEST);
    let found = site(zone).await.expect("a site");
    assert_eq!(told(&found), ("a.test+dane".to_owned(), vec!["a.test a.test [] 1".to_owned()]));
}

#[tokio::test]
async fn that_there_are_no_records_is_remembered() {
    let server = two_hosts().serve().await;
    let resolver = resolver(&server, &TlsReports::new(Clock::system()));
    resolver.site("a.test").await.expect("a site");
    let asked = server.asked("_25._tcp.x.test");
    resolver.site("a.test").await.expect("a site");
    assert!(asked >= 1);
    assert_eq!(server.asked("_25._tcp.x.test"), asked);
}
