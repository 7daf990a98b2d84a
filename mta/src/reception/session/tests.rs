//! Whole sessions through the machine, in any split of the bytes. Floor 1.

mod auth;

use proptest::prelude::*;

use super::*;
use crate::reception::Budget;
use crate::reception::fuzz::{fuzz_session, talk};
use egret_shared::address::private_networks;

use crate::message::{MessageId, MessageWish, Notify, Return};

const NOW: UnixMs = UnixMs(1_700_000_000_000);
const OPEN: &str = "EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n";

fn open() -> Around<'static> {
    Around { now: NOW, gate: &|_| None }
}

fn settings() -> Settings {
    let mut settings = Settings::new(Line::sanitized(b"mx.test"));
    settings.relay_networks = private_networks();
    settings
}

fn session(settings: Settings) -> Session {
    Session::new(Arc::new(settings), ([127, 0, 0, 1], 9).into(), None)
}

/// Feeds all of `wire`, takes every offer; the codes of the replies and the offers.
fn run(session: &mut Session, wire: &[u8]) -> (Vec<String>, Vec<Offered>, Act) {
    let (mut out, mut offers, mut rest) = (Vec::new(), Vec::new(), wire);
    loop {
        let mut replies = Vec::new();
        let step = session.step(rest, open(), &mut replies);
        rest = &rest[step.used..];
        out.extend(replies);
        match step.act {
            Act::Flush => {}
            Act::Offer(offer) => {
                offers.push(*offer);
                session.answered(Ok(Taken::new(MessageId::from_bytes([1; 16]))), &mut out);
            }
            end => return (codes(&out), offers, end),
        }
    }
}

/// Code and enhanced code of each reply; the lines of a reply to EHLO but the last are left out.
fn codes(out: &[u8]) -> Vec<String> {
    let text = String::from_utf8(out.to_vec()).expect("replies are ASCII");
    let last = text.lines().filter(|line| line.get(3..4) != Some("-"));
    last.map(|line| {
        line.split(' ').take(2).filter(|w| w.starts_with(|c: char| c.is_ascii_digit())).collect::<Vec<_>>().join(" ")
    })
    .collect()
}

fn replies(wire: &str) -> Vec<String> {
    run(&mut session(settings()), wire.as_bytes()).0
}

#[test]
fn a_message_goes_from_greeting_to_goodbye() {
    let wire = format!("{OPEN}RCPT TO:<postmaster>\r\nDATA\r\nS: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n");
    let (codes, offers, act) = run(&mut session(settings()), wire.as_bytes());
    assert_eq!(codes, ["250", "250 2.1.0", "250 2.1.5", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]);
    assert_eq!(act, Act::Close);
    let address = |text| Address::parse(text).expect("an address");
    let want = Offered {
        sender: Some(address("a@b.test")),
        recipients: vec![address("c@d.test"), address("postmaster@mx.test")],
        wish: MessageWish::default(),
        wishes: Wishes::default(),
        eight_bit: false,
        smtputf8: false,
        not_before: None,
        body: bytes::Bytes::from_static(b"S: x\r\n\r\n.dot\r\n"),
        client: ([127, 0, 0, 1], 9).into(),
        helo: Line::new("c.test").expect("a line"),
        tls: None,
        user: None,
        protocol: "ESMTP",
    };
    assert_eq!(offers, [want]);
}

