//! A listener of one worker: accepted clients become sessions. Floor 5.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use egret_shared::fault::{Fault, Reason};
use egret_shared::net::accept::{Door, NoRoom, Permit};
use egret_shared::net::socket::reset_on_close;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::session::{House, Protocol, serve};

/// Lets clients in. Sessions run on the worker's own thread.
pub struct ProxyDoor {
    /// What sessions share.
    pub house: Rc<House>,
    /// The sessions that run.
    pub sessions: TaskTracker,
}

impl Door for ProxyDoor {
    fn session(&self, stream: TcpStream, peer: SocketAddr, permit: Permit) {
        let house = self.house.clone();
        self.sessions.spawn_local(async move {
            serve(stream, peer, &house).await;
            drop(permit);
        });
    }

    fn refuse(&self, stream: TcpStream, peer: SocketAddr, why: NoRoom) {
        let what = match why {
            NoRoom::Sessions => "limits.max_sessions is reached",
            NoRoom::Descriptors => "no descriptor is left",
        };
        let fault = Fault::new(Reason::ProxyOverloaded, format!("{what}, client {peer}"));
        match self.house.protocol {
            // A SOCKS5 client cannot be answered before it has spoken.
            Protocol::Socks5 => reset_on_close(&stream),
            // A client that is gone is no one to tell.
            Protocol::Proxy => drop(stream.try_write(fault.smtp_line("0").as_bytes())),
        }
        self.house.reporter.turned_away(&fault);
    }

    fn failed(&self, error: &io::Error) {
        self.house.reporter.metrics.accept_failed();
        warn!(%error, listener = %self.house.listener, "accept failed");
    }
}
