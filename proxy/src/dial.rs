//! Binds a held address, connects to an allowed destination, and makes a fault of what fails.
//! Touches sockets. Floor 3.
//! Always: the local address of a connection is the source that was asked for; before a destination or
//! a lack of ports is blamed, it is made sure that the source is still on the host, because the errors of
//! an address that was lost look like those.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use egret_shared::fault::{Fault, Reason};
use egret_shared::net::errno::{bind_reason, connect_reason};
use egret_shared::net::socket::{bound_to, freely_bound_to};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::access::Destination;
use crate::source::HeldAddress;

/// A socket on its source, not yet connected.
pub struct Bound {
    socket: TcpSocket,
    source: HeldAddress,
}

/// Binds `source`; its port is chosen at connect.
pub fn bind(source: HeldAddress) -> Result<Bound, Fault> {
    let bound = if source.is_free() { freely_bound_to(source.ip()) } else { bound_to(source.ip()) };
    match bound {
        Ok(socket) => Ok(Bound { socket: TcpSocket::from_std_stream(socket.into()), source }),
        Err(error) => {
            let fault = Fault::new(bind_reason(&error), format!("source {}", source.ip()));
            Err(fault.with_errno(error.raw_os_error()))
        }
    }
}

impl Bound {
    /// The source.
    pub fn source(&self) -> HeldAddress {
        self.source
    }

    /// Connects within `limit`.
    pub async fn connect(self, to: Destination, limit: Duration) -> Result<(TcpStream, SocketAddr), Fault> {
        let (source, to) = (self.source, to.address());
        let shown = || format!("{} to {to}", source.ip());
        if source.ip().is_ipv4() != to.is_ipv4() {
            return Err(Fault::new(Reason::FamilyMismatch, shown()));
        }
        let failed = |error: io::Error| {
            let reason = if is_lost(source, &error) { Reason::SourceNotPlumbed } else { connect_reason(&error) };
            Fault::new(reason, shown()).with_errno(error.raw_os_error())
        };
        let stream = match timeout(limit, self.socket.connect(to)).await {
            Ok(connected) => connected.map_err(failed)?,
            Err(_) => {
                let reason = if is_gone(source) { Reason::SourceNotPlumbed } else { Reason::ConnectionTimeout };
                return Err(Fault::new(reason, shown()).with_errno(Some(libc::ETIMEDOUT)));
            }
        };
        let local = stream.local_addr().map_err(failed)?;
        Ok((stream, local))
    }
}

/// Whether an error of connect is that of a source that the host has lost since it was bound.
fn is_lost(source: HeldAddress, error: &io::Error) -> bool {
    const DOUBTFUL: [i32; 4] = [libc::EADDRNOTAVAIL, libc::ENETUNREACH, libc::EINVAL, libc::EHOSTUNREACH];
    error.raw_os_error().is_some_and(|errno| DOUBTFUL.contains(&errno)) && is_gone(source)
}

/// Whether the source cannot be bound any more.
fn is_gone(source: HeldAddress) -> bool {
    !source.is_free() && has_left(source.ip())
}

/// Whether `ip` is no address of this host.
pub fn has_left(ip: IpAddr) -> bool {
    bound_to(ip).is_err_and(|error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL))
}
