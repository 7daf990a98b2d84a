//! A session's work on the tickets that it has: transactions, one after the other or behind one another, until each
//! recipient has its end.
//! Floor 4. Reads messages and drives the connection.
//! Always: a ticket of which something is written is carried to its end before the session says goodbye; one of which
//! the destination took nothing is as if never tried.

use std::collections::VecDeque;
use std::sync::Arc;

use super::claims::blame;
use super::connection::Flight;
use super::current::{Current, envelope};
use super::dialogue::{Act, Decided, Finished};
use super::learn::{learn, tell_deferred};
use super::outcome::Judgement;
use super::session::{Events, Path, Reader, Session, tell_fault};
use super::trace::What;
use super::transact::finish;
use crate::message::{EnhancedCode, Message, Part, Response, Ticket, Verdict};

impl<R: Reader, E: Events> Session<R, E> {
    /// Carries the ticket in hand: transactions until each recipient has its end, or the connection has.
    pub(super) async fn deliver(&mut self) {
        let now = self.deps.clock.now();
        let Some(message) = self.message().await else { return };
        let (Some(connection), Some(current)) = (&mut self.connection, &mut self.current) else { return };
        let Some(part) = message.meta.parts.get(usize::from(current.ticket.part)) else { return };
        self.carried += 1;
        connection.tap.carry(&current.ticket);
        current.meets(&connection.dialogue, &part.wishes);
        let started = current.sent.unwrap_or(now);
        while let Some(act) = self.transact(&message, part).await {
            let Some(finished) = self.finish(&message, act).await else { break };
            if !self.take(finished, &message).await {
                break;
            }
        }
        let took = self.since(started);
        if let Some(current) = &mut self.current {
            current.transaction = Some(took);
        }
    }

    /// The message of the ticket in hand, which is read if it was not; `None` if it cannot be, and then the ticket has
    /// its end.
    async fn message(&mut self) -> Option<Arc<Message>> {
        let current = self.current.as_mut()?;
        current.again = None;
        match current.message.clone() {
            Some(message) => Some(message),
            None => self.fetch().await,
        }
    }

    /// Reads the message of the ticket in hand; `None` if that failed, and then the ticket has its end.
    pub(super) async fn fetch(&mut self) -> Option<Arc<Message>> {
        let read = read(&self.deps.messages, &self.current.as_ref()?.ticket).await;
        let current = self.current.as_mut()?;
        match read {
            Ok((message, open)) => {
                (current.open, current.message) = (open, Some(message.clone()));
                Some(message)
            }
            Err(error) => {
                let Ticket { id, part, settled, .. } = &current.ticket;
                tracing::error!(%id, part, %error, "message cannot be read; it stays queued");
                let words = Response::own(451, EnhancedCode::new(4, 3, 0), &format!("message cannot be read: {error}"));
                let first = (0..=u16::MAX).find(|n| settled.binary_search(n).is_err()).unwrap_or_default();
                current.conclude(first, Verdict::Retry { counts: false }, words);
                None
            }
        }
    }

    /// Begins the next transaction of the ticket in hand, or goes on with that which was sent ahead; sends what may
    /// follow it, too. `None` if there is no more; otherwise what has come of it already.
    async fn transact(&mut self, message: &Message, part: &Part) -> Option<Option<Act>> {
        let limit = self.most_recipients();
        let (Some(connection), Some(current)) = (&mut self.connection, &mut self.current) else { return None };
        if current.sent.take().is_some() {
            connection.dialogue.advance();
            return Some(self.send(None, None).await);
        }
        while !current.open.is_empty() && connection.dialogue.is_usable() {
            let batch: Vec<u16> = current.open.iter().take(limit).copied().collect();
            let envelope = envelope(message, part, &batch);
            if let Some(objection) = connection.dialogue.objection(&envelope) {
                current.open.drain(..batch.len());
                for recipient in batch {
                    current.conclude(recipient, Verdict::Bounce, objection.clone());
                }
                continue;
            }
            current.is_begun = true;
            let recipients = batch.iter().filter_map(|n| Some((*n, part.recipients.get(usize::from(*n))?)));
            let (dialogue, send) = connection.parts();
            if !dialogue.begin(&envelope, recipients, send) {
                return Some(None);
            }
            let commands = send.len();
            return Some(self.send(Some(commands), None).await);
        }
        None
    }

