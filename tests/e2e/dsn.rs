//! Senders hear of what could not be delivered; the null sender never does.

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::peer::sink::{Behaviour, Sink};

use crate::support::{offer, sink};

fn report_to(sink: &Sink, recipient: &str) -> String {
    eventually("a report", || {
        let messages = sink.messages();
        let report = messages.iter().find(|kept| kept.recipients.iter().any(|to| to == recipient));
        report.map(|kept| format!("FROM:{}\r\n{}", kept.sender, kept.content)).ok_or_else(|| format!("{messages:?}"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_comes_back_as_a_report() {
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    let behaviour = Behaviour { fail_domains: vec![("bad.example".to_owned(), 550)], ..Behaviour::default() };
    let sink = sink(&fleet, behaviour).await;
    assert!(offer(fleet.smtp, "", "null@bad.example").starts_with("250 "));
    assert!(offer(fleet.smtp, "sender@good.example", "nobody@bad.example").starts_with("250 "));
    let report = report_to(&sink, "sender@good.example");
    for part in [
        "FROM:\r\n",
        "Content-Type: multipart/report",
        "Action: failed",
        "Final-Recipient: rfc822; nobody@bad.example",
        "Reporting-MTA: dns; mta.test",
        "Subject: hello",
    ] {
        assert!(report.contains(part), "{part:?} is missing in\n{report}");
    }
    fleet.event("both bounces", |event| event["type"] == "bounce" && event["sender"] == "");
    let bounce = fleet.event("a bounce", |e| e["type"] == "bounce" && e["sender"] == "sender@good.example");
    assert_eq!(bounce["response"]["code"], 550);
    assert_eq!(sink.stats().received, 1, "someone else got mail: {:?}", sink.messages());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_expires_and_is_reported() {
    let tables = "[queue]\nretry_interval = \"200ms\"\nmax_retry_interval = \"1s\"\nmax_age = \"2s\"\n".to_owned();
    let fleet = Fleet::start(&Options { tables, ..Options::default() });
    let behaviour = Behaviour { fail_domains: vec![("slow.example".to_owned(), 451)], ..Behaviour::default() };
    let sink = sink(&fleet, behaviour).await;
    assert!(offer(fleet.smtp, "sender@good.example", "someone@slow.example").starts_with("250 "));
    let report = report_to(&sink, "sender@good.example");
    assert!(report.contains("someone@slow.example") && report.contains("Status: 5.4.7"), "{report}");
    let tried = fleet.events().iter().filter(|event| event["type"] == "transient_failure").count();
    assert!(tried >= 1, "it was never tried");
    fleet.event("the expiry", |event| event["type"] == "expiry");
}

#[test]
fn a_message_that_goes_round_is_refused() {
    let fleet = Fleet::start(&Options { listener_keys: "max_hops = 5".to_owned(), ..Options::default() });
    for (hops, code) in [(5, "250 "), (6, "554 5.4.6 ")] {
        let content = format!("{}Subject: x\r\n\r\nbody\r\n.", "Received: from a by b\r\n".repeat(hops));
        let lines = ["EHLO x", "MAIL FROM:<s@a.test>", "RCPT TO:<r@b.test>", "DATA", &content];
        let answers = crate::support::smtp(fleet.smtp, &lines);
        assert!(answers[5].starts_with(code), "{hops}: {answers:?}");
    }
}
