//! A host of its own, in a network namespace: addresses that go and come, and few local ports.
//! Skipped, with a message, where a namespace cannot be made.

use std::net::{IpAddr, SocketAddr};

use egret_tests::harness::{Namespace, Program, binary, eventually};

use super::support::{Client, Ended, Remote, http, refuses, toml};

/// A proxy inside, with its admin address.
fn proxy(space: &Namespace, sources: &str, dir: &tempfile::TempDir) -> (Program, SocketAddr, SocketAddr) {
    let (at, admin) = (SocketAddr::new(space.there[0], 1080), SocketAddr::new(space.there[0], 9180));
    let file = dir.path().join("proxy.toml");
    let text = toml(at, admin, "", "", "[timeouts]\nconnect = \"2s\"")
        .replace("addresses = []", &format!("addresses = {sources}"));
    std::fs::write(&file, text).expect("written");
    let mut command = space.command(binary("egret-proxy"));
    let proxy = Program::spawn(command.args(["serve", "--config"]).arg(&file), &dir.path().join("log"));
    eventually("the proxy's readiness", || match http(admin, "GET", "/readyz") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}: {}", proxy.log())),
    });
    (proxy, at, admin)
}

#[test]
fn an_address_that_goes_is_told_at_once_and_comes_back_by_itself() {
    let Some(space) = Namespace::new(2) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let listed = format!("[\"{}\", \"{}\"]", space.sources[0], space.sources[1]);
    let (_proxy, at, admin) = proxy(&space, &listed, &dir);
    let remote = Remote::at(SocketAddr::new(space.here, 2525));
    let [first, second] = space.sources[..] else { panic!("two sources") };
    let up = |source: IpAddr, wanted: u8| {
        let line = format!("egret_proxy_source_up{{source=\"{source}\"}} {wanted}");
        eventually(&line, || {
            let (_, text) = http(admin, "GET", "/metrics")?;
            if text.lines().any(|found| found == line) { Ok(()) } else { Err(text) }
        });
    };
    assert_eq!(Client::to(at).socks5(first, remote.address())[1], 0);
    assert_eq!(remote.accept().1, first);
    up(first, 1);
    space.inside(&format!("address delete {first}/24 dev inside"));
    refuses(&Client::to(at).socks5(first, remote.address()), 1, 10);
    up(first, 0);
    for _ in 0..4 {
        assert_eq!(Client::to(at).connect(remote.address())[1], 0, "a rotation passes over it");
        assert_eq!(remote.accept().1, second);
    }
    space.inside(&format!("address add {first}/24 dev inside"));
    up(first, 1);
    assert_eq!(Client::to(at).socks5(first, remote.address())[1], 0);
    assert_eq!(remote.accept().1, first);
}

#[test]
fn an_address_that_goes_between_bind_and_connect_is_not_blamed_on_the_destination() {
    let Some(space) = Namespace::new(2) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let listed = format!("[\"{}\"]", space.sources[0]);
    let (_proxy, at, _) = proxy(&space, &listed, &dir);
    let remote = Remote::at(SocketAddr::new(space.here, 2525));
    let mut client = Client::to(at);
    client.say(super::support::HELLO);
    client.say(&super::support::request(2, SocketAddr::new(space.sources[0], 0)));
    assert_eq!(client.hear(), [5, 0]);
    assert_eq!(client.reply()[1], 0);
    space.inside(&format!("address delete {}/24 dev inside", space.sources[0]));
    client.say(&super::support::request(1, remote.address()));
    refuses(&client.reply(), 1, 10);
}

