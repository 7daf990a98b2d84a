//! Tests of the report: each is read back by a parser that is not ours. Floor 2.

use mail_parser::{MessageParser, MimeHeaders, PartType};
use proptest::prelude::*;

use super::super::status::status;
use super::*;
use crate::message::{EnhancedCode, Metadata};
use egret_shared::text::Line;

const ID: [u8; 16] = [0xab; 16];

fn address(text: &str) -> Address {
    Address::parse(text).expect("a mail address")
}

fn response(code: u16, enhanced: Option<EnhancedCode>, text: &str) -> Response {
    Response { code, enhanced, text: Line::sanitized(text.as_bytes()), command: Some("RCPT".to_owned()) }
}

fn original(sender: Option<&str>, body: &[u8]) -> Message {
    let meta = Metadata {
        received: UnixMs(1_000),
        sender: sender.map(address),
        eight_bit: false,
        not_before: None,
        smtputf8: false,
        wish: MessageWish::default(),
        parts: Vec::new(),
    };
    let added = Bytes::from_static(b"Received: from client.test by host.test; Thu, 1 Jan 1970 00:00:01 +0000\r\n");
    Message { id: MessageId::from_bytes(ID), meta, content: Content { added, body: Bytes::copy_from_slice(body) } }
}

const NOW: UnixMs = UnixMs(86_401_000);

fn told<'a>(recipient: &'a Address, response: &'a Response) -> Told<'a> {
    Told { recipient, wish: None, response, remote: None, last_attempt: Some(NOW) }
}

fn report_of(news: News, original: &Message, recipients: &[Told<'_>]) -> Option<Dsn> {
    let (id, received) = (MessageId::from_bytes([0xcd; 16]), UnixMs(1_000));
    let max_returned_bytes = 100_000;
    write(&Report { id, hostname: "host.test", original, received, now: NOW, news, recipients, max_returned_bytes })
}

fn report(original: &Message, recipients: &[Told<'_>]) -> Option<Dsn> {
    report_of(News::Failed, original, recipients)
}

/// The types and decoded bodies of the three parts.
fn parts(dsn: &Dsn) -> Vec<(String, String)> {
    let parsed = MessageParser::default().parse(&dsn.content.body[..]).expect("a message");
    let kind = parsed.content_type().expect("a content type");
    assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    let PartType::Multipart(children) = &parsed.parts[0].body else { panic!("not multipart: {dsn:?}") };
    let child = |at: &u32| {
        let part = &parsed.parts[*at as usize];
        let kind = part.content_type().expect("each part has a content type");
        let body = match &part.body {
            PartType::Text(text) | PartType::Html(text) => text.to_string(),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            PartType::Message(message) => String::from_utf8_lossy(message.raw_message()).into_owned(),
            PartType::Multipart(_) => panic!("a part of a report is not multipart"),
        };
        (format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("")), body)
    };
    children.iter().map(child).collect()
}

/// The fields of a delivery-status group, unfolded.
fn fields(group: &str) -> Vec<(String, String)> {
    let unfolded = group.replace("\r\n ", " ");
    let split = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    unfolded.lines().filter_map(split).collect()
}

fn pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn each_field_says_what_happened() {
    let message = original(Some("from@sender.test"), b"Subject: hello\r\n\r\nbody\r\n");
    let (one, two) = (address("one@dest.test"), address("two@dest.test"));
    let refused = response(550, Some(EnhancedCode::new(5, 7, 511)), "no such user");
    let late = Response::own(551, EnhancedCode::new(5, 4, 7), "waited longer than 5d");
    let dsn = report(&message, &[Told { remote: Some("mx.dest.test"), ..told(&one, &refused) }]).expect("a report");
    assert_eq!((dsn.recipient.as_str(), dsn.eight_bit, dsn.smtputf8), ("from@sender.test", false, false));
    let parts = parts(&dsn);
    let kinds: Vec<_> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "message/rfc822"]);

    let id = "abababababababababababababababab";
    let groups: Vec<_> = parts[1].1.split("\r\n\r\n").map(fields).collect();
    assert_eq!(
        pairs(&groups[0]),
        [("Reporting-MTA", "dns; host.test"), ("Arrival-Date", "Thu, 01 Jan 1970 00:00:01 +0000")]
    );
    assert_eq!(
        pairs(&groups[1]),
        [
            ("Final-Recipient", "rfc822; one@dest.test"),
            ("Action", "failed"),
            ("Status", "5.7.511"),
            ("Remote-MTA", "dns; mx.dest.test"),
            ("Diagnostic-Code", "smtp; 550 5.7.511 no such user"),
            ("Last-Attempt-Date", "Fri, 02 Jan 1970 00:00:01 +0000"),
            ("Final-Log-Id", id),
        ]
    );
    assert_eq!(groups.len(), 2);
    let expired = Told { last_attempt: None, ..told(&two, &late) };
    let expired = report_of(News::Expired, &message, &[told(&one, &refused), expired]).expect("a report");
    let groups: Vec<_> = self::parts(&expired)[1].1.split("\r\n\r\n").map(fields).collect();
    assert_eq!(
        pairs(&groups[2]),
        [
            ("Final-Recipient", "rfc822; two@dest.test"),
            ("Action", "failed"),
            ("Status", "5.4.7"),
            ("Diagnostic-Code", "x-egret; 551 5.4.7 waited longer than 5d"),
            ("Final-Log-Id", id),
        ]
    );
    assert_eq!(groups.len(), 3);
    assert!(parts[2].1.starts_with("Received: from client.test"), "{}", parts[2].1);
    assert!(parts[2].1.contains("Subject: hello\r\n\r\nbody"), "{}", parts[2].1);
}

