//! When a policy is fetched, and what it does to the site of its domain.

use std::sync::Arc;
use std::time::Duration;

use egret_mta::dns::policed::Policed;
use egret_mta::dns::resolver::Failure;
use egret_mta::dns::site::HostPolicy;
use egret_mta::dns::sts::Sts;
use egret_mta::dns::sts::cache::PolicyCache;
use egret_mta::tls_report::TlsReports;
use egret_shared::clock::{Clock, UnixMs};

use super::https::{Https, answer, good};
use super::{failures, resolver};
use crate::support::dns::{DnsServer, Zone};

const ENFORCE: &str = "version: STSv1\r\nmode: enforce\r\nmx: x.test\r\nmax_age: 604800\r\n";

/// Everything that a look-up passes.
struct House {
    https: Https,
    reports: TlsReports,
    clock: Clock,
    policies: PolicyCache,
    policed: Policed,
    _dns: DnsServer,
}

async fn house(zone: Zone, certificate: &str, first: String) -> House {
    let zone = zone.host("mta-sts.a.test", &["127.0.0.1"]);
    let (dns, https) = (zone.serve().await, Https::start(certificate, first).await);
    let clock = Clock::moved(UnixMs(1_795_687_200_000));
    let (reports, policies) = (TlsReports::new(clock.clone()), PolicyCache::default());
    let resolver = resolver(&dns, &reports);
    let port = https.address.port();
    let sts = Sts::new(resolver.clone(), https.tls.clone(), port, policies.clone(), reports.clone(), clock.clone());
    let policed = Policed::new(resolver, Some(sts), reports.clone());
    House { https, reports, clock, policies, policed, _dns: dns }
}

/// `a.test` announces a policy; `b.test` has the same hosts and none.
fn zone() -> Zone {
    let mut zone = Zone::new().host("x.test", &["192.0.2.1"]).host("y.test", &["192.0.2.2"]);
    for domain in ["a.test", "b.test"] {
        zone = zone.mx(domain, 1, "x.test").mx(domain, 2, "y.test");
    }
    zone.txt("_mta-sts.a.test", "v=STSv1; id=1;")
}

async fn told(house: &House, domain: &str) -> (String, Vec<String>) {
    let found = house.policed.site(domain).await.unwrap_or_else(|failure| panic!("{domain}: {failure:?}"));
    let hosts = found.site.hosts.iter().map(|host| format!("{} {:?}", host.name, host.policy));
    (found.site.name.to_string(), hosts.collect())
}

fn unpoliced() -> (String, Vec<String>) {
    ("(x|y).test".to_owned(), vec!["x.test None".to_owned(), "y.test None".to_owned()])
}

#[tokio::test]
async fn a_policy_changes_the_site_of_its_own_domain_only() {
    let house = house(zone(), "mta-sts.a.test", good(ENFORCE)).await;
    let cut = ("(x|y).test+sts-y.test".to_owned(), vec!["x.test Sts".to_owned()]);
    assert_eq!(told(&house, "a.test").await, cut);
    assert_eq!(told(&house, "b.test").await, unpoliced(), "another domain with the same hosts");
    assert_eq!(failures(&house.reports, "a.test"), [("validation-failure".to_owned(), 1)]);
    assert_eq!(told(&house, "a.test").await, cut);
    assert_eq!(house.https.asked(), 1, "it is kept");
}

#[tokio::test]
async fn a_policy_that_allows_none_of_the_hosts_keeps_the_mail_back() {
    let house = house(zone(), "mta-sts.a.test", good(&ENFORCE.replace("x.test", "*.other.test"))).await;
    let failure = house.policed.site("a.test").await.expect_err("none is allowed");
    let Failure::Temporary { response } = failure else { panic!("{failure:?}") };
    assert_eq!(
        response.to_string(),
        "451 4.7.5 the MTA-STS policy of a.test (id 1) allows none of its mail exchangers: x.test, y.test"
    );
}

