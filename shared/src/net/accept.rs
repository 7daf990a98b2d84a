//! The accept loop of both programs.
//! Floor 2. Touches the listening socket and the clock; what a session is, its [`Door`] knows.
//! Always: the loop ends only when it is told to stop, never on an error; no more than
//! [`Room::new`]'s limit of sessions are open; a client for whom there is no room, or no descriptor,
//! gets an answer and a close instead of silence.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The first pause after the system had no room for a connection, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How often an idle loop shows that it lives, and after what silence it counts as stuck.
const BEAT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Clients that are answered from the reserve descriptor before the loop pauses.
const ANSWERED_IN_A_ROW: usize = 64;

/// Why a client cannot have a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The limit of sessions is reached.
    Sessions,
    /// The process or the system is out of descriptors or memory.
    Descriptors,
}

/// What happens to clients. Its functions are called on the loop: they spawn, or finish at once.
pub trait Door {
    /// A client with a session. The permit lives as long as the session does.
    fn session(&self, stream: TcpStream, peer: SocketAddr, permit: Permit);

    /// A client without room. Say so with what can be written at once, and drop the stream: there may be
    /// one descriptor left for it, which the next one needs.
    fn refuse(&self, stream: TcpStream, peer: SocketAddr, why: NoRoom);

    /// An accept failed; the loop goes on.
    fn failed(&self, _error: &io::Error) {}
}

/// The room for sessions: one limit that any number of loops share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Room(Arc<Seats>);

#[derive(Debug)]
struct Seats {
    limit: usize,
    taken: AtomicUsize,
}

impl Room {
    /// Room for `limit` sessions.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Seats { limit, taken: AtomicUsize::new(0) }))
    }

    /// Takes a place if one is free.
    pub fn enter(&self) -> Option<Permit> {
        let take = |taken: usize| (taken < self.0.limit).then_some(taken + 1);
        self.0.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Permit(Arc::clone(&self.0)))
    }

    /// Sessions that are open now.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }
}

/// A place in the room; dropping it gives it back.
#[derive(Debug)]
pub struct Permit(Arc<Seats>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sign of life of one loop, read by health checks. Cheap to clone.
#[derive(Clone)]
pub struct Heart(Arc<Pulse>);

struct Pulse {
    clock: Clock,
    born: Instant,
    /// Milliseconds after `born` of the last beat, plus one; 0 before the loop runs.
    beat: AtomicU64,
    /// The errno for which the loop pauses; 0 when it does not.
    pausing: AtomicI32,
}

impl Heart {
    /// A heart that has not beaten yet.
    pub fn new(clock: Clock) -> Self {
        let born = clock.now();
        Self(Arc::new(Pulse { clock, born, beat: AtomicU64::new(0), pausing: AtomicI32::new(0) }))
    }

    /// Whether the loop runs.
    ///
    /// # Errors
    /// That it has not started, or has not moved for a while.
    pub fn alive(&self) -> Result<(), String> {
        let beat = self.0.beat.load(Ordering::Relaxed);
        if beat == 0 {
            return Err("accept loop has not started".to_owned());
        }
        let silent = self.millis().saturating_sub(beat);
        if u128::from(silent) > BEAT.1.as_millis() {
            return Err(format!("accept loop has not moved for {} s", silent / 1000));
        }
        Ok(())
    }

    /// Whether the loop takes clients now.
    ///
    /// # Errors
    /// What [`Heart::alive`] says, or the error for which it pauses.
    pub fn ready(&self) -> Result<(), String> {
        self.alive()?;
        match self.0.pausing.load(Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(format!("accept pauses: {}", io::Error::from_raw_os_error(errno))),
        }
    }

    fn beat(&self) {
        self.0.beat.store(self.millis(), Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        let span = self.0.clock.now().saturating_duration_since(self.0.born);
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn pauses(&self, errno: i32) {
        self.0.pausing.store(errno, Ordering::Relaxed);
    }
}

/// Accepts clients until `stop` is cancelled; the listener is closed on return.
pub async fn run<D: Door>(listener: TcpListener, room: Room, heart: Heart, stop: CancellationToken, door: D) {
    let mut stopped = pin!(stop.cancelled());
    let mut beats = interval(BEAT.0);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut reserve = Reserve::new();
    let mut pause = BACK_OFF.0;
    // The first tick may come after the first clients.
    heart.beat();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => return,
            _ = beats.tick() => { heart.beat(); continue; }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = BACK_OFF.0;
                admit(&room, &door, stream, peer);
            }
            Err(error) => {
                door.failed(&error);
                if concerns_one_connection(&error) {
                    continue;
                }
                heart.pauses(error.raw_os_error().unwrap_or(libc::EIO));
                reserve.answer(&listener, &door);
                tokio::select! {
                    () = &mut stopped => return,
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(BACK_OFF.1);
                heart.pauses(0);
                heart.beat();
            }
        }
    }
}

fn admit(room: &Room, door: &impl Door, stream: TcpStream, peer: SocketAddr) {
    match room.enter() {
        Some(permit) => door.session(stream, peer, permit),
        None => door.refuse(stream, peer, NoRoom::Sessions),
    }
}

/// True if only the connection at hand is lost (accept(2) hands out its pending errors), false if the
/// next accept would fail as well.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EINTR
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::ETIMEDOUT
        )
    )
}

