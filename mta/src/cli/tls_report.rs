//! `tls-report`: what came of TLS towards each domain, from a running MTA. Floor 6.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::queue::{Admin, path};

/// `tls-report`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  egret-mta tls-report
  egret-mta tls-report --day 2026-11-26 --domain example.com --json")]
#[group(skip)]
pub(super) struct Report {
    /// A day by UTC, like 2026-11-26: today, which is the default, or yesterday.
    #[arg(long)]
    day: Option<String>,
    /// Only the report to this domain.
    #[arg(long)]
    domain: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

pub(super) fn run(asked: &Report) -> anyhow::Result<ExitCode> {
    let given = [("day", &asked.day), ("domain", &asked.domain)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(asked.admin.get(&path("/v1/tls-report", &given)))?;
    if asked.admin.json {
        println!("{told:#}");
    } else {
        print!("{}", text(&told));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(told: &Value) -> String {
    let one = [told.clone()];
    let reports = told["reports"].as_array().map_or(&one[..], Vec::as_slice);
    let mut text = String::new();
    for policy in reports.iter().flat_map(|report| report["policies"].as_array().into_iter().flatten()) {
        let (about, summary) = (&policy["policy"], &policy["summary"]);
        let word = |key: &str| about[key].as_str().unwrap_or("?").to_owned();
        let (good, bad) = (&summary["total-successful-session-count"], &summary["total-failure-session-count"]);
        let _ = writeln!(text, "{} ({}): {good} good, {bad} failed", word("policy-domain"), word("policy-type"));
        for detail in policy["failure-details"].as_array().into_iter().flatten() {
            let word = |key: &str| detail[key].as_str();
            let _ = write!(text, "  {} {}", detail["failed-session-count"], word("result-type").unwrap_or("?"));
            for (before, key) in
                [(" at ", "receiving-mx-hostname"), (" ", "receiving-ip"), (" from ", "sending-mta-ip")]
            {
                let _ = word(key).map_or(Ok(()), |value| write!(text, "{before}{value}"));
            }
            text.push('\n');
        }
    }
    if text.is_empty() {
        "no session was counted\n".clone_into(&mut text);
    }
    if let Some(dropped @ 1..) = told["dropped"].as_u64() {
        let _ = writeln!(text, "and {dropped} more, for which there was no room");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sessions_are_told_by_domain_and_failure() {
        let report = json!({ "policies": [{
            "policy": { "policy-type": "sts", "policy-domain": "a.test" },
            "summary": { "total-successful-session-count": 5, "total-failure-session-count": 3 },
            "failure-details": [
                { "result-type": "certificate-expired", "failed-session-count": 2, "sending-mta-ip": "192.0.2.1",
                  "receiving-mx-hostname": "mx.a.test", "receiving-ip": "198.51.100.1" },
                { "result-type": "sts-policy-fetch-error", "failed-session-count": 1 },
            ],
        }] });
        let want = "a.test (sts): 5 good, 3 failed\n  2 certificate-expired at mx.a.test 198.51.100.1 from 192.0.2.1\n  \
                    1 sts-policy-fetch-error\n";
        assert_eq!(text(&report), want);
        let all = text(&json!({ "reports": [report], "dropped": 7 }));
        assert_eq!(all, format!("{want}and 7 more, for which there was no room\n"));
        assert_eq!(text(&json!({ "reports": [], "dropped": 0 })), "no session was counted\n");
    }
}
