//! Limits of sources that two proxies keep together in a real Redis: one place for one connection, wherever it is.

use std::net::{IpAddr, SocketAddr};

use egret_tests::harness::{Program, Redis, addresses, eventually};

use super::support::{Client, House, Remote, refuses, toml};

const AUTO: &str = "protocol = \"auto\"";

/// One more proxy with the same sources and limits.
fn beside(first: &House, tables: &str) -> House {
    let own = addresses(3);
    let (at, admin) = (SocketAddr::new(own[0].into(), 1080), SocketAddr::new(own[0].into(), 9180));
    let dir = tempfile::tempdir().expect("a directory");
    let sources = format!("\"{}-{}\"", first.sources[0], first.sources[7]);
    let file = dir.path().join("proxy.toml");
    std::fs::write(&file, toml(at, admin, &sources, AUTO, tables)).expect("written");
    let arguments = ["serve", "--config", &file.display().to_string()];
    let proxy = Program::start("egret-proxy", &arguments, &dir.path().join("log"));
    let house = House { dir, proxy, at, admin, sources: first.sources.clone(), remote: own[2] };
    house.ready();
    house
}

/// Two proxies with the same limits.
fn pair(redis: &Redis, limits: &str) -> (House, House) {
    let tables = format!("{limits}\n{}", redis.table());
    let first = House::start(AUTO, &tables);
    let second = beside(&first, &tables);
    (first, second)
}

/// Waits until a connection finds room.
fn finds_room(house: &House, to: SocketAddr) -> Client {
    eventually("room", || {
        let mut client = house.client();
        let reply = client.socks5(house.sources[0], to);
        if reply[1] == 0 { Ok(client) } else { Err(format!("{reply:?}: {}", house.proxy.log())) }
    })
}

/// What the record of a connection that found no room says.
fn is_denied(house: &House, to: SocketAddr) -> String {
    let mut client = house.client();
    refuses(&client.socks5(house.sources[0], to), 1, 31);
    house.record(client.address())["detail"].as_str().expect("a detail").to_owned()
}

/// A Redis that has lost its memory hears within a moment what is held.
fn comes_to_be_denied(house: &House, to: SocketAddr) {
    let reply = eventually("a refusal", || {
        let mut client = house.client();
        let reply = client.socks5(house.sources[0], to);
        client.reset();
        if reply[1] == 0 { Err("there was room".to_owned()) } else { Ok(reply) }
    });
    refuses(&reply, 1, 31);
}

#[test]
fn two_proxies_share_the_places_of_a_source_and_those_of_a_dead_one_come_back() {
    let Some(redis) = Redis::start() else { return };
    let (first, mut second) = pair(&redis, "[limits.source]\nconnections = 3");
    let to = first.remote(2525);
    let one = first.connected(to.address());
    let _others = [second.connected(to.address()), second.connected(to.address())];
    for house in [&first, &second] {
        let detail = is_denied(house, to.address());
        assert!(detail.contains("limits.source.connections is reached by all proxies of the fleet"), "{detail}");
        house.measures("egret_proxy_limit_denied_total{limit=\"source\"} 1");
        house.measures("egret_proxy_limits_degraded 0");
    }
    let mut client = second.client();
    client.say(format!("PROXY TCP4 {} {} 0 2525\r\n", first.sources[0], to.address().ip()).as_bytes());
    let line = String::from_utf8(client.rest().0).expect("a line");
    assert!(line.starts_with("421 ") && line.ends_with("failed: connection_limit_reached\r\n"), "{line:?}");
    let mut elsewhere = second.client();
    assert_eq!(elsewhere.socks5(first.sources[1], to.address())[1], 0, "another source has its own");

    // A place that becomes free at one is taken at the other.
    one.reset();
    let _third = finds_room(&second, to.address());
    is_denied(&first, to.address());

    // One dies with all three.
    second.proxy.crash();
    let _again: Vec<_> = (0..3).map(|_| finds_room(&first, to.address())).collect();
    is_denied(&first, to.address());
}

#[test]
fn without_redis_each_proxy_goes_on_with_its_share_and_with_it_they_share_again() {
    let Some(mut redis) = Redis::start() else { return };
    let (first, second) = pair(&redis, "[limits.source]\nconnections = 4");
    let to = first.remote(2525);
    // Both are known to each other a moment after both have asked.
    for house in [&first, &second] {
        finds_room(house, to.address()).reset();
    }
    eventually("two that know of each other", || {
        redis.stop();
        for house in [&first, &second] {
            house.measures("egret_proxy_limits_degraded 1");
        }
        let ready = [&first, &second].map(|house| house.get("/readyz"));
        let are_two = |(status, text): &(u16, serde_json::Value)| {
            assert_eq!(*status, 200, "the share is kept to: {text}");
            text.as_str().is_some_and(|text| text.contains("limits: this proxy goes on with its share, 1 of 2: "))
        };
        if ready.iter().all(are_two) {
            return Ok(());
        }
        redis.run();
        for house in [&first, &second] {
            house.measures("egret_proxy_limits_degraded 0");
        }
        Err(format!("{ready:?}"))
    });
    let mut held = Vec::new();
    for house in [&first, &second] {
        held.extend([finds_room(house, to.address()), finds_room(house, to.address())]);
        let detail = is_denied(house, to.address());
        assert!(detail.contains("Redis is away, this is the share of this proxy"), "{detail}");
        assert_eq!(house.proxy.log().matches("limits are degraded: ").count(), {
            let back = house.proxy.log().matches("limits are those of the whole fleet again").count();
            back + 1
        });
    }
    redis.run();
    for house in [&first, &second] {
        house.measures("egret_proxy_limits_degraded 0");
        comes_to_be_denied(house, to.address());
    }
    // All places of one become free, and the other has them.
    held.drain(..2).for_each(Client::reset);
    held.extend([finds_room(&second, to.address()), finds_room(&second, to.address())]);
    comes_to_be_denied(&first, to.address());
}

#[test]
fn a_network_is_one_destination_of_the_whole_fleet_and_a_local_limit_is_not() {
    let Some(redis) = Redis::start() else { return };
    let limits = "[limits.source_destination]\nconnections = 1\nipv4_prefix = 24\n[limits.source]\nrate = \"local:3/h,max_burst=3\"";
    let (first, second) = pair(&redis, limits);
    let block = addresses(3)[0].octets();
    let at =
        |third: u8, last: u8| -> SocketAddr { SocketAddr::new(IpAddr::from([127, 250, block[1] ^ third, last]), 2525) };
    let remotes = [at(0, 1), at(0, 2), at(1, 1)].map(Remote::at);
    let _held = first.connected(remotes[0].address());
    let detail = is_denied(&second, remotes[1].address());
    assert!(detail.contains("limits.source_destination.connections is reached by all proxies"), "{detail}");
    for _ in 0..9 {
        is_denied(&second, remotes[1].address());
    }
    let _other = second.connected(remotes[2].address());
    let detail = is_denied(&first, remotes[2].address());
    assert!(detail.contains("source_destination"), "what the fleet denied cost nothing of the own rate: {detail}");
}
