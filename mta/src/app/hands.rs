//! What the queues have done by others: sites, sessions, reports, marks. Floor 6.

use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::Clock;
use egret_shared::net::tls_client::ClientTls;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::reporter::Reporter;
use crate::controls::Keeper;
use crate::delivery::trace::Tracer;
use crate::delivery::{self, BrokenTls, Deps, Metrics, OutcomeRules, Path, Seat};
use crate::dns::resolver::{Failure, Resolver};
use crate::event::record::Record;
use crate::intake::Ways;
use crate::message::{Mark, Message, MessageId};
use crate::queue::control::words::Control;
use crate::queue::run::{Hands, Opening};
use crate::queue::{NoSite, Notice, Resolution};
use crate::shaping::options::PathOptions;
use crate::spool::Spool;
use egret_shared::journal::Journal;

/// The app's hands for the queues.
pub(super) struct AppHands {
    pub reporter: Reporter,
    pub deps: Deps<Bodies, Told>,
    pub options: Arc<PathOptions>,
    pub resolver: Resolver,
    pub ways: Arc<Ways>,
    pub keeper: Keeper,
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
pub(super) fn deps(
    spool: &Spool,
    events: &Journal,
    clock: &Clock,
    tls: ClientTls,
    tracer: Tracer,
    outcomes: OutcomeRules,
) -> Deps<Bodies, Told> {
    Deps {
        messages: Bodies(spool.clone()),
        events: Told(events.clone()),
        clock: clock.clone(),
        tls: Arc::new(tls),
        metrics: Metrics::new(),
        tracer,
        broken_tls: BrokenTls::default(),
        outcomes,
    }
}

impl Hands for AppHands {
    fn resolve(&self, domain: &str) -> impl Future<Output = Resolution> + Send + 'static {
        let (resolver, ways, domain) = (self.resolver.clone(), self.ways.clone(), domain.to_owned());
        async move {
            let found = match ways.routes.find(&domain) {
                Some(route) if !route.hosts.is_empty() => resolver.fixed_site(&route.hosts, route.protocol).await,
                _ => resolver.site(&domain).await,
            };
            found.map(|resolved| (resolved.site, resolved.expires_in)).map_err(|failure| match failure {
                Failure::Permanent { response } => NoSite::Permanent(response),
                Failure::Temporary { response } => NoSite::Temporary(response),
            })
        }
    }

    fn open(&self, opening: Opening) {
        let Opening { session, source, way, site, first, work, report } = opening;
        let path = Path { source, way, site, options: self.options.clone() };
        let seat = Seat { session, path, first, work, report, stop: self.cut.clone() };
        tokio::spawn(delivery::run(seat, self.deps.clone()));
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
        self.keeper.keep(controls);
    }

    fn mark(&self, id: MessageId, part: u16, mark: Mark) {
        self.reporter.spool.mark(id, part, mark);
    }
}
