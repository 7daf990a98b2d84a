//! Runs the simulation, and says what came of it. Floor 4.

use std::time::Instant;

use egret_shared::limits::Rate;

use super::super::{Figures, Goal};
use super::check::{Check, Seen, WINDOWS, evenness};
use super::fleet::Fleet;
use super::hours::Hours;
use super::plan::Plan;
use super::store::{Asked, Cost};
use super::tally::Tally;
use super::world::{Limit, Tight};
use super::{SECOND, Setup};

/// The part of a saturated limit that should be used in calm times.
const USED: f64 = 0.95;
/// How evenly nodes with the same work should have their shares.
const EVEN: f64 = 0.95;
/// What every node should have of its share in every hour of the day.
const LEAST: f64 = 0.5;

/// Simulates a day with a store; figures beside their goals.
///
/// # Errors
/// The store does not answer.
pub fn simulate(setup: &Setup, store: &mut dyn Asked) -> anyhow::Result<Figures> {
    anyhow::ensure!(setup.sites > 10 && setup.nodes > 2, "a fleet has more than 2 nodes and 10 sites");
    let plan = Plan::new(setup);
    let (started, before) = (Instant::now(), store.cost()?);
    let mut fleet = Fleet::new(setup, &plan, store)?;
    let total = plan.faults.len();
    let mut hours = Hours::new(&fleet.world.tight, &plan.untouched);
    fleet.run(&mut |at, tally, check| tell_hour(at, tally, check, &hours.ends(check, at), started))?;
    let mut figures = Figures::new(format!(
        "{} nodes, {} sources, {} sites, {:.1} million messages a day beside saturated sites, {} s, {total} faults",
        setup.nodes,
        setup.sources,
        setup.sites,
        setup.messages / 1e6,
        setup.day.as_secs()
    ));
    judge_all(&fleet, &mut figures);
    for at in 0..fleet.world.saturated.len() {
        judge_saturated(&fleet, &plan, at, &mut figures);
        judge_hours(&fleet, &hours, at, &mut figures);
    }
    let (tally, seconds) = (fleet.tally.clone(), setup.day.as_secs_f64());
    tell_asked(&tally, seconds, &mut figures);
    if let (Some(before), Some(after)) = (before, fleet.store.cost()?) {
        tell_cost(&tally, &before, &after, seconds, &mut figures);
    }
    figures.tell("real seconds", started.elapsed().as_secs_f64());
    Ok(figures)
}

/// A part of the day has ended.
fn tell_hour(at: u64, tally: &Tally, check: &Check, least: &[Option<f64>], started: Instant) {
    let Tally { messages, asked, .. } = tally;
    let [places, sent] = [true, false].map(|is_count| check.worst(is_count).map_or(0.0, |(_, seen)| seen.beyond));
    let least: Vec<_> = least.iter().map(|least| least.map_or("-".to_owned(), |least| format!("{least:.2}"))).collect();
    eprintln!(
        "{} s: {messages} messages, {} questions; beyond a limit in calm times: {places:.0} places, {sent:.1} messages; \
         smallest shares {}; {:.0?}",
        at / SECOND,
        asked.all(),
        least.join(" "),
        started.elapsed()
    );
}

/// The worst hour of a node.
fn judge_hours(fleet: &Fleet<'_>, hours: &Hours, at: usize, figures: &mut Figures) {
    let title = fleet.world.saturated[at].title;
    if let Some((least, when)) = hours.least(at) {
        let hour = fleet.setup.day.as_secs() / 24;
        let what = format!("{title}: smallest share in any {hour} s, of the mean (until {} s)", when / SECOND);
        figures.judge(what, least, Goal::AtLeast(LEAST));
    }
}

/// What limits and what they are called.
fn name(limit: &Limit) -> &str {
    let (Limit::Count(name, _) | Limit::Rate(name, _)) = limit;
    name
}

/// What all nodes may have at hand beyond rate and burst: a quarter of the burst or of a second, one each at least.
fn at_hand(rate: &Rate, nodes: usize) -> f64 {
    let second = rate.count as f64 / rate.period.as_secs_f64();
    (second.max(rate.burst as f64) / 4.0).max(nodes as f64)
}

fn judge_all(fleet: &Fleet<'_>, figures: &mut Figures) {
    figures.tell("limits in use", fleet.world.limits.len() as f64);
    if let Some((id, seen)) = fleet.check.worst(true) {
        let what =
            format!("places beyond a limit, most ({}, at {} s)", name(&fleet.world.limits[id]), seen.when / SECOND);
        figures.judge(what, seen.beyond.max(0.0), Goal::AtMost(0.0));
    }
    let mut worst: Option<(f64, usize, &Seen)> = None;
    for (id, limit) in fleet.world.limits.iter().enumerate() {
        let Limit::Rate(_, rate) = limit else { continue };
        let seen = fleet.check.seen(id);
        let part = seen.beyond / at_hand(rate, fleet.setup.nodes);
        if worst.is_none_or(|(most, ..)| part > most) {
            worst = Some((part, id, seen));
        }
    }
    if let Some((part, id, seen)) = worst {
        let what = name(&fleet.world.limits[id]);
        let what = format!("of what may be at hand beyond rate and burst, most ({what}, at {} s)", seen.when / SECOND);
        figures.judge(what, part.max(0.0), Goal::AtMost(1.0));
    }
}

