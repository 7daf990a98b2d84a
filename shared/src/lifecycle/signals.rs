//! SIGTERM and SIGINT as two tokens: the first signal drains, the second ends at once. Floor 1.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two steps of stopping. Cheap to clone; a test cancels the tokens itself.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Cancelled when the program shall take nothing new and finish what it has.
    pub drain: CancellationToken,
    /// Cancelled when the program shall end now.
    pub now: CancellationToken,
}

/// Listens for SIGTERM and SIGINT for the life of the process.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn on_terminate() -> std::io::Result<Stop> {
    let stop = Stop::default();
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let tokens = stop.clone();
    tokio::spawn(async move {
        for token in [&tokens.drain, &tokens.now] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(stop)
}