/// A descriptor kept for the moment when there is none: it is closed, a waiting client takes its place,
/// is answered and closed, and the descriptor is opened again.
struct Reserve(Option<File>);

impl Reserve {
    fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    fn answer(&mut self, listener: &TcpListener, door: &impl Door) {
        for _ in 0..ANSWERED_IN_A_ROW {
            // Without the reserve (another thread took the descriptor) a client would only be accepted
            // into the failure that is being avoided.
            if self.0.take().is_none() {
                break;
            }
            let Some((stream, peer)) = accept_now(listener) else { break };
            door.refuse(stream, peer, NoRoom::Descriptors);
            *self = Self::new();
        }
        if self.0.is_none() {
            *self = Self::new();
        }
    }
}

fn accept_now(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match listener.poll_accept(&mut context) {
        Poll::Ready(accepted) => accepted.ok(),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn the_room_is_never_overfull_and_places_come_back() {
        let room = Room::new(2);
        let (a, b) = (room.enter(), room.enter());
        assert!(a.is_some() && b.is_some() && room.enter().is_none());
        drop(a);
        assert_eq!(room.taken(), 1);
        assert!(room.enter().is_some());
    }

    struct Greeter;

    impl Door for Greeter {
        fn session(&self, mut stream: TcpStream, _peer: SocketAddr, permit: Permit) {
            tokio::spawn(async move {
                let _ = stream.write_all(b"welcome").await;
                let _ = stream.read(&mut [0]).await;
                drop(permit);
            });
        }

        fn refuse(&self, stream: TcpStream, _peer: SocketAddr, _why: NoRoom) {
            let _ = stream.try_write(b"full");
        }
    }

    async fn first_words(address: SocketAddr) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let mut words = [0; 16];
        let read = stream.read(&mut words).await.expect("an answer");
        (stream, String::from_utf8_lossy(&words[..read]).into_owned())
    }

    #[tokio::test]
    async fn a_full_house_is_told_and_a_freed_place_is_given_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (room, heart, stop) = (Room::new(1), Heart::new(Clock::system()), CancellationToken::new());
        let running = tokio::spawn(run(listener, room.clone(), heart.clone(), stop.clone(), Greeter));
        let (guest, words) = first_words(address).await;
        assert_eq!(words, "welcome");
        assert_eq!(first_words(address).await.1, "full");
        drop(guest);
        while room.taken() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(first_words(address).await.1, "welcome");
        assert_eq!(heart.ready(), Ok(()));
        stop.cancel();
        running.await.expect("no panic");
        assert!(TcpStream::connect(address).await.is_err(), "the listener is still open");
    }

    #[test]
    fn a_heart_tells_not_started_alive_and_stuck() {
        let clock = Clock::moved(crate::clock::UnixMs(0));
        let heart = Heart::new(clock.clone());
        assert!(heart.alive().is_err());
        heart.beat();
        assert_eq!(heart.ready(), Ok(()));
        heart.pauses(libc::EMFILE);
        assert!(heart.alive().is_ok() && heart.ready().is_err());
        clock.advance(Duration::from_secs(16));
        assert!(heart.alive().is_err());
    }
}
