//! The one way into the queues: split by scheduled queue, stored, told, queued.
//! Floor 5. Composes routing, spool, event log and queues; knows neither SMTP nor who offers.
//! Always: what [`Intake::take`] returns is on stable storage and in the queues, or will be in them
//! after the next start.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use egret_shared::clock::{Clock, UnixMs};

use crate::event::record::{Kind, Peer, Record, Timing};
use crate::message::{Address, Content, Message, MessageId, MessageWish, Metadata, Part, QueueName, Wishes};
use crate::queue::Admit;
use crate::queue::run::Queues;
use crate::routing::rule::Assigned;
use crate::routing::ways::Ways;
use crate::sign::{Meters, Outcome, Signers};
use crate::spool::{Durable, Spool, StoreError};
use egret_shared::journal::Journal;
use egret_shared::text::Line;

/// A message that is to be taken.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The reverse-path; `None` is the null sender.
    pub sender: Option<Address>,
    /// The forward-paths: at least one.
    pub recipients: Vec<Address>,
    /// What was said of reports about the message.
    pub wish: MessageWish,
    /// What was said of reports about its recipients.
    pub wishes: Wishes,
    /// It holds bytes over 127.
    pub eight_bit: bool,
    /// It needs SMTPUTF8.
    pub smtputf8: bool,
    /// It is not to be sent before this.
    pub not_before: Option<UnixMs>,
    /// The message as it came.
    pub body: Bytes,
    /// Whose mail it is and where it leaves from, by recipient; one alone is for all of them.
    pub assigned: Vec<Assigned>,
    /// Who offered it; `None` for our own reports.
    pub client: Option<Peer>,
    /// The user that the client has logged in as.
    pub user: Option<Line>,
}

/// Why a message is not taken now. In all cases it may be offered again.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The spool said no.
    #[error(transparent)]
    Spool(#[from] StoreError),
    /// More events wait in memory than may: their disk does not keep up.
    #[error("the event log is behind")]
    Events,
}

/// Takes messages. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    spool: Spool,
    queues: Queues,
    events: Journal,
    clock: Clock,
    ways: Arc<ArcSwap<Ways>>,
    signing: Signing,
}

/// Signs what is taken, by keys that a reload replaces. Cheap to clone.
#[derive(Clone)]
pub struct Signing {
    signers: Arc<ArcSwap<Signers>>,
    meters: Meters,
}

impl Signing {
    /// By these keys.
    pub fn new(signers: Arc<Signers>) -> Self {
        Self { signers: Arc::new(ArcSwap::new(signers)), meters: Meters::default() }
    }

    /// By these from now on.
    pub fn replace(&self, signers: Arc<Signers>) {
        self.signers.store(signers);
    }

    /// The signatures of a message.
    async fn sign(&self, message: &Bytes) -> Bytes {
        let signers = self.signers.load_full();
        if signers.is_empty() {
            return Bytes::new();
        }
        let (started, is_slow) = (Instant::now(), signers.is_slow(message));
        let (headers, outcome) = if is_slow {
            let message = message.clone();
            let signed = tokio::task::spawn_blocking(move || signers.sign(&message)).await;
            signed.unwrap_or((Bytes::new(), Outcome::Failed))
        } else {
            signers.sign(message)
        };
        self.meters.count(outcome, started.elapsed());
        headers
    }
}

impl Intake {
    /// Built once, from the parts that it composes.
    pub fn new(
        spool: Spool,
        queues: Queues,
        events: Journal,
        clock: Clock,
        ways: Arc<ArcSwap<Ways>>,
        signing: Signing,
    ) -> Self {
        Self { spool, queues, events, clock, ways, signing }
    }

    /// The time by which messages are stored.
    pub fn now(&self) -> UnixMs {
        self.clock.wall()
    }

    /// Whether the parts behind it would take a message now.
    pub fn gate(&self) -> Result<(), NotTaken> {
        if self.events.is_full() { Err(NotTaken::Events) } else { Ok(()) }
    }

    /// Stores and queues a message. `added` gives the headers that stand in front of it.
    pub async fn take(
        &self,
        draft: Draft,
        added: impl FnOnce(MessageId, UnixMs) -> Bytes,
    ) -> Result<Durable, NotTaken> {
        self.gate()?;
        let (id, received) = (MessageId::generate(), self.clock.wall());
        let Draft { sender, recipients, wish, wishes, eight_bit, smtputf8, not_before, body, assigned, client, user } =
            draft;
        // Our own trace stands above the signature, which does not cover it.
        let signatures = self.signing.sign(&body).await;
        let added = added(id, received);
        let added = if signatures.is_empty() { added } else { [added, signatures].concat().into() };
        let content = Content { added, body };
        let parts = self.ways.load().split(recipients, &assigned, &wishes);
        let meta = Metadata { received, sender, eight_bit, smtputf8, not_before, wish, parts };
        let message = Arc::new(Message { id, meta, content });
        let durable = self.spool.store(message.clone()).await?;
        self.events.write(&reception(&message, client, user));
        // Queues that have stopped are no loss: the next start finds the message in the spool.
        let _ = self.queues.admit(admits(&message)).await;
        Ok(durable)
    }
}

fn admits(message: &Message) -> Vec<Admit> {
    let admit = |(at, part): (usize, &Part)| Admit {
        id: message.id,
        part: at as u16,
        queue: part.queue.clone(),
        pool: part.pool.clone(),
        priority: part.priority,
        recipients: part.recipients.len() as u16,
        received: message.meta.waits_since(),
        attempts: 0,
        due: message.meta.not_before,
        settled: Vec::new(),
        hears_of_delay: message.meta.hears_of_delay(part),
    };
    message.meta.parts.iter().enumerate().map(admit).collect()
}

fn reception(message: &Message, client: Option<Peer>, user: Option<Line>) -> Record {
    let recipients = message.meta.parts.iter().flat_map(|part| &part.recipients);
    let queue = message.meta.parts.first().map(|part| &part.queue);
    Record {
        kind: Kind::Reception,
        time_ms: message.meta.received,
        id: message.id,
        sender: message.meta.sender.as_ref().map_or_else(String::new, ToString::to_string),
        recipients: recipients.map(ToString::to_string).collect(),
        queue: match message.meta.parts.as_slice() {
            [part] => Some(part.queue.to_string()),
            _ => None,
        },
        tenant: queue.and_then(QueueName::tenant).map(str::to_owned),
        campaign: queue.and_then(QueueName::campaign).map(str::to_owned),
        site: None,
        size: message.content.len() as u64,
        attempt: 0,
        source: None,
        source_address: None,
        proxy: None,
        peer: client,
        user: user.map(|user| user.as_str().to_owned()),
        response: None,
        class: None,
        party: None,
        reason: None,
        tls: None,
        tls_policy: None,
        tls_result: None,
        uncertain: false,
        timing: Timing::default(),
    }
}