#[test]
fn commands_out_of_place_are_refused() {
    for (wire, want) in [
        ("MAIL FROM:<>\r\n", vec!["503 5.5.1"]),
        ("RCPT TO:<a@b.test>\r\n", vec!["503 5.5.1"]),
        ("HELO c\r\nDATA\r\n", vec!["250", "503 5.5.1"]),
        ("HELO c\r\nMAIL FROM:<> SIZE=1\r\n", vec!["250", "555 5.5.4"]),
        ("HELO c\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n", vec!["250", "250 2.1.0", "503 5.5.1"]),
        ("HELO c\r\nMAIL FROM:<>\r\nDATA\r\n", vec!["250", "250 2.1.0", "554 5.5.1"]),
        (
            "HELO c\r\nMAIL FROM:<>\r\nRSET\r\nRCPT TO:<a@b.test>\r\n",
            vec!["250", "250 2.1.0", "250 2.0.0", "503 5.5.1"],
        ),
        ("HELO c\r\nMAIL FROM:<>\r\nHELO c\r\nDATA\r\n", vec!["250", "250 2.1.0", "250", "503 5.5.1"]),
        ("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ü@b.test>\r\n", vec!["250", "250 2.1.0", "553 5.6.7"]),
        ("EHLO c\r\nMAIL FROM:<> SIZE=52428801\r\n", vec!["250", "552 5.3.4"]),
        ("STARTTLS\r\n", vec!["502 5.5.1"]),
        ("VRFY a\r\nHELP\r\nNOOP\r\n", vec!["252 2.1.5", "214 2.0.0", "250 2.0.0"]),
        ("NOOP\nRSET\r\nNOOP\r\n", vec!["500 5.5.2", "250 2.0.0"]),
        ("GET / HTTP/1.1\r\nNOOP\r\n", vec!["421 4.7.0"]),
    ] {
        assert_eq!(replies(wire), want, "{wire}");
    }
}

#[test]
fn a_stranger_gets_no_recipient_accepted_in_any_spelling() {
    for to in [
        "u@t.test",
        "u%t.test@mx.test",
        "\"u@t.test\"@mx.test",
        "t.test!u",
        "@mx.test:u@t.test",
        "postmaster",
        "u@[127.0.0.1]",
        "u@mx.test",
        "u@localhost",
        "u@t.test.",
        "a@b@c",
        "",
    ] {
        let mut session = Session::new(Arc::new(settings()), ([192, 0, 2, 7], 9).into(), None);
        let wire = format!("EHLO c\r\nMAIL FROM:<u@mx.test>\r\nRCPT TO:<{to}>\r\nDATA\r\nBDAT 1 LAST\r\nx");
        let (codes, offers, _) = run(&mut session, wire.as_bytes());
        assert!(codes[2].starts_with('5') && offers.is_empty(), "{to}: {codes:?}");
        assert_eq!(codes[3..], ["554 5.5.1", "554 5.5.1"], "{to}");
    }
}

#[test]
fn chunks_are_taken_whole_and_in_their_place() {
    for (wire, want, body) in [
        ("BDAT 3\r\na\r\nBDAT 0\r\nBDAT 5 LAST\r\n.\r\nb!", vec!["250 2.0.0"; 3], Some("a\r\n.\r\nb!")),
        ("BDAT 0 LAST\r\n", vec!["250 2.0.0"], Some("")),
        ("BDAT 5 LAST\r\nRSET\nNOOP\r\n", vec!["550 5.6.11", "250 2.0.0"], None),
        ("BDAT 5 LAST\r\nRSE\r\nBDAT 1 LAST\r\nx", vec!["250 2.0.0", "503 5.5.1"], Some("RSE\r\n")),
        (
            "BDAT 2\r\n\r\nDATA\r\nRCPT TO:<a@b.test>\r\nRSET\r\n",
            vec!["250 2.0.0", "503 5.5.1", "503 5.5.1", "250 2.0.0"],
            None,
        ),
        ("BDAT x\r\nNOOP\r\n", vec!["501 5.5.4"], None),
        ("BDAT 18446744073709551615\r\nNOOP\r\n", vec!["552 5.3.4"], None),
    ] {
        let (codes, offers, _) = run(&mut session(settings()), format!("{OPEN}{wire}").as_bytes());
        assert_eq!(codes[3..], want, "{wire}");
        let bodies: Vec<&[u8]> = offers.iter().map(|o| &*o.body).collect();
        assert_eq!(bodies, body.iter().map(|b| b.as_bytes()).collect::<Vec<_>>(), "{wire}");
    }
}

