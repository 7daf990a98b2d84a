//! The commands by which a client says who it is: HELO and EHLO, STARTTLS, AUTH.
//! Pure. Floor 1.
//! Always: a password is asked for only in TLS or where the listener says so; who is a user is known only from a
//! verdict, and holds to the end of the session.

use egret_shared::clock::UnixMs;
use egret_shared::text::Line;

use super::super::auth::{Auth, Exchange, MAX_FAILURES, Next, Response, Unread, Verdict};
use super::super::command::Bad;
use super::super::line::{LineScan, MAX_AUTH_BYTES, scan_line};
use super::super::offer::Refusal;
use super::super::reply::{self, Extensions};
use super::{Act, Hello, Phase, Session};

impl Session {
    pub(super) fn hello(&mut self, name: Line, extended: bool, now: UnixMs, out: &mut Vec<u8>) {
        self.transaction = None;
        self.hello = Some(Hello { name, extended });
        match extended {
            true => {
                let starttls = self.settings.tls.is_some() && self.tls.is_none();
                let auth = self.settings.auth.auth != Auth::None && self.may_show_password();
                reply::write_extensions(out, &self.settings, Extensions { starttls, auth }, now);
            }
            false => reply::write_bare(out, 250, self.settings.hostname.as_str()),
        }
    }

    pub(super) fn start_tls(&mut self, more: bool, out: &mut Vec<u8>) -> Option<Act> {
        if self.tls.is_some() {
            self.misplaced("this is TLS already", out);
            return None;
        }
        if self.settings.tls.is_none() {
            self.refuse_bad(&Bad::NotImplemented, out);
            return None;
        }
        self.phase = Phase::Ended;
        if more {
            self.refuse(&Refusal::new(554, (5, 5, 1), "data waits behind STARTTLS, closing"), out);
            return None;
        }
        reply::write(out, 220, (2, 0, 0), "ready for TLS");
        Some(Act::StartTls)
    }

    fn may_show_password(&self) -> bool {
        self.tls.is_some() || self.settings.auth.in_clear.contains(self.client.ip())
    }

    /// Why a transaction cannot begin: the client must be a user.
    pub(super) fn stranger(&self) -> Option<Refusal> {
        if self.settings.auth.auth != Auth::Required || self.user.is_some() {
            return None;
        }
        let text = if self.may_show_password() { "authentication required" } else { "STARTTLS and AUTH come first" };
        Some(Refusal::new(530, (5, 7, 0), text))
    }

    pub(super) fn may_relay(&self) -> bool {
        let is_trusted = || self.settings.relay_networks.contains(self.client.ip());
        self.user.is_some() || (self.settings.auth.auth != Auth::Required && is_trusted())
    }

    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&Response>, out: &mut Vec<u8>) -> Option<Act> {
        let is_extended = self.hello.as_ref().is_some_and(|hello| hello.extended);
        let misplaced = match () {
            () if self.settings.auth.auth == Auth::None => {
                self.refuse_bad(&Bad::NotImplemented, out);
                return None;
            }
            () if !is_extended => Some("EHLO comes first"),
            () if self.user.is_some() => Some("you are a user already"),
            () if self.transaction.is_some() => Some("a transaction is open"),
            () => None,
        };
        if let Some(text) = misplaced {
            self.misplaced(text, out);
            return None;
        }
        let Some(exchange) = Exchange::of(mechanism) else {
            self.refuse(&Refusal::new(504, (5, 5, 4), "mechanism unknown; PLAIN and LOGIN are there"), out);
            return None;
        };
        if !self.may_show_password() {
            self.refuse(&Refusal::new(538, (5, 7, 11), "a password is taken only in TLS; STARTTLS comes first"), out);
            return None;
        }
        match initial {
            Some(initial) => self.go_on(exchange.begin(initial), out),
            None => self.go_on(Ok(Next::Ask(exchange.ask(), exchange)), out),
        }
    }

    /// Awaits what an exchange has asked for.
    pub(super) fn respond(&mut self, exchange: Exchange, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Act>) {
        let (used, next) = match scan_line(input, MAX_AUTH_BYTES) {
            LineScan::More => {
                self.phase = Phase::Auth(exchange);
                return (0, Some(Act::More));
            }
            LineScan::Long => {
                self.phase = Phase::Skip { dropped: 0, after_cr: false, limit: MAX_AUTH_BYTES };
                return (0, None);
            }
            LineScan::Unclean(used) => (used, Err(Unread::NotBase64)),
            LineScan::Got(line) => (line.len() + 2, exchange.respond(line)),
        };
        self.commands += 1;
        (used, self.go_on(next, out))
    }

    fn go_on(&mut self, next: Result<Next, Unread>, out: &mut Vec<u8>) -> Option<Act> {
        match next {
            Ok(Next::Ask(what, exchange)) => {
                reply::write_bare(out, 334, what);
                self.phase = Phase::Auth(exchange);
                None
            }
            Ok(Next::Check(credentials)) => {
                self.phase = Phase::Checked(credentials.user.clone());
                Some(Act::Authenticate(Box::new(credentials)))
            }
            Ok(Next::Wrong) => {
                self.wrong(out);
                None
            }
            Err(unread) => {
                self.refuse(&unread.refusal(), out);
                None
            }
        }
    }

    /// Tells what became of the credentials.
    pub fn authenticated(&mut self, verdict: Verdict, out: &mut Vec<u8>) {
        let Phase::Checked(user) = std::mem::replace(&mut self.phase, Phase::Command) else { return };
        match verdict {
            Verdict::Right => {
                self.user = Some(user);
                (self.idle_commands, self.failures) = (0, 0);
                reply::write(out, 235, (2, 7, 0), "welcome");
            }
            Verdict::Wrong => self.wrong(out),
            Verdict::Unasked(refusal) => self.tell(&refusal, out),
        }
    }

    fn wrong(&mut self, out: &mut Vec<u8>) {
        self.refuse(&Refusal::new(535, (5, 7, 8), "user or password is wrong"), out);
        self.failures += 1;
        if self.failures >= MAX_FAILURES && !matches!(self.phase, Phase::Ended) {
            self.tell(&Refusal::new(421, (4, 7, 0), "too many wrong passwords, closing"), out);
        }
    }
}
