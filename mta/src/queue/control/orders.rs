//! Takes orders and ends them. Pure. Floor 2.
//! Always: whenever the orders that last have changed, [`Act::Keep`] says what they are now.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;

use super::job::{Chore, Work};
use super::words::{By, Control, ControlId, ControlKind, Move, Refused, Scope, Target};
use crate::message::{EnhancedCode, Response};
use crate::queue::engine::{Engine, Timer};
use crate::queue::options::QueueOptions;
use crate::queue::rules::QueueRules;
use crate::queue::scheduled::Lead;
use crate::queue::words::Act;

/// Orders that may last at a time.
pub(super) const MAX_KEPT: usize = 1_000;
/// Our own words where an operator gave none.
const NO_REASON: &str = "cancelled by the operator";

impl Engine {
    /// Takes up the orders of an earlier run, before anything is queued. What has expired is left out.
    pub fn restore(&mut self, controls: Vec<Control>, now: UnixMs) {
        let (over, controls): (Vec<_>, Vec<_>) = controls.into_iter().partition(|control| control.expires <= now);
        for control in &over {
            self.controls.recoveries.begin(control, now);
        }
        for control in controls {
            self.controls.last_id = self.controls.last_id.max(control.id.0);
            self.set_timer(control.expires, Timer::Control);
            if control.kind == ControlKind::Bounce {
                self.begin(
                    control.id,
                    bounce(&control.reason, control.silent),
                    &control.scope,
                    Some(control.expires),
                    now,
                );
            }
            self.controls.kept.push(control);
        }
        self.controls.kept_changed();
    }

    /// What matches does not go out, for so long.
    pub fn suspend(
        &mut self,
        target: &Target,
        reason: String,
        lasts: Duration,
        now: UnixMs,
        acts: &mut Vec<Act>,
    ) -> Result<Control, Refused> {
        let scope = target.scope().clone();
        if let Some(source) = &scope.source {
            // An address may be found later.
            let known = self.is_source(source);
            known.or_else(|known| match source.parse::<IpAddr>() {
                Ok(_) => Ok(()),
                Err(_) => Err(Refused::UnknownSource(source.clone(), known)),
            })?;
        }
        let control = self.keep(ControlKind::Suspend, scope, reason, false, lasts, now, acts)?;
        self.withdraw(&control.scope);
        Ok(control)
    }

    /// What matches fails: once, or for so long also what comes. Returns the job's id.
    pub fn bounce(
        &mut self,
        target: &Target,
        reason: &str,
        silent: bool,
        lasts: Option<Duration>,
        now: UnixMs,
        acts: &mut Vec<Act>,
    ) -> Result<ControlId, Refused> {
        let scope = self.scope_of_queues(target, "bounce")?;
        let reason = if reason.trim().is_empty() { NO_REASON } else { reason };
        let (id, until) = match lasts {
            None => (self.controls.next_id(now), None),
            Some(_) if scope.site.is_some() => return Err(Refused::LastingSite),
            Some(lasts) => {
                let control =
                    self.keep(ControlKind::Bounce, scope.clone(), reason.to_owned(), silent, lasts, now, acts)?;
                (control.id, Some(control.expires))
            }
        };
        self.begin(id, bounce(reason, silent), &scope, until, now);
        Ok(id)
    }

    /// Moves what matches to another queue or pool. Attempts and due times stay as they are, unless it is
    /// to be due at once. Returns the job's id.
    pub fn rebind(&mut self, target: &Target, to: Move, now: UnixMs) -> Result<ControlId, Refused> {
        let scope = self.scope_of_queues(target, "rebind")?;
        if to.is_empty() {
            return Err(Refused::NoMove);
        }
        if let Some(pool) = to.pool.as_ref().filter(|pool| !self.pools.contains_key(*pool)) {
            let mut known: Vec<&str> = self.pools.keys().map(|name| &**name).collect();
            known.sort_unstable();
            return Err(Refused::UnknownPool(pool.clone(), known.join(", ")));
        }
        let id = self.controls.next_id(now);
        self.begin(id, Work::Rebind(to), &scope, None, now);
        Ok(id)
    }

    /// What matches is due now, its attempts unchanged; the DNS is asked again where it gave no answer.
    /// Returns the job's id.
    pub fn requeue(&mut self, target: &Target, now: UnixMs) -> Result<ControlId, Refused> {
        let scope = self.scope_of_queues(target, "requeue")?;
        let mut failed = Vec::new();
        for (key, queue) in &mut self.queues {
            if matches!(queue.lead, Lead::Failed(..)) && scope.fits_name(&queue.key.0) && scope.site.is_none() {
                queue.lead = Lead::Unknown;
                failed.push(key);
            }
        }
        let id = self.controls.next_id(now);
        self.begin(id, Work::Requeue, &scope, None, now);
        self.wake_queues(failed.into());
        Ok(id)
    }