#[test]
fn chunks_over_the_limit_are_thrown_away_and_the_session_keeps_step() {
    let mut settings = settings();
    settings.max_message_bytes = 10;
    let wire = format!("{OPEN}BDAT 6\r\n123456BDAT 6\r\nRSET\r\nBDAT 4 LAST\r\nNO\r\nNOOP\r\n");
    let (codes, offers, _) = run(&mut session(settings), wire.as_bytes());
    assert_eq!(codes[3..], ["250 2.0.0", "552 5.3.4", "503 5.5.1", "250 2.0.0"]);
    assert!(offers.is_empty());
}

#[test]
fn a_refused_message_is_read_to_its_end_and_what_follows_are_commands() {
    let mut small = settings();
    small.max_message_bytes = 10;
    let long = format!("{}\r\n", "x".repeat(999));
    for (settings, data, code) in [
        (small, "more than ten bytes\r\nRSET\r\n", "552 5.3.4"),
        (settings(), "a\nRSET\r\n", "550 5.6.11"),
        (settings(), "a\0\r\n", "550 5.6.11"),
        (settings(), &*long, "550 5.6.0"),
    ] {
        let wire = format!("{OPEN}DATA\r\n{data}.\r\nNOOP\r\n");
        let (codes, offers, act) = run(&mut session(settings), wire.as_bytes());
        assert_eq!(codes[3..], ["354", code, "250 2.0.0"], "{data}");
        assert!(offers.is_empty() && act == Act::More);
    }
}

#[test]
fn a_smuggled_end_closes_the_session_after_the_true_one() {
    let wire = format!("{OPEN}DATA\r\nhi\n.\r\nMAIL FROM:<evil@x.test>\r\n.\r\nNOOP\r\n");
    let mut session = session(settings());
    let (codes, offers, act) = run(&mut session, wire.as_bytes());
    assert_eq!(codes[3..], ["354", "550 5.6.11"]);
    assert!(offers.is_empty() && act == Act::Close && session.smuggled());
}

#[test]
fn a_message_without_end_closes_the_session() {
    let mut settings = settings();
    settings.max_message_bytes = 1000;
    let wire = [OPEN.as_bytes(), b"DATA\r\n", &b"endless\r\n".repeat(120_000)].concat();
    let (codes, _, act) = run(&mut session(settings), &wire);
    assert_eq!((&codes[3..], act), (&["354".to_owned(), "552 5.3.4".to_owned()][..], Act::Close));
}

#[test]
fn each_limit_of_a_session_is_told_and_kept() {
    let errors = replies(&"XYZZY\r\n".repeat(50));
    assert_eq!((errors.len(), errors.last().map(String::as_str)), (21, Some("421 4.7.0")));
    let idle = replies(&"NOOP\r\n".repeat(500));
    assert_eq!((idle.len(), idle.last().map(String::as_str)), (101, Some("421 4.7.0")));
    let long = replies(&format!("{}\r\nNOOP\r\n", "x".repeat(4096)));
    assert_eq!(long, ["500 5.5.2", "250 2.0.0"]);
    assert_eq!(replies(&"x".repeat(100_000)), ["421 4.7.0"]);
    let mut few = settings();
    (few.max_recipients, few.max_messages_per_session) = (2, 1);
    let message = format!("{OPEN}RCPT TO:<e@d.test>\r\nRCPT TO:<f@d.test>\r\nDATA\r\n.\r\n");
    let (codes, offers, act) = run(&mut session(few), message.repeat(2).as_bytes());
    assert_eq!(codes[3..], ["250 2.1.5", "452 4.5.3", "354", "250 2.0.0", "250", "421 4.7.0"]);
    assert_eq!((offers[0].recipients.len(), act), (2, Act::Close));
}

