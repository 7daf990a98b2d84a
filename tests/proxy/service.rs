//! Running it: reload, drain, overload, lack of descriptors, the API, the session log.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use egret_tests::harness::{Program, addresses, binary, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{Client, Ended, HELLO, House, Remote, http, refuses, request, toml};

#[test]
fn a_reload_changes_all_or_nothing_and_no_session() {
    let house = House::start("", "");
    let remote = house.remote(2525);
    let mut client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    let (status, answer) = house.reload("[admin]", "[limits.source]\nconnections = 1\n[admin]");
    assert_eq!((status, &answer["reloaded"]), (200, &Value::Bool(true)), "{answer}");
    assert_eq!(house.client().socks5(house.sources[0], remote.address())[1], 0, "what runs holds no place of it");
    let (status, answer) = house.reload("connections = 1", "connection = 0");
    let error = answer["error"].as_str().expect("an error");
    assert!(status == 422 && error.contains("did you mean `connections`?"), "{answer}");
    house.measures("egret_proxy_reloads_total{result=\"failed\"} 1");
    let (status, answer) = house.reload("connection = 0", "connections = 1\n[log]\nlevel = \"debug\"");
    assert_eq!((status, answer["wants_restart"][0].as_str()), (200, Some("log.level")), "{answer}");
    // By signal too, and sources go at once.
    let text = std::fs::read_to_string(house.config()).expect("readable");
    let range = format!("{}-{}", house.sources[0], house.sources[7]);
    std::fs::write(house.config(), text.replace(&range, &house.sources[1].to_string())).expect("written");
    house.proxy.signal(Signal::SIGHUP);
    eventually("the reload", || {
        let reply = house.client().socks5(house.sources[0], remote.address());
        if reply[1] == 2 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    client.say(b"still here");
    assert_eq!(accepted.hear(), *b"still here");
}

#[test]
fn a_stop_lets_sessions_finish_and_a_second_one_does_not() {
    let mut house = House::start("", "");
    let remote = house.remote(2525);
    let mut client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    let mut asking = house.client();
    asking.say(HELLO);
    assert_eq!(asking.hear(), [5, 0]);
    house.proxy.signal(Signal::SIGTERM);
    eventually("the listener's end", || match TcpStream::connect(house.at) {
        Err(_) => Ok(()),
        Ok(_) => Err("it still accepts".to_owned()),
    });
    asking.say(&request(2, (house.sources[0], 0).into()));
    refuses(&asking.reply(), 1, 50);
    assert_eq!(http(house.admin, "GET", "/readyz").map(|(status, _)| status), Ok(503));
    assert_eq!(http(house.admin, "GET", "/livez").map(|(status, _)| status), Ok(200));
    client.say(b"finish");
    assert_eq!(accepted.hear(), *b"finish");
    house.proxy.signal(Signal::SIGTERM);
    assert_eq!(client.rest().1, Ended::Reset);
    assert!(house.proxy.wait().success());
}

#[test]
fn a_stop_ends_when_the_last_session_does() {
    let mut house = House::start("", "");
    let remote = house.remote(2525);
    let client = house.connected(remote.address());
    let (accepted, _) = remote.accept();
    house.proxy.signal(Signal::SIGTERM);
    drop((client, accepted));
    assert!(house.proxy.wait().success());
}

#[test]
fn beyond_the_limit_clients_are_told() {
    let house = House::start("protocol = \"auto\"", "[limits]\nmax_sessions = 2");
    let remote = house.remote(2525);
    let held = [house.connected(remote.address()), house.connected(remote.address())];
    refuses(&house.client().socks5(house.sources[0], remote.address()), 1, 30);
    refuses(&house.client().connect(remote.address()), 1, 30);
    let mut client = house.client();
    let to = remote.address();
    client.say(format!("PROXY TCP4 {} {} 0 {}\r\n", house.sources[0], to.ip(), to.port()).as_bytes());
    let (line, _) = client.rest();
    assert!(String::from_utf8_lossy(&line).contains("proxy_overloaded"), "{line:?}");
    let address = held[0].address();
    drop(held);
    for _ in 0..2 {
        drop(remote.accept());
    }
    house.record(address);
    eventually("room", || {
        let reply = house.client().socks5(house.sources[0], remote.address());
        if reply[1] == 0 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

#[test]
fn a_lack_of_descriptors_passes() {
    let own = addresses(8);
    let (at, admin) = ((own[0], 1080).into(), (own[0], 9180).into());
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("proxy.toml");
    // More sessions than descriptors: the program lowers the limit by itself, but not below its reserve.
    std::fs::write(&file, toml(at, admin, &format!("\"{}\"", own[1]), "", "[limits]\nmax_sessions = 5000"))
        .expect("written");
    let mut command = Command::new("sh");
    let line = format!("ulimit -n 64; exec {} serve --config {}", binary("egret-proxy").display(), file.display());
    let proxy = Program::spawn(command.args(["-c", &line]), &dir.path().join("log"));
    let ready = || match http(admin, "GET", "/readyz") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?} {}", proxy.log())),
    };
    eventually("readiness", ready);
    assert!(proxy.log().contains("limits.max_sessions is lowered"), "{}", proxy.log());
    let remote = Remote::at((own[2], 2525).into());
    let crowd: Vec<_> = (0..200).filter_map(|_| TcpStream::connect(at).ok()).collect();
    assert!(crowd.len() > 100);
    drop(crowd);
    // Until the last of the crowd is gone a newcomer may still be one too many, and is then cut off.
    eventually("service", || {
        let mut client = Client::to(at);
        let mut exchange = || -> std::io::Result<u8> {
            let mut answer = [0; 2];
            client.0.write_all(HELLO)?;
            client.0.read_exact(&mut answer)?;
            client.0.write_all(&request(1, remote.address()))?;
            let mut reply = [0; 10];
            client.0.read_exact(&mut reply)?;
            Ok(reply[1])
        };
        match exchange() {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    eventually("readiness", ready);
}

#[test]
fn sessions_can_be_asked_for_and_are_logged() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("sessions.ndjson");
    let house = House::start("", &format!("[session_log]\npath = \"{}\"", log.display()));
    let remote = house.remote(2525);
    let client = house.connected(remote.address());
    let (mut accepted, _) = remote.accept();
    accepted.say(b"220 hi\r\n");
    let (status, running) = house.get(&format!("/v1/sessions?source={}", house.sources[0]));
    assert_eq!((status, running[0]["end"].as_str()), (200, Some("open")), "{running}");
    eventually("the bytes", || {
        let (_, record) = house.get(&format!("/v1/sessions/{}", client.address()));
        if record["bytes_down"] == 8 { Ok(()) } else { Err(record.to_string()) }
    });
    assert_eq!(house.get("/v1/sessions?source=192.0.2.1").1, Value::Array(Vec::new()));
    assert_eq!(house.get("/v1/sessions?state=sleeping").0, 400);
    assert_eq!(house.get("/v1/sessions?colour=red").0, 400);
    assert_eq!(house.get("/v1/sessions/nonsense").0, 404);
    let address = client.address();
    drop((client, accepted));
    let record = house.record(address);
    let id = record["id"].as_str().expect("an id");
    assert_eq!(house.get(&format!("/v1/sessions/{id}")).1, record);
    refuses(&house.client().socks5(house.sources[0], (house.remote, 587).into()), 5, 20);
    eventually("the failure", || {
        let (_, failed) = house.get("/v1/sessions?state=ended&reason=connection_refused");
        if failed.as_array().map(Vec::len) == Some(1) { Ok(()) } else { Err(failed.to_string()) }
    });
    eventually("the log", || {
        let text = std::fs::read_to_string(&log).expect("readable");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        if lines.len() == 2 && lines[0] == record { Ok(()) } else { Err(text) }
    });
}

#[test]
fn a_listener_of_the_service_manager_is_taken() {
    let own = addresses(8);
    let (at, admin): (std::net::SocketAddr, _) = ((own[0], 1080).into(), (own[0], 9180).into());
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("proxy.toml");
    std::fs::write(&file, toml(at, admin, &format!("\"{}\"", own[1]), "", "")).expect("written");
    let start = |port: u16, log: &str| {
        let script = format!(
            "import os, socket\n\
             s = socket.create_server(('{}', {port}))\n\
             os.dup2(s.fileno(), 3)\n\
             os.set_inheritable(3, True)\n\
             os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
             os.execv('{binary}', ['egret-proxy', 'serve', '--config', '{}'])",
            own[0],
            file.display(),
            binary = binary("egret-proxy").display(),
        );
        Program::spawn(Command::new("python3").args(["-c", &script]), &dir.path().join(log))
    };
    let mut other = start(1079, "other");
    assert!(!other.wait().success() && other.log().contains("which is no listener.address"), "{}", other.log());
    let proxy = start(1080, "log");
    let remote = Remote::at((own[2], 2525).into());
    eventually("readiness", || match http(admin, "GET", "/readyz") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?} {}", proxy.log())),
    });
    for _ in 0..4 {
        assert_eq!(Client::to(at).connect(remote.address())[1], 0);
    }
}
