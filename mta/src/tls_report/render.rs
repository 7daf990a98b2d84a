//! The report of RFC 8460, made of what was counted. Floor 2. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Counts, Day, Ends, TlsReports};
use crate::event::tls::TlsResult;

/// The milliseconds of a day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// The number of a day, counted from the Unix epoch; `None` if it is not written like `2026-11-26`.
pub fn day_number(text: &str) -> Option<u64> {
    let date: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    let start = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    u64::try_from(start.as_millisecond()).ok().map(|ms| ms / DAY_MS)
}

/// A time of a day, `2026-11-26T00:00:00Z`.
fn time(day: u64, within: Duration) -> String {
    let seconds = i64::try_from(day.saturating_mul(DAY_MS / 1_000)).unwrap_or(i64::MAX);
    let within = i64::try_from(within.as_secs()).unwrap_or(0);
    Timestamp::from_second(seconds.saturating_add(within)).unwrap_or(Timestamp::MAX).to_string()
}

impl TlsReports {
    /// The number of today.
    pub fn today(&self) -> u64 {
        self.clock.wall().0 / DAY_MS
    }

    /// The report of a day to one domain; `None` if nothing was counted.
    pub fn report(&self, day: u64, domain: &str, host: &str) -> Option<Value> {
        let days = self.days.lock();
        let day = days.iter().find(|kept| kept.number == day)?;
        day.domains.get(domain).map(|policies| report(day, domain, policies, host))
    }

    /// All reports of a day by domain, and how much found no room.
    pub fn reports(&self, day: u64, host: &str) -> Value {
        let days = self.days.lock();
        let Some(kept) = days.iter().find(|kept| kept.number == day) else {
            return json!({ "reports": [], "dropped": 0 });
        };
        let mut domains: Vec<_> = kept.domains.iter().collect();
        domains.sort_unstable_by_key(|(domain, _)| *domain);
        let reports: Vec<_> = domains.into_iter().map(|(domain, found)| report(kept, domain, found, host)).collect();
        json!({ "reports": reports, "dropped": kept.dropped })
    }
}

fn report(day: &Day, domain: &str, policies: &[Counts], host: &str) -> Value {
    let (start, end) = (time(day.number, Duration::ZERO), time(day.number, Duration::from_secs(86_399)));
    json!({
        "organization-name": host,
        "date-range": { "start-datetime": start, "end-datetime": end },
        "contact-info": format!("postmaster@{host}"),
        "report-id": format!("{start}_{domain}@{host}"),
        "policies": policies.iter().map(|counts| policy(domain, counts)).collect::<Vec<_>>(),
    })
}

fn policy(domain: &str, counts: &Counts) -> Value {
    let kind = counts.policy.kind.as_str();
    let mut told = json!({ "policy-type": kind, "policy-domain": domain });
    if !counts.policy.lines.is_empty() {
        told["policy-string"] = json!(counts.policy.lines);
    }
    if !counts.policy.hosts.is_empty() {
        told["mx-host"] = json!(counts.policy.hosts);
    }
    let failed: u64 = counts.failures.values().sum();
    let detail = |((result, ends), count): (&(TlsResult, Ends), &u64)| {
        let mut detail = json!({ "result-type": result.as_str(), "failed-session-count": count });
        if let Some(from) = ends.from {
            detail["sending-mta-ip"] = json!(from);
        }
        if let Some(host) = &ends.host {
            detail["receiving-mx-hostname"] = json!(host);
        }
        if let Some(to) = ends.to {
            detail["receiving-ip"] = json!(to);
        }
        detail
    };
    let details: Vec<Value> = counts.failures.iter().map(detail).collect();
    json!({
        "policy": told,
        "summary": {
            "total-successful-session-count": counts.successes,
            "total-failure-session-count": failed,
        },
        "failure-details": details,
    })
}