fn judge_saturated(fleet: &Fleet<'_>, plan: &Plan, at: usize, figures: &mut Figures) {
    let (id, saturated) = (fleet.world.tight[at], &fleet.world.saturated[at]);
    let (seen, title) = (fleet.check.seen(id), saturated.title);
    let calm = fleet.check.calm(fleet.now) as f64 / SECOND as f64;
    let used = match &saturated.tight {
        Tight::Rate(rate) => {
            let most = rate.count as f64 / rate.period.as_secs_f64();
            for (width, sent) in WINDOWS.iter().zip(seen.windows) {
                let allowed = most * *width as f64 + rate.burst as f64;
                figures.tell(format!("{title}: most in {width} s, of {allowed} (rate and burst)"), sent as f64);
            }
            figures.judge(
                format!("{title}: most beyond rate and burst in any window"),
                seen.beyond.max(0.0),
                Goal::AtMost(at_hand(rate, fleet.setup.nodes)),
            );
            seen.used / (most * calm)
        }
        Tight::Count(places) => {
            figures.judge(
                format!("{title}: most held beyond {places} places"),
                seen.beyond.max(0.0),
                Goal::AtMost(0.0),
            );
            seen.used / SECOND as f64 / (f64::from(*places) * calm)
        }
    };
    for (fault, beyond) in &seen.beyond_in_faults {
        figures.tell(format!("{title}: most beyond after: {fault}"), *beyond);
    }
    figures.judge(format!("{title}: part that was used"), used, Goal::AtLeast(USED));
    let shares: Vec<u64> = plan.untouched.iter().map(|node| seen.by_node[*node]).collect();
    let (least, most) = (shares.iter().min().copied().unwrap_or(0), shares.iter().max().copied().unwrap_or(0));
    let mean = shares.iter().sum::<u64>() as f64 / shares.len().max(1) as f64;
    figures.judge(format!("{title}: how even the shares are (Jain)"), evenness(&shares), Goal::AtLeast(EVEN));
    figures.tell(format!("{title}: smallest share, of the mean {mean:.0}"), least as f64 / mean);
    figures.tell(format!("{title}: largest share, of the mean"), most as f64 / mean);
    let (longest, node, when) = seen.longest;
    let what = format!("{title}: longest without a message, s (node {node}, until {} s)", when / SECOND);
    figures.tell(what, longest as f64 / SECOND as f64);
}

fn tell_asked(tally: &Tally, seconds: f64, figures: &mut Figures) {
    let (asked, messages) = (&tally.asked, tally.messages as f64);
    figures.tell("messages", messages);
    figures.tell("messages of saturated sites", tally.saturated as f64);
    figures.tell("sessions", tally.sessions as f64);
    let kinds = [
        ("that nodes live", asked.live),
        ("of places", asked.count),
        ("of times of rates", asked.rate),
        ("of times that go back", asked.back),
        ("of other kinds", asked.other),
        ("in all", asked.all()),
    ];
    for (kind, number) in kinds {
        figures.tell(format!("questions {kind}, a second"), number as f64 / seconds);
        figures.tell(format!("questions {kind}, a message"), number as f64 / messages);
    }
    figures.tell("questions in the busiest second", tally.peak as f64);
    figures.tell("round trips a second", tally.exchanges as f64 / seconds);
    figures.tell("times that a node began to go by its share", tally.went_by_share as f64);
    figures.tell("a decision of a purse, µs", tally.decisions.mean());
    figures.tell("a beat of a purse, µs", tally.ticks.mean());
    figures.tell("to say what to ask, µs", tally.says.mean());
}

fn tell_cost(tally: &Tally, before: &Cost, after: &Cost, seconds: f64, figures: &mut Figures) {
    let (cpu, all) = (after.cpu - before.cpu, tally.asked.all() as f64);
    figures.tell("Redis: CPU of a question, µs", cpu * 1e6 / all);
    figures.tell("Redis: part of one core that it would use", cpu / seconds);
    figures.tell("Redis: bytes of a question and its answer", (after.bytes - before.bytes) as f64 / all);
    figures.tell("Redis: keys at the end", after.keys as f64);
    figures.tell("Redis: memory at the end, MB", after.memory.saturating_sub(before.memory) as f64 / 1e6);
}
