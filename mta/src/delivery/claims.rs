//! Sessions through proxies, as the fleet compares them with the sockets that proxies have open; and the stream of a
//! session, which ends when its proxy has it no more.
//! Floor 3. Touches the socket that it is given; who asks the store is the app's task.
//! Always: what the proxy had sent before is read first: only a read that would wait, and for which the kernel has nothing
//! either, ends by it.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use egret_shared::clock::Clock;
use egret_shared::fault::{Fault, Reason};
use egret_shared::sockets::LIFE;
use egret_shared::sockets::claim::Report;
use egret_shared::sockets::ledger::{Announced, Draft, Key, Ledger};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::leg::Leg;
use super::way::examine;
use crate::routing::source::{Proxy, Source, Way};

/// All sessions through proxies. Cheap to clone; the default compares nothing.
#[derive(Clone, Default)]
pub struct Claims(Option<Arc<Inner>>);

struct Inner {
    table: Mutex<Table>,
    clock: Clock,
}

#[derive(Default)]
struct Table {
    ledger: Ledger,
    cuts: HashMap<Key, Arc<Cut>>,
    /// How to ask whether a proxy is there, by its endpoint.
    ways: HashMap<SocketAddr, (Arc<Source>, Way)>,
}

/// Ends a session from outside.
#[derive(Default)]
struct Cut {
    now: CancellationToken,
    why: OnceLock<Fault>,
}

impl Cut {
    fn cut(&self, why: Fault) {
        if self.why.set(why).is_ok() {
            self.now.cancel();
        }
    }
}

impl Claims {
    /// Compared from now on.
    pub fn compared(clock: Clock) -> Self {
        Self(Some(Arc::new(Inner { table: Mutex::default(), clock })))
    }

    /// A session by a way of `source` stands; `own` is our end of its connection to the proxy.
    pub(super) fn open(&self, source: &Arc<Source>, way: &Way, own: Option<SocketAddr>) -> Option<Claim> {
        let (inner, proxy, own) = (self.0.as_ref()?, way.proxy()?, own?);
        let (mut table, cut) = (inner.table.lock(), Arc::new(Cut::default()));
        let key = table.ledger.opened(proxy.address, own);
        table.cuts.insert(key, cut.clone());
        table.ways.entry(proxy.address).or_insert_with(|| (source.clone(), way.clone()));
        Some(Claim { inner: inner.clone(), key, cut })
    }

    /// A beat: what is to be claimed now.
    pub fn drafts(&self, announced: &Announced) -> Vec<Draft> {
        let Some(inner) = &self.0 else { return Vec::new() };
        inner.table.lock().ledger.claims(announced, inner.clock.now())
    }

    /// How many sessions proxies have reported.
    pub fn seen(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.table.lock().ledger.seen())
    }

    /// What proxies say. Ends the sessions that have lost their socket, and returns how many.
    pub fn heard(&self, answers: &HashMap<Arc<str>, Vec<Report>>) -> usize {
        let Some(inner) = &self.0 else { return 0 };
        let mut table = inner.table.lock();
        let lost = table.ledger.heard(answers);
        let ended = lost.iter().filter(|key| {
            let detail = format!("proxy {} has the session no more", key.endpoint);
            table.cut(**key, &Fault::new(Reason::SessionLost, detail))
        });
        ended.count()
    }

    /// Proxies with sessions that are not in the registry any more.
    pub fn gone(&self) -> Vec<Suspect> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let table = inner.table.lock();
        let suspect = |endpoint: SocketAddr| {
            let (source, way) = table.ways.get(&endpoint)?.clone();
            Some(Suspect { endpoint, source, way })
        };
        table.ledger.gone(inner.clock.now()).into_iter().filter_map(suspect).collect()
    }

    /// Asks a proxy whether it is there. If it does not answer, all sessions through it are ended; returns how many.
    pub async fn probe(&self, suspect: Suspect) -> usize {
        let Some(inner) = &self.0 else { return 0 };
        let fault = examine(&suspect.source, &suspect.way, None).await;
        // A proxy that refuses is there.
        let fault = fault.filter(|fault| matches!(fault.reason, Reason::ProxyUnreachable | Reason::ProxyTimeout));
        let (mut table, endpoint) = (inner.table.lock(), suspect.endpoint);
        let still_gone = table.ledger.gone(inner.clock.now()).contains(&endpoint);
        let Some(fault) = fault.filter(|_| still_gone) else {
            table.ledger.answered(endpoint, inner.clock.now());
            return 0;
        };
        table.ledger.through(endpoint).into_iter().filter(|key| table.cut(*key, &fault)).count()
    }
}

impl Table {
    /// Whether the session was not ended before.
    fn cut(&self, key: Key, why: &Fault) -> bool {
        let cut = self.cuts.get(&key).filter(|cut| cut.why.get().is_none());
        cut.inspect(|cut| cut.cut(why.clone())).is_some()
    }
}

/// A proxy that may be gone, and how to ask it.
pub struct Suspect {
    /// Its endpoint.
    pub endpoint: SocketAddr,
    source: Arc<Source>,
    way: Way,
}

impl Suspect {
    /// The proxy.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.way.proxy()
    }
}

/// A session that is claimed for as long as this lives.
pub(super) struct Claim {
    inner: Arc<Inner>,
    key: Key,
    cut: Arc<Cut>,
}

impl Claim {
    /// Why its connection broke, if the comparison knows.
    pub fn fault(&self) -> Option<Fault> {
        if let Some(why) = self.cut.why.get() {
            return Some(why.clone());
        }
        let is_forfeited = self.inner.table.lock().ledger.is_forfeited(self.key, self.inner.clock.now());
        let words = || {
            let seconds = LIFE.as_secs();
            format!(
                "this host stood still, and proxy {} ends what it does not hear of for {seconds} s",
                self.key.endpoint
            )
        };
        is_forfeited.then(|| Fault::new(Reason::LeaseLost, words()))
    }

    fn cut(&self) -> Pin<Box<WaitForCancellationFutureOwned>> {
        Box::pin(self.cut.now.clone().cancelled_owned())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut table = self.inner.table.lock();
        table.cuts.remove(&self.key);
        if table.ledger.closed(self.key) {
            table.ways.remove(&self.key.endpoint);
        }
    }
}

/// Says who is at fault, if not the destination, after a session broke: `known` is what the comparison knows of it.
pub(super) async fn blame(
    known: Option<Fault>,
    source: &Source,
    way: &Way,
    local: Option<SocketAddr>,
) -> Option<Fault> {
    match known {
        Some(fault) => Some(fault),
        None => examine(source, way, local).await,
    }
}

/// A way's stream, which ends when its proxy has it no more.
pub(super) struct Watched {
    leg: Leg,
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Watched {
    pub fn new(leg: Leg, claim: Option<&Claim>) -> Self {
        Self { leg, cut: claim.map(Claim::cut) }
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready())
    }

    /// What is `done`, unless that would wait for a proxy that has the session no more.
    fn or_cut<T>(&mut self, done: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if done.is_pending() && self.is_cut(cx) { has_no_more() } else { done }
    }
}

fn has_no_more<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::other("the proxy has this session no more")))
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.leg).poll_read(cx, buf);
        if done.is_pending() && self.is_cut(cx) && !self.leg.has_unread() { has_no_more() } else { done }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.leg).poll_write(cx, buf);
        self.or_cut(done, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.leg).poll_write_vectored(cx, bufs);
        self.or_cut(done, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.leg.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.leg).poll_flush(cx);
        self.or_cut(done, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.leg).poll_shutdown(cx);
        self.or_cut(done, cx)
    }
}
