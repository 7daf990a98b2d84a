//! What the queues have done by others: sites, sessions, reports, marks. Floor 6.

use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::Clock;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::live::{Live, Setup};
use super::reporter::Reporter;
use crate::controls::Keeper;
use crate::delivery::trace::Tracer;
use crate::delivery::{self, Claims, Deps, HostMemory, Metrics, Path, Policing, Seat};
use crate::dns::lead::lead;
use crate::dns::policed::Policed;
use crate::dns::resolver::Failure;
use crate::event::record::Record;
use crate::message::{Mark, Message, MessageId, QueueName};
use crate::queue::control::words::Control;
use crate::queue::run::{Hands, Opening};
use crate::queue::{NoSite, Notice, Resolution};
use crate::shaping::automation::{Automation, Sharing};
use crate::spool::Spool;
use egret_shared::journal::Journal;

/// The app's hands for the queues.
pub(super) struct AppHands {
    pub reporter: Reporter,
    pub deps: Deps<Bodies, Told>,
    pub live: Live,
    pub policed: Policed,
    pub keeper: Keeper,
    pub sharing: Sharing,
    /// Cancelled when sessions shall end now.
    pub cut: CancellationToken,
}

/// Messages for sessions, from the spool.
#[derive(Clone)]
pub(super) struct Bodies(Spool);

impl delivery::Reader for Bodies {
    async fn read(&self, id: MessageId) -> Result<Arc<Message>, String> {
        self.0.read(id).await.map_err(|error| error.to_string())
    }

    fn forget_body(&self, id: MessageId) {
        self.0.forget_body(id);
    }
}

/// Events of sessions, to the log.
#[derive(Clone)]
pub(super) struct Told(Journal);

impl delivery::Events for Told {
    fn write(&self, record: Record) {
        self.0.write(&record);
    }
}

/// What every session uses.
#[expect(clippy::too_many_arguments, reason = "they are what sessions are given")]
pub(super) fn deps(
    spool: &Spool,
    events: &Journal,
    clock: &Clock,
    live: &Live,
    tracer: Tracer,
    automation: Automation,
    policing: Policing,
    claims: Claims,
) -> Deps<Bodies, Told> {
    Deps {
        messages: Bodies(spool.clone()),
        events: Told(events.clone()),
        clock: clock.clone(),
        tls: live.tls(),
        metrics: Metrics::new(),
        tracer,
        hosts: HostMemory::default(),
        outcomes: live.outcomes.clone(),
        automation,
        policing,
        claims,
    }
}

impl Hands for AppHands {
    fn resolve(&self, queue: &QueueName) -> impl Future<Output = Resolution> + Send + 'static {
        let (policed, ways, queue) = (self.policed.clone(), self.live.ways.load_full(), queue.clone());
        let paths = self.live.paths.load_full();
        async move {
            let found = lead(&ways, &policed, &paths.shaper, &queue).await;
            found.map(|resolved| (resolved.site, resolved.expires_in)).map_err(|failure| match failure {
                Failure::Permanent { response } => NoSite::Permanent(response),
                Failure::Temporary { response } => NoSite::Temporary(response),
            })
        }
    }

    fn open(&self, opening: Opening) {
        let Opening { session, source, way, site, first, work, report } = opening;
        let Setup { options, tls, shaped } = self.live.setup(&source.name, &site, first.queue.domain());
        let path = Path { source, way, site, options, shaped };
        let seat = Seat { session, path, first, work, report, stop: self.cut.clone() };
        tokio::spawn(delivery::run(seat, Deps { tls, ..self.deps.clone() }));
    }

    fn report(&self, notice: Notice) -> impl Future<Output = ()> + Send + 'static {
        let (reporter, cut) = (self.reporter.clone(), self.cut.clone());
        async move {
            let id = notice.ticket.id;
            tokio::select! {
                () = reporter.report(notice) => {}
                () = cut.cancelled() => {
                    warn!(%id, "its sender is told after the next start");
                    // The part must not be marked as done now.
                    tokio::time::sleep(Duration::MAX).await;
                }
            }
        }
    }

    fn keep(&self, controls: Vec<Control>) {
        self.live.set(&controls);
        self.sharing.set(&controls);
        self.keeper.keep(controls);
    }

    fn mark(&self, id: MessageId, part: u16, mark: Mark) {
        self.reporter.spool.mark(id, part, mark);
    }
}
