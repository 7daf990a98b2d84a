//! The composition root: the only place that knows everybody. Floor 6.
//! Builds the parts bottom-up, hands each what it needs, and takes them down in the order in which a
//! message leaves them: reception, queues, spool, events.
//! Always: sockets and the stop signal are arguments, so that a test can start a whole MTA.

mod automation;
mod fleet;
mod follow;
mod hands;
mod health;
mod known_nodes;
mod limits;
pub(crate) mod live;
mod memory;
mod recovery;
mod reload;
mod reporter;
pub(crate) mod rollup;
mod sessions;
mod shelf;
mod smtp_in;
mod standing;
pub(crate) mod tls;
mod used_quotas;
mod warming;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::Clock;
use egret_shared::http;
use egret_shared::lifecycle::{Stop, notify};
use egret_shared::metrics::upkeep;
use egret_shared::net::accept::Heart;
use egret_shared::net::socket::{Share, listen};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::admin::{self, Api};
use crate::config::Config;
use crate::controls::Keeper;
use crate::delivery::trace::Tracer;
use crate::dns::resolver::ResolverError;
use crate::intake::{Intake, Signing};
use crate::message::MessageId;
use crate::queue::control::words::Control;
use crate::queue::run::{Driver, Queues, Start, channel};
use crate::queue::{Engine, Meter};
use crate::spool::{self, Spool};
use crate::users::Logins;
use egret_shared::journal::{self, Journal};
pub use follow::prepare;
use hands::AppHands;
use health::Health;
use limits::Kept;
pub use live::Live;
use memory::Memory;
pub(crate) use reload::Defined;
pub(crate) use reload::Parts;
pub use reload::{Origin, Reloaded, Reloader};
use reporter::Reporter;
use rollup::Rollup;
use smtp_in::Behind;
use tls::Secured;
pub(crate) use tls::policed;

/// How long sessions that were told to end now may take to hand their work back.
const CUT_WAIT: Duration = Duration::from_secs(5);
/// How long clients of the admin address may take to leave.
const ADMIN_WAIT: Duration = Duration::from_millis(200);

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address.
    #[error(
        "listener {address} cannot be bound: {error}; is another mail server running, or the port below 1024 and the user not root?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// The admin address; the text names it.
    #[error("{0}")]
    Admin(String),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
    /// The file of an operator's orders; the text names it.
    #[error("{0}")]
    Controls(String),
    /// The event log.
    #[error(transparent)]
    EventLog(#[from] journal::OpenError),
    /// The resolver.
    #[error(transparent)]
    Dns(#[from] ResolverError),
    /// The handler of SIGHUP cannot be installed.
    #[error("SIGHUP cannot be handled: {0}")]
    Signal(io::Error),
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}; are too many processes running?")]
    Thread(String),
    /// Redis, if it must be there.
    #[error("{0}")]
    Redis(String),
    /// A certificate or the TLS set-up; the text names the file.
    #[error("{0}")]
    Tls(String),
}

/// The sockets that a configuration asks for.
pub struct Sockets {
    /// One for each listener, in their order.
    pub smtp: Vec<TcpListener>,
    /// For health and metrics.
    pub admin: Option<TcpListener>,
}

impl Sockets {
    /// Binds them all, so that a wrong address is told before the spool is read.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut smtp = Vec::new();
        for listener in &config.listeners {
            let address = listener.address;
            let bound = listen(address, Share::Alone).and_then(TcpListener::from_std);
            smtp.push(bound.map_err(|error| StartError::Listen { address, error })?);
        }
        let admin = match config.admin {
            Some(address) => Some(http::bind(address).await.map_err(StartError::Admin)?),
            None => None,
        };
        Ok(Self { smtp, admin })
    }
}

/// The parts while the program runs.
struct Running {
    reception: TaskTracker,
    loops: Vec<JoinHandle<()>>,
    queues: Queues,
    driver: JoinHandle<()>,
    /// Cancelled when sessions shall end now.
    cut: CancellationToken,
    spool: Spool,
    recovery: recovery::Failing,
    events: Journal,
    /// Looks at the program's memory.
    watching: JoinHandle<()>,
    /// Looks up the domains of shaping files.
    rollup: JoinHandle<()>,
    health: Health,
    api: Api,
    limits: Kept,
}

