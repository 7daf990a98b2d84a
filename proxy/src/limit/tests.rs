//! Limits of this proxy and of a fleet. Floor 2.

use egret_shared::limits::Rate;

use super::own::SWEEP_ABOVE;
use super::*;

fn count(text: &str) -> Limit {
    Limit { connections: Some(text.parse().expect("a count")), rate: None }
}

fn rate(text: &str) -> Limit {
    Limit { connections: None, rate: Some(text.parse().expect("a rate")) }
}

fn caps(scope: Scope, limit: Limit) -> Caps {
    let mut caps = Caps::default();
    caps.limits[scope as usize] = limit;
    caps
}

fn wish(source: u8, destination: u8) -> Wish<'static> {
    let ip = |last| IpAddr::from([192, 0, 2, last]);
    Wish { client: ip(100), user: Some("u"), source: ip(source), destination: ip(destination) }
}

/// Decides at once.
fn take(limits: &OwnLimits, caps: &Caps, wish: &Wish<'_>, now: Instant) -> Result<OwnLease, Denied> {
    limits.take(caps, wish, now, false)
}

#[test]
fn connections_are_taken_and_given_back() {
    let (limits, now) = (OwnLimits::default(), Instant::now());
    let caps = caps(Scope::Source, count("2"));
    let held = [take(&limits, &caps, &wish(1, 9), now), take(&limits, &caps, &wish(1, 8), now)];
    assert!(held.iter().all(Result::is_ok));
    let denied = take(&limits, &caps, &wish(1, 7), now).err().expect("two at once");
    assert_eq!((denied.scope, denied.what, denied.retry_after), (Scope::Source, What::Connections, None));
    assert!(take(&limits, &caps, &wish(2, 9), now).is_ok(), "another source has its own");
    drop(held);
    assert!(take(&limits, &caps, &wish(1, 9), now).is_ok());
}

#[test]
fn none_at_all_is_a_limit_too() {
    let mut caps = caps(Scope::Client, Limit::default());
    caps.limits[Scope::Client as usize].connections = Some(Count { count: 0, local: true });
    assert!(take(&OwnLimits::default(), &caps, &wish(1, 9), Instant::now()).is_err());
}

#[test]
fn a_pair_is_a_pair_and_a_rate_says_when() {
    let (limits, now) = (OwnLimits::default(), Instant::now());
    let caps = caps(Scope::SourceDestination, rate("2/s,max_burst=1"));
    assert!(take(&limits, &caps, &wish(1, 9), now).is_ok());
    let denied = take(&limits, &caps, &wish(1, 9), now).err().expect("one at once");
    assert_eq!(denied.retry_after, Some(Duration::from_millis(500)));
    assert!(denied.fault(&wish(1, 9)).detail.contains("limits.source_destination.rate is reached"));
    assert!(take(&limits, &caps, &wish(1, 8), now).is_ok(), "another destination has its own");
    assert!(take(&limits, &caps, &wish(1, 9), now + Duration::from_millis(500)).is_ok());
}

#[test]
fn a_network_is_one_destination() {
    let (limits, now) = (OwnLimits::default(), Instant::now());
    let mut caps = caps(Scope::SourceDestination, count("1"));
    caps.widths = Widths { ipv4: 28, ipv6: 64 };
    let _held = take(&limits, &caps, &wish(1, 1), now).ok().expect("room");
    assert!(take(&limits, &caps, &wish(1, 15), now).is_err());
    assert!(take(&limits, &caps, &wish(1, 16), now).is_ok());
    let to = |text: &str| Wish { destination: text.parse().expect("an address"), ..wish(1, 1) };
    assert!(take(&limits, &caps, &to("::ffff:192.0.2.14"), now).is_err(), "a mapped address is what is in it");
    let _other = take(&limits, &caps, &to("2001:db8::1"), now).ok().expect("room");
    assert!(take(&limits, &caps, &to("2001:db8::2:1"), now).is_err());
    assert!(take(&limits, &caps, &to("2001:db8:0:1::1"), now).is_ok());
    assert_eq!(name(Scope::Source, &caps, &wish(1, 9)), "proxy source 192.0.2.1");
    assert_eq!(name(Scope::SourceDestination, &caps, &wish(1, 17)), "proxy source 192.0.2.1->192.0.2.16/28");
    caps.widths = Widths::default();
    assert_eq!(name(Scope::SourceDestination, &caps, &to("2001:db8::2")), "proxy source 192.0.2.1->2001:db8::2/128");
}