#[test]
fn the_gate_is_asked_before_each_mail() {
    let full = |_| Some(Refusal::new(452, (4, 3, 1), "disk is full"));
    let (mut session, mut out) = (session(settings()), Vec::new());
    let step = session.step(b"EHLO c\r\nMAIL FROM:<>\r\n", Around { now: NOW, gate: &full }, &mut out);
    assert_eq!((codes(&out), step.act), (vec!["250".to_owned(), "452 4.3.1".to_owned()], Act::More));
    assert!(session.is_idle());
    assert_eq!(session.refused().collect::<Vec<_>>(), [452]);
}

#[test]
fn the_answer_is_the_acceptors_and_421_closes() {
    for (code, act) in [(451, Act::More), (421, Act::Close)] {
        let (mut session, mut out) = (session(settings()), Vec::new());
        let step = session.step(format!("{OPEN}DATA\r\n.\r\n").as_bytes(), open(), &mut out);
        assert!(matches!(step.act, Act::Offer(_)));
        out.clear();
        session.answered(Err(Refusal::new(code, (4, 3, 0), "naïve\nwords")), &mut out);
        assert_eq!(out, format!("{code} 4.3.0 na?ve?words\r\n").as_bytes());
        assert_eq!(session.step(b"", open(), &mut out).act, act);
    }
}

#[test]
fn replies_that_pile_up_are_sent_before_more_is_read() {
    let mut settings = settings();
    settings.max_idle_commands = 10_000;
    let (mut session, mut out) = (session(settings), Vec::new());
    let wire = b"EHLO c\r\n".repeat(1_000);
    let step = session.step(&wire, open(), &mut out);
    assert_eq!(step.act, Act::Flush);
    assert!(step.used < wire.len() && out.len() < MAX_REPLY_BYTES + 512);
}

/// Pieces of sessions, good and bad.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "EHLO c\r\n",
        "HELO c\r\n",
        "MAIL FROM:<a@b.c>\r\n",
        "MAIL FROM:<> SIZE=99\r\n",
        "RCPT TO:<c@d.e>\r\n",
        "RCPT TO:<postmaster>\r\n",
        "DATA\r\n",
        "\r\n.\r\n",
        ".\r\n",
        "..\r\n",
        "text\r\n",
        "\n.\n",
        "\r",
        "\n",
        "\0",
        ".",
        "BDAT 3\r\n",
        "BDAT 5 LAST\r\n",
        "BDAT 999\r\n",
        "BDAT 0 LAST\r\n",
        "abc",
        "RSET\r\n",
        "NOOP\r\n",
        "QUIT\r\n",
        "STARTTLS\r\n",
        "AUTH PLAIN AHUAcA==\r\n",
        "AUTH PLAIN AHUAcQ==\r\n",
        "AUTH LOGIN\r\n",
        "dQ==\r\n",
        "XYZZY\r\n",
        "ü",
        "a line of text that is far too long for the limit here xxx\r\n",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_split_leads_to_the_same_session(tail in pieces(), size in 1usize..64) {
        let wire = [OPEN.as_bytes(), &tail].concat();
        prop_assert_eq!(talk(&wire, size), talk(&wire, wire.len()));
        fuzz_session(&wire);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
        fuzz_session(&bytes);
        fuzz_session(&[OPEN.as_bytes(), b"DATA\r\n", &bytes].concat());
    }
}

#[test]
fn a_message_is_held_as_long_as_the_listener_allows() {
    let mut holding = settings();
    holding.max_future_release = std::time::Duration::from_secs(3_600);
    let mut out = Vec::new();
    session(holding.clone()).step(b"EHLO c.test\r\n", open(), &mut out);
    let told = String::from_utf8(out).expect("ASCII");
    assert!(told.contains("\r\n250-FUTURERELEASE 3600 2023-11-14T23:13:20Z\r\n"), "{told}");
    for (parameter, code, until) in [
        ("HOLDFOR=60", "250 2.1.0", Some(NOW.0 + 60_000)),
        ("HOLDUNTIL=2023-11-14T23:13:20Z", "250 2.1.0", Some(NOW.0 + 3_600_000)),
        ("HOLDUNTIL=2023-11-14T22:13:19Z", "250 2.1.0", None),
        ("HOLDFOR=3601", "501 5.5.4", None),
        ("HOLDUNTIL=2023-11-14T23:13:21Z", "501 5.5.4", None),
    ] {
        let wire = format!("EHLO c\r\nMAIL FROM:<> {parameter}\r\nRCPT TO:<c@d.test>\r\nDATA\r\n.\r\n");
        let (codes, offers, _) = run(&mut session(holding.clone()), wire.as_bytes());
        assert_eq!(codes[1], code, "{parameter}");
        let held = offers.first().and_then(|offer| offer.not_before);
        assert_eq!((held, offers.len()), (until.map(UnixMs), usize::from(code.starts_with("250"))), "{parameter}");
    }
}

