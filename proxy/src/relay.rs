//! Bytes both ways between client and destination, until both are done or one breaks.
//! Touches two sockets. Floor 3. Does not look into the bytes.
//! Always: a session that is silent holds no buffer: one scratch buffer of the worker serves all, and a
//! session gets one of its own only while the other side does not take what was read; then nothing more
//! is read from that direction. What was read before a side broke is written first.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use egret_shared::fault::Reason;
use egret_shared::net::kernel::unacknowledged_bytes;
use egret_shared::net::socket::reset_on_close;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::leg::Leg;
use crate::report::traffic::{Count, Traffic};

/// The most that is read at once, and so the most that a session holds for a side that does not take it.
const SCRATCH_BYTES: usize = 64 << 10;
/// How long a side may take to receive what it is owed before it is reset, and how often that is looked at.
const FLUSH: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(5));

/// The buffer that all sessions of a worker read into. Cheap to clone.
#[derive(Clone)]
pub struct Scratch(Rc<RefCell<Box<[u8]>>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; SCRATCH_BYTES].into())))
    }
}

/// How long a session may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// While both sides may speak.
    pub idle: Duration,
    /// After one of them has finished.
    pub half_close: Duration,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The destination.
    Remote,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides finished, this one first.
    Closed(Side),
    /// A side broke: the other one is to be reset.
    Broken(Side),
    /// The destination ended, by this reason, before it had sent a byte, and the caller wanted to hear
    /// of that.
    Early(Reason),
    /// Nobody spoke for too long.
    Idle,
    /// The program stops.
    Cut,
    /// The host has lost the source: nothing that the destination says arrives any more.
    SourceLost,
    /// The client's node claims the session no more.
    Orphaned,
}

/// What a relay is given beside its two sides.
pub struct Terms<'a> {
    /// The worker's buffer.
    pub scratch: &'a Scratch,
    /// How long silence may last.
    pub limits: Limits,
    /// A destination that ends before its first byte is told instead of passed on.
    pub tells_early_end: bool,
    /// What went over.
    pub traffic: &'a Traffic,
    /// Cancelled when sessions shall end now.
    pub cut: &'a CancellationToken,
    /// Cancelled when the host loses the source.
    pub source_lost: &'a CancellationToken,
    /// Told when the client's node claims the session no more.
    pub orphaned: &'a Notify,
}

enum State {
    /// Bytes of `rest` from `at` on are to be written before more is read.
    Open {
        rest: Vec<u8>,
        at: usize,
        is_unflushed: bool,
    },
    /// The reader has finished; the writer is told.
    Closing,
    Done,
}

struct Pump<'a> {
    reads_from: Side,
    state: State,
    count: &'a Count,
    scratch: &'a Scratch,
    /// An end before the first byte is told instead of passed on.
    tells_early_end: bool,
}

impl Pump<'_> {
    /// Moves what can be moved now. Ready when `from` has finished and `to` was told, or at the end of
    /// the session; `spoke` is set if anything moved.
    fn poll<F, T>(&mut self, from: &mut F, to: &mut T, spoke: &mut bool, cx: &mut Context<'_>) -> Poll<Result<(), End>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            match &mut self.state {
                State::Open { rest, at, is_unflushed } => {
                    if *at < rest.len() {
                        let written = match ready!(Pin::new(&mut *to).poll_write(cx, &rest[*at..])) {
                            Ok(written) if written > 0 => written,
                            _ => return Poll::Ready(Err(End::Broken(self.other()))),
                        };
                        (*at, *is_unflushed, *spoke) = (*at + written, true, true);
                        self.count.add(written);
                        continue;
                    }
                    if !rest.is_empty() {
                        (*rest, *at) = (Vec::new(), 0);
                    }
                    if *is_unflushed {
                        if ready!(Pin::new(&mut *to).poll_flush(cx)).is_err() {
                            return Poll::Ready(Err(End::Broken(self.other())));
                        }
                        *is_unflushed = false;
                    }
                    ready!(self.read(from, to, cx))?;
                    *spoke = true;
                }
                State::Closing => {
                    // A side that is gone already needs no goodbye.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads once and writes what is taken at once; the rest is kept.
    fn read<F, T>(&mut self, from: &mut F, to: &mut T, cx: &mut Context<'_>) -> Poll<Result<(), End>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let mut room = self.scratch.0.borrow_mut();
        let mut into = ReadBuf::new(&mut room);
        if ready!(Pin::new(from).poll_read(cx, &mut into)).is_err() {
            let end =
                if self.is_early() { End::Early(Reason::RemoteResetPreBanner) } else { End::Broken(self.reads_from) };
            return Poll::Ready(Err(end));
        }
        let bytes = into.filled();
        if bytes.is_empty() {
            if self.is_early() {
                return Poll::Ready(Err(End::Early(Reason::RemoteClosedPreBanner)));
            }
            self.state = State::Closing;
            return Poll::Ready(Ok(()));
        }
        let written = match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Broken(self.other()))),
            Poll::Pending => 0,
        };
        self.count.add(written);
        self.state = State::Open { rest: bytes[written..].to_vec(), at: 0, is_unflushed: true };
        Poll::Ready(Ok(()))
    }

    fn is_early(&self) -> bool {
        self.tells_early_end && self.count.get() == 0
    }

    fn other(&self) -> Side {
        match self.reads_from {
            Side::Client => Side::Remote,
            Side::Remote => Side::Client,
        }
    }
}