#[test]
fn what_is_denied_takes_nothing() {
    let (limits, now) = (OwnLimits::default(), Instant::now());
    let mut both = caps(Scope::Total, count("5"));
    both.limits[Scope::Source as usize] = count("1");
    let held = take(&limits, &both, &wish(1, 9), now);
    for _ in 0..10 {
        assert!(take(&limits, &both, &wish(1, 9), now).is_err());
    }
    let others: Vec<_> = (2..6).map(|source| take(&limits, &both, &wish(source, 9), now)).collect();
    assert!(held.is_ok() && others.iter().all(Result::is_ok), "four places of five were left");
}

#[test]
fn what_is_idle_is_forgotten() {
    let (limits, now) = (OwnLimits::default(), Instant::now());
    let caps = caps(Scope::SourceDestination, count("1"));
    for n in 0..100_000u32 {
        let wish = Wish { destination: IpAddr::from(n.to_be_bytes()), ..wish(1, 1) };
        assert!(take(&limits, &caps, &wish, now).is_ok());
    }
    assert!(limits.len() <= SWEEP_ABOVE);
}

/// A limit of the fleet, one of this proxy alone, and both: what the fleet denies costs nothing here.
#[tokio::test]
async fn the_fleet_has_its_limits_and_this_proxy_its_own() {
    let (limits, clock) = (Limits::of_fleet(limits::Limits::memory()), Clock::system());
    let mut caps = caps(Scope::Source, count("1"));
    let client: Rate = "2/h,max_burst=2".parse().expect("a rate");
    caps.limits[Scope::Client as usize].rate = Some(Throttle { rate: client, local: true });
    caps.limits[Scope::SourceDestination as usize] = count("local:1");
    let held = limits.take(&caps, &wish(1, 9), &clock).await.ok().expect("room");
    let denied = limits.take(&caps, &wish(1, 9), &clock).await.err().expect("one at once");
    assert_eq!((denied.scope, denied.keeper), (Scope::SourceDestination, Keeper::Own));
    for _ in 0..5 {
        let denied = limits.take(&caps, &wish(1, 8), &clock).await.err().expect("one at once");
        assert_eq!((denied.scope, denied.what, denied.keeper), (Scope::Source, What::Connections, Keeper::Fleet));
        let detail = denied.fault(&wish(1, 8)).detail;
        assert!(detail.contains("limits.source.connections is reached by all proxies"), "{detail}");
    }
    drop(held);
    assert!(limits.take(&caps, &wish(1, 9), &clock).await.is_ok(), "five refusals used nothing of the client's rate");
    let denied = limits.take(&caps, &wish(1, 9), &clock).await.err().expect("two an hour");
    assert_eq!((denied.scope, denied.what), (Scope::Client, What::Rate));
}

#[tokio::test]
async fn a_rate_of_the_fleet_is_told_as_a_rate_though_the_count_has_its_name() {
    let (limits, clock) = (Limits::of_fleet(limits::Limits::memory()), Clock::system());
    let limit = Limit { rate: rate("1/h").rate, ..count("5") };
    let caps = caps(Scope::Source, limit);
    assert!(limits.take(&caps, &wish(1, 9), &clock).await.is_ok());
    let denied = limits.take(&caps, &wish(1, 9), &clock).await.err().expect("one an hour");
    assert_eq!((denied.what, denied.keeper), (What::Rate, Keeper::Fleet));
    assert!(denied.retry_after > Some(Duration::from_secs(3500)));
}
