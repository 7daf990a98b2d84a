//! A proxy for one test, a client that says bytes, and a destination that does as it is told.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use egret_tests::harness::{Program, addresses, eventually};
use serde_json::Value;
use socket2::SockRef;
use tempfile::TempDir;

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The greeting without authentication and its answer.
pub const HELLO: &[u8] = &[5, 1, 0];
pub const WELCOME: &[u8] = &[5, 0];

/// A running proxy.
pub struct House {
    pub dir: TempDir,
    pub proxy: Program,
    /// Its first listener.
    pub at: SocketAddr,
    pub admin: SocketAddr,
    /// Eight held addresses.
    pub sources: Vec<IpAddr>,
    /// An address for destinations, and one that is nobody's.
    pub remote: Ipv4Addr,
}

impl House {
    /// Starts with more keys for the first listener, and more tables.
    pub fn start(listener: &str, tables: &str) -> Self {
        Self::start_under("", listener, tables)
    }

    /// The same with keys of the top level.
    pub fn start_under(top: &str, listener: &str, tables: &str) -> Self {
        let own = addresses(32);
        let sources: Vec<IpAddr> = own[8..16].iter().map(|ip| (*ip).into()).collect();
        let (at, admin) = (SocketAddr::new(own[0].into(), 1080), SocketAddr::new(own[0].into(), 9180));
        let dir = tempfile::tempdir().expect("a directory");
        let text = toml(at, admin, &format!("\"{}-{}\"", sources[0], sources[7]), listener, tables);
        std::fs::write(dir.path().join("proxy.toml"), format!("{top}\n{text}")).expect("written");
        let log = dir.path().join("log");
        let config = dir.path().join("proxy.toml").display().to_string();
        let proxy = Program::start("egret-proxy", &["serve", "--config", &config], &log);
        let house = Self { dir, proxy, at, admin, sources, remote: own[2] };
        house.ready();
        house
    }