#[test]
fn a_listener_that_holds_nothing_neither_offers_nor_takes_it() {
    let mut out = Vec::new();
    session(settings()).step(b"EHLO c.test\r\nMAIL FROM:<> HOLDFOR=1\r\n", open(), &mut out);
    let told = String::from_utf8(out).expect("ASCII");
    assert!(!told.contains("FUTURERELEASE") && told.ends_with("555 5.5.4 parameter not supported\r\n"), "{told}");
    assert_eq!(replies("HELO c\r\nMAIL FROM:<> HOLDFOR=1\r\n"), ["250", "555 5.5.4"]);
}

#[test]
fn messages_that_come_at_once_share_a_budget() {
    let mut tight = settings();
    tight.budget = Budget::new(1_000);
    let (mut first, mut second) = (session(tight.clone()), session(tight.clone()));
    let text = format!("{}\r\n", "a".repeat(98)).repeat(9);
    let (codes, ..) = run(&mut first, format!("{OPEN}DATA\r\n{text}").as_bytes());
    assert_eq!(codes.last().map(String::as_str), Some("354"));
    // 900 bytes are held: a hundred more have room, a declared two hundred have none.
    let (codes, ..) =
        run(&mut second, b"EHLO c\r\nMAIL FROM:<> SIZE=200\r\nMAIL FROM:<> SIZE=90\r\nRCPT TO:<c@d.test>\r\n");
    assert_eq!(codes[1..], ["452 4.3.1", "250 2.1.0", "250 2.1.5"]);
    // What comes is more than was declared: it is read to its end and refused, for now.
    let wire = format!("BDAT 300\r\n{}NOOP\r\n", "b".repeat(300));
    assert_eq!(run(&mut second, wire.as_bytes()).0, ["452 4.3.1", "250 2.0.0"]);
    let wire = format!("MAIL FROM:<>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n{text}.\r\n");
    assert_eq!(run(&mut second, wire.as_bytes()).0[2..], ["354", "452 4.3.1"]);
    assert_eq!(tight.budget.used(), 900, "what was refused is not held");
    let (codes, offers, _) = run(&mut first, b".\r\n");
    assert_eq!((codes, offers.len(), tight.budget.used()), (vec!["250 2.0.0".to_owned()], 1, 0));
    assert_eq!(run(&mut second, wire.as_bytes()).0[3..], ["250 2.0.0"], "there is room again");
}

#[test]
fn what_ends_a_message_early_gives_its_room_back() {
    let mut tight = settings();
    tight.budget = Budget::new(1_000);
    for end in ["RSET\r\n", "EHLO c\r\n", "QUIT\r\n"] {
        let mut session = session(tight.clone());
        run(&mut session, format!("{OPEN}BDAT 5\r\nhello").as_bytes());
        assert_eq!(tight.budget.used(), 5);
        run(&mut session, end.as_bytes());
        drop(session);
        assert_eq!(tight.budget.used(), 0, "{end}");
    }
}