    /// Ends one order that lasts.
    pub fn resume(&mut self, id: ControlId, now: UnixMs, acts: &mut Vec<Act>) -> Result<Control, Refused> {
        let ended = self.end_kept(|control| control.id == id, now, acts);
        ended.into_iter().next().ok_or(Refused::Unknown(id))
    }

    /// Ends every suspension within a scope.
    pub fn resume_all(&mut self, target: &Target, now: UnixMs, acts: &mut Vec<Act>) -> Result<Vec<Control>, Refused> {
        let scope = target.scope();
        let is_within = |control: &Control| control.kind == ControlKind::Suspend && scope.covers(&control.scope);
        let ended = self.end_kept(is_within, now, acts);
        if ended.is_empty() { Err(Refused::NothingSuspended(scope.clone())) } else { Ok(ended) }
    }

    /// Orders that last.
    pub fn controls(&self) -> &[Control] {
        &self.controls.kept
    }

    /// Ends the orders whose time is over.
    pub(in crate::queue) fn expire_controls(&mut self, now: UnixMs, acts: &mut Vec<Act>) {
        for control in self.end_kept(|control| control.expires <= now, now, acts) {
            self.controls.recoveries.begin(&control, now);
        }
    }

    /// Other options, which hold at once for all that is queued.
    pub fn set_options(&mut self, options: QueueOptions) {
        self.set_queues(options, self.rules.clone());
    }

    /// Other options, and other words about single queues; they hold at once for all that is queued.
    pub fn set_queues(&mut self, options: QueueOptions, rules: Arc<QueueRules>) {
        if options == self.options && (Arc::ptr_eq(&rules, &self.rules) || *rules == *self.rules) {
            return;
        }
        let before: Vec<_> = self.queues.keys().map(|key| (key, *self.options_of(key))).collect();
        (self.options, self.rules) = (options, rules);
        let mut changed = Vec::new();
        for (key, queue) in &mut self.queues {
            if queue.follow(&self.rules, &self.options) {
                // It may wait for a rate that is no more.
                queue.limited = None;
                changed.push(key);
            }
        }
        for key in changed {
            self.set_timer(UnixMs(0), Timer::Queue(key));
        }
        let changed = before.into_iter().filter(|(key, old)| self.options_of(*key) != old);
        let ages: HashMap<_, _> = changed.map(|(key, old)| (key, old.max_age)).collect();
        if !ages.is_empty() {
            let all = self.entries.iter().filter(|(_, entry)| ages.contains_key(&entry.queue));
            let all = all.map(|(key, _)| key).collect();
            self.add_chore(Chore::Retime(ages, all));
        }
    }

    fn scope_of_queues(&self, target: &Target, verb: &'static str) -> Result<Scope, Refused> {
        let scope = target.scope().clone();
        if scope.source.is_some() {
            return Err(Refused::Source(verb));
        }
        self.room_for_job()?;
        Ok(scope)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of the order")]
    fn keep(
        &mut self,
        kind: ControlKind,
        scope: Scope,
        reason: String,
        silent: bool,
        lasts: Duration,
        now: UnixMs,
        acts: &mut Vec<Act>,
    ) -> Result<Control, Refused> {
        let (id, expires, by) = (self.controls.next_id(now), now.plus(lasts), By::Operator);
        let control =
            Control { id, kind, scope, reason, silent, created: now, expires, by, setting: None, relapses: 0 };
        self.take_up(control, MAX_KEPT, acts)
    }

    /// One more order, if there are fewer than `most`.
    pub(super) fn take_up(&mut self, control: Control, most: usize, acts: &mut Vec<Act>) -> Result<Control, Refused> {
        if self.controls.kept.len() >= most {
            return Err(Refused::TooMany(format!("{most} controls")));
        }
        self.controls.kept.push(control.clone());
        self.kept_changed(control.expires, acts);
        Ok(control)
    }

    /// The orders that last have changed, and one of them may end at `expires`.
    pub(super) fn kept_changed(&mut self, expires: UnixMs, acts: &mut Vec<Act>) {
        self.controls.kept_changed();
        self.set_timer(expires, Timer::Control);
        acts.push(Act::Keep(self.controls.kept.clone()));
    }

    pub(super) fn end_kept(
        &mut self,
        ends: impl Fn(&Control) -> bool,
        now: UnixMs,
        acts: &mut Vec<Act>,
    ) -> Vec<Control> {
        let (ended, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.controls.kept).into_iter().partition(ends);
        self.controls.kept = kept;
        self.controls.kept_changed();
        if !ended.is_empty() {
            acts.push(Act::Keep(self.controls.kept.clone()));
        }
        for control in &ended {
            match control.kind {
                ControlKind::Suspend => self.release(&control.scope),
                ControlKind::Bounce => self.last_no_longer(control.id, now),
                ControlKind::Set => self.release(&Scope { source: None, site: None, ..control.scope.clone() }),
            }
        }
        ended
    }
}

pub(super) fn bounce(reason: &str, silent: bool) -> Work {
    let response = Response::own(554, EnhancedCode::new(5, 7, 0), reason);
    Work::Bounce { response: Arc::new(response), silent }
}
