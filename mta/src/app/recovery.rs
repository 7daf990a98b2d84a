//! What was in the spool at the start goes into the queues, while new mail is taken. Floor 6.

use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use egret_shared::clock::Clock;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::queue::run::Queues;
use crate::queue::{Admit, Readmit};
use crate::spool::{OpenError, Recovered, Recovery, Report};

/// Parts that are queued in one word.
const BATCH: usize = 512;

/// Ends with an error if the spool cannot be read; with nothing when it has been.
pub(super) type Failing = oneshot::Receiver<OpenError>;

/// Reads the spool on a thread of its own.
pub(super) fn start(recovery: Recovery, queues: Queues, clock: Clock) -> std::io::Result<Failing> {
    let (failed, failing) = oneshot::channel();
    let work = move || {
        let started = clock.now();
        match read(recovery, &queues) {
            Ok(report) => tell(&report, clock.now().saturating_duration_since(started)),
            Err(failure) => {
                error!(error = %failure, "the spool cannot be read; the program stops");
                // The program is stopping already if nobody waits for it.
                let _ = failed.send(failure);
            }
        }
    };
    thread::Builder::new().name("spool-recover".to_owned()).spawn(work)?;
    Ok(failing)
}

/// Waits for a failure; for ever if there is none.
pub(super) async fn failure(failing: &mut Failing) -> OpenError {
    match failing.await {
        Ok(failure) => failure,
        Err(_) => std::future::pending().await,
    }
}

fn read(recovery: Recovery, queues: &Queues) -> Result<Report, OpenError> {
    let mut batch = Vec::with_capacity(BATCH);
    let report = recovery.run(|part| {
        batch.extend(admit(part));
        if batch.len() < BATCH {
            return ControlFlow::Continue(());
        }
        let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        // Queues that have ended take nothing: the program is stopping.
        queues.readmit_blocking(full).map_or(ControlFlow::Break(()), |()| ControlFlow::Continue(()))
    })?;
    let _ = queues.readmit_blocking(batch);
    Ok(report)
}

fn tell(report: &Report, took: Duration) {
    for damage in &report.damaged {
        warn!(file = %damage.file.display(), offset = damage.offset, why = %damage.why, "spool damage; the rest is recovered");
    }
    let Report { messages, parts, damaged } = report;
    info!(messages, parts, damaged = damaged.len(), took_s = took.as_secs_f64(), "spool recovered");
}

/// A recovered part as the queues take it; a part that the metadata do not hold is none.
fn admit(recovered: Recovered) -> Option<Readmit> {
    let part = recovered.meta.parts.get(usize::from(recovered.part))?;
    let (queue, pool) = recovered.moved.as_deref().map_or((&part.queue, &part.pool), |m| (&m.queue, &m.pool));
    let (is_moved, told) = (recovered.moved.is_some(), recovered.moved.as_deref().map_or(0, |moved| moved.told));
    let part = Admit {
        id: recovered.id,
        part: recovered.part,
        queue: queue.clone(),
        pool: pool.clone(),
        priority: part.priority,
        recipients: part.recipients.len() as u16,
        received: recovered.meta.waits_since(),
        attempts: recovered.attempts,
        due: recovered.due,
        settled: recovered.settled,
        hears_of_delay: recovered.meta.hears_of_delay(part),
    };
    Some(Readmit { part, is_moved, told })
}
