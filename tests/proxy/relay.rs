//! Bytes both ways, and every way in which a session can end.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use super::support::{Ended, House, refuses};

#[test]
fn half_a_close_is_half_a_close_both_ways() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    let mut client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    client.say(b"last words");
    client.finish();
    assert_eq!(accepted.rest(), (b"last words".to_vec(), Ended::Closed));
    accepted.say(b"still here");
    assert_eq!(client.hear(), *b"still here");
    drop(accepted);
    assert_eq!(client.rest(), (Vec::new(), Ended::Closed));
    let record = house.record(client.address());
    assert_eq!((record["end"].as_str(), record["closed_by"].as_str()), (Some("closed"), Some("client")));
    assert_eq!((record["bytes_up"].as_u64(), record["bytes_down"].as_u64()), (Some(10), Some(10)));
    assert!(
        record["round_trip_ms"].as_f64().is_some_and(|ms| ms > 0.0) && record["first_byte_ms"].is_u64(),
        "{record}"
    );

    let mut client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    accepted.say(b"221 bye");
    accepted.finish();
    assert_eq!(client.rest(), (b"221 bye".to_vec(), Ended::Closed));
    client.say(b"but I");
    assert_eq!(accepted.hear(), *b"but I");
    drop(client);
    assert_eq!(accepted.rest().1, Ended::Closed);
}

#[test]
fn a_reset_is_a_reset_after_what_was_said_before_it() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    let mut client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    accepted.say(b"554 go away\r\n");
    assert_eq!(client.hear::<4>(), *b"554 ");
    accepted.reset();
    assert_eq!(client.rest(), (b"go away\r\n".to_vec(), Ended::Reset));
    let record = house.record(client.address());
    assert_eq!((record["end"].as_str(), record["closed_by"].as_str()), (Some("reset"), Some("remote")));

    let mut client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    client.say(b"RSET\r\n");
    assert_eq!(accepted.hear(), *b"RSET\r\n");
    client.reset();
    assert_eq!(accepted.rest(), (Vec::new(), Ended::Reset));
    house.measures("egret_proxy_closes_total{by=\"client\",how=\"rst\"} 1");
}

#[test]
fn an_end_before_the_banner_is_told_where_it_can_be() {
    let house = House::start("protocol = \"auto\"", "");
    let remote = house.remote(2525);
    for (is_rude, token) in [(false, "remote_closed_pre_banner"), (true, "remote_reset_pre_banner")] {
        let mut client = house.client();
        let to = remote.address();
        client.say(format!("PROXY TCP4 {} {} 0 {}\r\n", house.sources[0], to.ip(), to.port()).as_bytes());
        let (accepted, _) = remote.accept();
        house.stands(client.address());
        if is_rude {
            accepted.reset();
        } else {
            drop(accepted);
        }
        let (line, _) = client.rest();
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(line.starts_with("421 4.4.2 egret-proxy[") && line.contains(token), "{line:?}");
        assert_eq!(house.record(client.address())["reason"].as_str(), Some(token));
    }
    // Over SOCKS5 success was told already: the end is passed on as it is.
    let mut client = house.connected(remote.address());
    remote.accept().0.reset();
    assert_eq!(client.rest(), (Vec::new(), Ended::Reset));
}

#[test]
fn success_can_wait_for_the_banner() {
    let house = House::start("reply_on = \"banner\"\nbanner_wait = \"500ms\"", "");
    let remote = house.remote(2525);
    for (is_rude, number) in [(false, 26), (true, 25)] {
        let mut client = house.client();
        let (source, to, address) = (house.sources[0], remote.address(), client.address());
        let dialing = std::thread::spawn(move || {
            let reply = client.socks5(source, to);
            (reply, client)
        });
        let (accepted, _) = remote.accept();
        house.stands(address);
        if is_rude {
            accepted.reset();
        } else {
            drop(accepted);
        }
        let (reply, _) = dialing.join().expect("a reply");
        refuses(&reply, 5, number);
    }
    let mut silent = house.client();
    assert_eq!(silent.socks5(house.sources[0], remote.address())[1], 0, "success after the wait");
}

#[test]
fn silence_ends_a_session() {
    let house = House::start("", "[timeouts]\nidle = \"400ms\"\nhalf_close = \"200ms\"");
    let remote = house.remote(2525);
    let mut client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(200));
        accepted.say(b"x");
        client.hear::<1>();
    }
    assert_eq!((client.rest().1, accepted.rest().1), (Ended::Reset, Ended::Reset));
    let record = house.record(client.address());
    assert_eq!((record["end"].as_str(), record["reason"].as_str()), (Some("idle"), Some("idle_timeout")));
    assert_eq!(record["closed_by"].as_str(), Some("proxy"));
}

#[test]
fn bulk_goes_both_ways_past_slow_readers_whole() {
    const BYTES: usize = 20 << 20;
    let house = House::start("", "");
    let remote = house.remote(2525);
    let client = house.connected(remote.address());
    let (accepted, _) = remote.accept();
    let pattern = |at: usize| (at % 251) as u8;
    let speak = move |mut stream: std::net::TcpStream| {
        let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
        stream.write_all(&bytes).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
    };
    let listen = move |mut stream: std::net::TcpStream| {
        std::thread::sleep(Duration::from_millis(300));
        let mut bytes = Vec::with_capacity(BYTES);
        stream.read_to_end(&mut bytes).expect("received");
        assert!(bytes.len() == BYTES && bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
    };
    let clone = |stream: &std::net::TcpStream| stream.try_clone().expect("a second handle");
    let address = client.address();
    let mut running = Vec::new();
    for stream in [&client.0, &accepted.0] {
        let (one, two) = (clone(stream), clone(stream));
        running.push(std::thread::spawn(move || speak(one)));
        running.push(std::thread::spawn(move || listen(two)));
    }
    for thread in running {
        thread.join().expect("all is well");
    }
    let record = house.record(address);
    let bytes = Some(BYTES as u64);
    assert_eq!((record["bytes_up"].as_u64(), record["bytes_down"].as_u64()), (bytes, bytes), "{record}");
    let line = format!("egret_proxy_bytes_total{{source=\"{}\",direction=\"up\"}} {BYTES}", house.sources[0]);
    house.measures(&line);
}