#[test]
fn a_session_ends_at_once_when_its_address_goes_and_others_go_on() {
    let Some(space) = Namespace::new(2) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let listed = format!("[\"{}\", \"{}\"]", space.sources[0], space.sources[1]);
    let (_proxy, at, admin) = proxy(&space, &listed, &dir);
    let remote = Remote::at(SocketAddr::new(space.here, 2525));
    let open = |source: IpAddr| {
        let mut client = Client::to(at);
        assert_eq!(client.socks5(source, remote.address())[1], 0);
        (client, remote.accept().0)
    };
    let ((mut lost, _far), (mut other, mut far)) = (open(space.sources[0]), open(space.sources[1]));
    let client = lost.address();
    space.take(space.sources[0]);
    assert_eq!(lost.rest(), (Vec::new(), Ended::Reset));
    let record = eventually("the end of the session", || match http(admin, "GET", &format!("/v1/sessions/{client}")) {
        Ok((200, record)) if !record.contains("\"open\"") => Ok(record),
        other => Err(format!("{other:?}")),
    });
    for part in ["\"reason\":\"source_not_plumbed\"", "\"closed_by\":\"proxy\"", "\"end\":\"reset\""] {
        assert!(record.contains(part), "{part} is not in {record}");
    }
    other.say(b"still here");
    assert_eq!(&far.hear::<10>(), b"still here");
}

#[test]
fn too_few_ports_are_their_own_reason_at_connect() {
    let Some(space) = Namespace::new(2) else { return };
    let range = space.command("sysctl").args(["-qw", "net.ipv4.ip_local_port_range=40000 40001"]).status();
    assert!(range.is_ok_and(|status| status.success()));
    let dir = tempfile::tempdir().expect("a directory");
    let listed = format!("[\"{}\"]", space.sources[0]);
    let (_proxy, at, _) = proxy(&space, &listed, &dir);
    let (remote, other) = (Remote::at(SocketAddr::new(space.here, 2525)), Remote::at(SocketAddr::new(space.here, 587)));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::to(at);
        assert_eq!(client.socks5(space.sources[0], remote.address())[1], 0);
        held.push((client, remote.accept()));
    }
    refuses(&Client::to(at).socks5(space.sources[0], remote.address()), 1, 13);
    let to_another = Client::to(at).socks5(space.sources[0], other.address());
    assert_eq!(to_another[1], 0, "the limit is for each destination");
}

#[test]
fn the_hosts_own_addresses_are_found_and_followed() {
    let Some(space) = Namespace::new(2) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (_proxy, at, admin) = proxy(&space, "\"auto\"", &dir);
    let remote = Remote::at(SocketAddr::new(space.here, 2525));
    assert_eq!(Client::to(at).socks5(space.sources[1], remote.address())[1], 0);
    assert_eq!(remote.accept().1, space.sources[1]);
    let new: IpAddr = space.here.to_string().replace(".1", ".77").parse().unwrap_or(space.sources[1]);
    let new = if new.is_ipv4() { IpAddr::from([10, 213, octet(space.here), 77]) } else { new };
    refuses(&Client::to(at).socks5(new, remote.address()), 1, 10);
    space.inside(&format!("address add {new}/24 dev inside"));
    eventually("the new address", || {
        let (_, text) = http(admin, "GET", "/v1/sources")?;
        if text.contains(&new.to_string()) { Ok(()) } else { Err(text) }
    });
    assert_eq!(Client::to(at).socks5(new, remote.address())[1], 0);
    assert_eq!(remote.accept().1, new);
    refuses(&Client::to(at).socks5("127.0.0.1".parse().expect("an address"), remote.address()), 1, 10);
}

fn octet(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => ip.octets()[2],
        IpAddr::V6(_) => 0,
    }
}

#[test]
fn a_route_that_says_no_is_told_as_what_it_is() {
    let Some(space) = Namespace::new(2) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (_proxy, at, _) = proxy(&space, &format!("[\"{}\"]", space.sources[0]), &dir);
    for (route, to, code, number) in [
        ("unreachable", "93.184.1.1", 4, 22),
        ("prohibit", "93.184.2.1", 2, 24),
        ("blackhole", "93.184.3.1", 3, 23),
        ("", "93.184.4.1", 3, 23),
    ] {
        if !route.is_empty() {
            space.inside(&format!("route add {route} {to}/32"));
        }
        let to = SocketAddr::new(to.parse().expect("an address"), 25);
        refuses(&Client::to(at).socks5(space.sources[0], to), code, number);
    }
    // A destination that does not answer: no host has the address.
    let silent = SocketAddr::new(IpAddr::from([10, 213, octet(space.here), 200]), 25);
    let reply = Client::to(at).socks5(space.sources[0], silent);
    assert!(reply[1] == 6 && reply[7] == 21 || reply[1] == 4 && reply[7] == 22, "{reply:?}");
}
