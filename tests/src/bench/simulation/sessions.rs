//! What sessions do in the simulation: begin, send, wait for a limit, give their places up. Floor 3.
//! As the queues of the MTA do it: who is refused waits for a time or to be woken, and nobody polls.

use std::rc::Rc;
use std::sync::Arc;

use egret_shared::limits::{Refusal, When};

use super::SECOND;
use super::fleet::{Event, Fleet};
use super::node::State;

/// A session with nothing to do stays open so long.
const IDLE: u64 = 5 * SECOND;
/// Before the first message of a session: connection, greeting, TLS.
const OPENING: u64 = SECOND / 2;
/// Who waits longer for a place of one path is sent from another source.
const LONG_WAIT: u64 = 5 * SECOND;

impl Fleet<'_> {
    /// Work may begin, or go on with its next message.
    pub(super) fn go(&mut self, node: usize, work: u64) {
        let now = self.instant();
        let Some(its) = &mut self.nodes[node] else { return };
        let Some(found) = its.work.get_mut(&work) else { return };
        found.step += 1;
        let (path, is_open) = (found.path.clone(), found.state != State::Waiting);
        let purse = &mut its.purse;
        let taken = self.tally.decision(|| {
            purse.take(&path.rates, now)?;
            if is_open {
                return Ok(());
            }
            // Places come last, as the queues have it.
            purse.hold(&path.places, now).inspect_err(|_| purse.give_back(&path.rates, now))
        });
        match taken {
            Ok(()) => {
                its.pausing.retain(|pausing| *pausing != work);
                self.sends(node, work, is_open);
            }
            Err(refusal) => self.refused(node, work, is_open, refusal),
        }
    }

    /// A message goes; it is seen by the destination now.
    fn sends(&mut self, node: usize, work: u64, is_open: bool) {
        let now = self.now;
        let Some(its) = &mut self.nodes[node] else { return };
        let Some(found) = its.work.get_mut(&work) else { return };
        (found.state, found.since) = (State::Sending, None);
        let (life, step, path) = (its.life, found.step, found.path.clone());
        let mut took = self.world.each(path.site);
        if !is_open {
            path.place_ids.iter().for_each(|id| self.check.held(*id, now));
            took += OPENING;
            self.tally.sessions += 1;
        }
        path.rate_ids.iter().for_each(|id| self.check.sent(*id, node, now));
        path.place_ids.iter().for_each(|id| self.check.sent_under(*id, node, now));
        self.tally.messages += 1;
        if path.site < self.world.saturated.len() {
            self.tally.saturated += 1;
        }
        // Neither destinations nor networks are always equally fast.
        let took = took / 2 + self.chance.between(0, took);
        self.at(now + took, Event::Sent(node, life, work, step));
    }

    fn refused(&mut self, node: usize, work: u64, is_open: bool, refusal: Refusal) {
        let (now, start) = (self.now, self.instant());
        let wait = |when| match when {
            When::At(at) => {
                Some(u64::try_from(at.saturating_duration_since(start).as_micros()).unwrap_or(u64::MAX) + 1)
            }
            When::Woken => None,
        };
        let wait = wait(refusal.when);
        if is_open && wait.is_some_and(|wait| wait > IDLE) {
            self.close(node, work);
        }
        let Some(its) = &mut self.nodes[node] else { return };
        let Some(found) = its.work.get_mut(&work) else { return };
        if found.state != State::Waiting {
            found.state = State::Pausing;
            if !its.pausing.contains(&work) {
                its.pausing.push(work);
            }
        }
        let (life, step) = (its.life, found.step);
        match wait {
            Some(wait) => self.at(now.saturating_add(wait), Event::Go(node, life, work, step)),
            None => {
                let waits_long = now - *found.since.get_or_insert(now) >= LONG_WAIT;
                let is_own = found.path.places.first().is_some_and(|(own, _)| *own == refusal.name);
                its.waiting.entry(refusal.name).or_default().push_back(work);
                if waits_long && is_own {
                    self.waited_long(node, work);
                } else {
                    self.at(now + LONG_WAIT, Event::Long(node, life, work, step));
                }
            }
        }
    }

    /// Work that waits for a place of its path, where other paths may have one, goes by the next source.
    pub(super) fn waited_long(&mut self, node: usize, work: u64) {
        let sources = self.setup.sources;
        let Some(its) = &mut self.nodes[node] else { return };
        let Some(found) = its.work.get_mut(&work) else { return };
        let source = (its.source + 1) % sources;
        let (path, before) = (self.world.path(found.path.site, source), found.path.clone());
        self.check.learn(&self.world.limits);
        let (Some((own, _)), false) = (before.places.first(), Rc::ptr_eq(&path, &before)) else { return };
        let Some(line) = its.waiting.get_mut(own) else { return };
        let Some(at) = line.iter().position(|other| *other == work) else { return };
        line.remove(at);
        if line.is_empty() {
            its.waiting.remove(own);
            its.purse.wait_no_more(own);
        }
        its.source = source;
        (found.path, found.since) = (path, Some(self.now));
        self.go(node, work);
    }

    /// A message is sent.
    pub(super) fn sent(&mut self, node: usize, work: u64) {
        let Some(its) = &mut self.nodes[node] else { return };
        let Some(found) = its.work.get_mut(&work) else { return };
        found.left -= 1;
        let path = found.path.clone();
        let is_done = found.left == 0;
        if is_done || path.places.iter().any(|(name, _)| its.purse.yields(name)) {
            self.close(node, work);
        }
        if !is_done {
            return self.go(node, work);
        }
        if let Some(its) = &mut self.nodes[node] {
            its.work.remove(&work);
        }
        if path.site < self.world.saturated.len() {
            self.bring(node, path.site);
        }
    }

    /// A session ends; what it has not sent waits.
    fn close(&mut self, node: usize, work: u64) {
        let Some(its) = &mut self.nodes[node] else { return };
        let Some(found) = its.work.get_mut(&work).filter(|found| found.state != State::Waiting) else { return };
        (found.state, found.step) = (State::Waiting, found.step + 1);
        let path = found.path.clone();
        its.pausing.retain(|pausing| *pausing != work);
        path.places.iter().for_each(|(name, count)| its.purse.release(name, count.local));
        path.place_ids.iter().for_each(|id| self.check.freed(*id, self.now));
    }

    /// Sessions that wait for a time give up places that others should have, one for each of these names.
    pub(super) fn close_in_surplus<'n>(&mut self, node: usize, names: impl IntoIterator<Item = &'n Arc<str>>) {
        for name in names {
            let Some(its) = &mut self.nodes[node] else { return };
            if !its.purse.yields(name) {
                continue;
            }
            let takes = |work: &&u64| {
                its.work.get(work).is_some_and(|work| work.path.places.iter().any(|(place, _)| place == name))
            };
            let Some(work) = its.pausing.iter().find(takes).copied() else { continue };
            self.close(node, work);
            self.go(node, work);
        }
    }

    /// Who was refused and may have room now tries again: the first of each line, and so on.
    pub(super) fn wake(&mut self, node: usize) {
        loop {
            let Some(its) = &mut self.nodes[node] else { return };
            let mut names = its.purse.woken();
            if names.is_empty() {
                return;
            }
            names.sort_unstable();
            for name in &names {
                self.wake_line(node, name);
            }
            self.close_in_surplus(node, &names);
        }
    }

    fn wake_line(&mut self, node: usize, name: &Arc<str>) {
        loop {
            let Some(its) = &mut self.nodes[node] else { return };
            let Some(line) = its.waiting.get_mut(name) else { return };
            let Some(work) = line.pop_front() else {
                its.waiting.remove(name);
                return;
            };
            self.go(node, work);
            let Some(its) = &mut self.nodes[node] else { return };
            // Who waits again is the first once more.
            if let Some(line) = its.waiting.get_mut(name)
                && line.back() == Some(&work)
            {
                line.pop_back();
                line.push_front(work);
                return;
            }
        }
    }
}