#[test]
fn a_rule_over_answers_is_not_told_to_the_sender() {
    let (message, recipient) = (original(Some("from@sender.test"), b"\r\n"), address("one@dest.test"));
    let reason = reason::write("/etc/egret/shaping.toml:1", "slow down", "451 4.7.1 slow down you");
    let ordered = Response::own(554, EnhancedCode::new(5, 7, 0), &reason);
    let dsn = report(&message, &[told(&recipient, &ordered)]).expect("a report");
    let parts = parts(&dsn);
    let want = "554 5.7.0 its mail server said of such mail: 451 4.7.1 slow down you";
    let group = fields(parts[1].1.split("\r\n\r\n").nth(1).expect("a recipient"));
    assert!(pairs(&group).contains(&("Diagnostic-Code", &*format!("x-egret; {want}"))), "{group:?}");
    assert!(parts[0].1.contains(want), "{}", parts[0].1);
    let all = String::from_utf8_lossy(&dsn.content.body);
    assert!(!all.contains("shaping.toml") && !all.contains("/slow down/"), "{all}");
}

#[test]
fn the_headers_are_those_of_an_automatic_answer() {
    let message = original(Some("from@sender.test"), b"\r\n");
    let recipient = address("one@dest.test");
    let refused = response(550, None, "no");
    let failures = [told(&recipient, &refused)];
    let dsn = report(&message, &failures).expect("a report");
    let parsed = MessageParser::default().parse(&dsn.content.body[..]).expect("a message");
    let first = |list: Option<&mail_parser::Address<'_>>| {
        list.and_then(|l| l.first()).and_then(|a| a.address()).map(str::to_owned)
    };
    assert_eq!(first(parsed.from()).as_deref(), Some("MAILER-DAEMON@host.test"));
    assert_eq!(first(parsed.to()).as_deref(), Some("from@sender.test"));
    assert_eq!(parsed.subject(), Some("Undelivered mail returned to sender"));
    assert_eq!(parsed.message_id(), Some("cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd.dsn@host.test"));
    assert_eq!(parsed.date().map(mail_parser::DateTime::to_timestamp), Some(86_401));
    assert_eq!(parsed.header_raw("Auto-Submitted").map(str::trim), Some("auto-replied"));
    assert_eq!(parsed.header_raw("MIME-Version").map(str::trim), Some("1.0"));
}

