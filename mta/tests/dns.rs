//! Sites from a real DNS server: each kind of answer, and what it means for the mail.

mod policies;
mod support;

use std::net::IpAddr;
use std::time::Duration;

use egret_mta::dns::resolver::{DnsOptions, Failure, MAX_LIFE, MIN_LIFE, Resolved, Resolver};
use egret_shared::address::Networks;
use hickory_proto::op::ResponseCode;
use support::dns::{DnsServer, Fails, Zone};

fn options(server: &DnsServer) -> DnsOptions {
    // Far longer than an answer on loopback takes, so that only names that are silent run into it.
    DnsOptions {
        servers: vec![server.address],
        timeout: Duration::from_secs(5),
        smtp_port: 2525,
        ..DnsOptions::default()
    }
}

fn resolver(server: &DnsServer) -> Resolver {
    Resolver::new(options(server)).expect("servers are given")
}

async fn found(zone: Zone, domain: &str) -> Resolved {
    let server = zone.serve().await;
    resolver(&server).site(domain).await.unwrap_or_else(|failure| panic!("{domain}: {failure:?}"))
}

async fn permanent(zone: Zone, domain: &str) -> String {
    let server = zone.serve().await;
    match resolver(&server).site(domain).await {
        Err(Failure::Permanent { response }) => response.to_string(),
        other => panic!("{domain} is not permanent: {other:?}"),
    }
}

async fn temporary(zone: Zone, domain: &str) -> String {
    let server = zone.serve().await;
    match resolver(&server).site(domain).await {
        Err(Failure::Temporary { response }) => response.to_string(),
        other => panic!("{domain} is not temporary: {other:?}"),
    }
}

fn hosts(found: &Resolved) -> Vec<(String, Vec<IpAddr>)> {
    found.site.hosts.iter().map(|host| (host.name.to_string(), host.addresses.clone())).collect()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address of the test")).collect()
}

#[tokio::test]
async fn hosts_stand_in_the_order_of_preference_with_both_families() {
    let zone = Zone::new()
        .mx("a.test", 20, "second.test")
        .mx("a.test", 10, "first.test")
        .host("first.test", &["192.0.2.1", "192.0.2.2", "2001:db8::1"])
        .host("second.test", &["192.0.2.3"]);
    let found = found(zone, "a.test").await;
    assert_eq!(&*found.site.name, "(first|second).test");
    let hosts = hosts(&found);
    assert_eq!((hosts[0].0.as_str(), hosts[1].0.as_str()), ("first.test", "second.test"));
    let mut first = hosts[0].1.clone();
    assert_eq!(first[1], ips(&["2001:db8::1"])[0], "families do not stand in turn");
    first.sort();
    assert_eq!(first, ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]));
    assert!(found.site.hosts.iter().all(|host| host.port == 2525));
}

#[tokio::test]
async fn domains_with_the_same_hosts_share_a_site_whatever_the_order() {
    let mut zone = Zone::new().host("x.test", &["192.0.2.1"]).host("y.test", &["192.0.2.2"]);
    for (domain, first, second) in [("a.test", "x.test", "y.test"), ("b.test", "y.test", "X.test")] {
        zone = zone.mx(domain, 5, first).mx(domain, 5, second);
    }
    let server = zone.serve().await;
    let resolver = resolver(&server);
    let mut names = Vec::new();
    for domain in ["a.test", "b.test"] {
        names.push(resolver.site(domain).await.expect("a site").site.name.clone());
    }
    assert_eq!(names, [names[0].clone(), "(x|y).test".into()]);
}

#[tokio::test]
async fn a_null_mx_is_permanent_and_says_so() {
    let words = permanent(Zone::new().mx("a.test", 0, "."), "a.test").await;
    assert_eq!(words, "556 5.1.10 a.test takes no mail (null MX)");
}

#[tokio::test]
async fn a_domain_that_does_not_exist_is_permanent() {
    assert_eq!(permanent(Zone::new(), "no.test").await, "550 5.1.2 there is no domain no.test");
    assert_eq!(permanent(Zone::new(), "").await, "550 5.1.2 there is no domain ");
}

#[tokio::test]
async fn without_mx_the_domain_itself_is_the_host() {
    let found = found(Zone::new().host("a.test", &["192.0.2.1", "2001:db8::1"]), "a.test").await;
    assert_eq!(&*found.site.name, "a.test");
    assert_eq!(hosts(&found), [("a.test".to_owned(), ips(&["192.0.2.1", "2001:db8::1"]))]);
}

