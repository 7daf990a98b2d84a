//! Each failure of a dial has its party and its reason, to the MTA and to a SOCKS5 client.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use egret_tests::harness::{Fleet, Options, addresses};
use egret_tests::peer::sink::Behaviour;

use crate::support::{offer, sink};

/// What a SOCKS5 client hears: reply code and reason.
fn socks5(proxy: SocketAddr, source: IpAddr, to: SocketAddr) -> (u8, u8) {
    let mut stream = TcpStream::connect(proxy).expect("connects");
    let mut request = vec![5, 1, 0];
    for (command, address) in [(2, SocketAddr::new(source, 0)), (1, to)] {
        let IpAddr::V4(ip) = address.ip() else { panic!("IPv4") };
        request.extend([5, command, 0, 1]);
        request.extend(ip.octets());
        request.extend(address.port().to_be_bytes());
    }
    stream.write_all(&request).expect("written");
    let mut replies = Vec::new();
    stream.read_to_end(&mut replies).expect("an answer and an end");
    let last = replies.len() - 10;
    (replies[last + 1], replies[last + 7])
}

/// A listener whose queue is full: further connects get no answer.
fn silent() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let address = SocketAddr::new(addresses(1)[0].into(), 2525);
    socket.bind(&address.into()).expect("bound");
    socket.listen(0).expect("listens");
    let fill = || {
        let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        filler.set_nonblocking(true).expect("set");
        let _ = filler.connect(&address.into());
        TcpStream::from(filler)
    };
    let fillers = (0..4).map(|_| fill()).collect();
    (address, fillers, socket.into())
}

fn route(to: SocketAddr) -> String {
    format!("[[route]]\ndomains = [\"*\"]\nhosts = [\"{to}\"]\n")
}

/// Sends a message and waits for its fault.
fn fault_of(options: &Options) -> (String, String, Fleet) {
    let fleet = Fleet::start(options);
    assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    let text = |key: &str| fault[key].as_str().unwrap_or_default().to_owned();
    (text("party"), text("reason"), fleet)
}

#[test]
fn a_refused_connection_is_the_destinations() {
    for dialect in ["socks5", "proxy-v2"] {
        let (party, reason, fleet) = fault_of(&Options { dialect: Some(dialect), ..Options::default() });
        assert_eq!((&*party, &*reason), ("remote", "connection_refused"), "{dialect}");
        let retried = fleet.event("the attempt", |event| event["type"] == "transient_failure");
        assert_eq!(retried["attempt"], 1);
        assert_eq!(socks5(fleet.socks5, fleet.sources[0], fleet.sink), (5, 20));
    }
}

#[test]
fn silence_is_the_destinations() {
    let (silent, _fillers, _listener) = silent();
    for dialect in ["socks5", "proxy-v2"] {
        let options = Options { dialect: Some(dialect), tables: route(silent), ..Options::default() };
        let (party, reason, fleet) = fault_of(&options);
        assert_eq!((&*party, &*reason), ("remote", "connection_timeout"), "{dialect}");
        assert_eq!(socks5(fleet.socks5, fleet.sources[0], silent), (6, 21));
    }
}

#[test]
fn a_port_that_may_not_be_dialed_is_the_proxys() {
    let tables = route(SocketAddr::new(addresses(1)[0].into(), 8080));
    for dialect in ["socks5", "proxy-v2"] {
        let options = Options { dialect: Some(dialect), tables: tables.clone(), ..Options::default() };
        let (party, reason, fleet) = fault_of(&options);
        assert_eq!((&*party, &*reason), ("proxy", "destination_ip_prohibited"), "{dialect}");
        let port = SocketAddr::new(fleet.sink.ip(), 8080);
        assert_eq!(socks5(fleet.socks5, fleet.sources[0], port), (2, 43));
        let attempts = fleet.events().iter().filter(|event| event["type"] == "transient_failure").count();
        assert_eq!(attempts, 0, "a fault of the proxy counted as an attempt");
    }
}

#[test]
fn a_destination_of_special_use_is_the_proxys() {
    let options = Options { dialect: Some("socks5"), proxy_allows: Some("10.0.0.0/8"), ..Options::default() };
    let (party, reason, fleet) = fault_of(&options);
    assert_eq!((&*party, &*reason), ("proxy", "destination_ip_prohibited"));
    assert_eq!(socks5(fleet.socks5, fleet.sources[0], fleet.sink), (2, 43));
    let log = fleet.proxy.as_ref().expect("a proxy").log();
    assert!(log.contains("access.allow_special_destinations"), "the key is not named: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_held_or_not_there_is_the_sources_and_another_one_carries() {
    let foreign: IpAddr = [127, 1, 2, 3].into();
    for (source, reason) in [(foreign, "source_not_allowed")] {
        let tables = format!(
            "[source.foreign]\naddress = \"{source}\"\nproxy = \"p\"\n[pool.only]\nsources = {{ foreign = 100, s0 = 1 }}\n"
        );
        let fleet = Fleet::start(&Options { dialect: Some("socks5"), tables, ..Options::default() });
        let sink = sink(&fleet, Behaviour::default()).await;
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
        let fault = fleet.event("the fault", |event| event["type"] == "fault");
        assert_eq!((fault["party"].as_str(), fault["reason"].as_str()), (Some("source"), Some(reason)));
        let delivery = fleet.event("delivery by the other source", |event| event["type"] == "delivery");
        assert_eq!((delivery["source"].as_str(), delivery["attempt"].as_u64()), (Some("s0"), Some(1)));
        assert_eq!(sink.stats().received, 1);
        assert_eq!(socks5(fleet.socks5, source, fleet.sink), (2, 11));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_proxy_is_the_proxys_and_a_direct_source_carries() {
    let tables = "[source.direct]\n[pool.both]\nsources = { s0 = 100, direct = 1 }\n".to_owned();
    let mut fleet = Fleet::start(&Options { dialect: Some("socks5"), tables, ..Options::default() });
    let sink = sink(&fleet, Behaviour::default()).await;
    fleet.proxy = None;
    assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    assert_eq!((fault["party"].as_str(), fault["reason"].as_str()), (Some("proxy"), Some("proxy_unreachable")));
    let delivery = fleet.event("delivery by the other way", |event| event["type"] == "delivery");
    assert_eq!(delivery["source"], "direct");
    assert_eq!(sink.stats().received, 1);
    // The proxy comes back, and is used again.
    fleet.restart_proxy();
    egret_tests::harness::eventually("use of the proxy", || {
        assert!(offer(fleet.smtp, "s@good.example", "r@good.example").starts_with("250 "));
        std::thread::sleep(std::time::Duration::from_millis(200));
        let events = fleet.events();
        let used = events.iter().any(|event| event["type"] == "delivery" && event["source"] == "s0");
        if used { Ok(()) } else { Err("not yet".to_owned()) }
    });
}
