//! Looks at what destinations say, counts, and gives orders. Floor 2.
//! Always: what fired is in force before the session that heard the answer goes on; a rule that fires with every
//! answer gives no more than one order a second for one scope.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use egret_shared::clock::UnixMs;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::reason;
use super::rule::{Action, Setting, Trigger};
use super::set::{Place, Rules, Scoped};
use super::store::{Doing, Store};
use crate::message::{QueueName, RecipientResult, Verdict};
use crate::queue::control::words::{Control, ControlKind, Order, Scope, Taken};

/// Between two orders for the same scope.
const PAUSE: Duration = Duration::from_secs(1);
/// What was ordered of late and is remembered for that; beyond, all is forgotten, which costs a few orders.
const MAX_REMEMBERED: usize = 10_000;
/// What is kept of an answer in the reason of an order, in characters.
const SAID_CHARS: usize = 200;

/// What became of an order.
pub type Given = Result<Taken, String>;

/// Who carries orders out.
pub trait Orders: Send + Sync {
    /// Returns when the order is in force; the error is for people.
    fn give(&self, order: Order) -> Doing<'_, Given>;
}

/// An answer that fits a rule.
#[derive(Clone, Debug)]
pub struct Hit {
    scoped: Arc<Scoped>,
    pattern: String,
    /// Which of the results it was.
    pub result: usize,
    line: String,
}

/// A rule that has fired, and the order that is in force by it.
#[derive(Clone, Debug)]
pub struct Fired {
    /// Where the rule stands.
    pub rule: String,
    /// What it did.
    pub action: String,
    /// The order.
    pub control: Control,
    /// Which of the results it was.
    pub result: usize,
}

/// Watches answers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Automation {
    rules: Rules,
    by: Option<Arc<By>>,
}

struct By {
    store: Arc<dyn Store>,
    orders: Arc<dyn Orders>,
    asked: Mutex<HashMap<String, UnixMs>>,
    fired: Vec<Counter>,
}

impl Automation {
    /// By these rules. Make it after the recorder of metrics is installed.
    pub fn new(rules: Rules, store: Arc<dyn Store>, orders: Arc<dyn Orders>) -> Self {
        let fired = Action::NAMES.map(|name| counter!("egret_mta_automation_fired_total", "action" => name));
        let by = By { store, orders, asked: Mutex::default(), fired: fired.into() };
        Self { rules, by: Some(Arc::new(by)) }
    }

    /// The results that fit rules, each rule once: those that say the same in several places are one.
    pub fn look(&self, results: &[RecipientResult], place: &Place<'_>) -> Vec<Hit> {
        let mut hits: Vec<Hit> = Vec::new();
        if self.rules.is_empty() {
            return hits;
        }
        let rules = self.rules.load();
        for (at, result) in results.iter().enumerate().filter(|(_, result)| result.verdict != Verdict::Delivered) {
            if results[..at].iter().any(|before| before.response == result.response) {
                continue;
            }
            let (line, is_internal) = (result.response.to_string(), result.response.command.is_none());
            for (scoped, pattern) in rules.found(&line, is_internal, place) {
                if !hits.iter().any(|hit| hit.scoped.key == scoped.key) {
                    let (scoped, pattern) = (scoped.clone(), pattern.to_owned());
                    hits.push(Hit { scoped, pattern, result: at, line: line.clone() });
                }
            }
        }
        hits
    }

    /// Counts hits at `now`, and has done what is to be done. Returns what is newly in force.
    pub async fn fire(&self, hits: Vec<Hit>, place: &Place<'_>, queue: &QueueName, now: UnixMs) -> Vec<Fired> {
        let (mut fired, Some(by)) = (Vec::new(), &self.by) else { return Vec::new() };
        for hit in hits {
            for action in &hit.scoped.rule.actions {
                if let Some((control, is_new)) = by.act(&hit, action, place, queue, now).await
                    && is_new
                {
                    let rule = hit.scoped.rule.at.clone();
                    fired.push(Fired { rule, action: action.to_string(), control, result: hit.result });
                }
            }
        }
        fired
    }
}

