//! The sockets that a configuration asks for, or that the service manager has opened already. Floor 6.

use std::io;
use std::net::SocketAddr;

use egret_shared::http;
use egret_shared::net::socket::{Share, adopt, listen};
use listenfd::ListenFd;
use tokio::net::TcpListener;

use super::StartError;
use crate::config::Config;

/// The sockets that a configuration asks for.
pub struct Sockets {
    /// For each worker, one for each listener in their order.
    pub(super) workers: Vec<Vec<std::net::TcpListener>>,
    /// For health, metrics and the API.
    pub(super) admin: Option<TcpListener>,
    /// The listeners' addresses as the configuration names them.
    pub(super) configured: Vec<SocketAddr>,
    /// Where clients come in: the same, with ports that the kernel has chosen.
    pub addresses: Vec<SocketAddr>,
}

impl Sockets {
    /// Binds them all; takes those of the service manager where it has opened one (sd_listen_fds(3)).
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = if config.workers == 0 { cores() } else { config.workers };
        let configured: Vec<_> = config.served.listeners.iter().map(|listener| listener.address).collect();
        let mut given = given()?;
        let mut workers: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for address in &configured {
            let failed = |error| StartError::Listen { address: *address, error };
            let ready = given.iter().position(|socket| socket.local_addr().is_ok_and(|own| own == *address));
            let sockets = match ready {
                Some(at) => share(given.swap_remove(at), count).map_err(failed)?,
                None => spread(*address, count).map_err(failed)?,
            };
            addresses.push(sockets[0].local_addr().map_err(failed)?);
            for (worker, socket) in workers.iter_mut().zip(sockets) {
                worker.push(socket);
            }
        }
        if let Some(other) = given.iter().find_map(|socket| socket.local_addr().ok()) {
            return Err(StartError::Unwanted(other));
        }
        let admin = match config.admin {
            Some(address) => Some(http::bind(address).await.map_err(StartError::Admin)?),
            None => None,
        };
        Ok(Self { workers, admin, configured, addresses })
    }

    /// Where health, metrics and the API are served.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.local_addr().ok())
    }
}

/// Listeners that the service manager has opened.
fn given() -> Result<Vec<std::net::TcpListener>, StartError> {
    let mut environment = ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..environment.len() {
        match environment.take_tcp_listener(at) {
            Ok(Some(socket)) => sockets.push(socket),
            Ok(None) => {}
            Err(error) => return Err(StartError::Given(error)),
        }
    }
    Ok(sockets)
}

/// One socket for all workers.
fn share(socket: std::net::TcpListener, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    adopt(&socket)?;
    let mut sockets = vec![socket];
    for _ in 1..count {
        sockets.push(sockets[0].try_clone()?);
    }
    Ok(sockets)
}

/// A socket for each worker, over which the kernel spreads clients.
fn spread(mut address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // SO_REUSEPORT would let a second proxy of the same user share the port without a word.
    drop(listen(address, Share::Alone)?);
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = listen(address, Share::Among)?;
        // Port 0 is chosen once; the other workers share the choice.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}
