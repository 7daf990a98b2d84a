//! Takes the orders of automation. Pure. Floor 2.
//! Always: for one scope there is one such order of a kind: what fires again makes it last longer; some room is left
//! for an operator's.

use egret_shared::clock::UnixMs;

use super::orders::{MAX_KEPT, bounce};
use super::words::{By, Control, ControlKind, Order, Refused, Taken};
use crate::queue::engine::Engine;
use crate::queue::words::Act;
use crate::shaping::automation::recovery::longer;

/// Orders that may last when one of automation is taken.
const MAX_AUTOMATIC: usize = MAX_KEPT - 100;

impl Engine {
    /// Does what a rule wants done.
    ///
    /// # Errors
    /// There are too many orders.
    pub fn automatic(&mut self, order: Order, now: UnixMs, acts: &mut Vec<Act>) -> Result<Taken, Refused> {
        if let Some(at) = self.controls.kept.iter().position(|control| is_like(control, &order)) {
            return Ok(self.prolong(at, &order, now, acts));
        }
        let relapses = match order.kind {
            ControlKind::Suspend => self.controls.recoveries.relapses(&order.scope, now),
            ControlKind::Bounce | ControlKind::Set => None,
        };
        if order.is_weak && relapses.is_none() {
            return Ok(Taken::Ignored);
        }
        let relapses = relapses.unwrap_or(0);
        let Order { kind, scope, setting, reason, lasts, is_weak: _ } = order;
        let control = Control {
            id: self.controls.next_id(now),
            kind,
            scope,
            reason,
            silent: false,
            created: now,
            expires: now.plus(longer(lasts, relapses)),
            by: By::Automation,
            setting,
            relapses,
        };
        self.place(control, now, acts).map(Taken::New)
    }

    /// Takes up what another node has given: an order, or more time for one.
    ///
    /// # Errors
    /// There are too many orders.
    pub fn adopt(&mut self, control: Control, now: UnixMs, acts: &mut Vec<Act>) -> Result<(), Refused> {
        if control.expires <= now {
            return Ok(());
        }
        let Some(own) = self.controls.kept.iter_mut().find(|own| own.is_like(&control)) else {
            let id = self.controls.next_id(now);
            return self.place(Control { id, ..control }, now, acts).map(drop);
        };
        if own.expires < control.expires {
            (own.expires, own.relapses) = (control.expires, own.relapses.max(control.relapses));
            let (id, expires) = (own.id, own.expires);
            self.last_longer(id, expires);
            self.kept_changed(expires, acts);
        }
        Ok(())
    }

    /// Ends what another node has ended.
    pub fn end_like(&mut self, control: &Control, now: UnixMs, acts: &mut Vec<Act>) {
        self.end_kept(|own| own.is_like(control), now, acts);
    }

    fn place(&mut self, control: Control, now: UnixMs, acts: &mut Vec<Act>) -> Result<Control, Refused> {
        if control.kind == ControlKind::Bounce {
            self.room_for_job()?;
        }
        let control = self.take_up(control, MAX_AUTOMATIC, acts)?;
        match control.kind {
            ControlKind::Suspend => {
                self.controls.recoveries.forget(&control.scope);
                self.withdraw(&control.scope);
            }
            ControlKind::Bounce => {
                let work = bounce(&control.reason, control.silent);
                self.begin(control.id, work, &control.scope, Some(control.expires), now);
            }
            ControlKind::Set => {}
        }
        Ok(control)
    }

    fn prolong(&mut self, at: usize, order: &Order, now: UnixMs, acts: &mut Vec<Act>) -> Taken {
        let control = &mut self.controls.kept[at];
        let expires = now.plus(longer(order.lasts, control.relapses));
        if order.is_weak || expires <= control.expires {
            return Taken::Ignored;
        }
        control.expires = expires;
        let control = control.clone();
        if control.kind == ControlKind::Bounce {
            self.last_longer(control.id, expires);
        }
        self.kept_changed(expires, acts);
        Taken::Prolonged(control)
    }
}

fn is_like(control: &Control, order: &Order) -> bool {
    control.by == By::Automation
        && (control.kind, &control.scope, &control.setting) == (order.kind, &order.scope, &order.setting)
}
