//! What sessions teach of a host, and what the next ones make of it.
//! Floor 4. Touches the memory of hosts, the log and the metrics.
//! Always: each habit is told once in the log for as long as it is remembered.

use std::net::SocketAddr;

use egret_shared::clock::UnixMs;

use super::current::Current;
use super::doubt::Sign;
use super::hosts::{Habit, HostMemory};
use super::report::{self, Attempt, Wire};
use super::session::{Deps, Events, Path};
use crate::event::record::Timing;
use crate::message::{Message, RecipientResult};
use crate::shaping::options::SmtpOptions;

/// What is known of an address before it is spoken to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Commands may be sent together.
    pub may_pipeline: bool,
    /// Content may be sent by BDAT.
    pub may_chunk: bool,
    /// It has answered pipelined commands of late.
    pub pipelines: bool,
    /// Transactions may be sent behind one another.
    pub may_go_ahead: bool,
}

impl Known {
    /// What is known of `address`.
    pub fn of(hosts: &HostMemory, address: SocketAddr, options: &SmtpOptions, now: UnixMs) -> Self {
        let of_late = |habit, span: std::time::Duration| !span.is_zero() && hosts.knows(address, habit, now);
        let (pipelining, chunking) = (options.remember_broken_pipelining, options.remember_broken_chunking);
        Self {
            may_pipeline: options.enable_pipelining && !of_late(Habit::BreaksPipelining, pipelining),
            may_chunk: options.enable_chunking && !of_late(Habit::BreaksChunking, chunking),
            pipelines: of_late(Habit::Pipelines, pipelining),
            may_go_ahead: !of_late(Habit::BreaksAhead, pipelining),
        }
    }
}

/// Remembers what a transaction has shown. True if what was broken was certain and is news: it is not asked of the host
/// again, and the message may go out at once.
pub(super) fn learn<R, E>(sign: Option<Sign>, path: &Path, wire: &Wire, deps: &Deps<R, E>) -> bool {
    let (Some(sign), Some(address)) = (sign, wire.peer.as_ref().and_then(|peer| peer.address)) else { return false };
    let options = &path.options.smtp;
    let span = match sign.habit {
        Habit::BreaksChunking => options.remember_broken_chunking,
        _ => options.remember_broken_pipelining,
    };
    if span.is_zero() {
        return false;
    }
    let now = deps.clock.wall();
    let is_news = deps.hosts.remember(address, sign.habit, now.plus(span), now);
    if sign.habit == Habit::Pipelines || !is_news {
        return false;
    }
    let for_s = span.as_secs();
    let site = &path.site.name;
    match sign.habit {
        Habit::BreaksChunking => {
            deps.metrics.chunking_broken();
            tracing::warn!(%address, %site, for_s, "CHUNKING is offered there and BDAT is not known; content goes by DATA");
        }
        Habit::BreaksAhead => {
            deps.metrics.ahead_broken();
            tracing::warn!(%address, %site, for_s, "a session there broke while it had messages behind one another; each waits for the answer to the one before");
        }
        _ => {
            deps.metrics.pipelining_broken();
            tracing::warn!(%address, %site, for_s, certain = sign.is_certain, "answers to pipelined commands are missing or mixed there; commands go one by one");
        }
    }
    sign.is_certain
}

/// Tells of an attempt at an address that is followed by one at the next.
pub(super) fn tell_deferred<R, E: Events>(
    deps: &Deps<R, E>,
    current: &Current,
    message: &Message,
    results: &[RecipientResult],
    path: &Path,
    wire: &Wire,
) {
    let (ticket, timing, now, outcomes) = (&current.ticket, Timing::default(), deps.clock.wall(), &deps.outcomes);
    let attempt = Attempt { ticket, message, results, uncertain: &[], timing, now, outcomes };
    report::tell(&attempt, path, wire, &deps.metrics, |record| deps.events.write(record));
}
