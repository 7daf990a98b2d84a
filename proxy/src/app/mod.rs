//! The composition root: the only place that knows everybody. Floor 6.
//! Each worker is one thread with its own listeners (the kernel spreads clients over them) and its own
//! sessions, so that a session never crosses threads.
//! Always: sockets and the stop signal are arguments, so that a test can start a whole proxy.

mod health;
mod limits;
mod reload;
mod sockets;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use egret_shared::clock::Clock;
use egret_shared::http;
use egret_shared::journal::{self, Journal};
use egret_shared::lifecycle::{Stop, notify};
use egret_shared::metrics::upkeep;
use egret_shared::net::accept::{self, Heart, Room};
use egret_shared::users::Penalties;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::health::{Health, room_for, watch_process};
use self::limits::Kept;
use self::reload::Fixed;
use crate::admin;
use crate::announce::{Announced, Told};
use crate::claims::Claims;
use crate::config::Config;
use crate::listener::ProxyDoor;
use crate::policy::Current;
use crate::relay::Scratch;
use crate::report::Reporter;
use crate::report::live::Sessions;
use crate::report::metrics::{self, Metrics, OfListener};
use crate::session::{Common, House};
use crate::source::{Held, watch};

pub use self::health::port_range;
pub use self::reload::Reloader;
pub use self::sockets::Sockets;

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
    /// A socket of the service manager's that cannot be used.
    #[error("a socket that the service manager has opened cannot be used: {0}; it must be a TCP listener")]
    Given(io::Error),
    /// A socket of the service manager's that nobody asked for.
    #[error("the service manager has opened {0}, which is no listener.address of the configuration; make them equal")]
    Unwanted(SocketAddr),
    /// The admin address; the text names it.
    #[error("{0}")]
    Admin(String),
    /// The session log.
    #[error("session log: {0}")]
    SessionLog(#[from] journal::OpenError),
    /// Redis, without which the proxy shall not start.
    #[error("{0}")]
    Redis(String),
    /// A thread or a signal handler.
    #[error("a worker cannot be started: {0}")]
    Worker(io::Error),
}

/// Runs the proxy until `stop`, and returns when its sessions are over. `file` is where `config` came
/// from, and comes from again at a reload.
pub async fn run(
    file: PathBuf,
    config: Config,
    sockets: Sockets,
    recorder: PrometheusHandle,
    clock: Clock,
    stop: Stop,
) -> Result<(), StartError> {
    let limits = Kept::start(&config, &clock).await?;
    let journal = config.session_log.path.as_deref();
    let journal = journal.map(|path| Journal::open(path, "session_log.path")).transpose()?;
    let (fixed, room) = (Fixed::of(&config), Room::new(room_for(config.max_sessions)));
    let (announced, max_sessions, admin_address) = (config.announced.clone(), config.max_sessions, config.admin);
    let sessions = Sessions::new(config.session_log.keep, config.session_log.keep_max);
    let metrics = Metrics::new(config.metrics_max_sources);
    let held = Held::default();
    let policy = config.served.into_policy(held.clone());
    reload::show_certificates(&policy);
    metrics::draining(false);
    watch::look_once(&policy.sources).await;
    metrics.states(&held);
    let common = Common {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        limits: limits.limits(),
        penalties: Penalties::default(),
        reporter: Reporter { metrics, sessions, journal: journal.clone() },
        numbers: Arc::new(AtomicU64::new(((clock.wall().0 / 1000) << 32) | 1)),
        clock,
        stop: stop.clone(),
    };
    let Sockets { workers, admin, configured, addresses } = sockets;
    let mut hearts = Vec::new();
    let mut threads = Vec::new();
    for (number, sockets) in workers.into_iter().enumerate() {
        let own: Vec<_> = configured.iter().map(|address| (*address, Heart::new(common.clock.clone()))).collect();
        let worker = Worker { sockets, hearts: own.clone(), common: common.clone(), room: room.clone() };
        threads.push(worker.start(number).map_err(StartError::Worker)?);
        hearts.extend(own);
    }
    let health = Health { hearts, stop: stop.drain.clone(), journal: journal.clone(), held, limits: limits.clone() };
    let look = Arc::new(Notify::new());
    let reloader = Reloader {
        file,
        fixed: fixed.into(),
        policy: common.policy.clone(),
        metrics: common.reporter.metrics.clone(),
        journal: journal.clone(),
        look: look.clone(),
        turn: Arc::default(),
    };
    let side = Side { recorder: recorder.clone(), health: health.clone(), reloader: reloader.clone(), look };
    let mut tasks = side.start(&common).map_err(StartError::Worker)?;
    let (admin_stop, silence) = (CancellationToken::new(), CancellationToken::new());
    let announcing = announced.map(|announced| {
        let (policy, drain) = (common.policy.clone(), stop.drain.clone());
        let (clock, room) = (common.clock.clone(), room.clone());
        let claims = claims(&announced, &common);
        let told = Told { announced, policy, room, max_sessions, admin: admin_address, clock, drain };
        let (announced, compared) = (told.announce(silence.clone()), claims.compare(silence.clone()));
        tokio::spawn(async { tokio::join!(announced, compared) })
    });
    let router = health.router(recorder).merge(admin::router(common.clone(), reloader));
    let admin = admin.map(|listener| tokio::spawn(http::serve(listener, router, admin_stop.clone())));
    let sources = common.policy.load().sources.set().count();
    info!(listeners = ?addresses, %sources, workers = threads.len(), "serving");
    notify::ready();
    stop.drain.cancelled().await;
    notify::stopping();
    metrics::draining(true);
    info!(sessions = room.taken(), "stopping: listeners are closed, sessions may finish");
    // Joining blocks; health stays visible meanwhile.
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
    let _ = joined.await;
    if let Some(journal) = journal {
        let _ = tokio::task::spawn_blocking(move || journal.close()).await;
    }
    tasks.shutdown().await;
    limits.end().await;
    silence.cancel();
    if let Some(announcing) = announcing {
        let _ = timeout(ADMIN_WAIT, announcing).await;
    }
    admin_stop.cancel();
    if let Some(admin) = admin {
        let _ = timeout(ADMIN_WAIT, admin).await;
    }
    info!("stopped");
    Ok(())
}

