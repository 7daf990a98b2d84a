//! A listener of one worker: accepted clients become sessions. Floor 5.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use egret_shared::fault::{Fault, Reason};
use egret_shared::net::accept::{Door, NoRoom, Permit};
use egret_shared::net::socket::reset_on_close;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::session::{House, serve};

/// Clients beyond the limit of sessions that are told so at once, each in a short session of its own:
/// a SOCKS5 client cannot be answered before it has spoken.
const TOLD_AT_ONCE: usize = 64;

/// Lets clients in. Sessions run on the worker's own thread.
pub struct ProxyDoor {
    /// What sessions share.
    pub house: Rc<House>,
    /// The sessions that run.
    pub sessions: TaskTracker,
    /// Clients that are being told of the overload.
    pub told: Rc<Cell<usize>>,
}

impl Door for ProxyDoor {
    fn session(&self, stream: TcpStream, peer: SocketAddr, permit: Permit) {
        let house = self.house.clone();
        self.sessions.spawn_local(async move {
            serve(stream, peer, &house, None).await;
            drop(permit);
        });
    }

    fn refuse(&self, stream: TcpStream, peer: SocketAddr, why: NoRoom) {
        let what = match why {
            NoRoom::Sessions => "limits.max_sessions is reached",
            NoRoom::Descriptors => "no descriptor is left",
        };
        let fault = Fault::new(Reason::ProxyOverloaded, format!("{what}, client {peer}"));
        if why == NoRoom::Descriptors || self.told.get() >= TOLD_AT_ONCE {
            self.house.common.reporter.turned_away(&fault);
            return reset_on_close(&stream);
        }
        let (house, told) = (self.house.clone(), self.told.clone());
        told.set(told.get() + 1);
        self.sessions.spawn_local(async move {
            serve(stream, peer, &house, Some(fault)).await;
            told.set(told.get() - 1);
        });
    }

    fn failed(&self, error: &io::Error) {
        self.house.common.reporter.metrics.accept_failed(error.raw_os_error().unwrap_or(0));
        warn!(%error, listener = %self.house.listener, "accept failed");
    }
}