#[tokio::test]
async fn a_policy_on_trial_or_of_no_mode_leaves_the_site_as_it_is() {
    for (mode, is_known) in [("testing", true), ("none", false)] {
        let house = house(zone(), "mta-sts.a.test", good(&ENFORCE.replace("enforce", mode))).await;
        assert_eq!(told(&house, "a.test").await, unpoliced(), "{mode}");
        assert_eq!(house.policies.get("a.test", house.clock.wall()).is_some(), is_known, "{mode}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_file_or_its_server_is_counted_and_no_policy() {
    let long = "x".repeat(70_000);
    for (certificate, first, result) in [
        ("mta-sts.a.test", answer("404 Not Found", "text/plain", ENFORCE), "sts-policy-fetch-error"),
        (
            "mta-sts.a.test",
            answer("301 Moved\r\nLocation: https://x.test/", "text/plain", ENFORCE),
            "sts-policy-fetch-error",
        ),
        ("mta-sts.a.test", good(&long), "sts-policy-fetch-error"),
        ("mta-sts.a.test", answer("200 OK", "text/html", ENFORCE), "sts-policy-invalid"),
        ("mta-sts.a.test", good("<html>"), "sts-policy-invalid"),
        ("mta-sts.a.test", String::new(), "sts-policy-fetch-error"),
        ("a.test", good(ENFORCE), "sts-webpki-invalid"),
    ] {
        let house = house(zone(), certificate, first).await;
        assert_eq!(told(&house, "a.test").await, unpoliced(), "{result}");
        assert_eq!(failures(&house.reports, "a.test"), [(result.to_owned(), 1)]);
        let asked = house.https.asked();
        assert_eq!(told(&house, "a.test").await, unpoliced());
        assert_eq!(house.https.asked(), asked, "a failed fetch has its pause");
    }
}

#[tokio::test]
async fn a_good_policy_outlives_failed_fetches_and_gives_way_to_a_new_one() {
    let house = house(zone(), "mta-sts.a.test", good(ENFORCE)).await;
    let cut = told(&house, "a.test").await;
    house.https.say(answer("500 Oops", "text/plain", ""));
    house.clock.advance(Duration::from_hours(25));
    assert_eq!(told(&house, "a.test").await, cut);
    assert_eq!(house.https.asked(), 2);
    house.clock.advance(Duration::from_mins(6));
    house.https.say(good(&ENFORCE.replace("x.test", "*.test")));
    let whole = ("(x|y).test+sts".to_owned(), vec!["x.test Sts".to_owned(), "y.test Sts".to_owned()]);
    assert_eq!(told(&house, "a.test").await, whole);
    house.https.say(answer("500 Oops", "text/plain", ""));
    house.clock.advance(Duration::from_hours(7 * 24));
    assert_eq!(told(&house, "a.test").await, unpoliced(), "it has ended");
}

#[tokio::test]
async fn many_questions_at_once_are_one_fetch() {
    let house = Arc::new(house(zone(), "mta-sts.a.test", good(ENFORCE)).await);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let house = house.clone();
        asking.spawn(async move { told(&house, "a.test").await.0 });
    }
    assert!(asking.join_all().await.iter().all(|name| name == "(x|y).test+sts-y.test"));
    assert_eq!(house.https.asked(), 1);
}

#[tokio::test]
async fn dane_goes_before_a_policy_host_by_host() {
    let signed = Zone::new()
        .signed()
        .mx("a.test", 1, "x.test")
        .mx("a.test", 2, "y.test")
        .host("x.test", &["192.0.2.1"])
        .host("y.test", &["192.0.2.2"])
        .tlsa("_25._tcp.y.test", 3, 1, 1, &[7; 32])
        .txt("_mta-sts.a.test", "v=STSv1; id=1;");
    let house = house(signed, "mta-sts.a.test", good(ENFORCE)).await;
    let found = house.policed.site("a.test").await.expect("a site");
    // The policy does not name `y.test`, but the TLSA records vouch for it.
    let kinds: Vec<_> = found.site.hosts.iter().map(|host| matches!(host.policy, HostPolicy::Dane(_))).collect();
    assert_eq!((&*found.site.name, kinds), ("(x|y).test+dane+sts", vec![false, true]));
    assert_eq!(found.site.hosts[0].policy, HostPolicy::Sts);
}
