//! Other limits and other routes, while mail waits. Pure. Floor 2.
//! Always: after other routes nothing waits for a session to a site that an older answer led to; schedules stay as they
//! are, and what a session carries is finished.

use egret_shared::clock::UnixMs;
use egret_shared::fault::Party;

use super::engine::{Engine, QueueKey, ReadyKey, Timer};
use super::ready::Ready;
use super::scheduled::Lead;

impl Engine {
    /// What limits paths is other than before: it holds at once, and what is open is finished.
    pub fn paths_changed(&mut self) {
        let path = |(key, ready): (ReadyKey, &Ready)| {
            Some((key, self.budget_of(&ready.source.name, &self.sites.get(ready.site)?.site)))
        };
        let budgets: Vec<_> = self.ready.iter().filter_map(path).collect();
        for (key, budget) in budgets {
            let ready = &mut self.ready[key];
            ready.budget = budget;
            ready.unchosen = None;
            // It waited for what may be no more.
            if ready.limited.take().is_some() && ready.party == Some(Party::Limit) {
                (ready.held_until, ready.party, ready.why) = (UnixMs(0), None, None);
            }
            let site = ready.site;
            self.set_timer(UnixMs(0), Timer::Ready(key));
            self.set_timer(UnixMs(0), Timer::Site(site));
        }
    }

    /// Everything is led anew: what waits for a session goes back to its scheduled queue, which asks where it leads.
    /// An answer of before counts no more ([`Engine::lead_epoch`]).
    pub fn lead_anew(&mut self, now: UnixMs) {
        self.lead_epoch += 1;
        for key in self.ready.keys().collect::<Vec<_>>() {
            self.give_back(key, now);
        }
        for slot in self.sites.values_mut() {
            for queue in slot.wanting.take_out(|_| true) {
                self.queues[queue].wants_room = false;
            }
        }
        for key in self.sites.keys().collect::<Vec<_>>() {
            self.set_timer(UnixMs(0), Timer::Site(key));
        }
        for queue in self.queues.values_mut().filter(|queue| !matches!(queue.lead, Lead::Asked)) {
            queue.lead = Lead::Unknown;
        }
        // Those without mail are forgotten.
        let queues: Vec<QueueKey> = self.queues.keys().collect();
        self.wake_queues(queues.into());
    }

    /// Grows with each [`Engine::lead_anew`]: an answer to a question of an earlier one is asked for again.
    pub fn lead_epoch(&self) -> u64 {
        self.lead_epoch
    }
}
