//! One client: TLS → request → source → access → limit → dial → answer → relay → record.
//! Touches the client's socket; all else by the rooms below. Floor 4.
//! Always: a client hears why it is not served, unless it is not to be told anything; a record is made
//! of every session that asked for something.

mod carry;
mod open;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use egret_shared::clock::Clock;
use egret_shared::fault::{Fault, Reason};
use egret_shared::lifecycle::Stop;
use egret_shared::net::socket::reset_on_close;
use egret_shared::users::Penalties;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::leg::Leg;
use crate::limit::Limits;
use crate::policy::{Current, ListenerPolicy, Policy, Protocol};
use crate::relay::Scratch;
use crate::report::Reporter;
use crate::report::metrics::OfListener;
use crate::report::record::{Ended, Record, SessionId};

/// Room for a handshake.
const HANDSHAKE_BYTES: usize = 1024;
/// How long a client that was refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a client that will be told of an overload may take for its request.
const OVERLOADED_HANDSHAKE: Duration = Duration::from_secs(2);

/// What all sessions share.
#[derive(Clone)]
pub struct Common {
    /// What is served and how.
    pub policy: Current,
    /// What is taken of limits.
    pub limits: Limits,
    /// Clients that gave wrong passwords.
    pub penalties: Penalties<IpAddr>,
    /// Who is told.
    pub reporter: Reporter,
    /// Numbers for sessions.
    pub numbers: Arc<AtomicU64>,
    /// The clock.
    pub clock: Clock,
    /// The program's stop.
    pub stop: Stop,
}

/// What sessions of one listener share in one worker.
pub struct House {
    /// Where it listens, as the policy names it.
    pub listener: SocketAddr,
    /// Its counters.
    pub metrics: OfListener,
    /// The worker's buffer.
    pub scratch: Scratch,
    /// Cancelled when the worker's sessions shall end now.
    pub cut: CancellationToken,
    /// What all sessions share.
    pub common: Common,
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
    policy: &'h Policy,
    listener: &'h ListenerPolicy,
    client: Leg,
    input: BytesMut,
    out: Vec<u8>,
    /// What the client speaks, once that is known.
    speaks: Protocol,
    record: Record,
    started: Instant,
    /// When the request must be whole.
    deadline: Instant,
    /// Why whatever is asked for will be refused.
    refusal: Option<Fault>,
}

/// Serves one client to the end. With a `refusal`, whatever it asks for is refused so.
pub async fn serve(client: TcpStream, peer: SocketAddr, house: &House, refusal: Option<Fault>) {
    let _active = house.metrics.session();
    let policy = house.common.policy.load_full();
    let Some(listener) = policy.listener(house.listener) else {
        // A reload took the listener away; its socket stays until a restart.
        return reset_on_close(&client);
    };
    let (started, wall) = (house.common.clock.now(), house.common.clock.wall());
    let patience = if refusal.is_some() { OVERLOADED_HANDSHAKE } else { policy.timeouts.handshake };
    let deadline = started + patience;
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let number = SessionId(house.common.numbers.fetch_add(1, Ordering::Relaxed));
    let record = || Record::begin(number, wall, house.listener, peer);
    // What opens a session is on the heap, and gone once it is open: there are many sessions, and they
    // last.
    match Box::pin(open::admitted(client, peer, listener, deadline, house)).await {
        Ok(client) => {
            let mut session = Box::new(Session {
                house,
                policy: &policy,
                listener,
                client,
                input: BytesMut::new(),
                out: Vec::new(),
                speaks: listener.protocol,
                record: record(),
                started,
                deadline,
                refusal,
            });
            session.run().await;
        }
        Err(NotOpened::Probe) => house.metrics.probe(),
        Err(NotOpened::Denied(fault) | NotOpened::Failed(fault)) => {
            let mut record = record();
            record.end = Ended::Refused;
            record.failed(fault);
            record.duration_ms = millis(house.common.clock.now().saturating_duration_since(started));
            house.common.reporter.ended(record, house.common.clock.now());
        }
    }
}

impl Session<'_> {
    /// Opens, carries and tells.
    async fn run(&mut self) {
        match Box::pin(self.open()).await {
            Ok(opened) => self.carry(Box::new(opened)).await,
            Err(NotOpened::Probe) => {
                return self.house.metrics.probe();
            }
            Err(NotOpened::Denied(fault)) => self.refused(fault),
            Err(NotOpened::Failed(fault)) => {
                self.refused(fault);
                Box::pin(self.part()).await;
            }
        }
        let now = self.house.common.clock.now();
        self.record.duration_ms = millis(now.saturating_duration_since(self.started));
        self.house.common.reporter.ended(self.record.clone(), now);
    }

    fn refused(&mut self, fault: Fault) {
        self.record.end = Ended::Refused;
        self.record.failed(fault);
    }

    /// Sends what waits, and reads more of the request, within the time that a request may take.
    async fn read(&mut self) -> Result<(), NotOpened> {
        self.send().await?;
        self.input.reserve(HANDSHAKE_BYTES);
        let left = self.deadline.saturating_duration_since(self.house.common.clock.now());
        match timeout(left, self.client.read_buf(&mut self.input)).await {
            Ok(Ok(read)) if read > 0 => Ok(()),
            // A client that says nothing and goes is a health check.
            Ok(_) if self.input.is_empty() && self.record.user.is_none() => Err(NotOpened::Probe),
            Ok(_) => Err(Fault::new(Reason::ProtocolError, "the client left within its request").into()),
            Err(_) => Err(self.late().into()),
        }
    }

    fn late(&self) -> Fault {
        let seconds = self.deadline.saturating_duration_since(self.started).as_secs();
        Fault::new(Reason::HandshakeTimeout, format!("no whole request within {seconds} s"))
    }

    async fn send(&mut self) -> Result<(), NotOpened> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = async {
            self.client.write_all(&self.out).await?;
            self.client.flush().await
        };
        let sent = timeout(self.policy.timeouts.handshake, sent).await;
        self.out.clear();
        match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err(Fault::new(Reason::ProtocolError, "the client does not take its reply").into()),
        }
    }

    /// Sends what waits and closes so that it arrives: with unread bytes a close would be a reset.
    async fn part(&mut self) {
        let farewell = async {
            self.client.write_all(&self.out).await?;
            self.client.shutdown().await?;
            loop {
                self.input.clear();
                self.input.reserve(HANDSHAKE_BYTES);
                if self.client.read_buf(&mut self.input).await? == 0 {
                    break;
                }
            }
            io::Result::Ok(())
        };
        // Whether the client heard it is its own concern.
        let _ = timeout(FAREWELL, farewell).await;
        self.out.clear();
    }

    fn elapsed_ms(&self) -> u64 {
        millis(self.house.common.clock.now().saturating_duration_since(self.started))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
