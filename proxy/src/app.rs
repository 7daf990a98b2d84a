//! The composition root: the only place that knows everybody. Floor 6.
//! Each worker is one thread with its own listeners (the kernel spreads clients over them) and its own
//! sessions, so that a session never crosses threads.
//! Always: sockets and the stop signal are arguments, so that a test can start a whole proxy.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use egret_shared::clock::Clock;
use egret_shared::http::{self, Probe, Probes};
use egret_shared::journal::{self, Journal};
use egret_shared::lifecycle::{Stop, notify};
use egret_shared::net::accept::{self, Heart, Room};
use egret_shared::net::socket::{Share, listen};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{Config, ListenerConfig};
use crate::listener::ProxyDoor;
use crate::relay::Scratch;
use crate::report::Reporter;
use crate::report::metrics::Metrics;
use crate::session::House;
use crate::source::Sources;

/// How long sessions that were told to end now may take, and clients of the admin address to leave.
const CUT_WAIT: Duration = Duration::from_secs(2);
const ADMIN_WAIT: Duration = Duration::from_millis(200);

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address.
    #[error("listener {address} cannot be bound: {error}; is the address on this host, and the port free?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The admin address; the text names it.
    #[error("{0}")]
    Admin(String),
    /// The session log.
    #[error("session log: {0}")]
    SessionLog(#[from] journal::OpenError),
    /// A thread.
    #[error("a worker cannot be started: {0}")]
    Worker(io::Error),
}

/// The sockets that a configuration asks for.
pub struct Sockets {
    /// For each worker, one for each listener in their order.
    workers: Vec<Vec<std::net::TcpListener>>,
    /// For health and metrics.
    admin: Option<TcpListener>,
    /// Where clients come in.
    pub addresses: Vec<SocketAddr>,
}

impl Sockets {
    /// Binds them all.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = if config.workers == 0 { cores() } else { config.workers };
        let mut addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address).collect();
        for address in &addresses {
            // SO_REUSEPORT would let a second proxy of the same user share the port without a word.
            listen(*address, Share::Alone).map_err(|error| StartError::Listen { address: *address, error })?;
        }
        let mut workers = Vec::new();
        for _ in 0..count {
            let mut sockets = Vec::new();
            for address in &mut addresses {
                let failed = |error| StartError::Listen { address: *address, error };
                let socket = listen(*address, Share::Among).map_err(failed)?;
                // Port 0 is chosen once; the other workers share the choice.
                *address = socket.local_addr().map_err(failed)?;
                sockets.push(socket);
            }
            workers.push(sockets);
        }
        let admin = match config.admin {
            Some(address) => Some(http::bind(address).await.map_err(StartError::Admin)?),
            None => None,
        };
        Ok(Self { workers, admin, addresses })
    }

    /// Where health and metrics are served.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.local_addr().ok())
    }
}

/// What all workers share.
#[derive(Clone)]
struct Common {
    config: Arc<Config>,
    sources: Arc<Sources>,
    reporter: Reporter,
    room: Room,
    numbers: Arc<AtomicU64>,
    clock: Clock,
    stop: Stop,
}

/// Runs the proxy until `stop`, and returns when its sessions are over.
pub async fn run(
    config: Config,
    sockets: Sockets,
    metrics: PrometheusHandle,
    clock: Clock,
    stop: Stop,
) -> Result<(), StartError> {
    let journal = config.session_log.as_deref().map(|path| Journal::open(path, "session_log.path")).transpose()?;
    let sources = Arc::new(Sources::new(config.sources.clone()));
    let common = Common {
        reporter: Reporter { metrics: Metrics::new(sources.count()), journal: journal.clone() },
        sources,
        room: Room::new(config.max_sessions),
        numbers: Arc::new(AtomicU64::new(1)),
        clock,
        stop: stop.clone(),
        config: Arc::new(config),
    };
    let Sockets { workers, admin, addresses } = sockets;
    let mut hearts = Vec::new();
    let mut threads = Vec::new();
    for (number, sockets) in workers.into_iter().enumerate() {
        let own: Vec<_> = addresses.iter().map(|address| (*address, Heart::new(common.clock.clone()))).collect();
        threads.push(worker(number, sockets, own.clone(), common.clone()).map_err(StartError::Worker)?);
        hearts.extend(own);
    }
    let admin_stop = CancellationToken::new();
    let probes = Health { hearts, stop: stop.drain.clone(), journal: journal.clone() };
    let router = probes.clone().router(metrics);
    let admin = admin.map(|listener| tokio::spawn(http::serve(listener, router, admin_stop.clone())));
    info!(listeners = ?addresses, sources = %common.sources.count(), workers = threads.len(), "serving");
    notify::ready();
    let watchdog = tokio::spawn(notify::watchdog(move || probes.live().iter().all(|probe| probe.state.is_ok())));
    stop.drain.cancelled().await;
    notify::stopping();
    info!(sessions = common.room.taken(), "stopping: listeners are closed, sessions may finish");
    // Joining blocks; health stays visible meanwhile.
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
    let _ = joined.await;
    if let Some(journal) = journal {
        let _ = tokio::task::spawn_blocking(move || journal.close()).await;
    }
    watchdog.abort();
    admin_stop.cancel();
    if let Some(admin) = admin {
        let _ = timeout(ADMIN_WAIT, admin).await;
    }
    info!("stopped");
    Ok(())
}