impl By {
    /// Counts for one action, and gives the order if it is time. Returns what is in force then, and whether it is new.
    async fn act(
        &self,
        hit: &Hit,
        action: &Action,
        place: &Place<'_>,
        queue: &QueueName,
        now: UnixMs,
    ) -> Option<(Control, bool)> {
        let rule = &hit.scoped.rule;
        let Some((kind, scope, setting)) = means(action, place, queue) else {
            self.tell_nobody(hit, action, queue, now);
            return None;
        };
        let key = counts_as(hit, action, &scope);
        let is_reached = match rule.trigger {
            Trigger::Immediate => true,
            Trigger::Threshold(rate) => self.store.count(&key, rate.period, rate.count, now).await >= rate.count,
        };
        // A path on its way back from a suspension needs no more than one.
        let is_weak = !is_reached;
        if is_weak && !matches!(action, Action::Suspend) || !self.may_ask(format!("{key} {is_weak}"), now) {
            return None;
        }
        let said: String = hit.line.chars().take(SAID_CHARS).collect();
        let reason = reason::write(&rule.at, &hit.pattern, &said);
        let order = Order { kind, scope, setting, reason, lasts: rule.duration, is_weak };
        match self.orders.give(order).await {
            Ok(Taken::New(control)) => {
                self.fired[action.place()].increment(1);
                info!(
                    rule = %rule.at, %action, control = %control.id, scope = %control.scope, answer = %said,
                    lasts_s = control.expires.since(now).as_secs(), "automation"
                );
                Some((control, true))
            }
            Ok(Taken::Prolonged(control)) => {
                debug!(rule = %rule.at, control = %control.id, scope = %control.scope, "automation: lasts longer");
                Some((control, false))
            }
            Ok(Taken::Ignored) => None,
            Err(error) => {
                warn!(rule = %rule.at, %action, %error, "what a rule wants cannot be done");
                None
            }
        }
    }

    fn may_ask(&self, key: String, now: UnixMs) -> bool {
        let mut asked = self.asked.lock();
        if asked.len() >= MAX_REMEMBERED {
            asked.clear();
        }
        let may = asked.get(&key).is_none_or(|last| last.plus(PAUSE) <= now);
        if may {
            asked.insert(key, now);
        }
        may
    }

    /// A rule is about tenants, and mail without one fits it: that is told once for each rule.
    fn tell_nobody(&self, hit: &Hit, action: &Action, queue: &QueueName, now: UnixMs) {
        let key = format!("{} {} nobody", hit.scoped.key, action.place());
        if self.asked.lock().insert(key, now).is_none() {
            warn!(rule = %hit.scoped.rule.at, %action, %queue, "a rule about tenants does nothing for mail without one");
        }
    }
}

/// Under which name it is counted: one for each action of a rule, so that an answer counts once for it.
fn counts_as(hit: &Hit, action: &Action, scope: &Scope) -> String {
    let key = format!("{} {} {scope}", hit.scoped.key, action.place());
    match action {
        Action::SetConfig(setting) | Action::SetDomainConfig(setting) => format!("{key} {}", setting.name),
        _ => key,
    }
}

/// What an action means for mail of `queue` on a path; nothing if it is about a tenant and there is none.
fn means(action: &Action, place: &Place<'_>, queue: &QueueName) -> Option<(ControlKind, Scope, Option<Setting>)> {
    let path = || Scope { source: Some(place.source.into()), site: Some(place.site.into()), ..Scope::default() };
    let domain = || Scope {
        domain: Some(queue.domain().into()),
        // Mail that is led elsewhere got no such answer.
        routing: Some(queue.routing().unwrap_or_default().into()),
        ..Scope::default()
    };
    let tenant = || Some(Scope { tenant: Some(queue.tenant()?.into()), ..domain() });
    let campaign = || match queue.campaign() {
        Some(campaign) => {
            let tenant = Some(queue.tenant().unwrap_or_default().into());
            Some(Scope { campaign: Some(campaign.into()), tenant, ..domain() })
        }
        None => tenant(),
    };
    let (suspend, bounce, set) = (ControlKind::Suspend, ControlKind::Bounce, ControlKind::Set);
    Some(match action {
        Action::Suspend => (suspend, path(), None),
        Action::SuspendTenant => (suspend, tenant()?, None),
        Action::SuspendCampaign => (suspend, campaign()?, None),
        Action::Bounce => (bounce, domain(), None),
        Action::BounceTenant => (bounce, tenant()?, None),
        Action::BounceCampaign => (bounce, campaign()?, None),
        Action::SetConfig(setting) => (set, path(), Some(setting.clone())),
        Action::SetDomainConfig(setting) => {
            let scope =
                Scope { source: Some(place.source.into()), domain: Some(queue.domain().into()), ..Scope::default() };
            (set, scope, Some(setting.clone()))
        }
    })
}

#[cfg(test)]
mod tests;
