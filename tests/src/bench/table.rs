//! Results as people read them. Floor 0.

use super::{ProxyResult, RelayResult};

/// Prints relays, with their ratio to Postfix.
pub fn print_relays(results: &[RelayResult]) {
    let peer = results.iter().find(|result| result.name == "Postfix");
    println!("\nrelay: messages of 10 kB, 50 sessions, accepted, synced, delivered to a sink");
    println!(
        "{:<34} {:>10} {:>10} {:>12} {:>9} {:>11}",
        "", "relayed/s", "accepted/s", "CPU µs/msg", "MiB", "to Postfix"
    );
    for result in results {
        let ratio =
            peer.map_or_else(|| "-".to_owned(), |peer| format!("{:.1}x", result.relayed_per_s / peer.relayed_per_s));
        println!(
            "{:<34} {:>10.0} {:>10.0} {:>12.0} {:>9.1} {:>11}",
            result.name,
            result.relayed_per_s,
            result.accepted_per_s,
            result.cpu_us,
            result.memory_bytes as f64 / f64::from(1 << 20),
            ratio
        );
    }
}

/// Prints proxies, with their ratio to HAProxy.
pub fn print_proxies(results: &[ProxyResult]) {
    let peer = results.iter().find(|result| result.name.starts_with("HAProxy"));
    println!("\nproxy: sessions of banner and QUIT, 50 at once");
    println!(
        "{:<36} {:>10} {:>12} {:>8} {:>8} {:>7} {:>11}",
        "", "sessions/s", "CPU µs/each", "p50 ms", "p99 ms", "MiB", "to HAProxy"
    );
    for result in results {
        let ratio =
            peer.map_or_else(|| "-".to_owned(), |peer| format!("{:.2}x", result.sessions_per_s / peer.sessions_per_s));
        println!(
            "{:<36} {:>10.0} {:>12.0} {:>8.2} {:>8.2} {:>7.1} {:>11}",
            result.name,
            result.sessions_per_s,
            result.cpu_us,
            result.p50_ms,
            result.p99_ms,
            result.memory_bytes as f64 / f64::from(1 << 20),
            ratio
        );
    }
}
