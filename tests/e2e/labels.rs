//! Headers name the tenant and the campaign of a message: they choose its queue, and leave with nobody.

use std::process::Command;

use egret_tests::harness::{Fleet, Options, binary};
use egret_tests::peer::sink::Behaviour;

use crate::support::{sink, smtp};

const ROUTING: &str = "[routing]\ntenant_header = \"X-Tenant\"\ncampaign_header = \"X-Campaign\"\n";
/// Where `text` stands in the answers of [`offer`].
const ANSWER: usize = 5;

fn offer(fleet: &Fleet, sender: &str, text: &str) -> String {
    let (mail, end) = (format!("MAIL FROM:<{sender}>"), format!("{text}\r\n."));
    let lines = ["EHLO test.example", &mail, "RCPT TO:<r@a.example>", "DATA", &end, "QUIT"];
    smtp(fleet.smtp, &lines)[ANSWER].clone()
}

/// What `egret-mta queue …` prints.
fn queue(fleet: &Fleet, arguments: &[&str]) -> String {
    let admin = fleet.mta_admin.to_string();
    let output = Command::new(binary("egret-mta")).arg("queue").args(arguments).args(["--admin", &admin]).output();
    let output = output.expect("runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_name_the_queue_of_a_message_and_are_gone() {
    let fleet = Fleet::start(&Options { tables: ROUTING.to_owned(), ..Options::default() });
    queue(&fleet, &["suspend", "--tenant", "ACME", "--reason", "looked at", "--for", "1h"]);
    let text = "X-Tenant:\r\n Acme\r\nSubject: hello\r\nX-CAMPAIGN: spring\r\n\r\nX-Tenant: body";
    let taken = offer(&fleet, "s@sender.example", text);
    let id = taken.rsplit(' ').next().expect("an id");
    let rows = queue(&fleet, &["list", "--tenant", "acme", "--campaign", "spring"]);
    assert!(rows.contains("spring:acme@a.example"), "{rows}");
    let content = queue(&fleet, &["show", id, "--content"]);
    assert!(content.ends_with("\r\nSubject: hello\r\n\r\nX-Tenant: body\r\n"), "{content:?}");
    let event = fleet.event("the reception", |event| event["type"] == "reception");
    assert!(event["tenant"] == "acme" && event["campaign"] == "spring", "{event}");

    let refused = offer(&fleet, "s@sender.example", "X-Tenant: a b\r\n\r\nx");
    assert!(refused.starts_with("550 5.6.0 header X-Tenant") && refused.contains("letters, digits"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_to_a_sender_is_nobodys() {
    let fleet = Fleet::start(&Options { tables: ROUTING.to_owned(), ..Options::default() });
    let domain = vec![("a.example".to_owned(), 550)];
    let fails = Behaviour { fail_domains: domain.into_iter().collect(), ..Behaviour::default() };
    let _destination = sink(&fleet, fails).await;
    offer(&fleet, "s@sender.example", "X-Tenant: acme\r\n\r\nx");
    let bounce = fleet.event("the bounce", |event| event["type"] == "bounce");
    assert!(bounce["tenant"] == "acme" && bounce["queue"] == "acme@a.example", "{bounce}");
    let is_report = |event: &serde_json::Value| event["type"] == "delivery" && event["sender"] == "";
    let report = fleet.event("the report's delivery", is_report);
    assert!(report["queue"] == "@sender.example" && report.get("tenant").is_none(), "{report}");
}