#[tokio::test]
async fn a_name_without_mx_and_address_is_permanent() {
    // `a.test` exists, because a name below it does.
    let words = permanent(Zone::new().host("b.a.test", &["192.0.2.1"]), "a.test").await;
    assert_eq!(words, "550 5.1.2 a.test has neither mail exchanger nor address");
}

#[tokio::test]
async fn servers_that_fail_or_are_silent_are_temporary() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr] {
        let zone = Zone::new().mx("a.test", 1, "x.test").failing("a.test", Fails::With(code));
        let words = temporary(zone, "a.test").await;
        assert!(words.starts_with("451 4.4.3 looking up a.test: "), "{code}: {words}");
    }
    let server = Zone::new().failing("a.test", Fails::Silently).serve().await;
    let brief = DnsOptions { timeout: Duration::from_millis(200), ..options(&server) };
    let failure = Resolver::new(brief).expect("servers are given").site("a.test").await.expect_err("no answer");
    assert!(matches!(failure, Failure::Temporary { .. }), "{failure:?}");
    assert!(server.asked("a.test") > 0);
}

#[tokio::test]
async fn a_host_that_cannot_be_looked_up_is_left_out_for_now_only() {
    let zone = Zone::new()
        .ttl(3_600)
        .mx("a.test", 10, "bad.test")
        .mx("a.test", 20, "good.test")
        .host("good.test", &["192.0.2.1"])
        .failing("bad.test", Fails::With(ResponseCode::ServFail));
    let found = found(zone, "a.test").await;
    assert_eq!(hosts(&found), [("good.test".to_owned(), ips(&["192.0.2.1"]))]);
    assert_eq!(&*found.site.name, "(bad|good).test", "the name moves with the weather");
    assert_eq!(found.expires_in, MIN_LIFE);
}

#[tokio::test]
async fn when_no_host_could_be_looked_up_it_is_temporary() {
    let zone = Zone::new()
        .mx("a.test", 10, "bad.test")
        .mx("a.test", 20, "inside.test")
        .host("inside.test", &["10.0.0.1"])
        .failing("bad.test", Fails::With(ResponseCode::ServFail));
    assert!(temporary(zone, "a.test").await.starts_with("451 4.4.3"));
}

#[tokio::test]
async fn hosts_without_address_are_permanent() {
    let words = permanent(Zone::new().mx("a.test", 10, "gone.test"), "a.test").await;
    assert_eq!(words, "550 5.4.4 no mail exchanger of a.test has an address");
}

#[tokio::test]
async fn address_texts_as_hosts_are_passed_over() {
    let zone = Zone::new()
        .mx("a.test", 10, "192.0.2.9")
        .mx("a.test", 20, "x.test")
        .mx("b.test", 10, "192.0.2.9")
        .host("x.test", &["192.0.2.1"]);
    let server = zone.serve().await;
    let resolver = resolver(&server);
    assert_eq!(&*resolver.site("a.test").await.expect("a site").site.name, "x.test");
    let failure = resolver.site("b.test").await.expect_err("an address is no host");
    let Failure::Permanent { response } = failure else { panic!("{failure:?}") };
    assert_eq!(response.to_string(), "550 5.4.4 no MX record of b.test names a host");
}

#[tokio::test]
async fn aliases_are_followed_and_do_not_count_as_hosts() {
    let zone = Zone::new()
        .alias("a.test", "b.test")
        .mx("b.test", 10, "m.test")
        .alias("m.test", "x.test")
        .host("x.test", &["192.0.2.1"]);
    let found = found(zone, "a.test").await;
    assert_eq!(hosts(&found), [("m.test".to_owned(), ips(&["192.0.2.1"]))]);
}

#[tokio::test]
async fn an_alias_loop_is_temporary() {
    let words = temporary(Zone::new().alias("a.test", "b.test").alias("b.test", "a.test"), "a.test").await;
    assert!(words.starts_with("451 4.4.3"), "{words}");
}

