//! Drives the session machine over a socket.
//! Touches sockets and timers; reads no clock. Floor 5.
//! Always: replies of a batch go out in one write; a client that makes no progress is closed after
//! its time; nothing that came in clear outlives STARTTLS; a stop waits only for an open transaction.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use egret_shared::net::tls::{Clear, describe};
use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::auth::{Credentials, Verdict};
use super::offer::{Acceptor, Offered};
use super::session::{Act, Around, Session};
use super::settings::Settings;

/// Room for one read of commands, and of a message.
const READ_BYTES: (usize, usize) = (4 << 10, 32 << 10);
/// What a client may still send after its session is closed, so that it can read the last reply
/// before a reset takes it away.
const LINGER: (usize, Duration) = (256 << 10, Duration::from_secs(2));

/// Serves one client until it leaves, is closed, or `stop` is cancelled and no transaction is open.
pub async fn serve<A: Acceptor>(
    stream: TcpStream,
    client: SocketAddr,
    settings: Arc<Settings>,
    acceptor: Arc<A>,
    stop: CancellationToken,
) {
    let _active = Active::new(&settings);
    let house = House { client, settings: &settings, acceptor: &*acceptor, stop: &stop };
    match house.both(stream).await {
        Ok(()) => debug!(%client, "session closed"),
        Err(error) => debug!(%client, %error, "session lost"),
    }
}

/// Counts a session while it lives.
struct Active(Gauge);

impl Active {
    fn new(settings: &Settings) -> Self {
        settings.meters.sessions.increment(1);
        settings.meters.active.increment(1);
        Self(settings.meters.active.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// What a session does not own.
struct House<'a, A> {
    client: SocketAddr,
    settings: &'a Arc<Settings>,
    acceptor: &'a A,
    stop: &'a CancellationToken,
}

/// How one half of a session, in clear or in TLS, ended.
enum Ending<S> {
    Over,
    StartTls(Clear<S>),
}

impl<A: Acceptor> House<'_, A> {
    /// In clear, and in TLS if the client asks for it.
    async fn both(&self, stream: TcpStream) -> io::Result<()> {
        let Ending::StartTls(clear) = self.talk(stream, None).run(true).await? else { return Ok(()) };
        let Some(config) = self.settings.tls.clone() else { return Ok(()) };
        let (meters, client) = (&self.settings.meters, self.client);
        match clear.upgrade(config, self.settings.command_timeout).await {
            Ok(stream) => {
                meters.tls_sessions.increment(1);
                let tls = describe(&stream);
                self.talk(stream, Some(tls)).run(false).await.map(drop)
            }
            Err(error) => {
                meters.tls_failures.increment(1);
                info!(%client, %error, "no TLS with client");
                Ok(())
            }
        }
    }

    fn talk<S>(&self, stream: S, tls: Option<String>) -> Talk<'_, S, A> {
        let session = Session::new(Arc::clone(self.settings), self.client, tls);
        Talk { house: self, clear: Clear { stream, inbox: BytesMut::new() }, out: Vec::new(), session }
    }
}

/// One half of a session.
struct Talk<'a, S, A> {
    house: &'a House<'a, A>,
    clear: Clear<S>,
    out: Vec<u8>,
    session: Session,
}

