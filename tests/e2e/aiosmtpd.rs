//! aiosmtpd as the destination: a server without PIPELINING, which answers each recipient as it is told.

use std::path::Path;

use egret_tests::harness::{Fleet, Options, Program};
use serde_json::Value;

use crate::peers::{has_python, listens, python};
use crate::support::submit;

/// Answers a recipient by the number that its local part begins with, the first time only if a `once` follows; and
/// the content by the number in the Subject. Keeps what it takes in files 0, 1, 2 …, with the envelope in front.
const SERVER: &str = r"
import re, sys, time
from aiosmtpd.controller import Controller
seen = set()
class Choosy:
    count = 0
    async def handle_RCPT(self, server, session, envelope, address, options):
        asked = re.match(r'(\d+)(once)?', address)
        if asked and not (asked[2] and address in seen):
            seen.add(address)
            return f'{asked[1]} {asked[1][0]}.1.1 as you like'
        envelope.rcpt_tos.append(address)
        return '250 2.1.5 fine'
    async def handle_DATA(self, server, session, envelope):
        content = envelope.original_content
        asked = re.search(rb'^Subject: (\d+)(once)?', content.split(b'\r\n\r\n')[0], re.MULTILINE)
        if asked and not (asked[2] and content in seen):
            seen.add(content)
            return f'{asked[1].decode()} {asked[1][:1].decode()}.7.1 not this'
        with open(f'{sys.argv[3]}/{Choosy.count}', 'wb') as file:
            head = [envelope.mail_from, *envelope.rcpt_tos, *envelope.mail_options]
            file.write('\n'.join(head).encode() + b'\n\n' + content)
        Choosy.count += 1
        return '250 2.0.0 kept'
controller = Controller(Choosy(), hostname=sys.argv[1], port=int(sys.argv[2]), enable_SMTPUTF8=True, decode_data=False)
controller.start()
while True:
    time.sleep(3600)
";

/// What it has kept whose envelope or content holds `what`.
fn kept(directory: &Path, what: &str) -> Vec<String> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let texts = files.map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).expect("readable")).into_owned());
    texts.filter(|text| text.contains(what)).collect()
}

/// Kind, reply code and attempt of each event of a recipient, faults and receptions left out.
fn told(events: &[Value], recipient: &str) -> Vec<(String, u64, u64)> {
    let about = |event: &&Value| {
        let to = event["recipients"].as_array().into_iter().flatten();
        to.into_iter().any(|to| to == recipient) && event["type"] != "reception" && event["type"] != "fault"
    };
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let each = events.iter().filter(about).map(|event| {
        (
            event["type"].as_str().unwrap_or_default().to_owned(),
            number(&event["response"]["code"]),
            number(&event["attempt"]),
        )
    });
    each.collect()
}

#[test]
fn a_lock_step_server_decides_recipient_by_recipient() {
    if !has_python("aiosmtpd") {
        return;
    }
    let (files, log) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let fleet = Fleet::start(&Options { dialect: Some("socks5"), ..Options::default() });
    let (host, port) = (fleet.sink.ip().to_string(), fleet.sink.port().to_string());
    let arguments = [&*host, &port, files.path().to_str().expect("text")];
    let server = Program::spawn(&mut python(SERVER, &arguments), &log.path().join("log"));
    listens(fleet.sink, || server.log());

    let to = ["fine@d.test", "550@d.test", "450once@d.test", "451once@d.test", "d\u{e9}j\u{e0}@d.test"];
    let content = "Subject: each\r\n\r\n.dot\r\ngr\u{fc}\u{df}e\r\n";
    let answer = submit(fleet.smtp, "<s@a.test> SMTPUTF8 BODY=8BITMIME", &to, content.as_bytes());
    assert!(answer.starts_with("250 "), "{answer}");
    let all = |kind: &str, to: &str| {
        fleet.event(&format!("{kind} of {to}"), |event| {
            event["type"] == kind && event["recipients"].as_array().is_some_and(|all| all.iter().any(|one| one == to))
        })
    };
    for (recipient, first, code) in [(to[2], "transient_failure", 450), (to[3], "transient_failure", 451)] {
        all("delivery", recipient);
        let wanted = [(first.to_owned(), code, 1), ("delivery".to_owned(), 250, 2)];
        assert_eq!(told(&fleet.events(), recipient), wanted, "{recipient}");
    }
    assert_eq!(told(&fleet.events(), to[1]), [("bounce".to_owned(), 550, 1)]);
    for recipient in [to[0], to[4]] {
        assert_eq!(told(&fleet.events(), recipient), [("delivery".to_owned(), 250, 1)], "{recipient}");
    }
    let copies = kept(files.path(), "gr\u{fc}\u{df}e");
    assert_eq!(copies.len(), 2, "{copies:?}");
    assert!(copies.iter().all(|copy| copy.ends_with(content)), "{copies:?}");
    assert!(copies.iter().any(|copy| copy.starts_with("s@a.test\nfine@d.test\nd\u{e9}j\u{e0}@d.test\n")), "{copies:?}");
    assert!(copies.iter().all(|copy| copy.contains("\nSMTPUTF8") && copy.contains("\nBODY=8BITMIME")), "{copies:?}");

    // The content itself is refused: for now, and for good.
    for (subject, kind, code) in [("451once", "transient_failure", 451), ("554", "bounce", 554)] {
        let (sender, to) = (format!("from-{subject}@a.test"), format!("to-{subject}@d.test"));
        let content = format!("Subject: {subject}\r\n\r\nhello\r\n");
        assert!(submit(fleet.smtp, &format!("<{sender}>"), &[&to], content.as_bytes()).starts_with("250 "));
        all(kind, &to);
        assert_eq!(told(&fleet.events(), &to)[0], (kind.to_owned(), code, 1));
    }
    all("delivery", "to-451once@d.test");
    // The two reports: of the recipient, and of the content.
    all("delivery", "s@a.test");
    all("delivery", "from-554@a.test");
}