#[test]
fn a_person_reads_who_why_and_that_it_is_final() {
    let message = original(Some("from@sender.test"), b"\r\n");
    let recipient = address("one@dest.test");
    let refused = response(550, Some(EnhancedCode::new(5, 1, 1)), "Boîte inconnue");
    let failures = [Told { remote: Some("mx.dest.test"), ..told(&recipient, &refused) }];
    let text = parts(&report(&message, &failures).expect("a report")).remove(0).1;
    let want = "This is the mail system at host.test.\r\n\
        \r\n\
        Your message could not be delivered to the recipients below.\r\n\
        No more attempts are made for them.\r\n\
        \r\n\
        \x20 <one@dest.test>\r\n\
        \x20   The mail server mx.dest.test answered to RCPT:\r\n\
        \x20   550 5.1.1 Boîte inconnue\r\n\
        \r\n\
        The message was accepted on Thu, 01 Jan 1970 00:00:01 +0000.\r\n\
        Its id here is abababababababababababababababab.\r\n\
        It is attached.";
    assert_eq!(text.trim_end(), want);
}

#[test]
fn there_is_no_report_about_a_report() {
    let recipient = address("one@dest.test");
    let refused = response(550, None, "no");
    let failures = [told(&recipient, &refused)];
    assert_eq!(report(&original(None, b"\r\n"), &failures), None);
    assert_eq!(report(&original(Some("a@b.test"), b"\r\n"), &[]), None);
}

#[test]
fn a_status_follows_from_code_or_expiry_where_none_was_given() {
    let recipient = address("one@dest.test");
    let late = News::Delayed { until: NOW };
    for (code, enhanced, news, want) in [
        (550, None, News::Failed, "5.0.0"),
        (421, None, News::Failed, "4.0.0"),
        (550, Some((2, 0, 0)), News::Failed, "5.0.0"),
        (450, Some((4, 2, 1)), News::Failed, "4.2.1"),
        (450, Some((4, 2, 1)), News::Expired, "5.4.7"),
        (550, Some((5, 1, 1)), News::Expired, "5.1.1"),
        (450, Some((4, 2, 1)), late, "4.2.1"),
        (554, Some((5, 7, 1)), late, "4.0.0"),
        (250, Some((2, 6, 0)), News::Relayed, "2.6.0"),
        (250, None, News::Delivered, "2.0.0"),
    ] {
        let said = response(code, enhanced.map(|(a, b, c)| EnhancedCode::new(a, b, c)), "x");
        assert_eq!(status(news, &told(&recipient, &said)).to_string(), want, "{code} {enhanced:?} {news:?}");
    }
}

#[test]
fn long_mail_is_returned_by_its_headers() {
    let body = [b"Subject: long\r\n\r\n".as_slice(), &b"0123456789\r\n".repeat(2_000)].concat();
    let message = original(Some("from@sender.test"), &body);
    let recipient = address("one@dest.test");
    let refused = response(550, None, "no");
    let failures = [told(&recipient, &refused)];
    let parts = parts(&report(&message, &failures).expect("a report"));
    assert_eq!(parts[2].0, "text/rfc822-headers");
    assert!(parts[2].1.contains("Subject: long") && !parts[2].1.contains("0123456789"), "{}", parts[2].1);
}

#[test]
fn addresses_beyond_ascii_are_escaped_for_a_sender_within_it() {
    let refused = response(550, None, "é");
    for (recipient, want) in [
        ("one@exämple.test", "rfc822; one@xn--exmple-cua.test"),
        ("ö+é@exämple.test", "utf-8; \\x{F6}\\x{2B}\\x{E9}@xn--exmple-cua.test"),
    ] {
        let message = original(Some("from@sender.test"), "Subject: ü\r\n\r\nbody\r\n".as_bytes());
        let recipient = address(recipient);
        let failures = [told(&recipient, &refused)];
        let dsn = report(&message, &failures).expect("a report");
        assert!(dsn.content.body.is_ascii() && !dsn.smtputf8 && !dsn.eight_bit);
        let parts = parts(&dsn);
        assert!(parts[0].1.contains(recipient.as_str()), "{}", parts[0].1);
        let group = fields(parts[1].1.split("\r\n\r\n").nth(1).expect("a recipient"));
        assert_eq!(pairs(&group)[0], ("Final-Recipient", want));
        assert_eq!(pairs(&group)[3], ("Diagnostic-Code", "smtp; 550 ?"));
        assert_eq!(parts[2].0, "text/rfc822-headers");
        assert!(parts[2].1.contains("Subject: ü"), "{}", parts[2].1);
    }
}

