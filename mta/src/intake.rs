//! The one way into the queues: split by scheduled queue, stored, told, queued.
//! Floor 5. Composes routing, spool, event log and queues; knows neither SMTP nor who offers.
//! Always: what [`Intake::take`] returns is on stable storage and in the queues, or will be in them
//! after the next start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use egret_shared::clock::{Clock, UnixMs};

use crate::event::record::{Kind, Peer, Record, Timing};
use crate::message::{Address, Content, Message, MessageId, MessageWish, Metadata, Part, QueueName, Wishes};
use crate::queue::Admit;
use crate::queue::run::Queues;
use crate::routing::route::Routes;
use crate::routing::rule::Assigned;
use crate::sign::{Meters, Outcome, Signers};
use crate::spool::{Durable, Spool, StoreError};
use egret_shared::journal::Journal;

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
    ways: Arc<Ways>,
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

/// What decides about the pool of a message.
#[derive(Debug)]
pub struct Ways {
    /// Static routes.
    pub routes: Routes,
    /// The pool of mail for which no route chooses.
    pub default_pool: Arc<str>,
}

impl Intake {
    /// Built once, from the parts that it composes.
    pub fn new(spool: Spool, queues: Queues, events: Journal, clock: Clock, ways: Arc<Ways>, signing: Signing) -> Self {
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
        let Draft { sender, recipients, wish, wishes, eight_bit, smtputf8, not_before, body, assigned, client } = draft;
        // Our own trace stands above the signature, which does not cover it.
        let signatures = self.signing.sign(&body).await;
        let added = added(id, received);
        let added = if signatures.is_empty() { added } else { [added, signatures].concat().into() };
        let content = Content { added, body };
        let parts = self.ways.split(recipients, &assigned, &wishes);
        let meta = Metadata { received, sender, eight_bit, smtputf8, not_before, wish, parts };
        let message = Arc::new(Message { id, meta, content });
        let durable = self.spool.store(message.clone()).await?;
        self.events.write(&reception(&message, client));
        // Queues that have stopped are no loss: the next start finds the message in the spool.
        let _ = self.queues.admit(admits(&message)).await;
        Ok(durable)
    }
}

impl Ways {
    /// One part for each queue and pool, in the order in which they come first.
    pub fn split(&self, recipients: Vec<Address>, assigned: &[Assigned], wishes: &Wishes) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut known: HashMap<(QueueName, Arc<str>), usize> = HashMap::new();
        let nobodys = Assigned::default();
        for (at, recipient) in recipients.into_iter().enumerate() {
            let assigned = assigned.get(at).or(assigned.first()).unwrap_or(&nobodys);
            let (domain, (campaign, tenant)) = (recipient.canonical_domain(), assigned.labels.texts());
            let by_route = || self.routes.find(&domain).and_then(|route| route.pool.clone());
            let pool = assigned.pool.clone().or_else(by_route).unwrap_or_else(|| self.default_pool.clone());
            let key = (QueueName::new(campaign, tenant, &domain), pool);
            if let Some(part) = known.get(&key).and_then(|at| parts.get_mut(*at)) {
                wishes.copy_to(at, &mut part.wishes, part.recipients.len());
                part.recipients.push(recipient);
                continue;
            }
            let (queue, pool) = key.clone();
            let mut own = Wishes::default();
            wishes.copy_to(at, &mut own, 0);
            parts.push(Part { queue, pool, recipients: vec![recipient], wishes: own });
            known.insert(key, parts.len() - 1);
        }
        parts
    }
}

fn admits(message: &Message) -> Vec<Admit> {
    let admit = |(at, part): (usize, &Part)| Admit {
        id: message.id,
        part: at as u16,
        queue: part.queue.clone(),
        pool: part.pool.clone(),
        recipients: part.recipients.len() as u16,
        received: message.meta.waits_since(),
        attempts: 0,
        due: message.meta.not_before,
        settled: Vec::new(),
        hears_of_delay: message.meta.hears_of_delay(part),
    };
    message.meta.parts.iter().enumerate().map(admit).collect()
}

fn reception(message: &Message, client: Option<Peer>) -> Record {
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
        response: None,
        class: None,
        party: None,
        reason: None,
        tls: None,
        uncertain: false,
        timing: Timing::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::site::Protocol;
    use crate::message::{Notify, RecipientWish};
    use crate::routing::label::Labels;
    use crate::routing::route::{Pattern, Route};

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).expect("an address")).collect()
    }

    #[test]
    fn recipients_are_split_by_domain_and_each_part_has_its_pool() {
        let mut routes = Routes::default();
        let warm = Route { hosts: Vec::new(), protocol: Protocol::Smtp, pool: Some("warm".into()) };
        assert!(routes.add(Pattern::Domain("b.test".to_owned()), Arc::new(warm)));
        let (ways, none) = (Ways { routes, default_pool: "main".into() }, Wishes::default());
        let parts = ways.split(addresses(&["1@a.test", "2@b.test", "3@A.TEST", "4@[192.0.2.1]"]), &[], &none);
        let found: Vec<_> =
            parts.iter().map(|part| (part.queue.as_str(), &*part.pool, part.recipients.len())).collect();
        assert_eq!(found, [("@a.test", "main", 2), ("@b.test", "warm", 1), ("@[192.0.2.1]", "main", 1)]);
        let labels = Labels { tenant: "T".parse().ok(), campaign: "c".parse().ok() };
        let all = Assigned { labels, ..Assigned::default() };
        let parts = ways.split(addresses(&["1@a.test", "2@b.test"]), std::slice::from_ref(&all), &none);
        let found: Vec<_> = parts.iter().map(|part| (part.queue.as_str(), &*part.pool)).collect();
        assert_eq!(found, [("c:t@a.test", "main"), ("c:t@b.test", "warm")]);
        let other = Assigned { pool: Some("vip".into()), ..all.clone() };
        let parts = ways.split(addresses(&["1@b.test", "2@b.test", "3@b.test"]), &[all.clone(), other, all], &none);
        let found: Vec<_> = parts.iter().map(|part| (&*part.pool, part.recipients.len())).collect();
        assert_eq!(found, [("warm", 2), ("vip", 1)], "what a rule says counts before the route");
    }

    #[test]
    fn what_was_said_of_a_recipient_goes_with_it_into_its_part() {
        let ways = Ways { routes: Routes::default(), default_pool: "main".into() };
        let mut wishes = Wishes::default();
        for (at, text) in [(0, "NEVER"), (3, "SUCCESS"), (4, "DELAY")] {
            wishes.push(at, RecipientWish { notify: Notify::parse(text), original: None });
        }
        let all = addresses(&["1@a.test", "2@b.test", "3@a.test", "4@a.test", "5@b.test"]);
        let parts = ways.split(all, &[], &wishes);
        let said = |part: &Part, at| part.wishes.get(at).and_then(|w| w.notify).map(|n| n.to_string());
        let found: Vec<_> = parts.iter().map(|part| [0, 1, 2].map(|at| said(part, at))).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found, [[some("NEVER"), None, some("SUCCESS")], [None, some("DELAY"), None]]);
    }
}
