//! Postfix as the destination: mail of every kind, by STARTTLS and in clear, through the proxy from several
//! addresses; what it refuses, defers and finds too large.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use egret_tests::harness::{Fleet, Options, eventually};
use serde_json::Value;

use crate::peers::Postfix;
use crate::support::submit;

const USERS: [&str; 3] = ["one", "two", "d\u{e9}j\u{e0}"];

fn fleet_towards(postfix: &Postfix, tables: &str) -> Fleet {
    let route = format!("[[route]]\ndomains = [\"*\"]\nhosts = [\"{}\"]\n", postfix.smtp);
    Fleet::start(&Options { dialect: Some("socks5"), tables: route + tables, ..Options::default() })
}

/// Messages that are hard to carry, by their subjects.
fn messages() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let long = format!("{}\r\n", "x".repeat(998)).repeat(3);
    let mut many_lines = String::new();
    for n in 0..60_000 {
        let _ = write!(many_lines, "{}line {n} {}\r\n", ".".repeat(n % 3), "y".repeat(60));
    }
    let every_byte: Vec<u8> = (0x80..=0xffu8).chain(1..=9).chain([11, 12]).chain(14..0x7f).collect();
    vec![
        ("plain", "", b"\r\nhello\r\n".to_vec()),
        ("bodiless", "", b"".to_vec()),
        ("dots", "", b"\r\n.\r\n..\r\n.x\r\n...\r\nx.\r\n\r\n.\r\n".to_vec()),
        ("blank ends", "", b"\r\n\r\n\r\n text \r\n\t\r\n\r\n\r\n".to_vec()),
        ("long lines", "", [b"\r\n", long.as_bytes()].concat()),
        ("many lines", "", [b"\r\n", many_lines.as_bytes()].concat()),
        ("eight bits", " BODY=8BITMIME", [b"\r\n", &every_byte[..], b"\r\n"].concat()),
        (
            "gr\u{fc}\u{df}e",
            " BODY=8BITMIME SMTPUTF8",
            "X-Name: \u{540d}\u{524d}\r\n\r\n\u{fc}\r\n".as_bytes().to_vec(),
        ),
    ]
}

/// What was put in front of a message on the way, if the rest is as it was sent. Mailboxes have LF alone.
fn front<'m>(kept: &'m [u8], sent: &[u8]) -> Option<&'m str> {
    let sent: Vec<u8> = sent.iter().copied().filter(|byte| *byte != b'\r').collect();
    std::str::from_utf8(kept.strip_suffix(&sent[..])?).ok()
}

/// The names of header fields.
fn names(headers: &str) -> BTreeSet<&str> {
    let fields = headers.lines().filter(|line| !line.starts_with(['\t', ' ']));
    fields.map(|line| line.split(':').next().unwrap_or_default()).collect()
}

fn store_and_compare(tls: bool) {
    let level = if tls { "may" } else { "none" };
    let Some(postfix) = Postfix::start(&USERS, &format!("smtpd_tls_security_level = {level}\n")) else { return };
    let fleet = fleet_towards(&postfix, "");
    let recipients = USERS.map(|user| format!("{user}@store.test"));
    let mut sources = BTreeSet::new();
    for (subject, parameters, rest) in messages() {
        let content = [format!("Subject: {subject}\r\n").as_bytes(), &rest].concat();
        // The last recipient's address needs SMTPUTF8.
        let taken = if parameters.contains("SMTPUTF8") { 3 } else { 2 };
        let to: Vec<&str> = recipients[..taken].iter().map(String::as_str).collect();
        let answer = submit(fleet.smtp, &format!("<s@store.test>{parameters}"), &to, &content);
        assert!(answer.starts_with("250 "), "{subject}: {answer}");
        for user in &USERS[..taken] {
            let kept = postfix.message(user, |kept| front(kept, &content).is_some());
            let front = front(&kept, &content).expect("it was found by that");
            assert_eq!(names(front), BTreeSet::from(["Delivered-To", "Received", "Return-Path", "X-Original-To"]));
            let protocol = if tls { "SMTPS id" } else { "SMTP id" };
            assert!(front.contains(protocol), "{front}");
            assert!(front.contains("Received: from mta.test (unknown [127."), "{front}");
            let from = front.split("(unknown [").nth(1).and_then(|rest| rest.split(']').next()).map(str::to_owned);
            sources.extend(from);
        }
    }
    let own: BTreeSet<String> = fleet.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, own, "each source carried some");
    let last = messages().len();
    let deliveries = eventually("all events", || {
        let deliveries = fleet.events().into_iter().filter(|event| event["type"] == "delivery").collect::<Vec<_>>();
        if deliveries.len() >= last { Ok(deliveries) } else { Err(format!("{deliveries:?}")) }
    });
    assert_eq!(deliveries.len(), last, "one transaction each");
    assert!(deliveries.iter().all(|event| event["tls"].is_string() == tls && event["attempt"] == 1));
}

#[test]
fn postfix_keeps_over_tls_what_was_sent_byte_for_byte() {
    store_and_compare(true);
}

#[test]
fn postfix_keeps_in_clear_what_was_sent_byte_for_byte() {
    store_and_compare(false);
}

/// The events of a kind about the message that was sent by `sender`, as pairs of recipient and reply code.
fn told(fleet: &Fleet, kind: &str, sender: &str) -> Vec<(String, u64)> {
    let events = fleet.events();
    let about = events.iter().filter(|event| event["type"] == kind && event["sender"] == sender);
    let each = about.flat_map(|event| {
        let code = event["response"]["code"].as_u64().unwrap_or_default();
        let to = event["recipients"].as_array().into_iter().flatten().filter_map(Value::as_str);
        to.map(move |to| (to.to_owned(), code)).collect::<Vec<_>>()
    });
    let mut each: Vec<_> = each.collect();
    each.sort();
    each
}