    pub fn ready(&self) {
        eventually("the proxy's readiness", || match http(self.admin, "GET", "/readyz") {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}: {}", self.proxy.log())),
        });
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("proxy.toml")
    }

    /// Changes the configuration and has it read.
    pub fn reload(&self, from: &str, to: &str) -> (u16, Value) {
        let text = std::fs::read_to_string(self.config()).expect("readable");
        assert!(text.contains(from), "{from:?} is not in {text}");
        std::fs::write(self.config(), text.replace(from, to)).expect("written");
        self.post("/v1/reload")
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = http(self.admin, "GET", path).expect("the admin answers");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn post(&self, path: &str) -> (u16, Value) {
        let (status, text) = http(self.admin, "POST", path).expect("the admin answers");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn metrics(&self) -> String {
        http(self.admin, "GET", "/metrics").expect("the admin answers").1
    }

    /// Waits for a line of the metrics.
    pub fn measures(&self, line: &str) {
        eventually(line, || {
            let text = self.metrics();
            if text.lines().any(|found| found == line) { Ok(()) } else { Err(text) }
        });
    }

    /// The record of the session of `client`, once it has ended.
    pub fn record(&self, client: SocketAddr) -> Value {
        eventually("the end of the session", || match self.get(&format!("/v1/sessions/{client}")) {
            (200, record) if record["end"] != "open" => Ok(record),
            other => Err(format!("{other:?}")),
        })
    }

    /// Waits until the proxy has noticed that the connection for `client` stands.
    pub fn stands(&self, client: SocketAddr) {
        eventually("the connection", || match self.get(&format!("/v1/sessions/{client}")) {
            (200, record) if record["source_port"].is_u64() => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    pub fn client(&self) -> Client {
        Client::to(self.at)
    }

    /// A client whose connection to `to` from the first source stands.
    pub fn connected(&self, to: SocketAddr) -> Client {
        let mut client = self.client();
        let reply = client.socks5(self.sources[0], to);
        assert_eq!(reply[..2], [5, 0], "{reply:?}");
        client
    }

    pub fn remote(&self, port: u16) -> Remote {
        Remote::at(SocketAddr::new(self.remote.into(), port))
    }
}

/// proxy.toml with what the tests need open.
pub fn toml(at: SocketAddr, admin: SocketAddr, sources: &str, listener: &str, tables: &str) -> String {
    let access = if tables.contains("[access]") {
        String::new()
    } else {
        "[access]\nallow_special_destinations = [\"127.0.0.0/8\", \"10.0.0.0/8\", \"::1\"]\n".to_owned()
    };
    format!(
        "[[listener]]\naddress = \"{at}\"\n{listener}\n[sources]\naddresses = [{sources}]\n\
         [admin]\naddress = \"{admin}\"\n{access}{tables}\n"
    )
}

/// One HTTP request.
pub fn http(to: SocketAddr, method: &str, path: &str) -> Result<(u16, String), String> {
    let mut stream = TcpStream::connect(to).map_err(|error| error.to_string())?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// A connection on which bytes are said and heard.
pub struct Client(pub TcpStream);

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Closed,
    Reset,
}

impl Client {
    pub fn to(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).expect("connects"))
    }

    pub fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Self(stream)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("sent");
    }

    pub fn hear<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("bytes come");
        bytes
    }

    /// All that comes, and how it ends.
    pub fn rest(&mut self) -> (Vec<u8>, Ended) {
        let (mut all, mut room) = (Vec::new(), [0; 4096]);
        loop {
            match self.0.read(&mut room) {
                Ok(0) => return (all, Ended::Closed),
                Ok(read) => all.extend_from_slice(&room[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (all, Ended::Reset),
                Err(error) => panic!("after {all:?}: {error}"),
            }
        }
    }

    pub fn finish(&self) {
        self.0.shutdown(Shutdown::Write).expect("shut");
    }

    /// Closes with a reset.
    pub fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).expect("set");
    }

    /// BIND and CONNECT, one after the other; the last reply that came.
    pub fn socks5(&mut self, source: IpAddr, to: SocketAddr) -> Vec<u8> {
        self.say(HELLO);
        assert_eq!(self.hear(), [5, 0]);
        self.say(&request(2, SocketAddr::new(source, 0)));
        let reply = self.reply();
        if reply[1] != 0 {
            return reply;
        }
        self.say(&request(1, to));
        self.reply()
    }

    /// CONNECT alone.
    pub fn connect(&mut self, to: SocketAddr) -> Vec<u8> {
        self.say(HELLO);
        assert_eq!(self.hear(), [5, 0]);
        self.say(&request(1, to));
        self.reply()
    }

    pub fn reply(&mut self) -> Vec<u8> {
        let mut reply = self.hear::<4>().to_vec();
        match reply[3] {
            1 => reply.extend(self.hear::<6>()),
            4 => reply.extend(self.hear::<18>()),
            3 => {
                let length = self.hear::<1>();
                reply.extend(length);
                for _ in 0..usize::from(length[0]) + 2 {
                    reply.extend(self.hear::<1>());
                }
            }
            other => panic!("address type {other}"),
        }
        reply
    }
}

/// A SOCKS5 request.
pub fn request(command: u8, to: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![5, command, 0];
    match to.ip() {
        IpAddr::V4(ip) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
    }
    bytes.extend(to.port().to_be_bytes());
    bytes
}

/// The reply that says `code` and the numeric reason `number`, whatever the errno.
pub fn refuses(reply: &[u8], code: u8, number: u8) {
    assert_eq!(reply[..8], [5, code, 0, 1, 0, 0, 0, number], "{reply:?}");
}

/// A destination.
pub struct Remote(pub TcpListener);

impl Remote {
    pub fn at(address: SocketAddr) -> Self {
        Self(TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}")))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    pub fn accept(&self) -> (Client, IpAddr) {
        let (stream, peer) = self.0.accept().expect("a connection");
        (Client::on(stream), peer.ip())
    }
}

/// Runs a command and returns its exit code and what it printed.
pub fn run(command: &mut std::process::Command) -> (i32, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code().unwrap_or(-1), text)
}

/// The proxy's own binary with arguments.
pub fn egret_proxy(arguments: &[&str]) -> (i32, String) {
    run(std::process::Command::new(egret_tests::harness::binary("egret-proxy")).args(arguments))
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}
