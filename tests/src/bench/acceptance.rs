//! Taking mail durably and delivering nothing: egret-mta with all mail suspended, Postfix with all on hold. Floor 1.

use super::figures::{Figures, Goal};
use super::mtas::{Accepted, CONCURRENCY, SIZE, Start, WARM_UP, egret_held, home, nowhere, postfix_held};
use super::turns::{middle, take_turns};
use super::{ACCEPTED_FOR_DELIVERED, Settings};
use crate::peer::source::Plan;

const EGRET: &str = "egret-mta";
const POSTFIX: &str = "Postfix";
/// So many times as fast as Postfix.
const GOAL: f64 = 12.0;

/// Measures both; one that cannot run is told and left out.
pub async fn acceptance(settings: Settings) -> Figures {
    let contenders: [(&str, Start); 2] = [(EGRET, egret_held), (POSTFIX, postfix_held)];
    let count = settings.count * ACCEPTED_FOR_DELIVERED;
    let runs = take_turns(&contenders, settings.rounds, async |start| run(start, count).await).await;
    let mut figures = Figures::new(format!(
        "durable acceptance: {count} messages of {SIZE} bytes, {CONCURRENCY} sessions, nothing is delivered"
    ));
    for (name, runs) in &runs {
        figures.tell(format!("{name}, messages/s"), middle(runs, |run| run.per_s));
        figures.tell(format!("{name}, CPU µs a message"), middle(runs, |run| run.cpu_us));
    }
    let of = |wanted| runs.iter().find(|(name, _)| *name == wanted).map(|(_, runs)| runs);
    if let (Some(egret), Some(postfix)) = (of(EGRET), of(POSTFIX)) {
        let ratio = |pick: fn(&Accepted) -> f64| middle(egret, pick) / middle(postfix, pick);
        figures.judge("messages/s, times those of Postfix", ratio(|run| run.per_s), Goal::AtLeast(GOAL));
        figures.tell("CPU a message, share of that of Postfix", ratio(|run| run.cpu_us));
    }
    figures
}

async fn run(start: Start, count: usize) -> anyhow::Result<Accepted> {
    let directory = home()?;
    let relay = start(directory.path(), nowhere())?;
    let plan = Plan { size: SIZE, concurrency: CONCURRENCY, ..Plan::new(relay.smtp, count) };
    relay.accept(&Plan { count: WARM_UP, ..plan.clone() }).await?;
    relay.accept(&plan).await
}