struct Relay<'a> {
    up: Pump<'a>,
    down: Pump<'a>,
    first_done: Option<Side>,
    first_byte: Option<Instant>,
    spoken: Instant,
}

impl Relay<'_> {
    /// Runs both directions as far as they go.
    fn poll(&mut self, client: &mut Leg, remote: &mut TcpStream, cx: &mut Context<'_>) -> Poll<End> {
        let mut spoke = false;
        let down = self.down.poll(remote, client, &mut spoke, cx);
        if let Poll::Ready(Err(end)) = down {
            return Poll::Ready(end);
        }
        if down.is_ready() {
            self.first_done.get_or_insert(Side::Remote);
        }
        let up = self.up.poll(client, remote, &mut spoke, cx);
        if let Poll::Ready(Err(end)) = up {
            return Poll::Ready(end);
        }
        if up.is_ready() {
            self.first_done.get_or_insert(Side::Client);
        }
        if spoke {
            self.spoken = Instant::now();
            if self.first_byte.is_none() && self.down.count.get() > 0 {
                self.first_byte = Some(self.spoken);
            }
        }
        match self.first_done {
            Some(first) if up.is_ready() && down.is_ready() => Poll::Ready(End::Closed(first)),
            _ => Poll::Pending,
        }
    }

    fn silent_until(&self, limits: &Limits) -> Instant {
        self.spoken + if self.first_done.is_some() { limits.half_close } else { limits.idle }
    }
}

/// Relays until the end; tells it, and when the first byte of the destination came.
pub async fn relay(client: &mut Leg, remote: &mut TcpStream, terms: Terms<'_>) -> (End, Option<Instant>) {
    let Terms { scratch, limits, tells_early_end, traffic, cut, source_lost, orphaned } = terms;
    let pump = |reads_from, count| Pump {
        reads_from,
        state: State::Open { rest: Vec::new(), at: 0, is_unflushed: false },
        count,
        scratch,
        tells_early_end: tells_early_end && reads_from == Side::Remote,
    };
    let mut relay = Relay {
        up: pump(Side::Client, &traffic.up),
        down: pump(Side::Remote, &traffic.down),
        first_done: None,
        first_byte: None,
        spoken: Instant::now(),
    };
    let mut silence = pin!(sleep_until(relay.spoken + limits.idle.min(limits.half_close)));
    let (mut cut, mut source_lost) = (pin!(cut.cancelled()), pin!(source_lost.cancelled()));
    let mut orphaned = pin!(orphaned.notified());
    let end = loop {
        tokio::select! {
            biased;
            end = poll_fn(|cx| relay.poll(client, remote, cx)) => break end,
            () = &mut silence => {
                let until = relay.silent_until(&limits);
                if until <= Instant::now() {
                    break End::Idle;
                }
                silence.as_mut().reset(until);
            }
            () = &mut cut => break End::Cut,
            () = &mut source_lost => break End::SourceLost,
            () = &mut orphaned => break End::Orphaned,
        }
    };
    (end, relay.first_byte)
}

/// Makes the coming close of `stream` a reset, once its peer has what it is owed: a reset discards what
/// the kernel still holds.
pub async fn reset_after_flush(stream: &TcpStream) {
    let until = Instant::now() + FLUSH.0;
    while unacknowledged_bytes(stream).is_ok_and(|bytes| bytes > 0) && Instant::now() < until {
        sleep(FLUSH.1).await;
    }
    reset_on_close(stream);
}
