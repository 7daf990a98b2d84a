//! What goes over the wire, byte by byte: SOCKS5 in KumoMTA's dialect, and PROXY headers.

use std::net::SocketAddr;

use super::support::{Client, Ended, HELLO, House, WELCOME, refuses, request};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [V2, &[command, family], &length, body].concat()
}

fn v2_to(house: &House, to: SocketAddr) -> Vec<u8> {
    let (std::net::IpAddr::V4(from), SocketAddr::V4(to)) = (house.sources[0], to) else { panic!("IPv4") };
    v2(0x21, 0x11, &[&from.octets()[..], &to.ip().octets(), &[0, 0], &to.port().to_be_bytes()].concat())
}

#[test]
fn the_dialect_works_however_it_is_cut() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    let talk =
        [HELLO, &request(2, SocketAddr::new(house.sources[3], 0)), &request(1, remote.address()), b"hello"].concat();
    for piece in [1, 2, 3, 7, talk.len()] {
        let mut client = house.client();
        for piece in talk.chunks(piece) {
            client.say(piece);
        }
        assert_eq!(client.hear(), [5, 0]);
        let bound = client.reply();
        assert_eq!((bound[1], &bound[8..]), (0, &[0, 0][..]), "the port is chosen at CONNECT");
        let (mut accepted, from) = remote.accept();
        assert_eq!(from, house.sources[3]);
        let connected = client.reply();
        assert_eq!(connected[..8], bound[..8], "the same address, and success");
        assert_eq!(connected[8..], accepted.0.peer_addr().expect("connected").port().to_be_bytes());
        assert_eq!(accepted.hear(), *b"hello");
        accepted.say(b"220 hi\r\n");
        assert_eq!(client.hear(), *b"220 hi\r\n");
    }
}

#[test]
fn the_last_of_two_binds_counts_and_without_one_sources_take_turns() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    let mut client = house.client();
    client.say(HELLO);
    for source in [1, 2] {
        client.say(&request(2, SocketAddr::new(house.sources[source], 0)));
    }
    client.say(&request(1, remote.address()));
    assert_eq!(remote.accept().1, house.sources[2]);
    let mut seen: Vec<_> = (0..8)
        .map(|_| {
            let mut client = house.client();
            assert_eq!(client.connect(remote.address())[1], 0);
            remote.accept().1
        })
        .collect();
    seen.sort();
    assert_eq!(seen, house.sources);
}

#[test]
fn what_is_not_offered_is_answered_and_not_just_closed() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    for (bytes, code, number) in [
        (&[5, 0, 0, 1, 1, 2, 3, 4, 0, 25][..], 7, 44),
        (&[5, 4, 0, 1, 1, 2, 3, 4, 0, 25][..], 7, 44),
        (&[5, 0xF0, 0, 1, 1, 2, 3, 4, 0, 25][..], 7, 44),
        (&[5, 3, 0, 1, 1, 2, 3, 4, 0, 25][..], 7, 44),
        (&[5, 2, 0, 1, 127, 0, 0, 1, 0, 25][..], 7, 44),
        (&[5, 1, 0, 0, 1, 2, 3, 4, 0, 25][..], 8, 45),
        (&[5, 1, 0, 2, 1, 2, 3, 4, 0, 25][..], 8, 45),
        (b"\x05\x01\x00\x03\x0bexample.com\x00\x19", 8, 45),
        (&[4, 1, 0, 25, 1, 2, 3, 4, 0], 1, 46),
    ] {
        let mut client = house.client();
        client.say(&[HELLO, bytes].concat());
        assert_eq!(client.hear(), *WELCOME.first_chunk::<2>().expect("two bytes"));
        refuses(&client.reply(), code, number);
        assert_eq!(client.rest(), (Vec::new(), Ended::Closed), "{bytes:?}");
    }
    for greeting in [&[5, 0][..], &[5, 1, 2], &[4, 1], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = house.client();
        client.say(greeting);
        assert_eq!(client.rest(), (vec![5, 0xFF], Ended::Closed), "{greeting:?}");
    }
    let mut client = house.client();
    let methods: Vec<u8> = (0..=254).rev().collect();
    client.say(&[&[5, 255][..], &methods].concat());
    client.say(&[5, 1, 7]);
    client.say(&request(1, remote.address())[3..]);
    assert_eq!((client.hear(), client.reply()[1]), ([5, 0], 0), "255 methods, and a reserved byte that is not zero");
}

