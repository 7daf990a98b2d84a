//! One client: request → source → destination → dial → answer → relay → record.
//! Touches the client's socket; all else by the rooms below. Floor 4.
//! Always: a client hears why it is not served, unless it is not to be told anything; a record is made
//! of every session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use egret_shared::address::Networks;
use egret_shared::clock::Clock;
use egret_shared::fault::{Fault, Reason};
use egret_shared::net::socket::reset_on_close;
use egret_shared::proxy_protocol::frame::{self, Header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Users, admit};
use crate::dial::{Bound, bind};
use crate::handshake::socks5::{Ask, Auth, Socks5};
use crate::relay::{End, Limits, Scratch, Side, Traffic, relay};
use crate::report::Reporter;
use crate::report::record::{Ended, Record};
use crate::source::Sources;

/// Room for a handshake.
const HANDSHAKE_BYTES: usize = 1024;
/// A wrong password is answered after this, so that guessing takes time.
const WRONG_PASSWORD_WAIT: Duration = Duration::from_millis(250);
/// How long a client that was refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SOCKS5.
    Socks5,
    /// PROXY protocol version 1 or 2 as a forward request.
    Proxy,
}

/// What sessions of one listener share in one worker.
#[derive(Clone)]
pub struct House {
    /// Where it listens.
    pub listener: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Clients that are served.
    pub client_networks: Networks,
    /// Users.
    pub users: Arc<Users>,
    /// Destinations that may be dialed.
    pub access: Arc<Access>,
    /// Held addresses.
    pub sources: Arc<Sources>,
    /// How long the request may take.
    pub handshake_timeout: Duration,
    /// How long a dial may take.
    pub connect_timeout: Duration,
    /// How long a session may be silent.
    pub limits: Limits,
    /// The worker's buffer.
    pub scratch: Scratch,
    /// Who is told.
    pub reporter: Reporter,
    /// Numbers for sessions.
    pub numbers: Arc<AtomicU64>,
    /// The clock.
    pub clock: Clock,
    /// Cancelled when sessions shall end now.
    pub cut: CancellationToken,
}

/// A client that wanted nothing, or whom nothing can be told.
enum NotOpened {
    Probe,
    Denied(Fault),
    Failed(Fault),
}

impl From<Fault> for NotOpened {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

struct Session<'h> {
    house: &'h House,
    client: TcpStream,
    input: BytesMut,
    out: Vec<u8>,
    record: Record,
    started: Instant,
}

/// Serves one client to the end.
pub async fn serve(client: TcpStream, peer: SocketAddr, house: &House) {
    let _active = house.reporter.metrics.session();
    let number = house.numbers.fetch_add(1, Ordering::Relaxed);
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut session = Session {
        house,
        client,
        input: BytesMut::new(),
        out: Vec::new(),
        record: Record::begin(format!("{number:x}"), house.clock.wall(), house.listener, peer),
        started: house.clock.now(),
    };
    match session.open().await {
        Ok(remote) => session.carry(&remote).await,
        Err(NotOpened::Probe) => {
            session.record.end = Ended::Probe;
            house.reporter.metrics.probe();
        }
        Err(NotOpened::Denied(fault)) => session.record.failed(fault),
        Err(NotOpened::Failed(fault)) => {
            session.record.failed(fault);
            session.part().await;
        }
    }
    session.record.duration_ms = session.elapsed_ms();
    if session.record.end != Ended::Probe {
        house.reporter.ended(&session.record);
    }
}

