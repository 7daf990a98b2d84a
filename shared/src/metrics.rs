//! The process's Prometheus recorder. Floor 1.
//! Handles are made once and kept (a macro with owned labels costs twenty times a kept handle);
//! labels are bounded: never a raw destination address, never a recipient's domain.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Buckets in seconds, for everything that is a wait on a network or a disk.
pub const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Installs the recorder. Call it first in `main`: a handle made before stays dead.
///
/// # Errors
/// If a recorder is installed already.
pub fn install() -> Result<PrometheusHandle, String> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|e| format!("metrics recorder: {e}"))
}

/// How often samples are folded into buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Keeps the recorder small for as long as it is polled: samples of histograms pile up until somebody
/// reads them, and nobody may.
pub async fn upkeep(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        let handle = handle.clone();
        let _ = tokio::task::spawn_blocking(move || handle.run_upkeep()).await;
    }
}
