//! Tells senders of recipients that failed for good, and the event log of those failures that no
//! session saw. Floor 6. Composes spool, event log, the DSN writer and intake.
//! Always: it returns when the report is on stable storage or none is due; until then the failed part
//! stays in the spool, so that a crash repeats a report rather than losing it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use egret_shared::clock::Clock;
use tracing::{error, info, warn};

use crate::bounce::{self, Dsn};
use crate::event::record::{Kind, Record, Timing};
use crate::intake::{Draft, Intake};
use crate::message::{Address, Message, MessageId, RecipientResult, Response};
use crate::queue::{Cause, Failed};
use crate::spool::Spool;
use egret_shared::journal::Journal;

/// The first wait after a report could not be stored, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Reports failures. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    /// Where the failed message is.
    pub spool: Spool,
    /// Where events go.
    pub events: Journal,
    /// Where reports go.
    pub intake: Intake,
    /// The time.
    pub clock: Clock,
    /// The name of this host.
    pub hostname: Arc<str>,
}

impl Reporter {
    /// Reports one failure.
    pub async fn report(self, failed: Failed) {
        let message = match self.spool.read(failed.ticket.id).await {
            Ok(message) => message,
            Err(why) => {
                // Nothing is left to report about; keeping the part would report it for ever.
                error!(id = %failed.ticket.id, %why, "a failed message cannot be read, its sender is not told");
                return;
            }
        };
        if failed.cause != Cause::Answered {
            self.tell(&message, &failed);
        }
        if failed.cause != Cause::Dropped {
            self.answer(&message, &failed).await;
        }
        self.spool.forget_body(failed.ticket.id);
    }

    /// The events: one for each group of recipients with the same words.
    fn tell(&self, message: &Message, failed: &Failed) {
        let mut groups: Vec<(&Response, Vec<String>)> = Vec::new();
        for (recipient, result) in recipients(message, failed) {
            match groups.iter_mut().find(|(response, _)| **response == result.response) {
                Some((_, group)) => group.push(recipient.to_string()),
                None => groups.push((&result.response, vec![recipient.to_string()])),
            }
        }
        for (response, recipients) in groups {
            self.events.write(&self.record(message, failed, response, recipients));
        }
    }

    fn record(&self, message: &Message, failed: &Failed, response: &Response, recipients: Vec<String>) -> Record {
        let now = self.clock.wall();
        let waited_ms = u64::try_from(now.since(failed.ticket.received).as_millis()).ok();
        Record {
            kind: if failed.cause == Cause::Expired { Kind::Expiry } else { Kind::Bounce },
            time_ms: now,
            id: message.id,
            sender: message.meta.sender.as_ref().map_or_else(String::new, ToString::to_string),
            recipients,
            queue: Some(failed.ticket.queue.to_string()),
            tenant: failed.ticket.queue.tenant().map(str::to_owned),
            campaign: failed.ticket.queue.campaign().map(str::to_owned),
            site: None,
            size: message.content.len() as u64,
            attempt: failed.ticket.attempts,
            source: None,
            source_address: None,
            proxy: None,
            peer: None,
            class: None,
            response: Some(response.clone()),
            party: None,
            reason: None,
            tls: None,
            tls_policy: None,
            tls_result: None,
            uncertain: false,
            timing: Timing { waited_ms, ..Timing::default() },
        }
    }

    /// The report to the sender; none for the null sender (RFC 5321 section 4.5.5).
    async fn answer(&self, message: &Message, failed: &Failed) {
        let failures: Vec<_> = recipients(message, failed)
            .map(|(recipient, result)| bounce::Failure {
                recipient,
                response: &result.response,
                remote: None,
                expired: failed.cause == Cause::Expired,
            })
            .collect();
        let report = bounce::Report {
            id: MessageId::generate(),
            hostname: &self.hostname,
            original: message,
            received: message.meta.received,
            now: self.clock.wall(),
            failures: &failures,
        };
        let Some(Dsn { recipient, content, eight_bit, smtputf8 }) = bounce::write(&report) else {
            info!(id = %message.id, "failed, and has no sender to tell");
            return;
        };
        let draft = Draft {
            sender: None,
            recipients: vec![recipient],
            eight_bit,
            smtputf8,
            not_before: None,
            body: content.body,
            assigned: Vec::new(),
            client: None,
        };
        self.store(message, draft).await;
    }

    async fn store(&self, original: &Message, draft: Draft) {
        let mut wait = RETRY.0;
        loop {
            match self.intake.take(draft.clone(), |_, _| Bytes::new()).await {
                Ok(durable) => {
                    info!(id = %original.id, report = %durable.id(), "told its sender of a failure");
                    return;
                }
                Err(why) => warn!(id = %original.id, %why, wait_s = wait.as_secs(), "a report cannot be stored yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }
}

/// The failed recipients with their results.
fn recipients<'a>(
    message: &'a Message,
    failed: &'a Failed,
) -> impl Iterator<Item = (&'a Address, &'a RecipientResult)> {
    let part = message.meta.parts.get(usize::from(failed.ticket.part));
    let all = part.map_or(&[][..], |part| &part.recipients);
    failed.results.iter().filter_map(|result| Some((all.get(usize::from(result.recipient))?, result)))
}
