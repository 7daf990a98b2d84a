//! Tells senders what became of recipients, and the event log of those failures that no
//! session saw. Floor 6. Composes spool, event log, the DSN writer and intake.
//! Always: it returns when the report is on stable storage or none is due; until then the part
//! stays in the spool as it was, so that a crash repeats a report rather than losing it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use egret_shared::clock::Clock;
use tracing::{debug, error, info, warn};

use crate::bounce::{self, Dsn, News, Told};
use crate::config::Config;
use crate::event::record::{Kind, Record, Timing};
use crate::intake::{Draft, Intake};
use crate::message::{
    Address, Message, MessageId, MessageWish, Notify, Part, RecipientResult, RecipientWish, Response, Verdict, Wishes,
};
use crate::queue::{Cause, Notice};
use crate::spool::Spool;
use egret_shared::journal::Journal;

/// The first wait after a report could not be stored, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Reports. Cheap to clone.
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
    /// The largest message that a report returns whole.
    pub max_returned_bytes: usize,
}

impl Reporter {
    /// Reports as `config` says.
    pub fn new(config: &Config, spool: &Spool, events: &Journal, intake: &Intake, clock: &Clock) -> Self {
        Self {
            spool: spool.clone(),
            events: events.clone(),
            intake: intake.clone(),
            clock: clock.clone(),
            hostname: config.hostname.clone(),
            max_returned_bytes: usize::try_from(config.max_returned_bytes).unwrap_or(usize::MAX),
        }
    }

    /// Reports what became of one part.
    pub async fn report(self, notice: Notice) {
        let message = match self.spool.read(notice.ticket.id).await {
            Ok(message) => message,
            Err(why) => {
                // Nothing is left to report about; keeping the part would report it for ever.
                error!(id = %notice.ticket.id, %why, "a message cannot be read, its sender is not told what became of it");
                return;
            }
        };
        if !matches!(notice.cause, Cause::Answered | Cause::Late) {
            self.tell(&message, &notice);
        }
        if notice.cause != Cause::Dropped {
            self.answer(&message, &notice).await;
        }
        self.spool.forget_body(notice.ticket.id);
    }

    /// The events: one for each group of recipients with the same words.
    fn tell(&self, message: &Message, failed: &Notice) {
        let mut groups: Vec<(&Response, Vec<String>)> = Vec::new();
        for (_, recipient, result) in recipients(message, failed) {
            match groups.iter_mut().find(|(response, _)| **response == result.response) {
                Some((_, group)) => group.push(recipient.to_string()),
                None => groups.push((&result.response, vec![recipient.to_string()])),
            }
        }
        for (response, recipients) in groups {
            self.events.write(&self.record(message, failed, response, recipients));
        }
    }

    fn record(&self, message: &Message, failed: &Notice, response: &Response, recipients: Vec<String>) -> Record {
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
            user: None,
            tls_result: None,
            uncertain: false,
            automation: None,
            timing: Timing { waited_ms, ..Timing::default() },
        }
    }

    /// The reports to the sender, of each kind of news at most one; none to the null sender (RFC 5321 section 4.5.5).
    async fn answer(&self, message: &Message, notice: &Notice) {
        for news in news(notice) {
            let told: Vec<_> = self.told(message, notice, news).collect();
            let report = bounce::Report {
                id: MessageId::generate(),
                hostname: &self.hostname,
                original: message,
                received: message.meta.received,
                now: self.clock.wall(),
                news,
                recipients: &told,
                max_returned_bytes: self.max_returned_bytes,
            };
            match bounce::write(&report) {
                Some(dsn) => self.store(message, draft(dsn)).await,
                None => debug!(id = %message.id, ?news, "nobody wants to hear of it"),
            }
        }
    }

    /// The recipients that there is such news of, and whose sender wants to hear it.
    fn told<'a>(&self, message: &'a Message, notice: &'a Notice, news: News) -> impl Iterator<Item = Told<'a>> {
        let (is_answered, now) = (notice.cause == Cause::Answered, self.clock.wall());
        let remote = notice.witness.as_ref().and_then(|witness| witness.remote.as_deref());
        let wants = wanted_by(news);
        recipients(message, notice).filter_map(move |(wish, recipient, result)| {
            let wants = wish.map_or_else(|| RecipientWish::default().wants(wants), |wish| wish.wants(wants));
            let (response, is_said) = (&result.response, result.response.command.is_some());
            let (remote, last_attempt) = (remote.filter(|_| is_said), is_answered.then_some(now));
            let is_such = wants && is_news_of(news, result.verdict);
            is_such.then_some(Told { recipient, wish, response, remote, last_attempt })
        })
    }

    async fn store(&self, original: &Message, draft: Draft) {
        let mut wait = RETRY.0;
        loop {
            match self.intake.take(draft.clone(), |_, _| Bytes::new()).await {
                Ok(durable) => {
                    info!(id = %original.id, report = %durable.id(), "told its sender what became of it");
                    return;
                }
                Err(why) => warn!(id = %original.id, %why, wait_s = wait.as_secs(), "a report cannot be stored yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }
}

/// Each kind of news that a notice may hold.
fn news(notice: &Notice) -> [News; 3] {
    let failed = if notice.cause == Cause::Expired { News::Expired } else { News::Failed };
    let is_final = notice.witness.as_ref().is_some_and(|witness| witness.is_final);
    let taken = if is_final { News::Delivered } else { News::Relayed };
    [failed, taken, News::Delayed { until: notice.until }]
}

fn is_news_of(news: News, verdict: Verdict) -> bool {
    match verdict {
        Verdict::Bounce => matches!(news, News::Failed | News::Expired),
        Verdict::Delivered => matches!(news, News::Relayed | News::Delivered),
        Verdict::Retry { .. } | Verdict::Hold => matches!(news, News::Delayed { .. }),
    }
}

/// What a sender must want to hear for such news.
fn wanted_by(news: News) -> Notify {
    match news {
        News::Failed | News::Expired => Notify::FAILURE,
        News::Delayed { .. } => Notify::DELAY,
        News::Relayed | News::Delivered => Notify::SUCCESS,
    }
}

/// A report as a message. About itself there is never one.
fn draft(dsn: Dsn) -> Draft {
    let Dsn { recipient, content, eight_bit, smtputf8 } = dsn;
    let mut wishes = Wishes::default();
    wishes.push(0, RecipientWish { notify: Some(Notify::NEVER), original: None });
    Draft {
        sender: None,
        recipients: vec![recipient],
        wish: MessageWish::default(),
        wishes,
        eight_bit,
        smtputf8,
        not_before: None,
        body: content.body,
        assigned: Vec::new(),
        client: None,
        user: None,
    }
}

/// The recipients of a notice with what was said of them, and their results.
fn recipients<'a>(
    message: &'a Message,
    notice: &'a Notice,
) -> impl Iterator<Item = (Option<&'a RecipientWish>, &'a Address, &'a RecipientResult)> {
    let part: Option<&Part> = message.meta.parts.get(usize::from(notice.ticket.part));
    notice.results.iter().filter_map(move |result| {
        let recipient = part?.recipients.get(usize::from(result.recipient))?;
        Some((part?.wishes.get(result.recipient), recipient, result))
    })
}
