//! Places in limits and real sockets: what an MTA has and a proxy has not, or the other way round, is ended; a Redis that
//! is away or has lost its memory ends nothing.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use egret_tests::harness::{Block, Fleet, Namespace, Options, Redis, addresses, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::SockRef;

use crate::peers::Second;
use crate::support::{get, nothing_counted, offer};

/// Longer than a node lives without a word.
const AWAY: Duration = Duration::from_secs(20);

/// A destination that greets the first sessions and then says nothing; the others it serves.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    hold: usize,
    held: usize,
    /// What is held is to be reset.
    resets: bool,
    /// Of the held ones, those that the other side ended.
    closed: usize,
    taken: Vec<String>,
}

impl Slow {
    fn start(at: SocketAddr, hold: usize) -> Self {
        let (listener, slow) = (TcpListener::bind(at).expect("binds"), Self::default());
        slow.look(|state| state.hold = hold);
        let shared = slow.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.session(stream));
            }
        });
        slow
    }

    fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn session(&self, mut stream: TcpStream) {
        let _ = stream.write_all(b"220 slow.test\r\n");
        let is_held = self.look(|state| {
            let is_held = state.hold > 0;
            if is_held {
                state.hold -= 1;
                state.held += 1;
            }
            is_held
        });
        if is_held {
            self.hold(stream);
        } else {
            let _ = self.serve(&stream);
        }
    }

    fn hold(&self, mut stream: TcpStream) {
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("an option");
        loop {
            match stream.read(&mut [0; 512]) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.look(|state| state.resets) {
                        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
                        return;
                    }
                }
                Ok(0) | Err(_) => return self.look(|state| state.closed += 1),
            }
        }
    }

    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let (mut out, mut is_content) = (stream, false);
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let answer = match line.get(..4).unwrap_or(&line) {
                "." if is_content => "250 2.0.0 taken",
                _ if is_content => continue,
                "RCPT" => {
                    self.look(|state| state.taken.push(line.clone()));
                    "250 2.1.5 ok"
                }
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 slow.test",
            };
            is_content = answer.starts_with("354");
            out.write_all(format!("{answer}\r\n").as_bytes()).ok()?;
        }
        Some(())
    }

    /// Waits until so many are held, or have been.
    fn holds(&self, count: usize) {
        eventually("held sessions", || self.look(|state| if state.held >= count { Ok(()) } else { Err("few".into()) }));
    }

    fn is_taken(&self, recipient: &str, log: impl Fn() -> String) {
        eventually(recipient, || {
            let taken = self.look(|state| state.taken.clone());
            if taken.iter().any(|line| line.contains(recipient)) {
                Ok(())
            } else {
                Err(format!("{taken:?}\n{}", log()))
            }
        });
    }

    fn closed(&self) -> usize {
        self.look(|state| state.closed)
    }

    fn is_closed(&self, log: impl Fn() -> String) {
        eventually("the end of the held session", || if self.closed() == 1 { Ok(()) } else { Err(log()) });
    }

    /// Resets what it holds.
    fn reset(&self) {
        self.look(|state| state.resets = true);
    }
}

/// One path with one place, whose proxy announces itself.
fn options(redis: &Redis, name: &str, more: &str) -> Options {
    let tables = format!("[delivery]\nconnection_limit = 1\nidle_timeout = \"200ms\"\n{more}{}", redis.table());
    let proxy_toml = format!("[announce]\nname = \"{name}\"\n{}", redis.table());
    Options { dialect: Some("socks5"), tables, proxy_toml, ..Options::default() }
}

/// Waits until a metric has a value.
fn metric(admin: SocketAddr, line: &str, log: impl Fn() -> String) {
    eventually(line, || {
        let (_, text) = get(admin, "/metrics");
        let name = line.split([' ', '{']).next().unwrap_or(line);
        let found: Vec<_> = text.lines().filter(|found| found.starts_with(name)).collect();
        if found.contains(&line) { Ok(()) } else { Err(format!("{found:?}\n{}", log())) }
    });
}

