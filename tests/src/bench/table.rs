//! Results as people read them. Floor 0.

use super::{Extremes, Figures, Goal, ProxyResult, RelayResult};

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
    println!("\nproxy: sessions of banner and QUIT");
    println!(
        "{:<36} {:>7} {:>10} {:>12} {:>8} {:>8} {:>7} {:>11}",
        "", "at once", "sessions/s", "CPU µs/each", "p50 ms", "p99 ms", "MiB", "to HAProxy"
    );
    for result in results {
        let is_peer =
            |other: &&ProxyResult| other.name.starts_with("HAProxy") && other.concurrency == result.concurrency;
        let peer = results.iter().find(is_peer);
        let ratio =
            peer.map_or_else(|| "-".to_owned(), |peer| format!("{:.2}x", result.sessions_per_s / peer.sessions_per_s));
        println!(
            "{:<36} {:>7} {:>10.0} {:>12.0} {:>8.2} {:>8.2} {:>7.1} {:>11}",
            result.name,
            result.concurrency,
            result.sessions_per_s,
            result.cpu_us,
            result.p50_ms,
            result.p99_ms,
            result.memory_bytes as f64 / f64::from(1 << 20),
            ratio
        );
    }
}

/// Prints what proxies do beyond everyday sessions.
pub fn print_extremes(extremes: &Extremes) {
    println!("\nproxy: 4 streams of bulk; idle sessions; clients that send a byte a second");
    println!("{:<36} {:>8} {:>10}", "bulk", "GB/s", "CPU s/GB");
    for bulk in &extremes.bulk {
        println!("{:<36} {:>8.2} {:>10.2}", bulk.name, bulk.gigabytes_per_s, bulk.cpu_s_per_gigabyte);
    }
    println!("{:<36} {:>8} {:>10} {:>12}", "idle", "sessions", "bytes each", "descriptors");
    for idle in &extremes.idle {
        println!("{:<36} {:>8} {:>10.0} {:>12.2}", idle.name, idle.sessions, idle.bytes_each, idle.descriptors_each);
    }
    if let Some(slow) = &extremes.slow {
        let share = 100.0 * (1.0 - slow.with_per_s / slow.without_per_s);
        println!(
            "{:<36} {:>8.0} sessions/s without, {:.0} with: {share:.0} % less",
            format!("egret-proxy, {} slow clients", slow.clients),
            slow.without_per_s,
            slow.with_per_s
        );
    }
}

/// Prints figures beside their goals; the ratio is that of the value to the goal.
pub fn print_figures(figures: &Figures) {
    println!("\n{}", figures.title);
    println!("{:<66} {:>11} {:>12} {:>6}", "", "value", "goal", "ratio");
    for figure in &figures.figures {
        let value = number(figure.value);
        let Some((goal, is_met)) = figure.against_goal() else {
            println!("{:<66} {value:>11} {:>12} {:>6}", figure.name, "-", "-");
            continue;
        };
        let sign = match figure.goal {
            Some(Goal::AtLeast(_)) => "≥",
            Some(Goal::AtMost(_)) => "≤",
            _ => "=",
        };
        let (ratio, verdict) = (figure.value / goal, if is_met { "met" } else { "MISSED" });
        println!("{:<66} {value:>11} {:>12} {ratio:>6.2} {verdict}", figure.name, format!("{sign} {}", number(goal)));
    }
}

/// Whole if it is large, with decimals if it is small.
fn number(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 { 0 } else { 2 };
    format!("{value:.decimals$}")
}
