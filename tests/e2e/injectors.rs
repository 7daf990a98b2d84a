//! Other people's programs that hand mail to egret-mta: Postfix as a relay, Python's smtplib.

use std::path::Path;
use std::sync::Arc;

use egret_tests::harness::{Fleet, Options, eventually};
use egret_tests::ledger::Ledger;
use egret_tests::peer::sink::Behaviour;
use egret_tests::peer::source::{self, Plan};
use egret_tests::peer::tls::self_signed;

use crate::peers::{Postfix, python};
use crate::support::{all_delivered, sink};

const COUNT: usize = 400;

/// The lines of a listener that offers STARTTLS, with a certificate made on the spot in `directory`.
fn with_tls(directory: &Path) -> String {
    let (certificate, key) = self_signed(&["mta.test"]).expect("a certificate");
    let (certificate_file, key_file) = (directory.join("c.pem"), directory.join("k.pem"));
    std::fs::write(&certificate_file, certificate).expect("written");
    std::fs::write(&key_file, key).expect("written");
    format!("tls_certificate = \"{}\"\ntls_private_key = \"{}\"", certificate_file.display(), key_file.display())
}

/// Postfix takes mail from a source and relays it to egret-mta, which delivers to a sink; what fails there comes
/// back to Postfix as a report.
#[tokio::test(flavor = "multi_thread")]
async fn postfix_hands_over_each_message_once_and_takes_the_reports() {
    for (tls, level) in [(true, "encrypt"), (false, "none")] {
        let files = tempfile::tempdir().expect("a directory");
        let listener_keys = if tls { with_tls(files.path()) } else { String::new() };
        // The route to Postfix is not known before Postfix is; a port of its own address is.
        let Some(postfix) = Postfix::start(&["sender"], &format!("smtp_tls_security_level = {level}\n")) else {
            return;
        };
        let mail_back = format!("[[route]]\ndomains = [\"store.test\"]\nhosts = [\"{}\"]\n", postfix.smtp);
        let sink_at = egret_tests::harness::addresses(1)[0];
        let tables = format!("{mail_back}[[route]]\ndomains = [\"*\"]\nhosts = [\"{sink_at}:2525\"]\n");
        let mut fleet = Fleet::start(&Options { dialect: Some("socks5"), listener_keys, tables, ..Options::default() });
        fleet.sink = (sink_at, 2525).into();
        let relayhost = format!("relayhost = [{}]:{}\n", fleet.smtp.ip(), fleet.smtp.port());
        postfix.change(&relayhost);
        let behaviour = Behaviour { fail_domains: vec![("d7.example".to_owned(), 550)], ..Behaviour::default() };
        let sink = sink(&fleet, behaviour).await;
        let plan = Plan { sender: "sender@store.test".to_owned(), domains: 40, ..Plan::new(postfix.smtp, COUNT) };
        let ledger = Arc::new(Ledger::create(&fleet.file("given")).expect("a ledger"));
        let summary = source::run(plan, Some(ledger.clone()), Arc::default()).await.expect("sent");
        assert_eq!(summary.accepted, COUNT as u64);
        ledger.flush().expect("written");
        // What goes to the domain that fails is not owed.
        let given = std::fs::read_to_string(fleet.file("given")).expect("readable");
        let (failing, owed): (Vec<_>, Vec<_>) = given.lines().partition(|line| line.ends_with("@d7.example"));
        std::fs::write(fleet.file("offered"), owed.join("\n") + "\n").expect("written");
        let found = all_delivered(&fleet, &sink);
        assert_eq!((found.accepted, found.duplicated), (owed.len(), 0));
        let reports = eventually("the reports", || {
            let reports = postfix.mailbox("sender");
            if reports.len() == failing.len() {
                Ok(reports)
            } else {
                Err(format!("{}\n{}", reports.len(), postfix.log()))
            }
        });
        for report in reports {
            let report = String::from_utf8_lossy(&report).into_owned();
            for part in [
                "Return-Path: <>",
                "multipart/report",
                "Action: failed",
                "Diagnostic-Code: smtp; 550 5.1.1",
                "@d7.example",
            ] {
                assert!(report.contains(part), "{part:?} is missing in\n{report}");
            }
        }
        let received = eventually("the events", || {
            let events = fleet.events();
            let received = events.iter().filter(|event| event["type"] == "reception" && event["sender"] != "").count();
            if received >= COUNT { Ok(received) } else { Err(format!("{received}\n{}", fleet.mta.log())) }
        });
        assert_eq!(received, COUNT, "each was handed over once");
        let protocol = if tls { "with ESMTPS" } else { "with ESMTP\r\n" };
        let message = sink.messages().pop().expect("messages");
        assert!(message.content.contains(protocol), "{}", message.content);
        assert!(!postfix.log().contains("status=deferred"), "{}", postfix.log());
    }
}