#[test]
fn families_must_agree() {
    let house = House::start("", "");
    let mut client = house.client();
    let reply = client.socks5(house.sources[0], "[::1]:25".parse().expect("an address"));
    refuses(&reply, 8, 14);
    let mut client = house.client();
    client.say(HELLO);
    client.say(&request(2, "[::1]:0".parse().expect("an address")));
    assert_eq!(client.hear(), [5, 0]);
    refuses(&client.reply(), 2, 11);
}

#[test]
fn ipv6_goes_through() {
    let house = House::start("", "").with_ipv6();
    let remote = super::support::Remote::at("[::1]:0".parse().expect("an address"));
    let port = remote.address().port();
    let (status, _) = house.reload("[access]\n", &format!("[access]\ndestination_ports = [{port}]\n"));
    assert_eq!(status, 200);
    let mut client = house.client();
    let reply = client.socks5("::1".parse().expect("an address"), remote.address());
    assert_eq!((reply[1], reply[3], reply.len()), (0, 4, 22), "{reply:?}");
    assert_eq!(remote.accept().1, "::1".parse::<std::net::IpAddr>().expect("an address"));
}

impl House {
    fn with_ipv6(self) -> Self {
        let (status, answer) = self.reload("addresses = [", "addresses = [\"::1\", ");
        assert_eq!(status, 200, "{answer}");
        self
    }
}

#[test]
fn a_client_may_leave_at_any_byte() {
    let house = House::start("protocol = \"auto\"", "");
    let remote = house.remote(2525);
    let socks5 = [HELLO, &request(2, SocketAddr::new(house.sources[0], 0)), &request(1, remote.address())].concat();
    for talk in [socks5, v2_to(&house, remote.address())] {
        for length in 0..talk.len() {
            for is_rude in [false, true] {
                let mut client = house.client();
                client.say(&talk[..length]);
                if is_rude { client.reset() } else { drop(client) }
            }
        }
    }
    house.measures(&format!("egret_proxy_sessions_active{{listener=\"{}\"}} 0", house.at));
    assert_eq!(house.connected(remote.address()).0.peer_addr().expect("connected"), house.at);
    let probes = house.metrics();
    assert!(probes.contains(&format!("egret_proxy_probes_total{{listener=\"{}\"}}", house.at)), "{probes}");
}

#[test]
fn a_slow_request_is_told_that_it_is_late() {
    let house = House::start("protocol = \"auto\"", "[timeouts]\nhandshake = \"300ms\"");
    let mut client = house.client();
    client.say(HELLO);
    client.say(&request(2, SocketAddr::new(house.sources[0], 0)));
    assert_eq!(client.hear(), [5, 0]);
    assert_eq!(client.reply()[1], 0);
    refuses(&client.reply(), 6, 47);
    let mut client = house.client();
    client.say(b"PROXY TCP4 ");
    let (line, _) = client.rest();
    assert!(String::from_utf8_lossy(&line).contains("handshake_timeout"), "{line:?}");
}

#[test]
fn proxy_headers_are_forward_requests() {
    let house = House::start("protocol = \"proxy\"", "");
    let remote = house.remote(2525);
    let to = remote.address();
    let v1 = format!("PROXY TCP4 {} {} 0 {}\r\n", house.sources[0], to.ip(), to.port()).into_bytes();
    let with_tlv = {
        let mut header = v2_to(&house, to);
        header.extend([0xEE, 0, 2, 1, 2]);
        header[15] += 5;
        header
    };
    for header in [v1, v2_to(&house, to), with_tlv] {
        for piece in [1, 5, header.len()] {
            let mut client = house.client();
            for piece in header.chunks(piece) {
                client.say(piece);
            }
            client.say(b"EHLO x\r\n");
            let (mut accepted, from) = remote.accept();
            assert_eq!((from, accepted.hear()), (house.sources[0], *b"EHLO x\r\n"));
            accepted.say(b"220 hi\r\n");
            assert_eq!(client.hear(), *b"220 hi\r\n");
        }
    }
}

