//! From an accepted client to a connected destination, or to a refusal. Floor 4.

use std::time::Instant;

use bytes::{Buf as _, BytesMut};
use egret_shared::fault::{Fault, Reason};
use egret_shared::net::certificate;
use egret_shared::net::socket::reset_on_close;
use egret_shared::net::tls::Clear;
use egret_shared::proxy_protocol::frame::{self, Header};
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::carry::Opened;
use super::{House, NotOpened, Session};
use crate::access::{Who, admit};
use crate::dial::{Bound, bind};
use crate::handshake::detect::{Speech, speech};
use crate::handshake::socks5::{Ask, Methods, Socks5};
use crate::leg::Leg;
use crate::policy::{Auth, DefaultSources, ListenerPolicy, Protocol};
use crate::source::HeldAddress;

/// Lets the client in, and does its TLS handshake if the listener wants one.
pub(super) async fn admitted(
    client: TcpStream,
    peer: SocketAddr,
    listener: &ListenerPolicy,
    deadline: Instant,
    house: &House,
) -> Result<Leg, NotOpened> {
    match admit(&listener.client_networks, peer.ip()) {
        Ok(()) => secure(client, listener, deadline, house).await,
        Err(fault) => {
            // Whoever may not use the proxy learns nothing of it.
            reset_on_close(&client);
            Err(NotOpened::Denied(fault))
        }
    }
}

async fn secure(
    client: TcpStream,
    listener: &ListenerPolicy,
    deadline: Instant,
    house: &House,
) -> Result<Leg, NotOpened> {
    let Some(tls) = &listener.tls else { return Ok(Leg::Clear(client)) };
    let left = || deadline.saturating_duration_since(house.common.clock.now());
    let failed = |detail: String| {
        house.metrics.tls_failed();
        NotOpened::Denied(Fault::new(Reason::ProtocolError, detail))
    };
    let mut first = [0];
    match timeout(left(), client.peek(&mut first)).await {
        Ok(Ok(read)) if read > 0 => {}
        Ok(_) => return Err(NotOpened::Probe),
        Err(_) => return Err(failed("no TLS handshake in time".to_owned())),
    }
    if speech(first[0]) != Speech::Tls {
        if tls.is_optional {
            return Ok(Leg::Clear(client));
        }
        return Err(failed(format!("the first byte is 0x{:02x}, not that of TLS", first[0])));
    }
    let clear = Clear { stream: client, inbox: BytesMut::new() };
    match clear.upgrade(tls.config.clone(), left()).await {
        Ok(stream) => Ok(Leg::Tls(Box::new(stream))),
        Err(error) => Err(failed(error.to_string())),
    }
}