fn waits_for(fleet: &Fleet, kind: &str, sender: &str, count: usize) -> Vec<(String, u64)> {
    fleet.event(kind, |event| {
        event["type"] == kind && event["sender"] == sender && told(fleet, kind, sender).len() >= count
    });
    told(fleet, kind, sender)
}

/// More recipients than Postfix forgives errors: it answers the 20th unknown one with 421 and leaves.
#[test]
fn each_recipient_has_its_answer_though_postfix_hangs_up_on_too_many_errors() {
    let settings = "smtpd_soft_error_limit = 1000\nsmtpd_recipient_limit = 1000\n";
    let Some(postfix) = Postfix::start(&["one", "two", "sender"], settings) else { return };
    let fleet = fleet_towards(&postfix, "");
    let unknown: Vec<String> = (0..30).map(|n| format!("nobody{n}@store.test")).collect();
    let mut to: Vec<&str> = unknown.iter().map(String::as_str).collect();
    to.insert(1, "one@store.test");
    to.push("two@store.test");
    let answer = submit(fleet.smtp, "<sender@store.test>", &to, b"Subject: many\r\n\r\nhello\r\n");
    assert!(answer.starts_with("250 "), "{answer}");
    let delivered = waits_for(&fleet, "delivery", "sender@store.test", 2);
    assert_eq!(delivered, [("one@store.test".to_owned(), 250), ("two@store.test".to_owned(), 250)]);
    let bounced = waits_for(&fleet, "bounce", "sender@store.test", unknown.len());
    let mut wanted: Vec<_> = unknown.iter().map(|to| (to.clone(), 550)).collect();
    wanted.sort();
    assert_eq!(bounced, wanted);
    let deferred = told(&fleet, "transient_failure", "sender@store.test");
    assert!(deferred.iter().any(|(_, code)| *code == 421), "{deferred:?}");
    for user in ["one", "two"] {
        postfix.message(user, |_| true);
        assert_eq!(postfix.mailbox(user).len(), 1, "{user} got it once");
    }
    postfix.message("sender", |report| {
        String::from_utf8_lossy(report).contains("Final-Recipient: rfc822; nobody29@store.test")
    });
}

#[test]
fn what_postfix_defers_is_taken_later_and_what_is_too_large_comes_back() {
    // A process of its own for each connection: one that stays does not see a table that changes within a second.
    let settings = "message_size_limit = 50000\nvirtual_mailbox_limit = 0\nsmtpd_discard_ehlo_keywords = size\nmax_use = 1\n\
                    smtpd_recipient_restrictions = check_recipient_access hash:@PATH@/access, permit_mynetworks, reject\n";
    let Some(postfix) = Postfix::start(&["one", "two", "sender"], settings) else { return };
    let access = |line: &str| {
        let file = postfix.file("access");
        std::fs::write(&file, line).expect("written");
        postfix.order("postmap", &[&format!("hash:{}", file.display())]);
    };
    access("one@store.test 450 4.2.0 come again\n");
    let fleet = fleet_towards(&postfix, "[delivery]\nidle_timeout = \"100ms\"\n");
    let to = ["one@store.test", "two@store.test"];
    let answer = submit(fleet.smtp, "<early@store.test>", &to, b"Subject: early\r\n\r\nhello\r\n");
    assert!(answer.starts_with("250 "), "{answer}");
    assert_eq!(waits_for(&fleet, "delivery", "early@store.test", 1), [("two@store.test".to_owned(), 250)]);
    assert_eq!(waits_for(&fleet, "transient_failure", "early@store.test", 1)[0], ("one@store.test".to_owned(), 450));
    access("one@store.test OK\n");
    postfix.message("one", |kept| kept.ends_with(b"hello\n"));
    postfix.message("two", |_| true);

    // It does not say how much it takes, and answers 552 to the content.
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcdef0123456789abcdef\r\n".repeat(2_000)].concat();
    assert!(submit(fleet.smtp, "<sender@store.test>", &to, &large).starts_with("250 "));
    let bounced = waits_for(&fleet, "bounce", "sender@store.test", 2);
    assert_eq!(bounced, to.map(|to| (to.to_owned(), 552)));
    postfix.message("sender", |report| {
        let report = String::from_utf8_lossy(report);
        report.contains("Status: 5.3.4") && report.contains("Diagnostic-Code: smtp; 552")
    });
    assert_eq!((postfix.mailbox("one").len(), postfix.mailbox("two").len()), (1, 1));
}

#[test]
fn what_is_larger_than_postfix_says_it_takes_is_never_sent() {
    let Some(postfix) = Postfix::start(&["one", "sender"], "message_size_limit = 50000\nvirtual_mailbox_limit = 0\n")
    else {
        return;
    };
    let fleet = fleet_towards(&postfix, "");
    let large = [&b"Subject: large\r\n\r\n"[..], &b"0123456789abcdef0123456789abcdef\r\n".repeat(2_000)].concat();
    assert!(submit(fleet.smtp, "<sender@store.test>", &["one@store.test"], &large).starts_with("250 "));
    let bounce = fleet.event("the bounce", |event| event["type"] == "bounce");
    assert_eq!(bounce["response"]["enhanced"], "5.3.4", "{bounce}");
    // The report says why, and is small enough to come through: of a large message it has the headers.
    postfix.message("sender", |report| String::from_utf8_lossy(report).contains("Status: 5.3.4"));
    assert!(postfix.mailbox("one").is_empty());
    assert!(!postfix.log().contains("size limit"), "{}", postfix.log());
}
