//! Bytes both ways between client and destination, until both are done or one breaks.
//! Touches two sockets. Floor 3. Does not look into the bytes.
//! Always: a session that is silent holds no buffer: one scratch buffer of the worker serves all, and a
//! session gets one of its own only while the other side does not take what was read; then nothing more
//! is read from that direction.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use egret_shared::fault::Reason;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The most that is read at once, and so the most that a session holds for a side that does not take it.
const SCRATCH_BYTES: usize = 64 << 10;

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
    /// Both sides finished.
    Closed,
    /// A side broke: the other one is to be reset.
    Broken(Side),
    /// The destination ended, by this reason, before it had sent a byte, and the caller wanted to hear
    /// of that.
    Early(Reason),
    /// Nobody spoke for too long.
    Idle,
    /// The program stops.
    Cut,
}

/// What went over, counted live.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes from the client to the destination.
    pub up: Cell<u64>,
    /// Bytes from the destination to the client.
    pub down: Cell<u64>,
}

struct Pump<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    reads_from: Side,
    count: &'a Cell<u64>,
    spoken: &'a Cell<Instant>,
    scratch: &'a Scratch,
    /// An end before the first byte is told instead of passed on.
    tells_early_end: bool,
}

enum Step {
    Moved,
    /// These bytes the other side does not take yet.
    Rest(Vec<u8>),
    Finished,
}

impl Pump<'_> {
    /// Runs until `from` has finished, and tells `to`.
    async fn run(self) -> Result<(), End> {
        loop {
            self.from.readable().await.map_err(|_| End::Broken(self.reads_from))?;
            match self.step()? {
                Step::Moved => {}
                Step::Rest(rest) => self.press(&rest).await?,
                Step::Finished if self.is_early() => return Err(End::Early(Reason::RemoteClosedPreBanner)),
                Step::Finished => {
                    // A side that is gone already needs no goodbye.
                    let _ = SockRef::from(self.to).shutdown(Shutdown::Write);
                    return Ok(());
                }
            }
        }
    }

    fn is_early(&self) -> bool {
        self.tells_early_end && self.count.get() == 0
    }

    fn step(&self) -> Result<Step, End> {
        let mut room = self.scratch.0.borrow_mut();
        let read = match self.from.try_read(&mut room) {
            Ok(0) => return Ok(Step::Finished),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Moved),
            Err(_) if self.is_early() => return Err(End::Early(Reason::RemoteResetPreBanner)),
            Err(_) => return Err(End::Broken(self.reads_from)),
        };
        self.spoken.set(Instant::now());
        let written = self.write(&room[..read])?;
        if written == read { Ok(Step::Moved) } else { Ok(Step::Rest(room[written..read].to_vec())) }
    }

    /// Writes what is taken at once.
    fn write(&self, bytes: &[u8]) -> Result<usize, End> {
        match self.to.try_write(bytes) {
            Ok(written) => {
                self.count.set(self.count.get() + written as u64);
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(End::Broken(self.other())),
        }
    }

    fn other(&self) -> Side {
        match self.reads_from {
            Side::Client => Side::Remote,
            Side::Remote => Side::Client,
        }
    }

    /// Writes the rest as it is taken.
    async fn press(&self, mut rest: &[u8]) -> Result<(), End> {
        while !rest.is_empty() {
            self.to.writable().await.map_err(|_| End::Broken(self.other()))?;
            let written = self.write(rest)?;
            if written > 0 {
                self.spoken.set(Instant::now());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Relays until the end. With `tells_early_end`, a destination that ends before its first byte is not
/// passed on to the client.
pub async fn relay(
    [client, remote]: [&TcpStream; 2],
    scratch: &Scratch,
    (limits, tells_early_end): (Limits, bool),
    traffic: &Traffic,
    cut: &CancellationToken,
) -> End {
    let spoken = Cell::new(Instant::now());
    let pump = |from, to, reads_from, count| Pump {
        from,
        to,
        reads_from,
        count,
        spoken: &spoken,
        scratch,
        tells_early_end: tells_early_end && reads_from == Side::Remote,
    };
    let mut up = pin!(pump(client, remote, Side::Client, &traffic.up).run());
    let mut down = pin!(pump(remote, client, Side::Remote, &traffic.down).run());
    let mut silence = pin!(sleep_until(spoken.get() + limits.idle));
    let mut cut = pin!(cut.cancelled());
    let (mut is_up, mut is_down) = (true, true);
    while is_up || is_down {
        let ended = tokio::select! {
            biased;
            ended = &mut down, if is_down => { is_down = false; ended }
            ended = &mut up, if is_up => { is_up = false; ended }
            () = &mut silence => {
                let limit = if is_up && is_down { limits.idle } else { limits.half_close };
                let until = spoken.get() + limit;
                if until <= Instant::now() {
                    return End::Idle;
                }
                silence.as_mut().reset(until);
                continue;
            }
            () = &mut cut => return End::Cut,
        };
        if let Err(end) = ended {
            return end;
        }
        silence.as_mut().reset(spoken.get() + limits.half_close);
    }
    End::Closed
}
