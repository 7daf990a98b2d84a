//! Counting, the bounds, and the report.

use std::time::Duration;

use serde_json::json;

use super::*;

/// 2026-11-26T10:00:00Z.
const NOW: UnixMs = UnixMs(1_795_687_200_000);

fn policy(n: usize) -> Applied {
    Applied::new(
        PolicyType::Sts,
        vec!["version: STSv1".to_owned(), format!("max_age: {n}")],
        vec!["*.a.test".to_owned()],
    )
}

fn ends(n: u8) -> Ends {
    Ends { from: Some([192, 0, 2, n].into()), host: Some("mx.a.test".into()), to: Some([198, 51, 100, 1].into()) }
}

#[test]
fn a_report_has_the_form_of_rfc_8460() {
    let reports = TlsReports::new(Clock::moved(NOW));
    for result in [TlsResult::Success, TlsResult::Success, TlsResult::CertificateExpired] {
        reports.count("a.test", &policy(1), result, ends(1));
    }
    reports.count("a.test", &policy(1), TlsResult::CertificateExpired, ends(1));
    let day = day_number("2026-11-26").expect("a day");
    assert_eq!(day, reports.today());
    let want = json!({
        "organization-name": "mail.us.test",
        "date-range": { "start-datetime": "2026-11-26T00:00:00Z", "end-datetime": "2026-11-26T23:59:59Z" },
        "contact-info": "postmaster@mail.us.test",
        "report-id": "2026-11-26T00:00:00Z_a.test@mail.us.test",
        "policies": [{
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "max_age: 1"],
                "policy-domain": "a.test",
                "mx-host": ["*.a.test"],
            },
            "summary": { "total-successful-session-count": 2, "total-failure-session-count": 2 },
            "failure-details": [{
                "result-type": "certificate-expired",
                "sending-mta-ip": "192.0.2.1",
                "receiving-mx-hostname": "mx.a.test",
                "receiving-ip": "198.51.100.1",
                "failed-session-count": 2,
            }],
        }],
    });
    assert_eq!(reports.report(day, "a.test", "mail.us.test"), Some(want.clone()));
    assert_eq!(reports.reports(day, "mail.us.test"), json!({ "reports": [want], "dropped": 0 }));
    assert_eq!(reports.report(day, "b.test", "mail.us.test"), None);
}

#[test]
fn today_and_yesterday_are_kept() {
    let clock = Clock::moved(NOW);
    let reports = TlsReports::new(clock.clone());
    let first = reports.today();
    for day in 0..3 {
        reports.count("a.test", &Applied::none(), TlsResult::Success, Ends::default());
        let kept: Vec<bool> = (0..3).map(|n| reports.report(first + n, "a.test", "x").is_some()).collect();
        assert_eq!(kept, [day < 2, day >= 1, day >= 2], "on day {day}");
        clock.advance(Duration::from_hours(24));
    }
}

#[test]
fn what_finds_no_room_is_counted_as_dropped() {
    let reports = TlsReports::new(Clock::moved(NOW));
    let dropped = || reports.reports(reports.today(), "x")["dropped"].as_u64();
    for n in 0..MAX_DOMAINS {
        reports.count(&format!("{n}.test"), &Applied::none(), TlsResult::Success, Ends::default());
    }
    assert_eq!(dropped(), Some((MAX_DOMAINS / 2) as u64), "domains without a policy leave room to the others");
    for n in 0..=MAX_POLICIES {
        reports.count("policed.test", &policy(n), TlsResult::Success, Ends::default());
    }
    assert_eq!(dropped(), Some((MAX_DOMAINS / 2) as u64 + 1));
    for n in 0..=MAX_FAILURES {
        let ends = ends(u8::try_from(n).expect("few"));
        reports.count("policed.test", &policy(0), TlsResult::ValidationFailure, ends);
    }
    assert_eq!(dropped(), Some((MAX_DOMAINS / 2) as u64 + 2));
}

#[test]
fn days_are_written_in_one_way() {
    assert_eq!(day_number("1970-01-02"), Some(1));
    for odd in ["", "2026-13-01", "20261126", "2026-11-26T00:00:00Z", "yesterday"] {
        assert_eq!(day_number(odd), None, "{odd}");
    }
}
