//! From a source to an address of the destination: directly, or through a proxy in its dialect.
//! Floor 3. Touches sockets; decides nothing about which source or destination.
//! Always: a failure is a [`Fault`] with its party; the whole dial ends within one time limit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use egret_shared::fault::{Fault, Party, Reason};
use egret_shared::net::errno::{bind_reason, connect_reason};
use egret_shared::net::socket::bound_to;
use egret_shared::proxy_protocol::frame::{write_v1, write_v2};
use egret_shared::socks5::client::{Ask, Client, Progress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::inquiry;
use super::leg::Leg;
use crate::routing::source::{Dialect, Proxy, Source, Way};

/// The most that is read of a proxy's answers at once; a greeting of the destination may follow them.
const READ_BYTES: usize = 2048;

/// How long a connection must last to say that the proxy behind it is alive.
const STAYS: Duration = Duration::from_millis(200);

/// How long a proxy may take to answer when it is asked whether it is there.
const EXAMINE_LIMIT: Duration = Duration::from_secs(5);

/// A connection, and what was read of it already.
pub(super) struct Dialed {
    pub stream: Leg,
    pub input: BytesMut,
    /// Our own end of a connection to a proxy.
    pub local: Option<SocketAddr>,
}

/// Dials `to` from `source` by one of its ways, within `limit`.
pub(super) async fn dial(source: &Source, way: &Way, to: SocketAddr, limit: Duration) -> Result<Dialed, Fault> {
    if source.address.is_some_and(|from| from.is_ipv4() != to.is_ipv4()) {
        return Err(Fault::new(Reason::FamilyMismatch, format!("{} cannot reach {to}", source.name)));
    }
    match way {
        Way::Direct => direct(source.address, to, limit).await,
        Way::Proxy(proxy) => {
            let dialed = timeout(limit, through(proxy, source, to)).await;
            dialed.unwrap_or_else(|_| {
                let detail = format!("{} via {}: no answer within {} s", to, proxy.address, limit.as_secs());
                Err(Fault::new(Reason::ProxyTimeout, detail))
            })
        }
    }
}

async fn direct(from: Option<IpAddr>, to: SocketAddr, limit: Duration) -> Result<Dialed, Fault> {
    let shown = from.map_or_else(|| to.to_string(), |from| format!("{from} to {to}"));
    let told =
        |reason, error: &io::Error| Fault::new(reason, format!("{shown}: {error}")).with_errno(error.raw_os_error());
    let socket = socket_from(from, to).map_err(|error| told(bind_reason(&error), &error))?;
    match timeout(limit, socket.connect(to)).await {
        Ok(Ok(stream)) => Ok(Dialed { stream: Leg::Clear(stream), input: BytesMut::new(), local: None }),
        Ok(Err(error)) => Err(told(connect_reason(&error), &error)),
        Err(_) => {
            Err(Fault::new(Reason::ConnectionTimeout, format!("{shown}: no answer within {} s", limit.as_secs())))
        }
    }
}

fn socket_from(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpSocket> {
    if let Some(from) = from {
        return Ok(TcpSocket::from_std_stream(bound_to(from)?.into()));
    }
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn through(proxy: &Proxy, source: &Source, to: SocketAddr) -> Result<Dialed, Fault> {
    let mut stream = reach(proxy).await?;
    let mut input = BytesMut::new();
    match proxy.dialect {
        Dialect::Socks5 | Dialect::Connect => {
            let asked = Asked::new(proxy, source)?;
            let connected = socks5(asked.ask(to), &mut stream, &mut input, Upto::Connection).await;
            connected.map_err(|fault| named(fault, proxy))?;
        }
        Dialect::ProxyV1 | Dialect::ProxyV2 => {
            let mut header = Vec::with_capacity(108);
            let from = SocketAddr::new(told_address(source)?, 0);
            let write = if proxy.dialect == Dialect::ProxyV1 { write_v1 } else { write_v2 };
            write(from, to, &mut header);
            // One write: HAProxy drops a header that does not come whole.
            let lost =
                |error: io::Error| Fault::new(Reason::ProxyUnreachable, format!("proxy {}: {error}", proxy.address));
            stream.write_all(&header).await.map_err(lost)?;
            stream.flush().await.map_err(lost)?;
        }
    }
    let local = stream.local_address();
    Ok(Dialed { stream, input, local })
}

/// Says whether the proxy of a way, or the source behind it, is at fault after a session through it broke: a proxy that
/// is there and holds the source goes through a handshake as far as the destination. `None` says nothing against them.
/// `local` is our end of the broken connection: by it an egret-proxy that was asked by a header knows the session.
pub(super) async fn examine(source: &Source, way: &Way, local: Option<SocketAddr>) -> Option<Fault> {
    let proxy = way.proxy()?;
    if let (true, Some(admin), Some(local)) = (proxy.dialect.is_header(), proxy.admin, local)
        && let Some(fault) = inquiry::ask(admin, local).await.filter(|fault| fault.party() != Party::Remote)
    {
        return Some(fault);
    }
    match timeout(EXAMINE_LIMIT, greet(proxy, source)).await {
        Ok(Ok(())) => None,
        Ok(Err(fault)) => Some(fault),
        Err(_) => {
            let detail = format!("proxy {}: no answer within {} s", proxy.address, EXAMINE_LIMIT.as_secs());
            Some(Fault::new(Reason::ProxyTimeout, detail))
        }
    }
}

async fn greet(proxy: &Proxy, source: &Source) -> Result<(), Fault> {
    let mut stream = reach(proxy).await?;
    if proxy.dialect.is_header() {
        return stays(&mut stream)
            .await
            .map_err(|why| Fault::new(Reason::ProxyUnreachable, format!("proxy {}: {why}", proxy.address)));
    }
    // The destination is never told.
    let nowhere = SocketAddr::new(source.address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)), 0);
    let asked = Asked::new(proxy, source)?;
    socks5(asked.ask(nowhere), &mut stream, &mut BytesMut::new(), Upto::Destination)
        .await
        .map_err(|fault| named(fault, proxy))
}

/// Whether a proxy that waits for a header keeps the connection: of one that is dying the kernel may still have taken
/// it, and ends it with the program.
async fn stays(stream: &mut Leg) -> Result<(), String> {
    match timeout(STAYS, stream.read(&mut [0])).await {
        Ok(Ok(0)) => Err("it closes connections at once".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// A connection to the proxy, in TLS if that is spoken.
async fn reach(proxy: &Proxy) -> Result<Leg, Fault> {
    let unreachable = |error: io::Error| {
        let reason = match bind_reason(&error) {
            Reason::ProxyOverloaded => Reason::ProxyOverloaded,
            _ => Reason::ProxyUnreachable,
        };
        Fault::new(reason, format!("proxy {}: {error}", proxy.address)).with_errno(error.raw_os_error())
    };
    let stream = TcpStream::connect(proxy.address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let Some(server) = &proxy.tls else { return Ok(Leg::Clear(stream)) };
    let refused = |error| Fault::new(Reason::ProxyUnreachable, format!("TLS with proxy {}: {error}", proxy.address));
    Ok(Leg::Tls(Box::new(server.handshake(stream).await.map_err(refused)?)))
}

fn named(mut fault: Fault, proxy: &Proxy) -> Fault {
    fault.detail = format!("{}, via {}", fault.detail, proxy.address);
    fault
}

fn told_address(source: &Source) -> Result<IpAddr, Fault> {
    let missing = || format!("source {} has no address to tell its proxy", source.name);
    source.address.ok_or_else(|| Fault::new(Reason::SourceNotAllowed, missing()))
}

/// The user name with `{source}` replaced by the source's address.
fn username(template: &str, source: &Source) -> Result<String, Fault> {
    if !template.contains("{source}") {
        return Ok(template.to_owned());
    }
    Ok(template.replace("{source}", &told_address(source)?.to_string()))
}

/// What a SOCKS5 proxy is asked for, beside the destination.
struct Asked<'p> {
    user: Option<String>,
    password: &'p str,
    source: Option<IpAddr>,
}

impl<'p> Asked<'p> {
    fn new(proxy: &'p Proxy, source: &Source) -> Result<Self, Fault> {
        let credentials = proxy.credentials.as_ref();
        let names_source = proxy.dialect == Dialect::Socks5;
        let name = |template: &str| if names_source { Ok(template.to_owned()) } else { username(template, source) };
        let user = credentials.map(|c| name(&c.username)).transpose()?;
        let password = credentials.map(|c| c.password.as_str()).unwrap_or_default();
        let source = if names_source { Some(told_address(source)?) } else { None };
        Ok(Self { user, password, source })
    }

    fn ask(&self, destination: SocketAddr) -> Ask<'_> {
        let credentials = self.user.as_deref().map(|user| (user, self.password));
        Ask { credentials, source: self.source, destination }
    }
}

/// How far a handshake goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upto {
    /// The destination is about to be told.
    Destination,
    /// The connection stands.
    Connection,
}

async fn socks5(ask: Ask<'_>, stream: &mut Leg, input: &mut BytesMut, upto: Upto) -> Result<(), Fault> {
    let mut send = Vec::with_capacity(64);
    let mut client = Client::new(ask, &mut send);
    loop {
        let lost = |error: io::Error| {
            Fault::new(Reason::ProxyUnspecified, format!("proxy: {error}")).with_errno(error.raw_os_error())
        };
        stream.write_all(&send).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        send.clear();
        input.reserve(READ_BYTES);
        if stream.read_buf(input).await.map_err(lost)? == 0 {
            return Err(client.closed());
        }
        let (used, progress) = client.step(input, &mut send)?;
        input.advance(used);
        if upto == Upto::Destination && client.is_let_in() {
            return Ok(());
        }
        if let Progress::Done { .. } = progress {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_name_may_choose_the_source() {
        let source = Source {
            name: "a".into(),
            address: Some([192, 0, 2, 1].into()),
            ehlo_name: "a.test".into(),
            names_itself: true,
            warmup: Vec::new(),
            ways: vec![Way::Direct],
        };
        assert_eq!(username("egress-{source}", &source), Ok("egress-192.0.2.1".to_owned()));
        assert_eq!(username("plain", &source), Ok("plain".to_owned()));
        let homeless = Source { address: None, ..source };
        let fault = username("{source}", &homeless).expect_err("no address to tell");
        assert_eq!(fault.reason, Reason::SourceNotAllowed);
    }
}