#[tokio::test]
async fn addresses_of_special_use_are_refused_unless_allowed() {
    let zone = || {
        Zone::new()
            .mx("in.test", 10, "in-host.test")
            .host("in-host.test", &["127.0.0.1", "::ffff:10.0.0.1", "fe80::1"])
            .mx("mixed.test", 10, "mixed-host.test")
            .host("mixed-host.test", &["127.0.0.1", "192.0.2.1"])
            .host("implicit.test", &["169.254.169.254"])
    };
    assert!(
        permanent(zone(), "in.test").await.starts_with("550 5.4.4 in.test points only to addresses of special use")
    );
    let words = permanent(zone(), "implicit.test").await;
    assert!(words.contains("169.254.169.254: link-local, cloud metadata"), "{words}");
    assert_eq!(hosts(&found(zone(), "mixed.test").await)[0].1, ips(&["192.0.2.1"]));

    let server = zone().serve().await;
    let allowed = Networks::new(vec!["127.0.0.0/8".parse().expect("a network")]);
    let resolver = Resolver::new(DnsOptions { allow_special_destinations: allowed, ..options(&server) });
    let found = resolver.expect("servers are given").site("in.test").await.expect("a site");
    assert_eq!(hosts(&found)[0].1, ips(&["127.0.0.1"]));
}

#[tokio::test]
async fn address_literals_need_no_server() {
    let server = Zone::new().serve().await;
    let resolver = resolver(&server);
    for (literal, ip) in [("[192.0.2.1]", "192.0.2.1"), ("[ipv6:2001:db8::1]", "2001:db8::1")] {
        let found = resolver.site(literal).await.expect("a site");
        assert_eq!((&*found.site.name, hosts(&found)[0].1.clone()), (literal, ips(&[ip])));
        assert_eq!(found.expires_in, MAX_LIFE);
    }
    for refused in ["[127.0.0.1]", "[ipv6:::1]", "[ipv6:::ffff:10.0.0.1]", "[nonsense]"] {
        let failure = resolver.site(refused).await.expect_err("is refused");
        assert!(matches!(failure, Failure::Permanent { .. }), "{refused}: {failure:?}");
    }
}

#[tokio::test]
async fn large_sets_are_cut_and_come_over_tcp() {
    // Far more than a UDP answer holds.
    let mut zone = Zone::new();
    for n in 1..=150 {
        let host = format!("a-rather-long-host-name-number-{n:03}.test");
        zone = zone.mx("a.test", n, &host).host(&host, &["192.0.2.1"]);
    }
    for n in 1..=200 {
        zone = zone.host("many.test", &[format!("192.0.2.{n}").as_str()]);
    }
    let server = zone.serve().await;
    let resolver = resolver(&server);
    let found = resolver.site("a.test").await.expect("a site");
    assert_eq!(found.site.hosts.len(), 20);
    assert_eq!(&*found.site.hosts[19].name, "a-rather-long-host-name-number-020.test");
    assert_eq!(resolver.site("many.test").await.expect("a site").site.hosts[0].addresses.len(), 10);
}

#[tokio::test]
async fn lives_are_held_between_half_a_minute_and_a_day() {
    for (ttl, want) in [(0, MIN_LIFE), (u32::from(u16::MAX) * 30, MAX_LIFE), (3_600, Duration::from_hours(1))] {
        let zone = Zone::new().ttl(ttl).mx("a.test", 1, "x.test").host("x.test", &["192.0.2.1"]);
        let life = found(zone, "a.test").await.expires_in;
        // The cache may have counted a second already.
        assert!(life <= want && life + Duration::from_secs(2) >= want, "{ttl}: {life:?}");
    }
}

#[tokio::test]
async fn answers_are_remembered_and_names_with_underscores_asked() {
    let server = Zone::new().mx("a_b.test", 1, "x.test").host("x.test", &["192.0.2.1"]).serve().await;
    let resolver = resolver(&server);
    resolver.site("a_b.test").await.expect("a site");
    let asked = (server.asked("a_b.test"), server.asked("x.test"));
    assert_eq!(asked, (1, 2));
    resolver.clone().site("a_b.test").await.expect("a site");
    assert_eq!((server.asked("a_b.test"), server.asked("x.test")), asked);
}

#[tokio::test]
async fn one_open_question_at_a_time_is_enough() {
    let zone = Zone::new().mx("a.test", 1, "x.test").mx("a.test", 2, "y.test");
    let server = zone.host("x.test", &["192.0.2.1"]).host("y.test", &["192.0.2.2"]).serve().await;
    let resolver = Resolver::new(DnsOptions { concurrency: 1, ..options(&server) }).expect("servers are given");
    assert_eq!(resolver.site("a.test").await.expect("a site").site.hosts.len(), 2);
}