/// The records of a proxy's sessions.
fn records(fleet: &Fleet, query: &str) -> Vec<Value> {
    let (_, answer) = get(fleet.proxy_admin, &format!("/v1/sessions?{query}"));
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

fn send(fleet: &Fleet, recipient: &str) {
    assert!(offer(fleet.smtp, "s@good.example", recipient).starts_with("250 "));
}

/// A client that claims nothing, by a header.
fn stranger(fleet: &Fleet) -> TcpStream {
    let mut stream = TcpStream::connect(fleet.proxy_v2).expect("connects");
    let header = format!("PROXY TCP4 {} {} 9 {}\r\n", fleet.sources[0], fleet.sink.ip(), fleet.sink.port());
    stream.write_all(header.as_bytes()).expect("written");
    assert!(stream.read(&mut [0; 64]).is_ok_and(|read| read > 0), "a greeting");
    stream
}

#[test]
fn the_sockets_of_an_mta_that_stands_still_are_ended_and_its_place_goes_to_another() {
    let Some(redis) = Redis::start() else { return };
    let [source, sink] = [addresses(1), addresses(1)].map(|own| IpAddr::from(own[0]));
    let sink = SocketAddr::new(sink, 2525);
    let route = format!("[[route]]\ndomains = [\"*\"]\nhosts = [\"{sink}\"]\n");
    let start = |name: &str| {
        let mut fleet = Fleet::start(&Options { sources: Some(vec![source]), ..options(&redis, name, &route) });
        fleet.sink = sink;
        fleet
    };
    let (a, b) = (start("north"), start("south"));
    let slow = Slow::start(sink, 2);
    let log = || a.mta.log() + &a.proxy.as_ref().expect("a proxy").log();
    let stranger = stranger(&a);
    slow.holds(1);
    send(&a, "first@good.example");
    slow.holds(2);
    metric(a.proxy_admin, "egret_proxy_sessions_claimed 1", log);
    send(&b, "second@good.example");
    a.mta.pause();
    slow.is_closed(log);
    let ended = records(&a, "state=ended&reason=lease_lost");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(ended[0]["detail"].as_str().is_some_and(|detail| detail.contains("is not heard of for 15 s")), "{ended:?}");
    slow.is_taken("second@good.example", || b.mta.log());
    assert!(slow.look(|state| state.taken.len()) == 1 && a.mta.is_paused());
    a.mta.signal(Signal::SIGCONT);
    slow.is_taken("first@good.example", log);
    let fault = a.event("the fault", |event| event["type"] == "fault");
    assert_eq!((&fault["party"], &fault["reason"]), (&"limit".into(), &"lease_lost".into()), "{fault}");
    nothing_counted(&a, &["limit"]);
    nothing_counted(&b, &[]);
    metric(a.proxy_admin, "egret_proxy_sessions_orphaned_total{why=\"silent\"} 1", log);
    stranger.set_nonblocking(true).expect("an option");
    assert!((&stranger).read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
}

/// A proxy on a host of its own, with a second one beside it that is not compared; a session by the first is held.
fn apart() -> Option<(Arc<Namespace>, Redis, Second, Fleet, Slow)> {
    let space = Namespace::new(2).map(Arc::new)?;
    let redis = Redis::start_at(space.here)?;
    let second = Second::in_space(&space);
    let fleet = Fleet::start(&Options {
        proxy_allows: Some("10.0.0.0/8"),
        source_keys: Some("proxies = [\"p\", \"q\"]"),
        space: Some(space.clone()),
        ..options(&redis, "north", &second.table("socks5"))
    });
    let slow = Slow::start(fleet.sink, 1);
    send(&fleet, "r@good.example");
    slow.holds(1);
    metric(fleet.mta_admin, "egret_mta_sessions_compared 1", || fleet.mta.log());
    Some((space, redis, second, fleet, slow))
}

#[test]
fn a_session_that_the_proxy_has_no_more_is_ended_and_its_message_goes_another_way() {
    let Some((space, _redis, second, fleet, slow)) = apart() else { return };
    let _q = second.start(&fleet);
    space.block("output", &format!("ip saddr {} tcp sport 1080", fleet.socks5.ip()), Block::Drop);
    slow.reset();
    slow.is_taken("r@good.example", || fleet.mta.log());
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    assert_eq!((&fault["proxy"], &fault["reason"]), (&"p".into(), &"session_lost".into()), "{fault}");
    nothing_counted(&fleet, &["proxy"]);
    metric(fleet.mta_admin, "egret_mta_sessions_lost_total{why=\"missing\"} 1", || fleet.mta.log());
}

#[test]
fn sessions_through_a_proxy_that_is_gone_are_ended_and_it_ends_them_when_it_is_back() {
    let Some((space, _redis, second, fleet, slow)) = apart() else { return };
    let _q = second.start(&fleet);
    // It hears nothing any more, also no end.
    space.block("input", &format!("ip daddr {}", fleet.socks5.ip()), Block::Drop);
    slow.is_taken("r@good.example", || fleet.mta.log());
    let fault = fleet.event("the fault", |event| event["type"] == "fault");
    assert_eq!((&fault["proxy"], &fault["reason"]), (&"p".into(), &"proxy_timeout".into()), "{fault}");
    nothing_counted(&fleet, &["proxy"]);
    metric(fleet.mta_admin, "egret_mta_sessions_lost_total{why=\"proxy_gone\"} 1", || fleet.mta.log());
    assert_eq!(slow.closed(), 0, "nobody told the destination");
    space.free();
    slow.is_closed(|| fleet.proxy.as_ref().expect("a proxy").log());
}

#[test]
fn a_redis_that_is_away_or_forgets_ends_no_session() {
    let Some(mut redis) = Redis::start() else { return };
    let fleet = Fleet::start(&options(&redis, "north", ""));
    let slow = Slow::start(fleet.sink, 1);
    let log = || fleet.mta.log() + &fleet.proxy.as_ref().expect("a proxy").log();
    send(&fleet, "r@good.example");
    slow.holds(1);
    metric(fleet.proxy_admin, "egret_proxy_sessions_claimed 1", log);
    let before = records(&fleet, "state=running");
    let claims = || redis.say("EXISTS egret:{sockets:north}:claims");
    assert_eq!((redis.say("FLUSHALL"), before.len()), ("+OK".to_owned(), 1));
    eventually("a claim after the flush", || match claims() {
        told if told == ":1" => Ok(()),
        told => Err(told),
    });
    redis.stop();
    std::thread::sleep(AWAY);
    redis.run();
    let claims = || redis.say("EXISTS egret:{sockets:north}:claims");
    eventually("a claim after the end", || match claims() {
        told if told == ":1" => Ok(()),
        told => Err(told),
    });
    // Whoever counted the time without Redis would end it now.
    std::thread::sleep(Duration::from_secs(5));
    let after = records(&fleet, "state=running");
    assert_eq!((after.len(), &after[0]["id"]), (1, &before[0]["id"]), "{after:?}");
    assert_eq!(slow.closed(), 0, "{}", log());
    metric(fleet.proxy_admin, "egret_proxy_sessions_claimed 1", log);
    metric(fleet.mta_admin, "egret_mta_sessions_compared 1", log);
    nothing_counted(&fleet, &[]);
}
