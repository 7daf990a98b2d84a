//! The dial, and from a connected destination to the end of its session. Floor 4.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use egret_shared::fault::{Fault, Reason};
use egret_shared::net::kernel::tcp_facts;
use egret_shared::net::socket::reset_on_close;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Session, millis};
use crate::dial::Bound;
use crate::limit::{Lease, Wish};
use crate::policy::Protocol;
use crate::relay::{End, Limits, Side, Terms, relay, reset_after_flush};
use crate::report::live::Running;
use crate::report::metrics::Active;
use crate::report::record::{ClosedBy, Ended};

/// A connected destination, with what is held for it.
pub(super) struct Opened {
    remote: TcpStream,
    /// The address that the destination sees.
    pub(super) local: SocketAddr,
    running: Arc<Running>,
    connected: Instant,
    _lease: Lease,
    _counted: Active,
}

impl Session<'_> {
    /// Dials `wanted` from the source that was chosen.
    pub(super) async fn dial(&mut self, bound: Bound, wanted: SocketAddr) -> Result<Opened, Fault> {
        let (common, source) = (&self.house.common, bound.source().ip());
        self.record.handshake_ms = Some(self.elapsed_ms());
        (self.record.destination, self.record.source) = (Some(wanted), Some(source));
        let destination = self.policy.access.check(self.who(), source, wanted)?;
        let lease = self.lease(source, wanted).await?;
        let started = common.clock.now();
        let of_source = common.reporter.metrics.source(source);
        let running = common.reporter.sessions.began(self.record.clone(), of_source.traffic(), self.started);
        let dialed = tokio::select! {
            dialed = bound.connect(destination, self.policy.timeouts.connect) => dialed,
            () = self.house.cut.cancelled() => Err(Fault::new(Reason::ProxyShuttingDown, "stopped in the dial")),
        };
        let (remote, local) = dialed.inspect_err(|fault| of_source.failed(fault.reason))?;
        let connected = common.clock.now();
        let took = connected.saturating_duration_since(started);
        common.reporter.metrics.connected(took);
        (self.record.connect_ms, self.record.source_port) = (Some(millis(took)), Some(local.port()));
        running.record.lock().clone_from(&self.record);
        Ok(Opened { remote, local, running, connected, _lease: lease, _counted: of_source.connected() })
    }

    async fn lease(&self, source: IpAddr, wanted: SocketAddr) -> Result<Lease, Fault> {
        let (client, user, common) = (self.record.client.ip(), self.record.user.as_deref(), &self.house.common);
        let wish = Wish { client, user, source, destination: wanted.ip() };
        common.limits.take(&self.policy.caps, &wish, &common.clock).await.map_err(|denied| {
            common.reporter.metrics.limited(denied.scope);
            denied.fault(&wish)
        })
    }

    /// With reply_on = "banner", waits for the destination's first byte, so that an end before it can
    /// still be told in the reply.
    pub(super) async fn hear_banner(&mut self, opened: Opened) -> Result<Opened, Fault> {
        let Some(wait) = self.listener.banner_wait else { return Ok(opened) };
        let heard = timeout(wait, opened.remote.peek(&mut [0])).await;
        match heard {
            Ok(Ok(0)) => Err(Fault::new(Reason::RemoteClosedPreBanner, self.record.route())),
            Ok(Err(error)) => {
                let fault = Fault::new(Reason::RemoteResetPreBanner, self.record.route());
                Err(fault.with_errno(error.raw_os_error()))
            }
            Ok(Ok(_)) | Err(_) => Ok(opened),
        }
    }

    /// Relays what client and destination say, and notes how it ended.
    pub(super) async fn carry(&mut self, mut opened: Box<Opened>) {
        let forwarded = if self.input.is_empty() { Ok(()) } else { Box::pin(self.forward_input(&mut opened)).await };
        // A session that relays holds no buffer.
        (self.input, self.out) = (BytesMut::new(), Vec::new());
        let (end, first_byte) = match forwarded {
            Ok(()) => {
                let timeouts = &self.policy.timeouts;
                let source_lost = self.policy.sources.held().presence(opened.local.ip());
                let terms = Terms {
                    scratch: &self.house.scratch,
                    limits: Limits { idle: timeouts.idle, half_close: timeouts.half_close },
                    tells_early_end: self.speaks == Protocol::Proxy,
                    traffic: &opened.running.traffic,
                    cut: &self.house.cut,
                    source_lost: &source_lost,
                    orphaned: &opened.running.orphaned,
                };
                relay(&mut self.client, &mut opened.remote, terms).await
            }
            Err(_) => (End::Broken(Side::Remote), None),
        };
        let first_byte = first_byte.map(|at| at.into_std().saturating_duration_since(opened.connected));
        self.note(&opened, first_byte);
        let by = Box::pin(self.close(end, &opened)).await;
        self.record.closed_by = Some(by);
        let common = &self.house.common;
        let took = common.clock.now().saturating_duration_since(self.started);
        common.reporter.metrics.closed(took, first_byte, by, self.record.end);
    }

    fn note(&mut self, opened: &Opened, first_byte: Option<std::time::Duration>) {
        let traffic = &opened.running.traffic;
        (self.record.bytes_up, self.record.bytes_down) = (traffic.up.get(), traffic.down.get());
        self.record.first_byte_ms = first_byte.map(millis);
        if let Ok(facts) = tcp_facts(&opened.remote) {
            self.record.round_trip_ms = Some(facts.round_trip.as_micros() as f64 / 1000.0);
            self.record.retransmits = Some(facts.retransmits);
        }
    }

    /// Closes both sides as `end` wants it, and tells who ended the session.
    async fn close(&mut self, end: End, opened: &Opened) -> ClosedBy {
        let remote = &opened.remote;
        match end {
            End::Closed(side) => {
                self.record.end = Ended::Closed;
                closed_by(side)
            }
            End::Broken(side) => {
                self.record.end = Ended::Reset;
                reset_after_flush(if side == Side::Client { remote } else { self.client.socket() }).await;
                closed_by(side)
            }
            End::Early(reason) => {
                let fault = Fault::new(reason, self.record.route());
                self.out.extend_from_slice(fault.smtp_line(&self.record.id.to_string()).as_bytes());
                self.record.end = Ended::Refused;
                self.record.failed(fault);
                Box::pin(self.part()).await;
                ClosedBy::Remote
            }
            End::Idle => {
                self.abandon(remote);
                self.record.end = Ended::Idle;
                self.record.failed(Fault::new(Reason::IdleTimeout, self.record.route()));
                ClosedBy::Proxy
            }
            End::SourceLost => {
                self.abandon(remote);
                self.record.end = Ended::Reset;
                self.record.failed(Fault::new(Reason::SourceNotPlumbed, self.record.route()));
                ClosedBy::Proxy
            }
            End::Orphaned => {
                self.abandon(remote);
                self.record.end = Ended::Reset;
                let detail = format!("{}: {}", self.record.route(), opened.running.why_orphaned());
                self.record.failed(Fault::new(Reason::LeaseLost, detail));
                ClosedBy::Proxy
            }
            End::Cut => {
                self.abandon(remote);
                self.record.end = Ended::Stopped;
                ClosedBy::Proxy
            }
        }
    }

    /// Bytes that came right behind the request are the destination's.
    async fn forward_input(&mut self, opened: &mut Opened) -> io::Result<()> {
        opened.remote.write_all(&self.input).await?;
        opened.running.traffic.up.add(self.input.len());
        Ok(())
    }

    fn abandon(&self, remote: &TcpStream) {
        reset_on_close(self.client.socket());
        reset_on_close(remote);
    }
}

fn closed_by(side: Side) -> ClosedBy {
    match side {
        Side::Client => ClosedBy::Client,
        Side::Remote => ClosedBy::Remote,
    }
}