#[test]
fn a_sender_beyond_ascii_gets_the_types_of_rfc_6533() {
    let message = original(Some("é@sender.test"), "Subject: ü\r\n\r\nbody\r\n".as_bytes());
    let recipient = address("ö@exämple.test");
    let refused = response(550, None, "é");
    let failures = [told(&recipient, &refused)];
    let dsn = report(&message, &failures).expect("a report");
    assert!(dsn.smtputf8 && dsn.eight_bit);
    let parts = parts(&dsn);
    let kinds: Vec<_> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["text/plain", "message/global-delivery-status", "message/global-headers"]);
    let group = fields(parts[1].1.split("\r\n\r\n").nth(1).expect("a recipient"));
    assert_eq!(pairs(&group)[0], ("Final-Recipient", "utf-8; ö@exämple.test"));
    assert_eq!(pairs(&group)[3], ("Diagnostic-Code", "smtp; 550 é"));
}

/// What comes back of a message of so many bytes, and the rest of its status.
fn asked(ret: Option<Return>, news: News, body: &[u8]) -> (String, bool, String) {
    let mut message = original(Some("from@sender.test"), body);
    message.meta.wish = MessageWish { ret, envid: Line::new("my id  7").ok() };
    let (recipient, answer) = (address("one@dest.test"), response(250, None, "ok"));
    let dsn = report_of(news, &message, &[told(&recipient, &answer)]).expect("a report");
    let mut parts = parts(&dsn);
    (parts.remove(2).0, dsn.eight_bit, parts.remove(1).1)
}

#[test]
fn as_much_comes_back_as_the_sender_asked_for_and_only_of_what_failed() {
    let (full, hdrs) = (Some(Return::Full), Some(Return::Hdrs));
    let body = |length: usize, byte: u8| {
        [b"Subject: x\r\n\r\n", &[&[byte; 80][..], b"\r\n"].concat().repeat(length / 82)[..]].concat()
    };
    let (short, long, huge, eight) = (body(820, b'x'), body(50_000, b'x'), body(200_000, b'x'), body(820, 0xe9));
    let headers = "text/rfc822-headers";
    for (ret, news, body, want) in [
        (None, News::Failed, &short, ("message/rfc822", false)),
        (None, News::Failed, &long, (headers, false)),
        (None, News::Failed, &eight, (headers, false)),
        (hdrs, News::Failed, &short, (headers, false)),
        (full, News::Expired, &long, ("message/rfc822", false)),
        (full, News::Failed, &huge, (headers, false)),
        (full, News::Failed, &eight, ("message/rfc822", true)),
        (full, News::Relayed, &short, (headers, false)),
        (full, News::Delivered, &short, (headers, false)),
        (None, News::Delayed { until: NOW }, &short, (headers, false)),
    ] {
        let (kind, is_eight_bit, status) = asked(ret, news, body);
        assert_eq!((&*kind, is_eight_bit), want, "{ret:?} {news:?} {}", body.len());
        assert!(status.starts_with("Original-Envelope-Id: my id  7\r\n"), "{status}");
    }
}

