//! On which days the warm-up of found addresses begins: asked of the other nodes by Redis, and kept over a restart.
//! Floor 6.
//! Always: an address whose day the fleet knows has that day; while nobody can be asked it begins today, as far as this
//! node knows; nothing is asked where no pool wants it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egret_shared::clock::Clock;
use egret_shared::registry::agree::{Agreement, Disagreement};
use egret_shared::registry::first_days::{Day, FirstDays};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::fleet::Fleet;
use super::reload::{Defined, Reloader};
use crate::elsewhere::kept;
use crate::routing::warmup::{date, day_of};

/// How often it is asked whether others know better.
const ASK: Duration = Duration::from_secs(2);
/// How often everything is told again: what Redis may have lost, and that the addresses are still there.
const TELL: Duration = Duration::from_secs(6 * 3_600);

/// Addresses that are named in the log at once.
const MAX_NAMED: usize = 20;

/// Follows the first days.
pub(super) struct Warming {
    pub fleet: Fleet,
    pub reloader: Reloader,
    pub clock: Clock,
    /// Where the days are kept.
    pub directory: PathBuf,
    pub agreement: Agreement,
    pub seen: Looked,
}

/// What was seen by the last look.
#[derive(Default)]
pub(super) struct Looked {
    defined: Option<Arc<Defined>>,
    proxies: u64,
    day: Day,
    asked: Option<Instant>,
    told: Option<Instant>,
    /// Why nobody agrees, as it was told.
    why: Option<String>,
}

impl Warming {
    /// Takes what was kept for known.
    pub fn remember(&self) {
        let (mut days, today) = (kept::read_first_days(&self.directory), day_of(self.clock.wall()));
        days.resume(today);
        self.fleet.first_days(|known| *known = days);
    }

    /// Looks at which addresses are there, and asks about those whose days are not known, if Redis `is_there`. Returns
    /// whether any day is another one.
    pub async fn look(&mut self, is_there: bool) -> bool {
        let today = day_of(self.clock.wall());
        self.see(today);
        if self.fleet.first_days(|days| days.is_empty()) {
            return false;
        }
        let done = if is_there { self.ask(today).await } else { Ok(()) };
        if !is_there {
            // Behind it may be another Redis, or one that has lost what was said last.
            self.agreement.forget();
        }
        self.tell_why(done.as_ref().err());
        if self.fleet.first_days(FirstDays::suppose) > 0 {
            warn!(
                day = date(today),
                "nobody can be asked since when addresses are known; as far as this node knows their warm-up begins today"
            );
        }
        self.keep().await;
        self.fleet.first_days(FirstDays::take_news)
    }

    /// Which addresses are there today.
    fn see(&mut self, today: Day) {
        let (defined, proxies) = (self.reloader.defined(), self.fleet.changes());
        let is_same = self.seen.defined.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &defined));
        if is_same && self.seen.proxies == proxies && self.seen.day == today {
            return;
        }
        let there = self.fleet.discovered(&defined).dated;
        self.fleet.first_days(|days| days.see(&there, today));
        (self.seen.defined, self.seen.proxies, self.seen.day) = (Some(defined), proxies, today);
    }

    async fn ask(&mut self, today: Day) -> Result<(), Disagreement> {
        let is_due = |last: Option<Instant>, pause| last.is_none_or(|last| self.clock.now() >= last + pause);
        let (may_ask, must_tell) = (is_due(self.seen.asked, ASK), is_due(self.seen.told, TELL));
        // What is open is asked at once, but not again and again of somebody who does not answer.
        let is_urgent = self.seen.why.is_none() && self.fleet.first_days(|days| !days.open().is_empty());
        if !may_ask && !is_urgent {
            return Ok(());
        }
        self.seen.asked = Some(self.clock.now());
        let is_all = must_tell || self.agreement.is_stale().await?;
        let questions = self.fleet.first_days(|days| if is_all { days.all() } else { days.open() });
        let agreed = self.agreement.ask(&questions, is_all, today).await?;
        let learn = |days: &mut FirstDays| {
            let news: Vec<_> = agreed.into_iter().filter(|(address, first)| days.agree(*address, *first)).collect();
            tell(&news);
        };
        self.fleet.first_days(learn);
        if is_all {
            self.seen.told = Some(self.clock.now());
        }
        Ok(())
    }

    /// Says once why nobody agrees.
    fn tell_why(&mut self, why: Option<&Disagreement>) {
        let why = why.map(ToString::to_string);
        if let Some(why) = why.as_ref().filter(|why| self.seen.why.as_ref() != Some(*why)) {
            warn!(%why, "the fleet does not agree on which days addresses were there first");
        }
        self.seen.why = why;
    }

    async fn keep(&self) {
        if !self.fleet.first_days(FirstDays::take_unkept) {
            return;
        }
        let (directory, text) = (self.directory.clone(), self.fleet.first_days(|days| days.write()));
        let done = spawn_blocking(move || kept::write_first_days(&directory, &text)).await;
        if let Ok(Err(why)) = done {
            warn!(%why, "on which days addresses were there first is not kept for a start without Redis");
        }
    }
}

fn tell(news: &[(IpAddr, Day)]) {
    for (address, first) in news.iter().take(MAX_NAMED) {
        info!(%address, day = date(*first), "the warm-up of this address began on this day");
    }
    if news.len() > MAX_NAMED {
        info!(
            more = news.len() - MAX_NAMED,
            "so did that of others, each on a day of its own; egret-mta fleet shows them"
        );
    }
}
