//! The commands that make a message: MAIL, RCPT, DATA, BDAT.
//! Pure. Floor 1.
//! Always: nobody but users and clients in the relay networks gets a recipient accepted, so nobody else reaches DATA.

use std::time::Duration;

use egret_shared::clock::UnixMs;

use super::super::auth::Auth;
use super::super::budget::Body;
use super::super::command::{Bad, Mail, Rcpt};
use super::super::line::{Form, Unfit};
use super::super::offer::{Asked, Refusal};
use super::super::reply;
use super::{Around, Phase, Session, Transaction};
use crate::message::{Address, Wishes};

impl Session {
    pub(super) fn mail(&mut self, mail: Mail, around: Around<'_>, out: &mut Vec<u8>) {
        let Some(hello) = &self.hello else { return self.misplaced("EHLO comes first", out) };
        if self.transaction.is_some() {
            return self.misplaced("a transaction is open", out);
        }
        if let Some(refusal) = self.stranger() {
            return self.refuse(&refusal, out);
        }
        let wishes_unheard = !self.settings.dsn && !mail.wish.is_empty();
        let auth_unheard = self.settings.auth.auth == Auth::None && mail.auth;
        if (mail.extended && !hello.extended) || wishes_unheard || auth_unheard {
            return self.refuse_bad(&Bad::Parameter, out);
        }
        if self.messages >= self.settings.max_messages_per_session {
            return self.tell(&Refusal::new(421, (4, 7, 0), "enough messages for one session, connect again"), out);
        }
        if let Some(refusal) = (around.gate)(Asked::Mail) {
            return self.tell(&refusal, out);
        }
        if mail.size.is_some_and(|size| size > self.settings.max_message_bytes) {
            return self.refuse(&reply::unfit(Unfit::Big(self.settings.max_message_bytes)), out);
        }
        if !self.settings.budget.has_room(mail.size.unwrap_or(0)) {
            return self.tell(&reply::unfit(Unfit::NoRoom), out);
        }
        let not_before = match self.held_until(&mail, around.now) {
            Ok(not_before) => not_before,
            Err(bad) => return self.refuse_bad(&bad, out),
        };
        let (recipients, wishes) = (Vec::new(), Wishes::default());
        self.transaction = Some(Transaction { mail, not_before, recipients, wishes, over: 0, chunks: None });
        reply::write(out, 250, (2, 1, 0), "sender ok");
    }

    fn held_until(&self, mail: &Mail, now: UnixMs) -> Result<Option<UnixMs>, Bad> {
        let Some(hold) = mail.hold else { return Ok(None) };
        match self.settings.max_future_release {
            Duration::ZERO => Err(Bad::Parameter),
            longest => hold.until(now, longest),
        }
    }

    pub(super) fn recipient(&mut self, rcpt: Rcpt, out: &mut Vec<u8>) {
        let is_extended = self.hello.as_ref().is_some_and(|hello| hello.extended) && self.settings.dsn;
        let may_relay = self.may_relay();
        let Some(transaction) = &mut self.transaction else { return self.misplaced("MAIL comes first", out) };
        if transaction.chunks.is_some() {
            return self.misplaced("the message has begun", out);
        }
        if rcpt.extended && !is_extended {
            return self.refuse_bad(&Bad::Parameter, out);
        }
        if !may_relay {
            let or = if self.settings.auth.auth == Auth::None { "" } else { ", and no user" };
            let text = format!("relaying denied: {} is in none of the networks that may relay{or}", self.client.ip());
            return self.refuse(&Refusal::new(550, (5, 7, 1), &text), out);
        }
        if transaction.recipients.len() as u64 >= u64::from(self.settings.max_recipients) {
            return self.too_many_recipients(out);
        }
        let postmaster = || Address::parse(&format!("postmaster@{}", self.settings.hostname)).ok();
        let Some(address) = rcpt.address.or_else(postmaster) else {
            return self.refuse(&Refusal::new(550, (5, 1, 1), "this host has no domain for its postmaster"), out);
        };
        if (address.needs_utf8() || rcpt.needs_utf8) && !transaction.mail.smtputf8 {
            return self.refuse_bad(&Bad::NeedsUtf8, out);
        }
        transaction.wishes.push(u16::try_from(transaction.recipients.len()).unwrap_or(u16::MAX), rcpt.wish);
        transaction.recipients.push(address);
        reply::write(out, 250, (2, 1, 5), "recipient ok");
    }

    /// As many as the limit may be refused before each more counts as an error.
    fn too_many_recipients(&mut self, out: &mut Vec<u8>) {
        let Some(transaction) = &mut self.transaction else { return };
        transaction.over += 1;
        let patient = transaction.over <= self.settings.max_recipients;
        let text = format!("too many recipients, {} are taken at once", self.settings.max_recipients);
        let refusal = Refusal::new(452, (4, 5, 3), &text);
        if patient { self.tell(&refusal, out) } else { self.refuse(&refusal, out) }
    }

    /// Why no message may begin now, and whether the client is at fault.
    fn not_ready(&self, around: Around<'_>) -> Option<(Refusal, bool)> {
        match &self.transaction {
            None => Some((Refusal::new(503, (5, 5, 1), "MAIL comes first"), true)),
            Some(t) if t.recipients.is_empty() => Some((Refusal::new(554, (5, 5, 1), "no valid recipients"), true)),
            // A message that comes by BDAT has begun with its first chunk.
            Some(t) if t.chunks.is_some() => None,
            Some(_) => (around.gate)(Asked::Text).map(|refusal| (refusal, false)),
        }
    }

    pub(super) fn start_data(&mut self, around: Around<'_>, out: &mut Vec<u8>) {
        if self.transaction.as_ref().is_some_and(|t| t.chunks.is_some()) {
            return self.misplaced("the message comes by BDAT", out);
        }
        match self.not_ready(around) {
            Some((refusal, true)) => return self.refuse(&refusal, out),
            Some((refusal, false)) => return self.tell(&refusal, out),
            None => {}
        }
        self.phase = Phase::Data(Body::new(Form::Dotted, self.settings.text_limits(), &self.settings.budget));
        reply::write_bare(out, 354, "send the message, end with a line of one dot");
    }

    /// The bytes of a chunk follow its command whatever the reply: they are read even if they are refused.
    pub(super) fn start_chunk(&mut self, bytes: u64, last: bool, around: Around<'_>, out: &mut Vec<u8>) {
        let (limits, drained) = (self.settings.text_limits(), self.settings.max_drained_bytes());
        let mut refusal = self.not_ready(around).map(|(refusal, _)| refusal);
        let mut seen = 0;
        if let (None, Some(transaction)) = (&refusal, &mut self.transaction) {
            let budget = &self.settings.budget;
            let text = transaction.chunks.get_or_insert_with(|| Body::new(Form::Counted, limits, budget));
            seen = text.seen();
            if seen.saturating_add(bytes) > limits.message {
                text.overflow();
                refusal = Some(reply::unfit(Unfit::Big(limits.message)));
            }
        }
        if seen.saturating_add(bytes) > drained {
            return self.refuse_endless(out);
        }
        self.phase = Phase::Chunk { size: bytes, left: bytes, last, refusal };
    }
}