/// Starts one worker.
fn worker(
    number: usize,
    sockets: Vec<std::net::TcpListener>,
    hearts: Vec<(SocketAddr, Heart)>,
    common: Common,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, serve(sockets, hearts, common));
    })
}

/// The worker's life: accept until the stop, then wait for sessions.
async fn serve(sockets: Vec<std::net::TcpListener>, hearts: Vec<(SocketAddr, Heart)>, common: Common) {
    let (sessions, cut, scratch) = (TaskTracker::new(), common.stop.now.child_token(), Scratch::default());
    let mut loops = Vec::new();
    for ((socket, (address, heart)), listener) in sockets.into_iter().zip(hearts).zip(&common.config.listeners) {
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%address, %error, "listener cannot be used by the worker");
                continue;
            }
        };
        let house = Rc::new(house(address, listener, &common, &scratch, &cut));
        let door = ProxyDoor { house, sessions: sessions.clone() };
        let running = accept::run(socket, common.room.clone(), heart, common.stop.drain.clone(), door);
        loops.push(tokio::task::spawn_local(running));
    }
    for accepting in loops {
        let _ = accepting.await;
    }
    sessions.close();
    tokio::select! {
        () = sessions.wait() => return,
        () = tokio::time::sleep(common.config.timeouts.drain) => {}
        () = cut.cancelled() => {}
    }
    warn!(sessions = sessions.len(), "sessions are reset");
    cut.cancel();
    let _ = timeout(CUT_WAIT, sessions.wait()).await;
}

fn house(
    address: SocketAddr,
    listener: &ListenerConfig,
    common: &Common,
    scratch: &Scratch,
    cut: &CancellationToken,
) -> House {
    let Config { users, access, timeouts, .. } = &*common.config;
    House {
        listener: address,
        protocol: listener.protocol,
        auth: listener.auth,
        client_networks: listener.client_networks.clone(),
        users: users.clone(),
        access: Arc::new(access.clone()),
        sources: common.sources.clone(),
        handshake_timeout: timeouts.handshake,
        connect_timeout: timeouts.connect,
        limits: timeouts.relay,
        scratch: scratch.clone(),
        reporter: common.reporter.clone(),
        numbers: common.numbers.clone(),
        clock: common.clock.clone(),
        cut: cut.clone(),
    }
}

/// What health depends on.
#[derive(Clone)]
struct Health {
    hearts: Vec<(SocketAddr, Heart)>,
    stop: CancellationToken,
    journal: Option<Journal>,
}

impl Health {
    fn router(self, metrics: PrometheusHandle) -> axum::Router {
        let live = self.clone();
        let live: Probes = Arc::new(move || live.live());
        let ready: Probes = Arc::new(move || self.ready());
        http::router(metrics, live, ready)
    }

    /// While the program stops, closed listeners are right.
    fn live(&self) -> Vec<Probe> {
        let stopping = self.stop.is_cancelled();
        self.listeners(|heart| if stopping { Ok(()) } else { heart.alive() })
    }

    fn ready(&self) -> Vec<Probe> {
        let mut probes = self.listeners(Heart::ready);
        let serving = if self.stop.is_cancelled() { Err("the program is stopping".to_owned()) } else { Ok(()) };
        probes.push(Probe { name: "sessions".to_owned(), state: serving });
        if let Some(journal) = &self.journal {
            probes.push(Probe { name: "session log".to_owned(), state: journal.health() });
        }
        probes
    }

    fn listeners(&self, state: impl Fn(&Heart) -> Result<(), String>) -> Vec<Probe> {
        let probe =
            |(address, heart): &(SocketAddr, Heart)| Probe { name: format!("listener {address}"), state: state(heart) };
        self.hearts.iter().map(probe).collect()
    }
}