impl Session<'_> {
    async fn open(&mut self) -> Result<TcpStream, NotOpened> {
        if let Err(fault) = admit(&self.house.client_networks, self.record.client.ip()) {
            // Whoever may not use the proxy learns nothing of it.
            reset_on_close(&self.client);
            return Err(NotOpened::Denied(fault));
        }
        match self.house.protocol {
            Protocol::Socks5 => self.open_socks5().await,
            Protocol::Proxy => self.open_proxy().await,
        }
    }

    async fn open_socks5(&mut self) -> Result<TcpStream, NotOpened> {
        let mut machine = Socks5::new(self.house.auth);
        let mut bound = None;
        loop {
            let (used, ask) = match machine.step(&self.input, &mut self.out) {
                Ok(step) => step,
                // The reply is in `out`, and is sent on parting.
                Err(fault) => return Err(fault.into()),
            };
            self.input.advance(used);
            match ask {
                Ask::More => self.read().await?,
                Ask::Login { username, password } => {
                    let is_known = self.house.users.know(&username, &password);
                    machine.logged_in(is_known, &mut self.out);
                    if !is_known {
                        tokio::time::sleep(WRONG_PASSWORD_WAIT).await;
                        return Err(Fault::new(Reason::AuthFailed, format!("user {username:?}")).into());
                    }
                    self.record.user = Some(username);
                }
                Ask::Bind(source) => match self.house.sources.held(source).and_then(bind) {
                    Ok(socket) => {
                        machine.bound(socket.source().ip(), &mut self.out);
                        bound = Some(socket);
                    }
                    Err(fault) => {
                        machine.refuse(&fault, &mut self.out);
                        return Err(fault.into());
                    }
                },
                Ask::Connect(destination) => match self.dial(bound.take(), destination).await {
                    Ok((remote, local)) => {
                        machine.connected(local, &mut self.out);
                        self.send().await?;
                        return Ok(remote);
                    }
                    Err(fault) => {
                        machine.refuse(&fault, &mut self.out);
                        return Err(fault.into());
                    }
                },
            }
        }
    }

    async fn open_proxy(&mut self) -> Result<TcpStream, NotOpened> {
        let (header, used) = loop {
            match frame::scan(&self.input) {
                Ok(frame::Scan::Got(header, used)) => break (header, used),
                Ok(frame::Scan::More) => self.read().await?,
                Err(bad) => return Err(self.told(Fault::new(Reason::ProtocolError, bad.to_string()))),
            }
        };
        self.input.advance(used);
        let Header::Forward { source, destination } = header else { return Err(NotOpened::Probe) };
        let dialed = match self.house.sources.held(source.ip()).and_then(bind) {
            Ok(bound) => self.dial(Some(bound), destination).await,
            Err(fault) => Err(fault),
        };
        match dialed {
            Ok((remote, _)) => Ok(remote),
            Err(fault) => Err(self.told(fault)),
        }
    }

    /// Dials from the source that was chosen, or from the next one.
    async fn dial(&mut self, bound: Option<Bound>, wanted: SocketAddr) -> Result<(TcpStream, SocketAddr), Fault> {
        self.record.handshake_ms = Some(self.elapsed_ms());
        self.record.destination = Some(wanted);
        let destination = self.house.access.check(wanted)?;
        let bound = match bound {
            Some(bound) => bound,
            None => bind(self.house.sources.next_towards(wanted.ip())?)?,
        };
        self.record.source = Some(bound.source().ip());
        let started = self.house.clock.now();
        let dialed = tokio::select! {
            dialed = bound.connect(destination, self.house.connect_timeout) => dialed?,
            () = self.house.cut.cancelled() => return Err(Fault::new(Reason::ProxyShuttingDown, "stopped in the dial")),
        };
        let took = self.house.clock.now().saturating_duration_since(started);
        self.house.reporter.metrics.connected(took);
        self.record.connect_ms = Some(millis(took));
        self.record.source_port = Some(dialed.1.port());
        Ok(dialed)
    }

    /// Relays what client and destination say, and tells how it ended.
    async fn carry(&mut self, remote: &TcpStream) {
        let traffic = Traffic::default();
        let end = match self.forward_input(remote).await {
            Ok(()) => {
                let tells_early_end = self.house.protocol == Protocol::Proxy;
                let House { scratch, limits, cut, .. } = self.house;
                relay([&self.client, remote], scratch, (*limits, tells_early_end), &traffic, cut).await
            }
            Err(_) => End::Broken(Side::Remote),
        };
        self.record.bytes_up += traffic.up.get();
        self.record.bytes_down = traffic.down.get();
        self.house.reporter.metrics.bytes(self.record.bytes_up, self.record.bytes_down);
        self.record.end = match end {
            End::Closed => Ended::Closed,
            End::Broken(side) => {
                reset_on_close(if side == Side::Client { remote } else { &self.client });
                if side == Side::Client { Ended::ClientReset } else { Ended::RemoteReset }
            }
            End::Early(reason) => {
                let fault = Fault::new(reason, self.route());
                let line = fault.smtp_line(&self.record.id);
                self.out.extend_from_slice(line.as_bytes());
                self.record.failed(fault);
                self.part().await;
                Ended::Refused
            }
            End::Idle => {
                self.abandon(remote);
                self.record.failed(Fault::new(Reason::IdleTimeout, self.route()));
                Ended::Idle
            }
            End::Cut => {
                self.abandon(remote);
                Ended::Stopped
            }
        };
    }

    /// Bytes that came right behind the request are the destination's.
    async fn forward_input(&mut self, remote: &TcpStream) -> io::Result<()> {
        while !self.input.is_empty() {
            remote.writable().await?;
            match remote.try_write(&self.input) {
                Ok(written) => {
                    self.record.bytes_up += written as u64;
                    self.input.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // A session that relays holds no buffer.
        (self.input, self.out) = (BytesMut::new(), Vec::new());
        Ok(())
    }

    fn abandon(&self, remote: &TcpStream) {
        reset_on_close(&self.client);
        reset_on_close(remote);
    }

    fn route(&self) -> String {
        let Record { source, destination, .. } = &self.record;
        match (source, destination) {
            (Some(source), Some(destination)) => format!("{source} to {destination}"),
            _ => String::new(),
        }
    }

    /// Sends what waits, and reads more of the request, within the time that a request may take.
    async fn read(&mut self) -> Result<(), NotOpened> {
        self.send().await?;
        self.input.reserve(HANDSHAKE_BYTES);
        let left = self.house.handshake_timeout.saturating_sub(self.elapsed());
        match timeout(left, self.client.read_buf(&mut self.input)).await {
            Ok(Ok(read)) if read > 0 => Ok(()),
            // A client that says nothing and goes is a health check.
            Ok(_) if self.input.is_empty() && self.record.user.is_none() => Err(NotOpened::Probe),
            Ok(_) => Err(Fault::new(Reason::ProtocolError, "the client left within its request").into()),
            Err(_) => {
                let detail = format!("no whole request within {} s", self.house.handshake_timeout.as_secs());
                Err(Fault::new(Reason::HandshakeTimeout, detail).into())
            }
        }
    }

    async fn send(&mut self) -> Result<(), NotOpened> {
        if self.out.is_empty() {
            return Ok(());
        }
        let left = self.house.handshake_timeout;
        let sent = timeout(left, self.client.write_all(&self.out)).await;
        self.out.clear();
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(Fault::new(Reason::ProtocolError, "the client does not take its reply").into()),
        }
    }

    /// Refuses in PROXY mode: one SMTP line, as long as no byte of the destination was forwarded.
    fn told(&mut self, fault: Fault) -> NotOpened {
        self.out.extend_from_slice(fault.smtp_line(&self.record.id).as_bytes());
        fault.into()
    }

    /// Sends what waits and closes so that it arrives: with unread bytes a close would be a reset.
    async fn part(&mut self) {
        let farewell = async {
            self.client.write_all(&self.out).await?;
            self.client.shutdown().await?;
            let mut rest = [0; 512];
            while self.client.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // Whether the client heard it is its own concern.
        let _ = timeout(FAREWELL, farewell).await;
        self.out.clear();
    }

    fn elapsed(&self) -> Duration {
        self.house.clock.now().saturating_duration_since(self.started)
    }

    fn elapsed_ms(&self) -> u64 {
        millis(self.elapsed())
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