    /// Carries the transaction whose turn it is to its end; `act` is what has come of it already. What is handed ahead
    /// meanwhile is sent behind it.
    async fn finish(&mut self, message: &Message, mut act: Option<Act>) -> Option<Finished> {
        while act.is_none() && self.may_send_ahead() {
            // All is written, so that nothing but the wait for an answer is cut short by a ticket.
            let ticket = tokio::select! {
                biased;
                answer = self.connection.as_mut()?.next() => {
                    act = Some(answer);
                    break;
                }
                ticket = self.work.recv() => ticket,
            };
            act = self.send(None, ticket).await;
        }
        Some(finish(self.connection.as_mut()?, &message.content, act).await)
    }

    /// Writes what was begun of the ticket in hand, up to that end of its commands, and behind it transactions of
    /// tickets that were handed ahead: `handed`, and what else there is.
    async fn send(&mut self, begun: Option<usize>, handed: Option<Ticket>) -> Option<Act> {
        let mut ends: Vec<usize> = begun.into_iter().collect();
        if let Some(ticket) = handed {
            let may = self.may_send_ahead();
            self.ahead.push_back(Current::new(ticket));
            if may {
                ends.extend(self.follow().await);
            }
        }
        while self.may_send_ahead()
            && let Ok(ticket) = self.work.try_recv()
        {
            self.ahead.push_back(Current::new(ticket));
            ends.extend(self.follow().await);
        }
        let (Some(connection), Some(current)) = (&mut self.connection, &self.current) else { return None };
        if ends.is_empty() {
            return None;
        }
        let ahead = ends.len() - usize::from(begun.is_some());
        if ahead > 0 {
            self.deps.metrics.went_ahead(ahead);
        }
        let sent: Vec<&Current> =
            std::iter::once(current).chain(self.ahead.iter().filter(|next| next.sent.is_some())).collect();
        let new = sent[sent.len() - ends.len()..].iter().zip(ends);
        let flight: Vec<Flight<'_>> = new
            .filter_map(|(Current { ticket, message, .. }, commands)| {
                Some(Flight { ticket, commands, content: &message.as_ref()?.content })
            })
            .collect();
        let act = connection.send_at_once(&flight).await;
        connection.tap.carry(&current.ticket);
        act
    }

    /// Whether a further ticket may be sent behind those that are under way. It may not while more transactions of the
    /// ticket in hand are to come.
    fn may_send_ahead(&self) -> bool {
        let (Some(connection), Some(current)) = (&self.connection, &self.current) else { return false };
        let is_clear = current.open.len() <= 1 && self.ahead.back().is_none_or(|last| last.sent.is_some());
        let carried = usize::try_from(self.carried).unwrap_or(usize::MAX).saturating_add(self.ahead.len());
        let has_room = carried < self.path.options.max_deliveries_per_connection as usize;
        let is_last = self.is_over || !self.kept.is_empty();
        is_clear && has_room && !is_last && !self.work.is_closed() && connection.dialogue.may_follow()
    }

    /// Begins the transaction of the last ticket behind those that are under way, if it fits there; gives the end of
    /// its commands.
    async fn follow(&mut self) -> Option<usize> {
        let (limit, now) = (self.most_recipients(), self.deps.clock.now());
        // What cannot be read has its end when its turn comes.
        let (message, open) = read(&self.deps.messages, &self.ahead.back()?.ticket).await.ok()?;
        let (Some(connection), Some(next)) = (&mut self.connection, self.ahead.back_mut()) else { return None };
        (next.open, next.message) = (open, Some(message.clone()));
        let part = message.meta.parts.get(usize::from(next.ticket.part))?;
        let batch = next.open.make_contiguous();
        let envelope = envelope(&message, part, batch);
        let (dialogue, send) = connection.parts();
        let fits = (1..=limit).contains(&batch.len()) && dialogue.may_be_ahead(&envelope);
        if !fits || dialogue.objection(&envelope).is_some() {
            return None;
        }
        let recipients = batch.iter().filter_map(|n| Some((*n, part.recipients.get(usize::from(*n))?)));
        dialogue.follow(&envelope, recipients, send);
        (next.is_begun, next.was_ahead, next.sent) = (true, true, Some(now));
        Some(send.len())
    }