impl<S: AsyncRead + AsyncWrite + Unpin, A: Acceptor> Talk<'_, S, A> {
    async fn run(mut self, greet: bool) -> io::Result<Ending<S>> {
        if greet {
            self.session.greet(&mut self.out);
        }
        let mut act = Act::More;
        loop {
            act = match act {
                Act::More => {
                    self.send().await?;
                    self.read().await?
                }
                Act::Flush => {
                    self.send().await?;
                    self.step()
                }
                Act::Offer(offered) => self.offer(*offered).await,
                Act::Authenticate(credentials) => {
                    self.send().await?;
                    self.authenticate(*credentials).await
                }
                Act::StartTls => {
                    self.send().await?;
                    return Ok(Ending::StartTls(self.clear));
                }
                Act::Close => {
                    self.send().await?;
                    self.linger().await;
                    return Ok(Ending::Over);
                }
            }
        }
    }

    fn step(&mut self) -> Act {
        let gate = |asked| self.house.acceptor.gate(asked);
        let around = Around { now: self.house.acceptor.now(), gate: &gate };
        let step = self.session.step(&self.clear.inbox, around, &mut self.out);
        self.clear.inbox.advance(step.used);
        for code in self.session.refused() {
            self.house.settings.meters.refused(code);
        }
        step.act
    }

    async fn offer(&mut self, offered: Offered) -> Act {
        let bytes = offered.body.len() as u64;
        let answer = self.house.acceptor.accept(offered).await;
        if answer.is_ok() {
            self.house.settings.meters.accepted.increment(1);
            self.house.settings.meters.bytes.increment(bytes);
        }
        self.session.answered(answer, &mut self.out);
        if self.house.stop.is_cancelled() && self.session.is_idle() {
            self.session.stop(&mut self.out);
        }
        self.step()
    }

    /// Has credentials checked. Wrong ones wait for their answer, but not longer than the program runs.
    async fn authenticate(&mut self, credentials: Credentials) -> Act {
        let House { client, settings, acceptor, stop } = self.house;
        let verdict = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            verdict = acceptor.authenticate(*client, credentials) => Some(verdict),
        };
        match verdict {
            None => self.session.stop(&mut self.out),
            Some(verdict) => {
                let meters = &settings.meters.logins;
                let counter = match verdict {
                    Verdict::Right => &meters.right,
                    Verdict::Wrong => &meters.wrong,
                    Verdict::Unasked(_) => &meters.unasked,
                };
                counter.increment(1);
                self.session.authenticated(verdict, &mut self.out);
            }
        }
        self.step()
    }

    /// Reads until the machine gets on, the client's time is up, or the program stops.
    async fn read(&mut self) -> io::Result<Act> {
        let settings = self.house.settings;
        let limit = if self.session.is_in_data() { settings.data_timeout } else { settings.command_timeout };
        let (stop, idle) = (self.house.stop, self.session.is_idle());
        let got = tokio::select! {
            biased;
            () = stop.cancelled(), if idle => None,
            got = timeout(limit, self.read_on()) => Some(got),
        };
        match got {
            Some(Ok(done)) => return done,
            Some(Err(_)) => self.session.late(&mut self.out),
            None => self.session.stop(&mut self.out),
        }
        Ok(self.step())
    }

    /// Safe to drop at its one await: what was read stands in the inbox or went through the machine.
    async fn read_on(&mut self) -> io::Result<Act> {
        let before = self.session.progress();
        loop {
            let room = if self.session.is_in_data() { READ_BYTES.1 } else { READ_BYTES.0 };
            self.clear.inbox.reserve(room);
            if self.clear.stream.read_buf(&mut self.clear.inbox).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let act = self.step();
            if act != Act::More || self.session.progress() != before {
                return Ok(act);
            }
        }
    }

    /// Sends what is to be sent, in one write.
    async fn send(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = async {
            self.clear.stream.write_all(&self.out).await?;
            self.clear.stream.flush().await
        };
        timeout(self.house.settings.command_timeout, sent)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.out.clear();
        Ok(())
    }

    /// Closes so that the last reply arrives: with unread bytes a close would be a reset.
    async fn linger(&mut self) {
        if self.session.smuggled() {
            self.house.settings.meters.smuggling.increment(1);
            warn!(client = %self.house.client, "message held a false end of data, session closed");
        }
        let drain = async {
            self.clear.stream.shutdown().await?;
            let mut left = LINGER.0;
            while left > 0 {
                self.clear.inbox.clear();
                self.clear.inbox.reserve(READ_BYTES.0);
                match self.clear.stream.read_buf(&mut self.clear.inbox).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        // The session is over; whether the client saw its end is its own concern.
        let _ = timeout(LINGER.1, drain).await;
    }
}