/// What compares sessions with the claims of the fleet's MTA nodes.
fn claims(announced: &Announced, common: &Common) -> Claims {
    let (name, redis) = (announced.name.clone(), announced.redis.clone());
    let (sessions, clock) = (common.reporter.sessions.clone(), common.clock.clone());
    Claims { name, run: limits::run(), redis, sessions, clock }
}

/// What runs beside the workers.
struct Side {
    recorder: PrometheusHandle,
    health: Health,
    reloader: Reloader,
    look: Arc<Notify>,
}

impl Side {
    fn start(self, common: &Common) -> io::Result<JoinSet<()>> {
        let mut hangups = signal(SignalKind::hangup())?;
        let mut tasks = JoinSet::new();
        let Self { recorder, health, reloader, look } = self;
        tasks.spawn(async move {
            while hangups.recv().await.is_some() {
                // What is wrong was logged.
                let _ = reloader.reload().await;
            }
        });
        tasks.spawn(notify::watchdog(move || health.live().iter().all(|probe| probe.state.is_ok())));
        tasks.spawn(upkeep(recorder));
        tasks.spawn(watch_process());
        tasks.spawn(watch_sources(common.policy.clone(), common.reporter.metrics.clone(), look));
        Ok(tasks)
    }
}

async fn watch_sources(policy: Current, metrics: Metrics, look: Arc<Notify>) {
    let current: watch::Current = {
        let policy = policy.clone();
        Arc::new(move || policy.load().sources.clone())
    };
    let on_look = Arc::new(move || metrics.states(policy.load().sources.held()));
    watch::watch(current, on_look, look).await;
}

/// One thread.
struct Worker {
    sockets: Vec<std::net::TcpListener>,
    hearts: Vec<(SocketAddr, Heart)>,
    common: Common,
    room: Room,
}

impl Worker {
    fn start(self, number: usize) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, self.serve());
        })
    }

    /// The worker's life: accept until the stop, then wait for sessions.
    async fn serve(self) {
        let Self { sockets, hearts, common, room } = self;
        let (sessions, cut, scratch) = (TaskTracker::new(), common.stop.now.child_token(), Scratch::default());
        let told = Rc::new(Cell::new(0));
        let mut loops = Vec::new();
        for (socket, (address, heart)) in sockets.into_iter().zip(hearts) {
            let socket = match TcpListener::from_std(socket) {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::error!(%address, %error, "listener cannot be used by the worker");
                    continue;
                }
            };
            let (scratch, cut, metrics) = (scratch.clone(), cut.clone(), OfListener::new(address));
            let house = House { listener: address, metrics, scratch, cut, common: common.clone() };
            let door = ProxyDoor { house: Rc::new(house), sessions: sessions.clone(), told: told.clone() };
            let running = accept::run(socket, room.clone(), heart, common.stop.drain.clone(), door);
            loops.push(tokio::task::spawn_local(running));
        }
        for accepting in loops {
            let _ = accepting.await;
        }
        sessions.close();
        let drain = common.policy.load().timeouts.drain;
        tokio::select! {
            () = sessions.wait() => return,
            () = tokio::time::sleep(drain) => {}
            () = cut.cancelled() => {}
        }
        warn!(sessions = sessions.len(), "sessions are reset");
        cut.cancel();
        let _ = timeout(CUT_WAIT, sessions.wait()).await;
    }
}