/// What smtplib can do: it prints each answer that it gets.
const SMTPLIB: &str = r"
import smtplib, ssl, sys
from email.message import EmailMessage
def message(subject, text):
    made = EmailMessage()
    made['Subject'], made['From'], made['To'] = subject, 's@a.test', 'one@b.test'
    made.set_content(text, cte='8bit')
    return made
with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as client:
    assert client.ehlo()[0] == 250
    assert client.has_extn('size') and client.has_extn('smtputf8') and not client.has_extn('auth')
    context = ssl.create_default_context(cafile=sys.argv[3])
    context.check_hostname = False
    assert client.starttls(context=context)[0] == 220
    assert client.send_message(message('plain', 'hello\n.dot\n'), 's@a.test', ['one@b.test', 'two@b.test']) == {}
    # Sender and recipients in UTF-8; smtplib asks for SMTPUTF8 and BODY=8BITMIME by itself.
    assert client.send_message(message('gr\u00fc\u00dfe', '\u00fc\n'), 's@a.test', ['d\u00e9j\u00e0@b.test']) == {}
    refused = client.sendmail('s@a.test', ['one@b.test', 'not an address'], 'Subject: partly\r\n\r\nhello\r\n')
    assert list(refused) == ['not an address'] and 500 <= refused['not an address'][0] < 560, refused
    assert client.verify('one@b.test')[0] in (252, 502), client.verify('one@b.test')
    assert client.noop()[0] == 250 and client.rset()[0] == 250
    try:
        client.login('user', 'secret')
        assert False, 'there is no AUTH'
    except smtplib.SMTPNotSupportedError:
        pass
    try:
        client.sendmail('s@a.test', ['one@b.test'], 'x' * 2000000)
        assert False, 'it is too large'
    except smtplib.SMTPSenderRefused as error:
        assert error.smtp_code == 552, error
    assert client.sendmail('', ['one@b.test'], 'Subject: after all that\r\n\r\nhello\r\n') == {}
with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as client:
    assert client.helo()[0] == 250
    assert client.sendmail('s@a.test', 'one@b.test', 'Subject: old\r\n\r\nhello\r\n') == {}
";

#[tokio::test(flavor = "multi_thread")]
async fn smtplib_is_answered_as_it_expects() {
    let files = tempfile::tempdir().expect("a directory");
    let listener_keys = with_tls(files.path()) + "\nmax_message_size = \"1MB\"";
    let fleet = Fleet::start(&Options { listener_keys, ..Options::default() });
    let sink = sink(&fleet, Behaviour::default()).await;
    let (host, port) = (fleet.smtp.ip().to_string(), fleet.smtp.port().to_string());
    let authority = files.path().join("c.pem").display().to_string();
    let output = python(SMTPLIB, &[&host, &port, &authority]).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Six deliveries: two, one, one, one to the null sender's recipient, one by HELO.
    eventually("six deliveries", || match sink.stats().received {
        6 => Ok(()),
        n => Err(format!("{n}\n{}", fleet.mta.log())),
    });
    let messages = sink.messages();
    let find = |subject: &str| messages.iter().find(|kept| kept.content.contains(&format!("Subject: {subject}")));
    let told = |subject: &str, what: &str| {
        let content = find(subject).map(|kept| kept.content.clone()).unwrap_or_default();
        assert!(content.contains(what), "{subject}: {what:?} is not in {content}");
    };
    told("plain", "with ESMTPS");
    told("plain", "hello\r\n..dot\r\n");
    told("gr\u{fc}\u{df}e", "\u{fc}\r\n");
    told("partly", "hello");
    told("old", "with SMTP\r\n");
    assert_eq!(find("after all that").map(|kept| kept.sender.as_str()), Some(""));
}