#[test]
fn a_message_that_may_not_begin_is_refused_and_one_that_has_begun_goes_on() {
    let closed = |asked| (asked == Asked::Text).then(|| Refusal::new(452, (4, 3, 1), "too little memory"));
    let closed = Around { now: NOW, gate: &closed };
    let mut out = Vec::new();
    session(settings()).step(format!("{OPEN}DATA\r\nRSET\r\n").as_bytes(), closed, &mut out);
    assert_eq!(codes(&out)[3..], ["452 4.3.1", "250 2.0.0"]);
    let (mut chunks, mut out) = (session(settings()), Vec::new());
    run(&mut chunks, format!("{OPEN}BDAT 3\r\na\r\n").as_bytes());
    let step = chunks.step(b"BDAT 3 LAST\r\nb\r\n", closed, &mut out);
    assert!(matches!(step.act, Act::Offer(_)) && out.is_empty(), "{out:?}");
    let (mut late, mut out) = (session(settings()), Vec::new());
    late.step(format!("{OPEN}BDAT 3\r\na\r\nNOOP\r\n").as_bytes(), closed, &mut out);
    assert_eq!(codes(&out)[3..], ["452 4.3.1", "250 2.0.0"]);
}

#[test]
fn what_a_sender_wants_to_hear_is_offered_with_its_message() {
    let wire = "EHLO c\r\nMAIL FROM:<a@b.test> RET=HDRS ENVID=id+2B1\r\nRCPT TO:<c@d.test>\r\n\
        RCPT TO:<e@d.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o@d.test\r\nRCPT TO:<f@d.test> NOTIFY=NEVER\r\nDATA\r\n.\r\n";
    let (codes, offers, _) = run(&mut session(settings()), wire.as_bytes());
    assert_eq!(codes.last().map(String::as_str), Some("250 2.0.0"), "{codes:?}");
    let Offered { wish, wishes, .. } = &offers[0];
    assert_eq!((wish.ret, wish.envid.as_ref().map(Line::as_str)), (Some(Return::Hdrs), Some("id+1")));
    let notify = |at| wishes.get(at).map(|wish| wish.notify);
    let never = Some(Some(Notify::NEVER));
    assert_eq!([notify(0), notify(1), notify(2)], [None, Some(Notify::parse("DELAY,SUCCESS")), never]);
    let original = wishes.get(1).and_then(|wish| wish.original.as_ref()).map(|o| (o.kind(), o.address()));
    assert_eq!(original, Some(("rfc822", "o@d.test")));
}

#[test]
fn wishes_are_taken_only_where_they_are_offered_and_in_characters_that_mail_has_asked_for() {
    let mut deaf = settings();
    deaf.dsn = false;
    let told = |settings: &Settings, wire: &str| run(&mut session(settings.clone()), wire.as_bytes()).0;
    let mail = "EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test> NOTIFY=NEVER\r\n";
    assert_eq!(told(&deaf, mail)[1..], ["250 2.1.0", "555 5.5.4"]);
    assert_eq!(told(&deaf, "EHLO c\r\nMAIL FROM:<a@b.test> RET=FULL\r\n")[1..], ["555 5.5.4"]);
    for (settings, offers) in [(settings(), true), (deaf, false)] {
        let mut out = Vec::new();
        session(settings).step(b"EHLO c\r\n", open(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out).contains("\r\n250-DSN\r\n"), offers);
    }
    let mail = "HELO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test> NOTIFY=NEVER\r\n";
    assert_eq!(replies(mail)[1..], ["250 2.1.0", "555 5.5.4"]);
    assert_eq!(replies("HELO c\r\nMAIL FROM:<a@b.test> ENVID=a\r\n")[1..], ["555 5.5.4"]);
    for (extension, code) in [("", "553 5.6.7"), (" SMTPUTF8", "250 2.1.5")] {
        let wire = format!("EHLO c\r\nMAIL FROM:<a@b.test>{extension}\r\nRCPT TO:<c@d.test> ORCPT=utf-8;ü@d.test\r\n");
        assert_eq!(replies(&wire)[2], code);
        let wire = wire.replace('ü', "\\x{FC}");
        assert_eq!(replies(&wire)[2], "250 2.1.5", "escapes need no extension");
    }
}