#[test]
fn wrong_headers_are_told_and_probes_are_silent() {
    let house = House::start("protocol = \"proxy\"", "");
    let to = house.remote(2525);
    let source = house.sources[0];
    let crc = {
        let mut header = v2_to(&house, to.address());
        header.extend([3, 0, 4, 1, 2, 3, 4]);
        header[15] += 7;
        header
    };
    let (ip, port) = (to.address().ip(), to.address().port());
    for wrong in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        format!("PROXY TCP4 {source} {ip} 0 {port}\n").into_bytes(),
        format!("PROXY TCP4 {source} {ip} 0 0{port}\r\n").into_bytes(),
        format!("PROXY TCP4 {source} {ip} 0 99999\r\n").into_bytes(),
        [b"PROXY TCP4 ".to_vec(), vec![b'1'; 100]].concat(),
        v2(0x21, 0x12, &[0; 12]),
        v2(0x21, 0x31, &[0; 216]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x11, &[0; 2000]),
        v2(0x22, 0x11, &[0; 12]),
        crc,
    ] {
        let mut client = house.client();
        client.say(&wrong);
        let (line, end) = client.rest();
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(
            line.starts_with("421 4.3.5 egret-proxy[") && line.ends_with(" failed: protocol_error\r\n"),
            "{wrong:?}: {line:?}"
        );
        assert_eq!((line.lines().count(), end), (1, Ended::Closed));
    }
    for probe in
        [&b""[..], b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff junk\r\n", &v2(0x20, 0, &[]), &v2(0x20, 0x11, &[0; 12])]
    {
        let mut client = house.client();
        client.say(probe);
        client.finish();
        assert_eq!(client.rest().0, b"", "{probe:?}");
    }
    house.measures(&format!("egret_proxy_probes_total{{listener=\"{}\"}} 5", house.at));
}

#[test]
fn faults_are_told_in_both_protocols() {
    let house = House::start("protocol = \"auto\"", "[timeouts]\nconnect = \"1s\"");
    let closed = SocketAddr::new(house.remote.into(), 2525);
    let foreign = "127.99.99.99".parse().expect("an address");
    let port = SocketAddr::new(house.remote.into(), 80);
    let special = "169.254.169.254:25".parse().expect("an address");
    for (source, to, code, number, token) in [
        (house.sources[0], closed, 5, 20, "connection_refused"),
        (foreign, closed, 2, 11, "source_not_allowed"),
        (house.sources[0], port, 2, 43, "destination_ip_prohibited"),
        (house.sources[0], special, 2, 43, "destination_ip_prohibited"),
    ] {
        let mut client = house.client();
        refuses(&client.socks5(source, to), code, number);
        let record = house.record(client.address());
        assert_eq!((record["reason"].as_str(), record["end"].as_str()), (Some(token), Some("refused")), "{record}");
        let mut client = Client::to(house.at);
        client.say(format!("PROXY TCP4 {source} {} 0 {}\r\n", to.ip(), to.port()).as_bytes());
        let (line, _) = client.rest();
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(line.starts_with("421 ") && line.ends_with(&format!(" failed: {token}\r\n")), "{line:?}");
    }
}

#[test]
fn failures_carry_text_where_that_is_asked_for() {
    let house = House::start("failure_text = true", "");
    let mut client = house.client();
    let reply = client.socks5(house.sources[0], SocketAddr::new(house.remote.into(), 2525));
    assert_eq!((reply[1], reply[3]), (5, 3));
    let told = String::from_utf8_lossy(&reply[5..reply.len() - 2]).into_owned();
    assert!(told.starts_with("n=20 r=connection_refused d=127."), "{told}");
}
