//! Binds a held address, connects to an allowed destination, and makes a fault of what fails.
//! Touches sockets. Floor 3.
//! Always: the local address of a connection is the source that was asked for.

use std::net::SocketAddr;
use std::time::Duration;

use egret_shared::fault::{Fault, Reason};
use egret_shared::net::errno::{bind_reason, connect_reason};
use egret_shared::net::socket::bound_to;
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
    match bound_to(source.ip()) {
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
        let (source, to) = (self.source.ip(), to.address());
        let shown = || format!("{source} to {to}");
        if source.is_ipv4() != to.is_ipv4() {
            return Err(Fault::new(Reason::FamilyMismatch, shown()));
        }
        let failed =
            |error: std::io::Error| Fault::new(connect_reason(&error), shown()).with_errno(error.raw_os_error());
        let stream = match timeout(limit, self.socket.connect(to)).await {
            Ok(connected) => connected.map_err(failed)?,
            Err(_) => return Err(Fault::new(Reason::ConnectionTimeout, shown()).with_errno(Some(libc::ETIMEDOUT))),
        };
        let local = stream.local_addr().map_err(failed)?;
        Ok((stream, local))
    }
}
