//! What the service manager is told (sd_notify(3)): ready, stopping, still alive. Without a service
//! manager all of it does nothing. Floor 1.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The program serves now: sockets are open, state is recovered.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The program finishes what it has and will end.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells that the program lives as often as the service manager wants to hear it, for as long as
/// `alive` says so; a program that is stuck goes silent and is restarted.
pub async fn watchdog(alive: impl Fn() -> bool) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut beats = tokio::time::interval((limit / 2).max(Duration::from_millis(100)));
    loop {
        beats.tick().await;
        if alive() {
            tell(NotifyState::Watchdog);
        } else {
            warn!("not alive; the service manager is not told otherwise and will restart the program");
        }
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "the service manager cannot be told");
    }
}
