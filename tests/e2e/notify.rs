//! Senders hear what they asked for, and nothing else (DSN). Python's smtplib asks, its email package reads the
//! reports.

use std::process::Command;

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::peer::sink::{Behaviour, Sink};

use crate::support::sink;

/// Sends one message: RET and ENVID, then each recipient with what is wanted.
const ASK: &str = r"
import smtplib, sys
client = smtplib.SMTP(sys.argv[1], int(sys.argv[2]), local_hostname='client.example')
assert client.ehlo()[0] == 250 and client.has_extn('dsn'), client.esmtp_features
assert client.mail(sys.argv[3], sys.argv[4].split())[0] == 250
for recipient in sys.argv[5:]:
    address, *options = recipient.split()
    code, text = client.rcpt(address, options)
    assert code == 250, text
code, text = client.data(b'Subject: hello\r\n\r\nworld\r\n')
assert code == 250, text
client.quit()
";

/// Reads reports: prints subject, fields of the delivery status and type of what came back of each.
const JUDGE: &str = r"
import email, email.policy, sys
for name in sys.argv[1:]:
    message = email.message_from_binary_file(open(name, 'rb'), policy=email.policy.default)
    assert not message.defects, message.defects
    assert message.get_content_type() == 'multipart/report', message.get_content_type()
    assert message.get_param('report-type') == 'delivery-status'
    text, status, returned = message.get_payload()
    assert text.get_content_type() == 'text/plain' and text.get_content().strip()
    assert status.get_content_type() == 'message/delivery-status'
    print('Subject:', message['Subject'])
    for group in status.get_payload():
        assert not group.defects, group.defects
        for field, value in group.items():
            print(f'{field}: {value}')
    print('Returned:', returned.get_content_type())
    print('---')
";

fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new("python3").args(["-c", script]).args(arguments).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ask(fleet: &Fleet, mail: &str, recipients: &[&str]) {
    let (host, port) = (fleet.smtp.ip().to_string(), fleet.smtp.port().to_string());
    python(ASK, &[&[&*host, &*port, "sender@good.example", mail], recipients].concat());
}

/// Waits for so many reports; gives each as Python reads it, in the order of their text.
fn reports(fleet: &Fleet, sink: &Sink, count: usize) -> Vec<String> {
    let found = eventually("reports", || {
        let messages = sink.messages();
        let of_sender = messages.iter().filter(|kept| kept.recipients == ["sender@good.example"]);
        let found: Vec<String> = of_sender.map(|kept| kept.content.clone()).collect();
        if found.len() >= count { Ok(found) } else { Err(format!("{messages:?}\n{}", fleet.mta.log())) }
    });
    let write = |(n, text): (usize, &String)| {
        let file = fleet.file(&format!("report-{n}"));
        std::fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    let files: Vec<String> = found.iter().enumerate().map(write).collect();
    let told = python(JUDGE, &files.iter().map(String::as_str).collect::<Vec<_>>());
    let mut told: Vec<String> = told.split("---\n").filter(|one| !one.is_empty()).map(str::to_owned).collect();
    told.sort();
    told
}

fn has(report: &str, lines: &[&str]) {
    for line in lines {
        assert!(report.lines().any(|found| found == *line), "{line:?} is missing in\n{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_hear_what_they_asked_for_also_over_a_restart() {
    let tables = "[queue]\nretry_interval = \"200ms\"\nmax_retry_interval = \"1s\"\n".to_owned();
    let mut fleet = Fleet::start(&Options { tables, ..Options::default() });
    let recipients = [
        "all@good.example NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Btag@old.example",
        "silent@good.example",
        "nobody@bad.example NOTIFY=FAILURE",
        "never@bad.example NOTIFY=NEVER",
        "success@bad.example NOTIFY=SUCCESS",
    ];
    // Nobody is there yet: what was said stands in the spool when the program starts again.
    ask(&fleet, "RET=HDRS ENVID=my+20id", &recipients);
    fleet.restart_mta();
    let behaviour = Behaviour { fail_domains: vec![("bad.example".to_owned(), 550)], ..Behaviour::default() };
    let sink = sink(&fleet, behaviour).await;
    let reports = reports(&fleet, &sink, 2);
    let [relayed, failed] = &reports[..] else { panic!("{reports:?}") };
    let all = ["Original-Envelope-Id: my id", "Reporting-MTA: dns; mta.test", "Returned: text/rfc822-headers"];
    has(relayed, &all);
    has(
        relayed,
        &[
            "Subject: Mail was passed on",
            "Original-Recipient: rfc822; first+tag@old.example",
            "Final-Recipient: rfc822; all@good.example",
            "Action: relayed",
            "Status: 2.0.0",
        ],
    );
    has(failed, &all);
    has(failed, &["Final-Recipient: rfc822; nobody@bad.example", "Action: failed"]);
    assert!(failed.contains("\nRemote-MTA: dns; ") && failed.contains("\nFinal-Log-Id: "), "{failed}");
    for (report, count) in [(relayed, 1), (failed, 1)] {
        assert_eq!(report.matches("Final-Recipient").count(), count, "somebody else is told of in\n{report}");
    }
    // All five have their end, and two messages came besides the reports.
    fleet.event("the bounces", |event| event["type"] == "bounce" && event["recipients"][0] == "nobody@bad.example");
    let metrics = crate::support::get(fleet.mta_admin, "/metrics").1;
    assert!(metrics.contains("egret_mta_delivery_dispositions_total{disposition=\"bounced\"} 3"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_hears_once_that_its_message_is_late_and_then_how_it_ended() {
    let tables = "[queue]\nretry_interval = \"200ms\"\nmax_retry_interval = \"500ms\"\nmax_age = \"8s\"\ndelay_notice = [\"1s\"]\n";
    let mut fleet = Fleet::start(&Options { tables: tables.to_owned(), ..Options::default() });
    let behaviour = Behaviour { fail_domains: vec![("slow.example".to_owned(), 451)], ..Behaviour::default() };
    let sink = sink(&fleet, behaviour).await;
    ask(&fleet, "", &["late@slow.example", "patient@slow.example NOTIFY=FAILURE"]);
    let late = reports(&fleet, &sink, 1).remove(0);
    has(
        &late,
        &[
            "Subject: Mail is late and still being tried",
            "Final-Recipient: rfc822; late@slow.example",
            "Action: delayed",
            "Returned: text/rfc822-headers",
        ],
    );
    assert!(late.contains("\nWill-Retry-Until: ") && late.contains("\nStatus: 4."), "{late}");
    assert!(!late.contains("patient@"), "{late}");
    fleet.restart_mta();
    // Their end: one report about both; whatever was told of the delay again would have come before it.
    fleet.event("the expiry", |event| event["type"] == "expiry");
    let ended = reports(&fleet, &sink, 2);
    assert_eq!(ended.len(), 2, "{ended:?}");
    let failed = ended.iter().find(|report| report.contains("Action: failed")).expect("a report of failure");
    assert_eq!(failed.matches("Action: failed").count(), 2, "{failed}");
}
