//! Contenders take turns, so that a slow minute of the machine falls on all of them. Floor 0.

/// A contender's name, and whatever starts it.
pub(super) type Contender<C> = (&'static str, C);

/// Runs each contender once in each of `rounds`; gives the runs of those that ran at all. A run that fails
/// is told and left out.
pub(super) async fn take_turns<C: Copy, R>(
    contenders: &[Contender<C>],
    rounds: usize,
    run: impl AsyncFn(C) -> anyhow::Result<R>,
) -> Vec<(&'static str, Vec<R>)> {
    let mut all: Vec<_> = contenders.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for round in 1..=rounds {
        for ((name, contender), (_, runs)) in contenders.iter().zip(&mut all) {
            eprintln!("round {round}: {name}");
            match run(*contender).await {
                Ok(run) => runs.push(run),
                Err(error) => eprintln!("  left out: {error:#}"),
            }
        }
    }
    all.retain(|(_, runs)| !runs.is_empty());
    all
}

/// The middle of what `pick` takes from each run.
pub(super) fn middle<R>(runs: &[R], pick: impl Fn(&R) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(pick).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
