//! Other limits and other routes, while mail waits. Pure. Floor 2.
//! Always: after other routes nothing waits for a session to a site that an older answer led to; schedules stay as they
//! are, and what a session carries is finished.

use egret_shared::clock::UnixMs;

use super::engine::{Engine, QueueKey, Timer};
use super::scheduled::Lead;
use crate::shaping::per_site::PerSite;

impl Engine {
    /// Other limits of sessions: more are opened at once where more may be; what is open is finished.
    pub fn set_connection_limits(&mut self, limits: PerSite<u32>) {
        for slot in self.sites.values_mut() {
            slot.limit = *limits.of(&slot.site.name) as usize;
        }
        self.connection_limits = limits;
        for key in self.ready.keys().collect::<Vec<_>>() {
            self.set_timer(UnixMs(0), Timer::Ready(key));
        }
    }

    /// Everything is led anew: what waits for a session goes back to its scheduled queue, which asks where it leads.
    /// An answer of before counts no more ([`Engine::lead_epoch`]).
    pub fn lead_anew(&mut self) {
        self.lead_epoch += 1;
        for key in self.ready.keys().collect::<Vec<_>>() {
            self.give_back(key);
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