/// Runs the MTA until `stop`, and returns when everything in flight is finished or parked.
pub async fn run(
    config: Config,
    origin: Origin,
    sockets: Sockets,
    metrics: PrometheusHandle,
    clock: Clock,
    stop: Stop,
) -> Result<(), StartError> {
    let Sockets { smtp, admin } = sockets;
    let hangups = signal(SignalKind::hangup()).map_err(StartError::Signal)?;
    limits::check(config.redis.as_ref()).await?;
    let mut running = start(&config, origin, smtp, &clock, &stop)?;
    let reloads = tokio::spawn(running.api.reloader.clone().on_hangup(hangups));
    let silence = CancellationToken::new();
    let member = fleet::Member {
        name: config.hostname.clone(),
        fleet: running.api.reloader.fleet.clone(),
        reloader: running.api.reloader.clone(),
        queues: running.queues.clone(),
        clock: clock.clone(),
        drain: stop.drain.clone(),
        limits: running.limits.limits.clone(),
        kept: config.spool.path.clone(),
        claims: running.limits.claims.clone(),
        node: running.limits.node(),
    };
    let fleet = config.redis.clone().map(|redis| member.start(redis, silence.clone()));
    let following = tokio::spawn(follow::follow(running.api.reloader.clone(), clock.clone()));
    let admin_stop = CancellationToken::new();
    let upkeep = tokio::spawn(upkeep(metrics.clone()));
    let router = running.health.clone().router(metrics).merge(admin::router(running.api.clone()));
    let admin = admin.map(|listener| tokio::spawn(http::serve(listener, router, admin_stop.clone())));
    info!(hostname = %config.hostname, listeners = config.listeners.len(), "taking mail");
    notify::ready();
    let health = running.health.clone();
    let watchdog = tokio::spawn(notify::watchdog(move || health.is_alive()));
    let failure = tokio::select! {
        () = stop.drain.cancelled() => None,
        failure = recovery::failure(&mut running.recovery) => Some(failure),
    };
    stop.drain.cancel();
    notify::stopping();
    let watching = running.watching.abort_handle();
    let rollup = running.rollup.abort_handle();
    take_down(running, config.drain_timeout, &stop).await;
    reloads.abort();
    following.abort();
    silence.cancel();
    if let Some((announcing, _following)) = fleet {
        // Others hear of the end; who cannot be told sees it himself.
        let _ = timeout(ADMIN_WAIT, announcing).await;
    }
    watching.abort();
    rollup.abort();
    watchdog.abort();
    upkeep.abort();
    admin_stop.cancel();
    if let Some(admin) = admin {
        // A scraper that holds its connection open is not waited for.
        let _ = timeout(ADMIN_WAIT, admin).await;
    }
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

/// Builds the parts bottom-up and starts them.
fn start(
    config: &Config,
    origin: Origin,
    smtp: Vec<TcpListener>,
    clock: &Clock,
    stop: &Stop,
) -> Result<Running, StartError> {
    let tls = smtp_in::load_tls(config)?;
    let events = Journal::open(&config.event_log, "event_log.path")?;
    let (spool, found) = Spool::open(config.spool.clone(), clock.clone())?;
    let (keeper, controls) = open_controls(config)?;
    let memory = Memory::new(config);
    let Secured { resolver, policed, policing } = tls::build(config, clock)?;
    let reports = policing.reports.clone();
    let watching = memory.watch(memory::reliefs(&resolver, &spool));
    let (queues, inbox) = channel();
    let live = Live::new(config).map_err(|error| StartError::Tls(error.to_string()))?;
    rollup::tell(config.notes());
    let rollup = Rollup::new(live.clone(), resolver, queues.clone()).start();
    let signing = Signing::new(config.signers.clone());
    let intake =
        Intake::new(spool.clone(), queues.clone(), events.clone(), clock.clone(), live.ways.clone(), signing.clone());
    let in_force: Vec<Control> = controls.iter().filter(|one| one.expires > clock.wall()).cloned().collect();
    live.set(&in_force);
    let kept = Kept::start(config, seed(), clock);
    let store = automation::store(kept.fleet.clone(), clock);
    let is_shared = store.is_shared();
    let (automation, sharing) = automation::start(live.automation.clone(), queues.clone(), store, &in_force, clock);
    let cut = CancellationToken::new();
    let tracer = Tracer::default();
    let hands = AppHands {
        reporter: Reporter::new(config, &spool, &events, &intake, clock),
        deps: hands::deps(&spool, &events, clock, &live, tracer.clone(), automation, policing, kept.claims.clone()),
        live: live.clone(),
        policed,
        keeper: keeper.clone(),
        sharing,
        cut: cut.clone(),
    };
    let begin = Start::now_of(clock);
    let engine = engine(config, &live, begin.meter(kept.limits.clone(), kept.is_shared), controls, is_shared, clock);
    let driver = tokio::spawn(Driver::new(engine, Arc::new(hands), begin, inbox).run());
    let recovery = recovery::start(found, queues.clone(), clock.clone());
    let recovery = recovery.map_err(|error| StartError::Thread(error.to_string()))?;

    let logins = Logins::new(config.users.clone(), clock.clone());
    let reception = TaskTracker::new();
    let hearts: Vec<_> = config.listeners.iter().map(|l| (l.address, Heart::new(clock.clone()))).collect();
    let sockets = smtp.into_iter().zip(&hearts).zip(tls);
    let sockets = sockets.map(|((socket, (_, heart)), tls)| (socket, heart.clone(), tls)).collect();
    let loops = smtp_in::start(
        config,
        sockets,
        &Behind { intake, memory: memory.clone(), ways: live.ways.clone(), logins: logins.clone() },
        &reception,
        stop,
    );
    let elsewhere = config.elsewhere.clone();
    let parts = Parts { queues: queues.clone(), events: events.clone(), signing, logins, live: live.clone() };
    let reloader = Reloader::new(origin, parts, elsewhere, Defined::of(config));
    let health = Health {
        hearts,
        spool: spool.clone(),
        events: events.clone(),
        memory: memory.pressure,
        stop: stop.drain.clone(),
        driver: driver.abort_handle(),
        standing: reloader.standing.clone(),
        limits: kept.limits.clone(),
    };
    let (hostname, ways) = (config.hostname.clone(), live.ways);
    let redis = config.redis.clone();
    let shared = (queues.clone(), spool.clone());
    let api = Api { queues: shared.0, spool: shared.1, keeper, reloader, tracer, ways, reports, redis, hostname };
    Ok(Running {
        reception,
        loops,
        queues,
        driver,
        cut,
        spool,
        recovery,
        events,
        watching,
        rollup,
        health,
        api,
        limits: kept,
    })
}

fn engine(
    config: &Config,
    live: &Live,
    meter: Meter,
    controls: Vec<Control>,
    is_shared: bool,
    clock: &Clock,
) -> Engine {
    let (pools, default_pool) = (config.pools.clone(), config.default_pool.clone());
    let mut engine = Engine::new(config.queue, live.clone(), meter, pools, default_pool, seed());
    engine.set_queues(config.queue, config.queues.rules.clone());
    if is_shared {
        engine.share_recoveries();
    }
    engine.restore(controls, clock.wall());
    engine
}

/// An operator's orders of before; read before any mail moves.
fn open_controls(config: &Config) -> Result<(Keeper, Vec<Control>), StartError> {
    let (keeper, found) = Keeper::open(&config.spool.path).map_err(StartError::Controls)?;
    for damage in &found.damaged {
        error!(
            file = %damage.file.display(), line = damage.line, why = %damage.why, moved_to = %damage.moved.display(),
            "a suspension or bounce cannot be read and is NOT in force; look at the line and give the order again"
        );
    }
    if !found.controls.is_empty() {
        info!(controls = found.controls.len(), "orders of before are in force");
    }
    Ok((keeper, found.controls))
}

/// Spreads retries differently in each process; 64 random bits are at the end of a new id.
fn seed() -> u64 {
    let id = MessageId::generate();
    id.as_bytes().iter().skip(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Stops taking, lets sessions finish up to a deadline, parks the rest in the spool.
async fn take_down(running: Running, drain_timeout: Duration, stop: &Stop) {
    let Running { reception, loops, queues, mut driver, cut, spool, events, limits, .. } = running;
    info!(timeout_s = drain_timeout.as_secs(), "stopping: no more mail is taken");
    let deadline = Instant::now() + drain_timeout;
    for accepting in loops {
        let _ = accepting.await;
    }
    reception.close();
    tokio::select! {
        waited = timeout_at(deadline, reception.wait()) => if waited.is_err() {
            warn!(sessions = reception.len(), "clients are cut off in the middle of a session");
        },
        () = stop.now.cancelled() => {}
    }
    let _ = queues.drain().await;
    tokio::select! {
        _ = &mut driver => {}
        () = tokio::time::sleep_until(deadline) => warn!("deliveries are cut off; what they carried is tried again after the next start"),
        () = stop.now.cancelled() => {}
    }
    cut.cancel();
    if !driver.is_finished() && timeout(CUT_WAIT, &mut driver).await.is_err() {
        driver.abort();
    }
    limits.end().await;
    spool.close().await;
    let _ = tokio::task::spawn_blocking(move || events.close()).await;
    info!("stopped");
}
