//! Making TCP sockets: those that listen, those that dial from a chosen address, and the hard close.
//! Floor 2. Touches sockets only; decides nothing about who may use them.
//! Always: a dialing socket takes its local port at connect, not at bind, so that the number of
//! connections is limited for each destination and not for each source address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// A vanished client is noticed after 60 + 4 × 15 seconds of silence.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_mins(1)).with_interval(Duration::from_secs(15)).with_retries(4);
/// The same span for a client that vanished while it was owed bytes.
const USER_TIMEOUT: Duration = Duration::from_mins(2);

/// Several listeners on one address, or only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The address is this listener's alone.
    Alone,
    /// SO_REUSEPORT: the kernel spreads connections over all listeners of the address.
    Among,
}

/// A listening socket, non-blocking. Accepted sockets inherit its options (Linux): TCP_NODELAY, keepalive
/// and the user timeout, so that no call is spent on them for each connection.
///
/// # Errors
/// What the operating system says; the caller names the address.
pub fn listen(address: SocketAddr, share: Share) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share == Share::Among)?;
    set_inherited(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes a listening socket of the service manager's one like those of [`listen`].
///
/// # Errors
/// What the operating system says.
pub fn adopt(listener: &std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    set_inherited(&SockRef::from(listener))
}

fn set_inherited(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// A socket that is bound to `source` (any port) and not yet connected, non-blocking, with TCP_NODELAY.
///
/// # Errors
/// `EADDRNOTAVAIL` if `source` is not on the host; `EMFILE` and its like if the process has no room.
pub fn bound_to(source: IpAddr) -> io::Result<Socket> {
    bind_dialing(source, false)
}

/// The same for an address that need not be on the host (IP_FREEBIND, IPV6_FREEBIND): the network must
/// route it here.
///
/// # Errors
/// As [`bound_to`], but for `EADDRNOTAVAIL`.
pub fn freely_bound_to(source: IpAddr) -> io::Result<Socket> {
    bind_dialing(source, true)
}

fn bind_dialing(source: IpAddr, is_free: bool) -> io::Result<Socket> {
    let address = SocketAddr::new(source, 0);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.set_tcp_nodelay(true)?;
    match source {
        IpAddr::V4(_) if is_free => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) if is_free => socket.set_freebind_v6(true)?,
        _ => {}
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Makes the coming close of `stream` a reset: the peer sees "connection reset", not an orderly end.
/// What the kernel still holds for the peer is discarded.
pub fn reset_on_close(stream: &tokio::net::TcpStream) {
    // Fails only for a socket that is gone already, and then there is nothing to reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialing_socket_takes_no_port_before_it_connects() {
        let socket = bound_to([127, 0, 0, 9].into()).expect("loopback");
        let local = socket.local_addr().expect("bound").as_socket().expect("an IP address");
        assert_eq!(local, ([127, 0, 0, 9], 0).into());
        assert!(socket.tcp_nodelay().expect("readable"));
    }

    #[test]
    fn an_address_of_another_host_is_told_at_bind() {
        let error = bound_to([192, 0, 2, 77].into()).expect_err("192.0.2.0/24 is nobody's");
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_free_bind_needs_no_address_on_the_host() {
        for source in ["192.0.2.77", "2001:db8::77"] {
            freely_bound_to(source.parse().expect("an address")).expect(source);
        }
    }

    #[test]
    fn accepted_sockets_inherit_what_the_listener_has() {
        let listener = listen(([127, 0, 0, 1], 0).into(), Share::Among).expect("loopback");
        let address = listener.local_addr().expect("bound");
        let second = listen(address, Share::Among).expect("a second listener on the address");
        drop(second);
        listener.set_nonblocking(false).expect("blocking");
        let _client = std::net::TcpStream::connect(address).expect("connects");
        let (accepted, _) = listener.accept().expect("accepts");
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().expect("readable") && accepted.keepalive().expect("readable"));
    }
}