#[test]
fn news_that_is_no_failure_says_so_to_people_and_programs() {
    let message = original(Some("from@sender.test"), b"\r\n");
    let (recipient, answer) = (address("one@dest.test"), response(250, None, "ok"));
    let wish = RecipientWish { notify: None, original: Original::new("rfc822", "first@dest.test") };
    for (news, action, status, subject, words) in [
        (News::Relayed, "relayed", "2.0.0", "Mail was passed on", "was passed on"),
        (News::Delivered, "delivered", "2.0.0", "Mail was delivered", "was delivered"),
        (
            News::Delayed { until: NOW },
            "delayed",
            "4.0.0",
            "Mail is late and still being tried",
            "tried until Fri, 02 Jan",
        ),
    ] {
        let dsn =
            report_of(news, &message, &[Told { wish: Some(&wish), ..told(&recipient, &answer) }]).expect("a report");
        let parsed = MessageParser::default().parse(&dsn.content.body[..]).expect("a message");
        assert_eq!(parsed.subject(), Some(subject));
        let parts = parts(&dsn);
        assert!(parts[0].1.contains(words), "{}", parts[0].1);
        let group = fields(parts[1].1.split("\r\n\r\n").nth(1).expect("a recipient"));
        let group = pairs(&group);
        assert_eq!(group[0], ("Original-Recipient", "rfc822; first@dest.test"));
        assert_eq!((group[2], group[3]), (("Action", action), ("Status", status)));
        let until = group.iter().find(|(name, _)| *name == "Will-Retry-Until").map(|(_, at)| *at);
        assert_eq!(until, (action == "delayed").then_some("Fri, 02 Jan 1970 00:00:01 +0000"));
    }
}

#[test]
fn an_original_recipient_beyond_ascii_is_told_in_the_charset_of_the_sender() {
    let (recipient, answer) = (address("one@dest.test"), response(550, None, "no"));
    let wish = RecipientWish { notify: None, original: Original::new("utf-8", "ü x@dest.test") };
    for (sender, want) in
        [("from@sender.test", "utf-8; \\x{FC}\\x{20}x@dest.test"), ("é@sender.test", "utf-8; ü\\x{20}x@dest.test")]
    {
        let message = original(Some(sender), b"\r\n");
        let dsn = report(&message, &[Told { wish: Some(&wish), ..told(&recipient, &answer) }]).expect("a report");
        let parts = parts(&dsn);
        let group = fields(parts[1].1.split("\r\n\r\n").nth(1).expect("a recipient"));
        assert_eq!(pairs(&group)[0], ("Original-Recipient", want));
    }
    // As long as reception takes it, which is longer than a line in escapes.
    let wish = RecipientWish { notify: None, original: Original::new("utf-8", &"\u{4e2d}".repeat(160)) };
    let message = original(Some("from@sender.test"), b"\r\n");
    let dsn = report(&message, &[Told { wish: Some(&wish), ..told(&recipient, &answer) }]).expect("a report");
    assert!(fits_lines(&dsn.content.body));
}

fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z ]{0,3000}",
        "x{0,3000}",
        Just("--=_cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd".to_owned()),
        Just("\r\n--=_cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd--\r\n".to_owned()),
        "(=_cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd_{0,3}|\r|\n|\0|\u{2028}|ü| ){0,40}",
    ]
}

proptest! {
    #[test]
    fn whatever_is_said_the_report_stays_whole(said in odd_text(), body in odd_text(), full: bool, utf8: bool, own: bool) {
        let sender = if utf8 { "é@sender.test" } else { "from@sender.test" };
        let mut message = original(Some(sender), body.as_bytes());
        message.meta.wish.ret = full.then_some(Return::Full);
        message.meta.wish.envid = Line::new("id").ok();
        let recipient = address("one@dest.test");
        let mut refused = response(550, None, &said);
        if own {
            refused.command = None;
        }
        let failures = [Told { remote: Some("mx.test"), ..told(&recipient, &refused) }];
        let dsn = report(&message, &failures).expect("a report");
        let bytes = &dsn.content.body;
        prop_assert_eq!(&with_crlf(bytes), bytes, "a line end that is not CRLF, or NUL");
        prop_assert!(fits_lines(bytes));
        prop_assert!(utf8 || full || bytes.is_ascii());
        prop_assert_eq!(dsn.eight_bit, !bytes.is_ascii());
        let parts = parts(&dsn);
        prop_assert_eq!(parts.len(), 3);
        let group = fields(parts[1].1.split("\r\n\r\n").nth(1).expect("a recipient"));
        prop_assert_eq!(pairs(&group)[0], ("Final-Recipient", "rfc822; one@dest.test"));
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        fuzz_report(&bytes);
    }
}