    fn most_recipients(&self) -> usize {
        usize::try_from(self.path.options.max_recipients_per_batch).unwrap_or(usize::MAX).max(1)
    }

    /// Takes the end of a transaction. False if the ticket is carried no further here.
    async fn take(&mut self, mut finished: Finished, message: &Message) -> bool {
        let uncertain = self.path.options.smtp.uncertain;
        let (Some(connection), Some(current)) = (&mut self.connection, &mut self.current) else { return false };
        if connection.dialogue.is_broken() {
            let is_said = |d: &Decided| d.response.command.is_some() || d.judgement == Judgement::Uncertain;
            let (said, unsaid) = finished.decided.into_iter().partition(is_said);
            finished.decided = unsaid;
            current.take(said, false, uncertain);
            if self.broken_by.is_none() {
                let Path { source, way, .. } = &self.path;
                self.broken_by = blame(connection.known_fault(), source, way, connection.local).await;
                if let Some(fault) = &self.broken_by {
                    tell_fault(&self.deps, fault, &current.ticket, &self.path, &self.wire);
                    connection.tap.tell(What::Fault, || fault.to_string());
                }
            }
            if self.broken_by.is_some() {
                // The destination said nothing of the others: they go out another way, as if never tried.
                current.is_begun = !current.results.is_empty();
                return false;
            }
            let is_tried = !(finished.is_untouched && current.was_ahead);
            if is_tried && self.path.options.hosts.try_next_host_on_transport_error && self.plan.has_more() {
                let deferred = current.defer(&mut finished.decided);
                tell_deferred(&self.deps, current, message, &deferred, &self.path, &self.wire);
            }
        }
        if learn(connection.dialogue.sign(), &self.path, &self.wire, &self.deps) {
            current.take_refusals(finished.decided, uncertain);
            return false;
        }
        if finished.is_untouched && self.carried > 1 && !connection.dialogue.is_usable() {
            // The server left between two messages: that says nothing of this one.
            current.is_begun = !current.results.is_empty();
            return false;
        }
        if finished.decided.iter().any(|d| d.judgement == Judgement::Delivered) {
            self.deps.metrics.sent(message.content.len() as u64);
        }
        current.take(finished.decided, connection.dialogue.is_usable(), uncertain);
        true
    }

    /// The connection carries no more: what was sent ahead has its end, too. What has none is left, the ticket in hand
    /// first.
    pub(super) async fn recall(&mut self) {
        self.kept.extend(self.current.take());
        while self.ahead.front().is_some_and(|next| next.sent.is_some()) {
            self.current = self.ahead.pop_front();
            self.deliver().await;
            self.settle().await;
            self.kept.extend(self.current.take());
        }
        self.kept.append(&mut self.ahead);
        std::mem::swap(&mut self.kept, &mut self.ahead);
        self.current = self.ahead.pop_front();
    }
}

/// Reads a message, and which recipients of the ticket's part are open; the error is for people.
async fn read<R: Reader>(messages: &R, ticket: &Ticket) -> Result<(Arc<Message>, VecDeque<u16>), String> {
    let message = messages.read(ticket.id).await?;
    let part =
        message.meta.parts.get(usize::from(ticket.part)).ok_or_else(|| format!("it has no part {}", ticket.part))?;
    let all = 0..u16::try_from(part.recipients.len()).unwrap_or(u16::MAX);
    let open = all.filter(|n| ticket.settled.binary_search(n).is_err()).collect();
    Ok((message, open))
}