impl Session<'_> {
    /// Hears what the client wants and dials it.
    pub(super) async fn open(&mut self) -> Result<Opened, NotOpened> {
        if self.speaks == Protocol::Auto {
            self.read().await?;
            self.speaks = match self.input.first().map(|first| speech(*first)) {
                Some(Speech::Proxy) => Protocol::Proxy,
                _ => Protocol::Socks5,
            };
        }
        if self.listener.auth == Auth::Certificate
            && let Err(fault) = self.name_by_certificate()
        {
            return Err(self.told(fault));
        }
        match self.speaks {
            Protocol::Proxy => self.open_proxy().await,
            Protocol::Socks5 | Protocol::Auto => self.open_socks5().await,
        }
    }

    /// The user is the first of the certificate's names that is one.
    fn name_by_certificate(&mut self) -> Result<(), Fault> {
        let names = self.client.certificate().and_then(certificate::facts).map(|facts| facts.names).unwrap_or_default();
        let user = names.iter().find(|name| self.policy.users.has(name));
        let Some(user) = user else {
            let detail = format!("none of the certificate's names is a user: {}", names.join(", "));
            return Err(Fault::new(Reason::AuthFailed, detail));
        };
        self.record.user = Some(user.clone());
        Ok(())
    }

    async fn open_socks5(&mut self) -> Result<Opened, NotOpened> {
        let methods = if self.listener.auth == Auth::Password { Methods::Password } else { Methods::None };
        let mut machine = Socks5::new(methods, self.listener.failure_text);
        let mut bound = None;
        let mut wanted_source = None;
        loop {
            let (used, ask) = match machine.step(&self.input, &mut self.out) {
                Ok(step) => step,
                // The reply is in `out`, and is sent on parting.
                Err(fault) => return Err(fault.into()),
            };
            self.input.advance(used);
            let done = match ask {
                Ask::More => match self.read().await {
                    Ok(()) => continue,
                    Err(NotOpened::Failed(fault)) if machine.is_asked() => Err(fault),
                    Err(end) => return Err(end),
                },
                Ask::Login { username, password } => {
                    wanted_source = self.log_in(&mut machine, &username, &password).await?;
                    continue;
                }
                Ask::Bind(source) => match self.named(source).and_then(bind) {
                    Ok(socket) => {
                        machine.bound(socket.source().ip(), &mut self.out);
                        bound = Some(socket);
                        continue;
                    }
                    Err(fault) => Err(fault),
                },
                Ask::Connect(destination) => self.open_towards(bound.take(), wanted_source, destination).await,
            };
            match done {
                Ok(opened) => {
                    machine.connected(opened.local, &mut self.out);
                    self.send().await?;
                    return Ok(opened);
                }
                Err(fault) => {
                    machine.refuse(&fault, &mut self.out);
                    return Err(fault.into());
                }
            }
        }
    }

    async fn open_towards(
        &mut self,
        bound: Option<Bound>,
        wanted_source: Option<IpAddr>,
        destination: SocketAddr,
    ) -> Result<Opened, Fault> {
        let bound = match (bound, wanted_source) {
            (Some(bound), _) => bound,
            (None, Some(source)) => self.named(source).and_then(bind)?,
            (None, None) => self.unnamed(destination.ip()).and_then(bind)?,
        };
        let opened = self.dial(bound, destination).await?;
        self.hear_banner(opened).await
    }

    /// Checks a password. Returns the source that the login name carries.
    async fn log_in(&mut self, machine: &mut Socks5, login: &str, password: &str) -> Result<Option<IpAddr>, NotOpened> {
        let (name, source) = self.policy.users.split(login);
        let is_known = self.policy.users.verify(name, password).await;
        machine.logged_in(is_known, &mut self.out);
        if is_known {
            self.record.user = Some(name.to_owned());
            return Ok(source);
        }
        // Guessing takes time, the more the longer it goes on.
        let common = &self.house.common;
        let wait = common.penalties.wrong(self.record.client.ip(), common.clock.now());
        tokio::select! {
            () = sleep(wait) => {}
            () = self.house.cut.cancelled() => {}
        }
        Err(Fault::new(Reason::AuthFailed, format!("user {name:?}")).into())
    }

    async fn open_proxy(&mut self) -> Result<Opened, NotOpened> {
        let (header, used) = loop {
            match frame::scan(&self.input) {
                Ok(frame::Scan::Got(header, used)) => break (header, used),
                Ok(frame::Scan::More) => match self.read().await {
                    Err(NotOpened::Failed(fault)) => return Err(self.told(fault)),
                    read => read?,
                },
                Err(bad) => return Err(self.told(Fault::new(Reason::ProtocolError, bad.to_string()))),
            }
        };
        self.input.advance(used);
        let Header::Forward { source, destination } = header else { return Err(NotOpened::Probe) };
        let dialed = match self.named(source.ip()).and_then(bind) {
            Ok(bound) => self.dial(bound, destination).await,
            Err(fault) => Err(fault),
        };
        dialed.map_err(|fault| self.told(fault))
    }

    /// The source that the client names, if it may use it.
    fn named(&mut self, wanted: IpAddr) -> Result<HeldAddress, Fault> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        // Noted before it is judged: a record of a refusal shall name it.
        self.record.source = Some(wanted);
        let source = self.policy.sources.named(wanted)?;
        self.may_use(source.ip())?;
        Ok(source)
    }

    /// The source of a client that names none.
    fn unnamed(&mut self, destination: IpAddr) -> Result<HeldAddress, Fault> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let set = self.policy.default_set(self.listener, self.record.user.as_deref());
        if set.is_none() && matches!(self.listener.default_sources, DefaultSources::SameAsDialed) {
            let failed = |error| Fault::new(Reason::Internal, format!("the client's socket: {error}"));
            let dialed = self.client.socket().local_addr().map_err(failed)?.ip();
            return self.named(dialed);
        }
        self.policy.sources.next_towards(destination, set, |ip| self.may_use(ip))
    }

    fn may_use(&self, source: IpAddr) -> Result<(), Fault> {
        let user = self.record.user.as_deref();
        if !self.policy.is_own(user, source) {
            let detail = format!("source {source} is not in the sources of user {}", user.unwrap_or_default());
            return Err(Fault::new(Reason::SourceNotAllowed, detail));
        }
        self.policy.access.check_source(self.who(), source)
    }

    pub(super) fn who(&self) -> Who<'_> {
        Who { client: self.record.client.ip(), user: self.record.user.as_deref() }
    }

    /// Why nothing is served now.
    fn refusal(&mut self) -> Option<Fault> {
        if self.house.common.stop.drain.is_cancelled() {
            return Some(Fault::new(Reason::ProxyShuttingDown, "the proxy stops"));
        }
        self.refusal.take()
    }

    /// Refuses in the client's protocol, before or outside of the SOCKS5 dialogue.
    fn told(&mut self, fault: Fault) -> NotOpened {
        match self.speaks {
            Protocol::Proxy => {
                let line = fault.smtp_line(&self.record.id.to_string());
                self.out.extend_from_slice(line.as_bytes());
            }
            Protocol::Socks5 | Protocol::Auto => crate::handshake::socks5::refuse_all(&mut self.out),
        }
        fault.into()
    }
}
